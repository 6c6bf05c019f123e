"""
Errors in Python, error objects on the wire: the only place that knows both.

What a function raised on its own account never shows its text to a client, unless the server runs in dev mode.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from tinyvex.errors import AppError, FunctionFailed, RemoteError, TinyvexError
from tinyvex.values import codec as values
from tinyvex.wire.messages import ErrorData, ErrorObject

__all__ = ["from_object", "to_object"]

_TRACEBACK_LENGTH_MAX = 16_384


def to_object(error: BaseException, *, request_id: str | None = None, reveal: bool = False) -> ErrorObject:
    """
    What the client is told.

    Args:
        error: a `TinyvexError` goes as it is; anything else as `FunctionFailed`, without its text.
        request_id: what the server's log knows the execution by.
        reveal: dev mode: the text and the traceback of what is no `TinyvexError` go too.
    """
    if not isinstance(error, TinyvexError):
        error = _failed(error, request_id, reveal=reveal)
    details = {_camel(key): _json(value) for key, value in error.data.items()}
    app_data = error.app_data if isinstance(error, AppError) else details.pop("appData", None)
    has_app_data = isinstance(error, AppError) or app_data is not None
    return ErrorObject(
        code=error.remote_number if isinstance(error, RemoteError) else error.number,
        message=_text(error.message),
        data=ErrorData(
            name=error.name,
            fault=error.fault,
            retry=error.retry,
            retry_after_ms=details.pop("retryAfterMs", UNSET),
            request_id=request_id or details.pop("requestId", UNSET),
            path=details.pop("path", UNSET),
            app_data=_app_data(app_data) if has_app_data else UNSET,
            details=details or UNSET,
        ),
    )


def from_object(error: ErrorObject) -> RemoteError:
    """
    The error a client raises for an error object.

    Its `data` has the details, and beside them `path`, `requestId`, `retryAfterMs` and `appData` where they were sent.
    """
    data = error.data
    details: dict[str, Any] = dict(data.details) if data.details is not UNSET else {}
    named = {"path": data.path, "requestId": data.request_id, "retryAfterMs": data.retry_after_ms}
    details |= {key: value for key, value in named.items() if value is not UNSET}
    if data.app_data is not UNSET:
        details["appData"] = values.decode(bytes(data.app_data))
    return RemoteError(
        error.message, number=error.code, name=data.name, details=details, fault=data.fault, retry=data.retry
    )


def _failed(error: BaseException, request_id: str | None, *, reveal: bool) -> FunctionFailed:
    if reveal:
        lines = "".join(traceback.format_exception(error))
        shown = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return FunctionFailed(shown, traceback=lines[-_TRACEBACK_LENGTH_MAX:])
    known_as = f" under request id {request_id}" if request_id else ""
    return FunctionFailed(f"the function raised; the server's log has the traceback{known_as}")


def _app_data(value: object) -> msgspec.Raw:
    """The app's own data; what is no value must not hide that the function refused."""
    try:
        return msgspec.Raw(values.encode(value))
    except TinyvexError as error:
        return msgspec.Raw(values.encode(f"the data of AppError is no value: {_text(str(error))}"))


def _json(value: Any) -> Any:
    """The value if it is JSON, else its text: an error must always arrive."""
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _text(str(value))
    return dict(value) if isinstance(value, Mapping) else value


def _text(text: str) -> str:
    """Without lone surrogates, which cannot be sent."""
    return text.encode("utf-8", "backslashreplace").decode()


def _camel(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(word.title() for word in others)
