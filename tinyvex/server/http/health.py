"""`/healthz`: whether the server is alive, its version, and the timestamp of the last commit."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from tinyvex.server.http.responses import token_required
from tinyvex.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request

    from tinyvex.storage.engine.store import Store

__all__ = ["Health"]


class Health:
    """The health of one server."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        if not request.state.caller.may_monitor:
            return token_required()
        store = self._store
        state = {"status": "ok", "version": __version__, "lastTs": store.last_ts, "databaseId": store.database_id}
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(state) + b"\n", HTTPStatus.OK, headers, media_type="application/json")
