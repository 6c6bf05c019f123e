"""
The ASGI application on the server's port: a table of routes, and a sentence for every error.

The front door checks `Host` and `Origin` before a request gets here, and puts its sender (`access.token_auth.Caller`)
into `request.state.caller`; each route decides what that caller may do.

This file imports Starlette, so it is itself imported only by the first HTTP request.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from tinyvex.server.http.health import Health
from tinyvex.server.http.metrics import Metrics
from tinyvex.server.http.responses import text_response

if TYPE_CHECKING:
    from starlette.requests import Request

    from tinyvex.server.http.dashboard import Dashboard
    from tinyvex.server.services.service import Services
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.engine.store_statistics import Histogram
    from tinyvex.sync.counters import Counters

__all__ = ["create_application"]


def create_application(
    store: Store,
    counters: Counters,
    collections: Histogram,
    services: Services,
    dashboard: Dashboard,
    dialects: Collection[bytes],
) -> Starlette:
    """
    Return the application.

    Args:
        store: for health and metrics.
        counters: for metrics.
        collections: the durations of full garbage collections; for metrics.
        services: for health.
        dashboard: the routes below `/_dashboard`.
        dialects: the paths of WebSockets, which answer plain requests with 426.
    """
    application = Starlette(
        routes=[
            Route("/healthz", Health(store, services).answer),
            Route("/metrics", Metrics(counters, store, collections).answer),
            *dashboard.routes(),
            *[Route(path.decode(), _upgrade_required) for path in dialects],
        ],
        exception_handlers={HTTPException: _explain, Exception: _explain_defect},
    )
    application.router.redirect_slashes = False
    return application


async def _upgrade_required(_request: Request) -> Response:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    return text_response("This path speaks WebSocket only.", HTTPStatus.UPGRADE_REQUIRED, headers=headers)


async def _explain(request: Request, error: Exception) -> Response:
    """Answer an error of routing, in one sentence."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        sentence = f"{request.method} is not allowed here; allowed: {headers['Allow']}."
    elif error.status_code == HTTPStatus.NOT_FOUND:
        sentence = "Not found."
    else:
        sentence = f"{error.detail}."
    return text_response(sentence, HTTPStatus(error.status_code), headers=headers)


async def _explain_defect(_request: Request, _error: Exception) -> Response:
    """Answer a defect of a handler; Starlette raises it again, and the connection logs it."""
    return text_response("The request failed; the server's log has the reason.", HTTPStatus.INTERNAL_SERVER_ERROR)
