"""
Encoding and decoding of messages, and the error that each malformed message gets.

A well-formed request is decoded in one pass. A malformed one is decoded again, slowly, to find the fault and the id
to answer:

====================================================  ==============  ===================
frame                                                 error           id of the response
====================================================  ==============  ===================
not UTF-8, not JSON                                   ParseError      null
an array (batches are refused), a bare value          InvalidRequest  null
`jsonrpc` not "2.0", no method, no or invalid `id`    InvalidRequest  the id, else null
an unknown method                                     MethodNotFound  the id
invalid parameters; `data.path` names the field       InvalidParams   the id
nested deeper than the parser can read                InvalidParams   the id, else null
half of a surrogate pair, a number out of range       InvalidParams   the id, else null
====================================================  ==============  ===================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec import UNSET, Raw, Struct

from tinyvex.errors import (
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    ParseError,
    ProtocolError,
    TinyvexError,
    UpdateRejected,
)
from tinyvex.wire.error_objects import to_object
from tinyvex.wire.messages import (
    ClientRequest,
    Envelope,
    ErrorObject,
    RequestKey,
    ServerNotification,
)

__all__ = [
    "Response",
    "decode_request",
    "decode_server_message",
    "encode_around_value",
    "encode_error_response",
    "encode_notification",
    "encode_request",
    "encode_response",
]

_encode = msgspec.json.encode
_decode_any_request: Callable[[bytes | str], ClientRequest] = msgspec.json.Decoder(ClientRequest).decode
_METHODS = frozenset(message_type.__struct_config__.tag for message_type in get_args(ClientRequest))
_NOTIFICATIONS = frozenset(message_type.__struct_config__.tag for message_type in get_args(ServerNotification))
_PATH = r" - at `(\$[^`]*)`"
_NOTIFICATION_HEAD = b'{"jsonrpc":"2.0","method":'  # the first bytes from this package's server; saves a pass
_VALUE = b'"value":'
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


# Requests, read by the server.


def decode_request(text: bytes | str) -> ClientRequest:
    """
    Decode a text frame from a client.

    Raises:
        ParseError: the frame is not JSON.
        InvalidRequest: it is not a JSON-RPC 2.0 request.
        MethodNotFound: the protocol has no such method.
        InvalidParams: the parameters do not fit the method; `data["path"]` names the field.

        The `request_id` of each is the JSON-RPC id of the request, or None if it could not be read.
    """
    try:
        if isinstance(text, bytes):
            str(text, "utf-8")  # msgspec does not validate strings that it skips
        return _decode_any_request(text)
    except _UNREADABLE as error:
        raise _fault(text, error) from None


def _fault(text: bytes | str, error: Exception) -> ProtocolError:
    """Return the error of a frame that could not be decoded."""
    if isinstance(error, UnicodeError):
        return ParseError("the frame is not UTF-8")
    try:
        message = msgspec.json.decode(text)
    except msgspec.DecodeError as malformed:
        return _unreadable(text, malformed)
    except RecursionError:
        return _too_deep(text)
    if not isinstance(message, dict):
        reason = "batches are refused" if isinstance(message, list) else "this is a bare value"
        return InvalidRequest(f"a frame must be one JSON-RPC request object; {reason}")
    fault = _envelope_fault(message) or _params_fault(message, error)
    fault.request_id = _request_id(message.get("id"))
    return fault


def _unreadable(text: bytes | str, error: Exception) -> ProtocolError:
    """Return the error of a frame that is not JSON, or that has text or a number that cannot be read."""
    from tinyvex.values.unreadable_json import find_unreadable

    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    unreadable = find_unreadable(data, error)
    if unreadable is None:
        return ParseError(f"the frame is not JSON: {str(error).removeprefix('JSON is malformed: ')}")
    path = unreadable.path or "$.params"
    fault_type = InvalidParams if path.startswith("$.params") else InvalidRequest
    fault = fault_type(f"{unreadable.reason} - at `{path}`", path=path)
    fault.request_id = _scan_for_id(data)
    return fault


def _envelope_fault(message: dict[str, Any]) -> ProtocolError | None:
    method = message.get("method")
    if message.get("jsonrpc") != "2.0":
        return InvalidRequest('`jsonrpc` must be "2.0"', path="$.jsonrpc")
    if "id" not in message:
        return InvalidRequest("a request needs an `id`; clients send no notifications", path="$.id")
    if _request_id(message["id"]) is None:
        return InvalidRequest("`id` must be a string or an integer", path="$.id")
    if not isinstance(method, str):
        return InvalidRequest(
            "a request needs a `method`; clients send no responses, because servers send no requests", path="$.method"
        )
    if method not in _METHODS:
        return MethodNotFound(f"the protocol has no method `{method[:100]}`", path="$.method")
    return None


def _params_fault(message: dict[str, Any], error: Exception) -> ProtocolError:
    if not isinstance(message.get("params", {}), dict):
        return InvalidParams("`params` must be an object", path="$.params")
    path_match = re.search(_PATH, str(error))
    path = path_match.group(1) if path_match else "$"
    return InvalidParams(f"{message['method']}: {error}", path=path)


def _request_id(value: object) -> RequestKey | None:
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _too_deep(text: bytes | str) -> ProtocolError:
    fault: ProtocolError
    data = text.encode() if isinstance(text, str) else text
    if not data.lstrip().startswith(b"{"):
        fault = InvalidRequest("a frame must be one JSON-RPC request object; batches are refused")
    else:
        fault = InvalidParams("the message is nested too deep", path="$.params")
        fault.request_id = _scan_for_id(data)
    return fault


_TOKENS_SCANNED_MAX = 1 << 15  # usually the id is near the start; bounds the time on the event loop
_TOKEN = rb'"(?:[^"\\]|\\.)*"|[\[\]{}]'
_ID_VALUE = rb'\s*:\s*(-?\d+|"(?:[^"\\]|\\.)*")\s*[,}]'


def _scan_for_id(data: bytes) -> RequestKey | None:
    """Find the request's id in JSON that is too deep for a recursive parser; None unless it is certain."""
    depth = 0
    id_value = re.compile(_ID_VALUE, re.DOTALL)
    for token in islice(re.finditer(_TOKEN, data), _TOKENS_SCANNED_MAX):
        first = token.group()[:1]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
        elif depth == 1 and token.group() == b'"id"' and (id_match := id_value.match(data, token.end())):
            try:
                return _request_id(msgspec.json.decode(id_match.group(1)))
            except _UNREADABLE:
                return None
    return None


# Responses and notifications, written by the server.


def encode_response(key: RequestKey, result: Struct | bytes) -> bytes:
    """Encode the response to the request with this JSON-RPC id. A result in bytes is already JSON."""
    body = result if isinstance(result, bytes) else _encode(result)
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (_encode(key), body)


def encode_around_value(key: RequestKey, result: Struct) -> tuple[bytes, bytes]:
    """Encode a response whose result has an empty `value`; return the text before the value and after it."""
    text = encode_response(key, result)
    end = text.index(_VALUE) + len(_VALUE)  # a string cannot contain it, because JSON escapes quotes
    return text[:end], text[end:]


def encode_error_response(
    key: RequestKey | None,
    error: TinyvexError | ErrorObject,
    request_id: str | None = None,
    log_lines: Sequence[str] = (),
) -> bytes:
    """
    Encode the response to a request that failed.

    Args:
        key: the JSON-RPC id of the request; None if it could not be read.
        error: the error, or its error object.
        request_id: the id of the execution in the server's log.
        log_lines: what the failed function logged.
    """
    body = error if isinstance(error, ErrorObject) else to_object(error, request_id=request_id, log_lines=log_lines)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (_encode(key), _encode(body))


def encode_notification(notification: ServerNotification) -> bytes:
    """Encode a notification from the server; transitions are assembled from fragments by `dialects.tinyvex.encoding`."""
    tag = str(notification.__struct_config__.tag).encode()
    return b'{"jsonrpc":"2.0","method":"%b","params":%b}' % (tag, _encode(notification.params))


# Requests, written by the client, and messages, read by it. Its decoders are created by its first message, because a
# server reads none and has no time for them when its first client connects.


@cache
def _envelope_decoder() -> msgspec.json.Decoder[Envelope]:
    return msgspec.json.Decoder(Envelope)


@cache
def _notification_decoder() -> msgspec.json.Decoder[ServerNotification]:
    return msgspec.json.Decoder(ServerNotification)


def encode_request(request: ClientRequest) -> bytes:
    """Encode a request to the server."""
    tag = str(request.__struct_config__.tag).encode()
    return b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % (_encode(request.id), tag, _encode(request.params))


class Response(NamedTuple):
    """A response. The request with this id determines the type of `result`. Exactly one of `result` and `error` is set."""

    id: RequestKey | None
    result: bytes | None
    error: ErrorObject | None


def decode_server_message(text: bytes | str) -> Response | ServerNotification | None:
    """
    Decode a text frame from a server.

    Returns:
        The message; None for an unknown notification, which must be ignored (S-8).

    Raises:
        UpdateRejected: the frame is malformed. The client's state may be incomplete, so it must reconnect.
    """
    data = text.encode() if isinstance(text, str) else text
    try:
        if data.startswith(_NOTIFICATION_HEAD):
            return _decode_notification(data)
        envelope = _envelope_decoder().decode(data)
        if envelope.method is not UNSET:
            return _decode_notification(data)
    except _UNREADABLE as error:
        raise UpdateRejected(f"a message from the server is malformed: {error}") from None
    if envelope.id is UNSET or (envelope.result is UNSET) == (envelope.error is UNSET):
        raise UpdateRejected("a message from the server is neither a response nor a notification")
    result = bytes(envelope.result) if isinstance(envelope.result, Raw) else None
    return Response(envelope.id, result, envelope.error if isinstance(envelope.error, ErrorObject) else None)


def _decode_notification(data: bytes) -> ServerNotification | None:
    try:
        return _notification_decoder().decode(data)
    except msgspec.ValidationError:
        if _envelope_decoder().decode(data).method in _NOTIFICATIONS:
            raise
        return None
