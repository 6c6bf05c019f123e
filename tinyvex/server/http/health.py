"""
`/healthz`: the server is alive; and for callers with a token its version, last commit, and the state of each service.

A caller without a token, such as a probe of the operating system, learns only that the server answers. Other users of the
machine would otherwise see how much it is used. A wrong token is refused, so that an outdated one is noticed.

A failing service does not change the status: the server still serves. The sentence that describes its failure may
contain paths and other details, so only an administrator gets it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from tinyvex.server.http.responses import token_refused
from tinyvex.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request

    from tinyvex.server.services.service import ServiceHealth, Services
    from tinyvex.storage.engine.store import Store

__all__ = ["Health"]


class Health:
    """
    The health of one server.

    Args:
        store: for the last commit.
        services: for their states.
    """

    def __init__(self, store: Store, services: Services) -> None:
        self._store = store
        self._services = services

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        caller = request.state.caller
        if not caller.may_monitor and caller.has_token:
            return token_refused(caller)
        state = self._details(with_errors=caller.is_admin) if caller.may_monitor else {"status": "ok"}
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(state) + b"\n", HTTPStatus.OK, headers, media_type="application/json")

    def _details(self, *, with_errors: bool) -> dict[str, Any]:
        store = self._store
        return {
            "status": "ok",
            "version": __version__,
            "lastTs": store.last_ts,
            "databaseId": store.database_id,
            "services": {
                name: _describe(health, with_error=with_errors) for name, health in self._services.health().items()
            },
        }


def _describe(health: ServiceHealth, *, with_error: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"state": health.state}
    if health.restarts:
        described["restarts"] = health.restarts
    if with_error and health.error is not None:
        described["error"] = health.error
    return described
