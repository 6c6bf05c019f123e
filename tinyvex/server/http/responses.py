"""Responses that are text."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from tinyvex.server.access.token_auth import Caller

__all__ = ["text_response", "token_refused"]


def text_response(
    sentence: str, status: HTTPStatus = HTTPStatus.OK, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response of one sentence, which no cache stores."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(f"{sentence}\n", status, headers, media_type="text/plain")


def token_refused(caller: Caller, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response to a request whose token does not permit it, and log the refusal."""
    headers = {"WWW-Authenticate": "Bearer", **(headers or {})}
    return text_response(caller.refuse(), HTTPStatus.UNAUTHORIZED, headers=headers)
