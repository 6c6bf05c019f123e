"""
Python errors to JSON-RPC error objects, and back.

The text of an unexpected exception may contain data that a client must not see. It is sent only in dev mode; otherwise
the client gets `FunctionFailed` and a request id, and the server's log has the traceback.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from tinyvex.errors import AppError, ClientError, FunctionFailed, RemoteError, TinyvexError, error_classes
from tinyvex.values import codec as values
from tinyvex.wire.messages import ErrorData, ErrorObject

__all__ = ["from_object", "to_object"]

_TRACEBACK_LENGTH_MAX = 16_384
_APP_DATA_LENGTH_MAX = 200


def to_object(
    error: BaseException, *, request_id: str | None = None, log_lines: Sequence[str] = (), reveal: bool = False
) -> ErrorObject:
    """
    Convert an exception to the error object that a client receives.

    Args:
        error: a `TinyvexError` is sent as it is; any other exception as `FunctionFailed`, without its text.
        request_id: the id of the execution in the server's log.
        log_lines: what the failed function logged.
        reveal: dev mode: also send the text and the traceback of other exceptions.
    """
    if not isinstance(error, TinyvexError):
        error = _failed(error, request_id, reveal=reveal)
    details = {_camel(key): _json(value) for key, value in error.data.items()}
    app_data = details.pop("appData", None)
    if isinstance(error, AppError):
        app_data = error.app_data
    has_app_data = isinstance(error, AppError) or app_data is not None
    return ErrorObject(
        code=error.number,
        message=_text(error.message) if not has_app_data else _app_message(error),
        data=ErrorData(
            name=error.name,
            fault=error.fault,
            retry=error.retry,
            retry_after_ms=details.pop("retryAfterMs", UNSET),
            request_id=request_id or details.pop("requestId", UNSET),
            path=details.pop("path", UNSET),
            app_data=_app_data(app_data) if has_app_data else UNSET,
            details=details or UNSET,
            log_lines=list(log_lines) or UNSET,
        ),
    )


def from_object(error: ErrorObject) -> RemoteError:
    """
    Convert an error object to the exception that a client raises, an instance of the error's own class too.

    Its `data` has the details and, if they were sent, `path`, `requestId`, `retryAfterMs` and `appData`;
    its `log_lines` are those of the failed function.
    """
    data = error.data
    details: dict[str, Any] = dict(data.details) if data.details is not UNSET else {}
    named = {"path": data.path, "requestId": data.request_id, "retryAfterMs": data.retry_after_ms}
    details |= {key: value for key, value in named.items() if value is not UNSET}
    if data.app_data is not UNSET:
        details["appData"] = values.decode(bytes(data.app_data))
    remote = _remote_classes().get(data.name, RemoteError)(
        error.message, number=error.code, name=data.name, details=details, fault=data.fault, retry=data.retry
    )
    remote.log_lines = () if data.log_lines is UNSET else tuple(data.log_lines)
    return remote


@functools.cache
def _remote_classes() -> dict[str, type[RemoteError]]:
    """Return the class of a received error by its name; those that only a client raises are not among them."""
    return {
        cls.__name__: type(cls.__name__, (RemoteError, cls), {"__doc__": cls.__doc__, "__module__": cls.__module__})
        for cls in error_classes()
        if not issubclass(cls, ClientError)
    }


def _failed(error: BaseException, request_id: str | None, *, reveal: bool) -> FunctionFailed:
    if reveal:
        lines = "".join(traceback.format_exception(error))
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return FunctionFailed(text, traceback=lines[-_TRACEBACK_LENGTH_MAX:])
    reference = f" under request id {request_id}" if request_id else ""
    return FunctionFailed(f"the function raised; the server's log has the traceback{reference}")


def _app_message(error: TinyvexError) -> str:
    """Return the message of an `AppError` with its data as JSON, as the client sees them, and not as Python does."""
    data = getattr(error, "app_data", None)
    if not isinstance(error, AppError) or isinstance(data, str):
        return _text(error.message)
    try:
        json = values.encode(data).decode()
    except TinyvexError as invalid:
        return f"the function refused; {_text(str(invalid))}"
    return f"the function refused: {json if len(json) <= _APP_DATA_LENGTH_MAX else f'{json[:_APP_DATA_LENGTH_MAX]}…'}"


def _app_data(value: object) -> msgspec.Raw:
    """Encode the data of an `AppError`; invalid data is replaced, so that the error itself still arrives."""
    try:
        return msgspec.Raw(values.encode(value))
    except TinyvexError as error:
        return msgspec.Raw(values.encode(f"the data of AppError is not a value: {_text(str(error))}"))


def _json(value: Any) -> Any:
    """Return a value that JSON can encode: the value itself, or its text. Encoding an error must not fail."""
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _text(str(value))
    return dict(value) if isinstance(value, Mapping) else value


def _text(text: str) -> str:
    """Escape lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode()


def _camel(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(word.title() for word in others)
