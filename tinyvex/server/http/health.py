"""
`/healthz`: the server is alive, its version, the timestamp of the last commit, and the state of each service.

A failing service does not change the status: the server still serves. The sentence that describes its failure may
contain paths and other details, so only an administrator gets it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from tinyvex.server.http.responses import token_required
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
        if not caller.may_monitor:
            return token_required()
        store = self._store
        state = {
            "status": "ok",
            "version": __version__,
            "lastTs": store.last_ts,
            "databaseId": store.database_id,
            "services": {
                name: _describe(health, with_error=caller.is_admin) for name, health in self._services.health().items()
            },
        }
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(state) + b"\n", HTTPStatus.OK, headers, media_type="application/json")


def _describe(health: ServiceHealth, *, with_error: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"state": health.state}
    if health.restarts:
        described["restarts"] = health.restarts
    if with_error and health.error is not None:
        described["error"] = health.error
    return described
