"""
The dashboard: a page at `/_dashboard`, its files, and the figures that it requests.

====================================  ==================================================  ====================
path                                  response                                            requires
====================================  ==================================================  ====================
`/_dashboard`, `/_dashboard/…`        the page and its modules, which contain no data     no token
`/_dashboard/link`                    a one-time code for a browser tab                   the admin token
`/_dashboard/tokens`                  POST: renews the admin token and the client token   the admin token
`/_dashboard/app`                     the declarations of tables and functions            an administrator
`/_dashboard/state?after=N`           connections, live queries, log and samples since N  an administrator
====================================  ==================================================  ====================

The page reads documents and calls functions over the WebSocket, as every client does.
"""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Collection, Mapping
from functools import cache
from http import HTTPStatus
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import parse_qs

import msgspec
from msgspec.structs import asdict
from starlette.responses import Response
from starlette.routing import Route

from tinyvex import limits
from tinyvex.functions.schema.json_schema import json_schema
from tinyvex.server.http.responses import text_response, token_refused
from tinyvex.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request

    from tinyvex.functions.app.registry import App
    from tinyvex.runtime import Runtime
    from tinyvex.server.access.token_auth import Caller, TokenAuth
    from tinyvex.server.options import ServerOptions
    from tinyvex.server.services.recent_activity import RecentActivity
    from tinyvex.server.transport.connection import Connection
    from tinyvex.sync.live_queries import LiveQueries
    from tinyvex.sync.live_query import LiveQuery

__all__ = ["Dashboard"]

PATH = "/_dashboard"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    # No text becomes markup or code, whatever the page's own code does with it.
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The page may load and run its own files, and nothing inline."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""The headers of every response below `/_dashboard`."""


class Displayed(Protocol):
    """The parts of a server that the page displays."""

    options: ServerOptions
    runtime: Runtime

    @property
    def live(self) -> LiveQueries:
        """The live queries, with their executor and counters."""
        ...

    @property
    def connections(self) -> Mapping[int, Connection]:
        """The open WebSockets, by number."""
        ...

    def renew_tokens(self) -> None:
        """Replace the admin token and the client token."""


class Dashboard:
    """
    The routes below `/_dashboard`.

    Args:
        server: the server; its live queries and connections are used only by the page's own requests.
        token_auth: creates the codes of links.
        activity: log and samples.
        started_us: when the server started, in microseconds since the epoch.
    """

    def __init__(self, server: Displayed, token_auth: TokenAuth, activity: RecentActivity, started_us: int) -> None:
        self._server = server
        self._token_auth = token_auth
        self._activity = activity
        self._started_us = started_us

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(PATH, self._page),
            Route(f"{PATH}/", self._page),
            Route(f"{PATH}/link", self._link),
            Route(f"{PATH}/tokens", self._renew, methods=["POST"]),
            Route(f"{PATH}/app", self._app),
            Route(f"{PATH}/state", self._figures),
            Route(f"{PATH}/{{name}}", self._file),
        ]

    async def _page(self, _request: Request) -> Response:
        return _file("index.html")

    async def _file(self, request: Request) -> Response:
        return _file(request.path_params["name"])

    async def _link(self, request: Request) -> Response:
        caller = _caller(request)
        return _json({"code": self._token_auth.offer(caller.address)}) if caller.may_offer else _refused(request)

    async def _renew(self, request: Request) -> Response:
        if not _caller(request).may_offer:
            return _refused(request)
        self._server.renew_tokens()
        return _json({})

    async def _app(self, request: Request) -> Response:
        return _json(_describe_app(self._server.live.executor.app)) if _caller(request).is_admin else _refused(request)

    async def _figures(self, request: Request) -> Response:
        return _json(self._state(_number(request.url.query))) if _caller(request).is_admin else _refused(request)

    def _state(self, after: int) -> dict[str, Any]:
        live = self._server.live
        store = live.executor.store
        statistics = store.statistics()
        connected = [each for each in self._server.connections.values() if each.session is not None]
        busiest = heapq.nlargest(
            limits.DASHBOARD_ROWS_MAX,
            islice(live.watched(), limits.DASHBOARD_SCAN_MAX),
            key=lambda each: (each.generation, each.seconds),
        )
        return {
            "server": self._describe_server(),
            "counters": asdict(live.counters),
            "store": {
                "commits": statistics.commits,
                "queue": statistics.queue_length,
                "fileBytes": statistics.file_bytes,
                "walBytes": statistics.wal_bytes,
                "lastTs": store.last_ts,
            },
            "connections": [self._describe_connection(each) for each in connected[-limits.DASHBOARD_ROWS_MAX :]],
            "connectionsTotal": len(connected),
            "liveQueries": [_describe_live_query(each) for each in busiest],
            "liveQueriesTotal": len(live.watched()),
            "activity": self._activity.since(after),
        }

    def _describe_server(self) -> dict[str, Any]:
        options = self._server.options
        return {
            "version": __version__,
            "app": options.app_name,
            "data": str(options.data),
            "dev": options.dev,
            "durability": options.durability,
            "startedAt": self._started_us // 1000,
            "now": self._server.runtime.now_us() // 1000,
        }

    def _describe_connection(self, connection: Connection) -> dict[str, Any]:
        session, paired = connection.session, connection.paired
        assert session is not None
        claims = session.identity.claims
        return {
            "number": connection.number,
            "session": session.session_id[:8],
            "seconds": round(self._server.runtime.awake_seconds() - connection.opened_at, 1),
            "admin": session.identity.is_admin,
            "name": None if paired is None else paired.name,
            "subject": None if claims is None else claims.get("subject"),
            "queries": len(session.state.queries),
            "requests": session.requests.count,
            "bytesReceived": connection.bytes_received,
            "bytesSent": connection.bytes_sent,
            "bytesWaiting": connection.waiting_bytes,
        }


def _describe_app(app: App) -> dict[str, Any]:
    """Return the declarations: a table's fields in the order of the code, its indexes and schema; functions' docstrings."""
    return {
        "tables": {
            name: {
                "fields": [field for field in getattr(table.cls, "__struct_fields__", ()) if not field.startswith("_")],
                "indexes": table.indexes,
                "schema": None if table.cls is None else json_schema(table.cls),
            }
            for name, table in app.tables.items()
        },
        "functions": {path: inspect.getdoc(spec.function) or "" for path, spec in app.functions.items()},
    }


def _describe_live_query(live: LiveQuery) -> dict[str, Any]:
    result = live.result
    length_max = limits.DASHBOARD_ARGUMENTS_LENGTH_MAX
    arguments = live.call.args[:length_max].decode(errors="ignore")
    return {
        "path": live.call.path,
        "arguments": f"{arguments}…" if len(live.call.args) > length_max else arguments,
        "identity": live.key.identity not in (None, b"null"),
        "subscribers": sum(live.subscribers.values()),
        "recomputations": live.generation,
        "unchanged": live.unchanged,
        "seconds": live.seconds,
        "bytes": None if result is None or result.version.body is None else result.version.body.size,
        "error": None if result is None or result.error is None else result.error.name,
    }


def _number(query: str) -> int:
    """Return N of `after=N`; 0 if it is missing or not a number."""
    text = parse_qs(query).get("after", ["0"])[0]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


@cache
def _files() -> Mapping[str, tuple[str, bytes]]:
    """Return the page's files with their types, by name. A name that is not among them leads to no other file."""
    folder = resources.files("tinyvex") / "dashboard"
    files: Collection[Any] = list(folder.iterdir())
    return {
        file.name: (TYPES[suffix], file.read_bytes())
        for file in files
        if (suffix := f".{file.name.rpartition('.')[2]}") in TYPES
    }


def _file(name: str) -> Response:
    file = _files().get(name)
    return text_response("Not found.", HTTPStatus.NOT_FOUND) if file is None else _response(HTTPStatus.OK, *file)


def _json(content: object) -> Response:
    return _response(HTTPStatus.OK, "application/json", msgspec.json.encode(content))


def _caller(request: Request) -> Caller:
    return cast("Caller", request.state.caller)


def _refused(request: Request) -> Response:
    return token_refused(_caller(request), HEADERS)


def _response(status: HTTPStatus, content_type: str, body: bytes) -> Response:
    return Response(body, status, {"Content-Type": content_type, **HEADERS})
