"""Responses that are text."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

__all__ = ["text_response", "token_required"]


def text_response(
    sentence: str, status: HTTPStatus = HTTPStatus.OK, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response of one sentence, which no cache stores."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(f"{sentence}\n", status, headers, media_type="text/plain")


def token_required() -> Response:
    """Return the response to a request without the token that it needs."""
    sentence = "A token is required: send the header `Authorization: Bearer TOKEN`."
    return text_response(sentence, HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"})
