"""
Bytes to typed messages and back: the only place that decides which error a malformed message gets.

A well-formed request is decoded in one pass.
One that is not is looked at again, slowly, to find out what is wrong and whom to answer:

====================================================  ==============  =================
what came                                             error           id of the answer
====================================================  ==============  =================
no UTF-8, no JSON                                     ParseError      null
an array (batches are refused), a bare value          InvalidRequest  null
`jsonrpc` not "2.0", no method, no `id`, a bad `id`   InvalidRequest  the id, else null
a method the protocol does not have                   MethodNotFound  the id
parameters that do not fit; the message has the path  InvalidParams   the id
nested deeper than the parser goes                    InvalidParams   the id, else null
====================================================  ==============  =================

What a function returned stays bytes all the way: a transition is joined, not encoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
    QueryFailed,
    QueryUnchanged,
    RequestKey,
    ServerNotification,
    StateVersion,
)
from tinyvex.wire.transition_chunks import Piece

__all__ = [
    "Response",
    "decode_request",
    "decode_server_message",
    "encode_error_response",
    "encode_failed",
    "encode_notification",
    "encode_removed",
    "encode_request",
    "encode_response",
    "encode_transition",
    "encode_unchanged",
    "encode_updated",
    "patched_tail",
    "transition_pieces",
    "updated_tail",
]

_encode = msgspec.json.encode
_decode_any_request: Callable[[bytes | str], ClientRequest] = msgspec.json.Decoder(ClientRequest).decode
_decode_any_notification: Callable[[bytes], ServerNotification] = msgspec.json.Decoder(ServerNotification).decode
_decode_envelope = msgspec.json.Decoder(Envelope).decode
_METHODS = frozenset(kind.__struct_config__.tag for kind in get_args(ClientRequest))
_NOTIFICATIONS = frozenset(kind.__struct_config__.tag for kind in get_args(ServerNotification))
_PATH = re.compile(r" - at `(\$[^`]*)`")
_NOTIFICATION_HEAD = b'{"jsonrpc":"2.0","method":'  # as this package's server begins them: saves a pass
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


# The server reads.


def decode_request(text: bytes | str) -> ClientRequest:
    """
    Read one frame from a client.

    Raises:
        ParseError: it is no JSON.
        InvalidRequest: it is no JSON-RPC 2.0 request.
        MethodNotFound: the protocol has no such method.
        InvalidParams: the parameters do not fit the method; `data["path"]` says where.
            Each has the JSON-RPC id of the request as `request_id`, or None where there is none to be read.
    """
    try:
        if isinstance(text, bytes):
            str(text, "utf-8")  # msgspec does not look at strings that it skips
        return _decode_any_request(text)
    except _UNREADABLE as error:
        raise _fault(text, error) from None


def _fault(text: bytes | str, error: Exception) -> ProtocolError:
    """Which error the frame deserves."""
    if isinstance(error, UnicodeError):
        return ParseError("the frame is not UTF-8")
    try:
        message = msgspec.json.decode(text)
    except msgspec.DecodeError as malformed:
        return ParseError(f"the frame is not JSON: {malformed}")
    except RecursionError:
        return _too_deep(text)
    if not isinstance(message, dict):
        what = "batches are refused" if isinstance(message, list) else "it is a bare value"
        return InvalidRequest(f"a frame holds one JSON-RPC request object: {what}")
    fault = _envelope_fault(message) or _params_fault(message, error)
    fault.request_id = _request_id(message.get("id"))
    return fault


def _envelope_fault(message: dict[str, Any]) -> ProtocolError | None:
    method = message.get("method")
    if message.get("jsonrpc") != "2.0":
        return InvalidRequest('`jsonrpc` must be "2.0"', path="$.jsonrpc")
    if "id" not in message:
        return InvalidRequest("a request needs an `id`: clients send no notifications", path="$.id")
    if _request_id(message["id"]) is None:
        return InvalidRequest("`id` must be a string or an integer", path="$.id")
    if not isinstance(method, str):
        return InvalidRequest(
            "a request needs a `method`; servers ask nothing, so nothing is answered", path="$.method"
        )
    if method not in _METHODS:
        return MethodNotFound(f"the protocol has no method {method[:100]!r}", path="$.method")
    return None


def _params_fault(message: dict[str, Any], error: Exception) -> ProtocolError:
    if not isinstance(message.get("params", {}), dict):
        return InvalidParams("`params` must be an object", path="$.params")
    found = _PATH.search(str(error))
    path = found.group(1) if found else "$"
    return InvalidParams(f"{message['method']}: {error}", path=path)


def _request_id(value: object) -> RequestKey | None:
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _too_deep(text: bytes | str) -> ProtocolError:
    fault: ProtocolError
    data = text.encode() if isinstance(text, str) else text
    if not data.lstrip().startswith(b"{"):
        fault = InvalidRequest("a frame holds one JSON-RPC request object: batches are refused")
    else:
        fault = InvalidParams("the message is nested too deep to be read", path="$.params")
        fault.request_id = _scan_for_id(data)
    return fault


_TOKENS_SCANNED_MAX = 1 << 15  # the id is near the start in sane messages, and this runs on the server's loop
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_ID_VALUE = re.compile(rb'\s*:\s*(-?\d+|"(?:[^"\\]|\\.)*")\s*[,}]', re.DOTALL)


def _scan_for_id(data: bytes) -> RequestKey | None:
    """The request's id in JSON that is too deep for a recursive parser; None unless it is certain."""
    depth = 0
    for token in islice(_TOKEN.finditer(data), _TOKENS_SCANNED_MAX):
        first = token.group()[:1]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
        elif depth == 1 and token.group() == b'"id"' and (found := _ID_VALUE.match(data, token.end())):
            try:
                return _request_id(msgspec.json.decode(found.group(1)))
            except _UNREADABLE:
                return None
    return None


# The server writes.


def encode_response(key: RequestKey, result: Struct | bytes) -> bytes:
    """The answer to the request with this JSON-RPC id; bytes are spliced as they are."""
    body = result if isinstance(result, bytes) else _encode(result)
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (_encode(key), body)


def encode_error_response(
    key: RequestKey | None, error: TinyvexError | ErrorObject, request_id: str | None = None
) -> bytes:
    """The answer to a request that failed; `key` is its JSON-RPC id, `request_id` what the server's log calls it."""
    body = error if isinstance(error, ErrorObject) else to_object(error, request_id=request_id)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (_encode(key), _encode(body))


def encode_notification(notification: ServerNotification) -> bytes:
    """A notification from the server; transitions have `encode_transition`, which does not encode anything twice."""
    tag = str(notification.__struct_config__.tag).encode()
    return b'{"jsonrpc":"2.0","method":"%b","params":%b}' % (tag, _encode(notification.params))


def encode_transition(start: StateVersion, end: StateVersion, server_ts: int, modifications: Sequence[bytes]) -> bytes:
    """A transition out of modifications that are encoded already."""
    pieces = transition_pieces(start, end, server_ts, [(modification,) for modification in modifications])
    return b"".join(map(bytes, pieces))


def transition_pieces(
    start: StateVersion, end: StateVersion, server_ts: int, modifications: Sequence[Sequence[Piece]]
) -> list[Piece]:
    """The same, not joined: each modification in pieces, of which a large value has many."""
    pieces: list[Piece] = [
        b'{"jsonrpc":"2.0","method":"tinyvex/transition","params":{"startVersion":%b,"endVersion":%b,"serverTs":%d,'
        b'"modifications":[' % (_version(start), _version(end), server_ts)
    ]
    for place, modification in enumerate(modifications):
        if place:
            pieces.append(b",")
        pieces += modification
    pieces.append(b"]}}")
    return pieces


def _version(version: StateVersion) -> bytes:
    return b'{"querySet":%d,"identity":%d,"ts":%d}' % (version.query_set, version.identity, version.ts)


def updated_tail(value: bytes, token: str, log_lines: Sequence[str]) -> bytes:
    """What `QueryUpdated` says to every connection alike: value and hash; encoded once, used in many frames."""
    lines = b',"logLines":' + _encode(log_lines) if log_lines else b""
    return b',"hash":%b%b,"value":%b}' % (_encode(token), lines, value)


def patched_tail(patch: bytes, token: str, log_lines: Sequence[str]) -> bytes:
    """What `QueryUpdated` says to every connection that holds the version the patch begins from."""
    lines = b',"logLines":' + _encode(log_lines) if log_lines else b""
    return b',"hash":%b%b,"patch":%b}' % (_encode(token), lines, patch)


def encode_updated(query_id: int, tail: bytes) -> bytes:
    """`QueryUpdated` for one connection, out of `updated_tail`."""
    return b'{"type":"QueryUpdated","queryId":%d%b' % (query_id, tail)


def encode_failed(query_id: int, error: ErrorObject, log_lines: Sequence[str] = ()) -> bytes:
    """`QueryFailed`."""
    return _encode(QueryFailed(query_id=query_id, error=error, log_lines=list(log_lines)))


def encode_removed(query_id: int) -> bytes:
    """`QueryRemoved`."""
    return b'{"type":"QueryRemoved","queryId":%d}' % query_id


def encode_unchanged(query_id: int, token: str) -> bytes:
    """`QueryUnchanged`."""
    return _encode(QueryUnchanged(query_id=query_id, hash=token))


# The client writes and reads.


def encode_request(request: ClientRequest) -> bytes:
    """A request to the server."""
    tag = str(request.__struct_config__.tag).encode()
    return b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % (_encode(request.id), tag, _encode(request.params))


class Response(NamedTuple):
    """An answer; the request with this id knows the type of `result`. Exactly one of `result` and `error` is set."""

    id: RequestKey | None
    result: bytes | None
    error: ErrorObject | None


def decode_server_message(text: bytes | str) -> Response | ServerNotification | None:
    """
    Read one frame from a server.

    Returns:
        The message; None for a notification that this client does not know, which is to be ignored.

    Raises:
        UpdateRejected: the frame cannot be understood; the client cannot trust its state and connects again.
    """
    data = text.encode() if isinstance(text, str) else text
    try:
        if data.startswith(_NOTIFICATION_HEAD):
            return _decode_notification(data)
        envelope = _decode_envelope(data)
        if envelope.method is not UNSET:
            return _decode_notification(data)
    except _UNREADABLE as error:
        raise UpdateRejected(f"a message from the server cannot be understood: {error}") from None
    if envelope.id is UNSET or (envelope.result is UNSET) == (envelope.error is UNSET):
        raise UpdateRejected("a message from the server is neither a response nor a notification")
    result = bytes(envelope.result) if isinstance(envelope.result, Raw) else None
    return Response(envelope.id, result, envelope.error if isinstance(envelope.error, ErrorObject) else None)


def _decode_notification(data: bytes) -> ServerNotification | None:
    try:
        return _decode_any_notification(data)
    except msgspec.ValidationError:
        if _decode_envelope(data).method in _NOTIFICATIONS:
            raise
        return None
