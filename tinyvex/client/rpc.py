"""
JSON-RPC on one socket: ids of open calls, messages to the server, messages from the server (pure).

JSON-RPC ids belong to a socket and start at 0 on each; the session's own numbers are in `pending_requests`.
Long transitions arrive as chunks. Responses and pings may arrive between two chunks; another transition may not.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from tinyvex import limits
from tinyvex.client.pending_requests import Answer, CallKind, PendingRequest
from tinyvex.errors import MessageTooLarge, UpdateRejected
from tinyvex.wire import codec
from tinyvex.wire import messages as wire
from tinyvex.wire.transition_chunks import Assembler

__all__ = [
    "CAPABILITIES",
    "MessageReader",
    "OpenCalls",
    "call_size_bytes",
    "check_continuity",
    "decode_answer",
    "decode_connect_result",
    "encode_authenticate",
    "encode_call",
    "encode_connect",
    "encode_modify_query_set",
    "refuse_too_large",
]

CAPABILITIES = [wire.CAPABILITY_PATCH, wire.CAPABILITY_CHUNK]

_BYTES_PER_CHARACTER_MAX = 6  # of a path, escaped
_ENVELOPE_BYTES = 512  # more than all names and numbers around path, arguments and idempotency key

_Result = TypeVar("_Result", bound=msgspec.Struct)

OpenCall: TypeAlias = PendingRequest | Literal["connect", "modify", "authenticate"]
"""The purpose of a JSON-RPC id."""


# Calls and their ids.


class OpenCalls:
    """
    The unanswered JSON-RPC requests of one socket.

    Attributes:
        modify_count: the number of unanswered `tinyvex/modifyQuerySet` requests.
    """

    def __init__(self) -> None:
        self.modify_count = 0
        self._next_id = 0
        self._open: dict[int, OpenCall] = {}

    def open(self, call: OpenCall) -> int:
        """Assign the next id to a call."""
        rpc_id = self._next_id
        self._next_id += 1
        self._open[rpc_id] = call
        self.modify_count += call == "modify"
        return rpc_id

    def close(self, rpc_id: object, error: wire.ErrorObject | None) -> OpenCall:
        """
        Remove and return the call that a response answers.

        Args:
            rpc_id: the response's id.
            error: the response's error; quoted if the id is unknown, because it may explain why.

        Raises:
            UpdateRejected: no open call has this id.
        """
        call = self._open.pop(rpc_id, None) if isinstance(rpc_id, int) else None
        if call is None:
            reason = f": {error.message}" if error is not None else ""
            raise UpdateRejected(f"the server answered the request id {_as_json(rpc_id)}, which is not open{reason}")
        self.modify_count -= call == "modify"
        return call

    def validate(self) -> None:
        """Assert the invariants."""
        assert self.modify_count == sum(call == "modify" for call in self._open.values())


# Messages to the server.


def encode_connect(rpc_id: int, params: wire.ConnectParams) -> bytes:
    """Encode `tinyvex/connect`."""
    return codec.encode_request(wire.Connect(jsonrpc="2.0", id=rpc_id, params=params))


def encode_authenticate(rpc_id: int, params: wire.AuthenticateParams) -> bytes:
    """Encode `tinyvex/authenticate`."""
    return codec.encode_request(wire.Authenticate(jsonrpc="2.0", id=rpc_id, params=params))


def encode_modify_query_set(
    rpc_id: int, base_version: int, modifications: list[wire.QueryAdd | wire.QueryRemove]
) -> bytes:
    """Encode `tinyvex/modifyQuerySet` from `base_version` to the next version."""
    params = wire.ModifyQuerySetParams(
        base_version=base_version, new_version=base_version + 1, modifications=modifications
    )
    return codec.encode_request(wire.ModifyQuerySet(jsonrpc="2.0", id=rpc_id, params=params))


def encode_call(rpc_id: int, request: PendingRequest, acknowledged_below: int) -> bytes:
    """
    Encode a mutation, an action or a one-shot query.

    Args:
        rpc_id: the message's id.
        request: the call.
        acknowledged_below: every mutation with a lower number is finished.
    """
    path, args = request.path, Raw(request.args)
    if request.kind is CallKind.QUERY:
        query = wire.QueryParams(udf_path=path, args=args, ts=request.at)
        return codec.encode_request(wire.Query(jsonrpc="2.0", id=rpc_id, params=query))
    if request.kind is CallKind.ACTION:
        action = wire.ActionParams(request_id=request.number, udf_path=path, args=args)
        return codec.encode_request(wire.Action(jsonrpc="2.0", id=rpc_id, params=action))
    mutation = wire.MutationParams(
        request_id=request.number,
        udf_path=path,
        args=args,
        acknowledged_below=acknowledged_below,
        idempotency_key=request.idempotency_key,
    )
    return codec.encode_request(wire.Mutation(jsonrpc="2.0", id=rpc_id, params=mutation))


def call_size_bytes(path: str, args: bytes) -> int:
    """Return an upper bound of the encoded size of a call or a query, without encoding it."""
    return len(args) + _BYTES_PER_CHARACTER_MAX * len(path) + _ENVELOPE_BYTES


def refuse_too_large(path: str, args: bytes, bytes_max: int, key: str | None = None) -> MessageTooLarge | None:
    """Return the error of a call or query that exceeds the server's message limit, else None."""
    if call_size_bytes(path + (key or ""), args) <= bytes_max:
        return None
    return MessageTooLarge(
        f"the arguments of `{path}` are {len(args):,} bytes; the server accepts messages of at most {bytes_max:,} bytes"
    )


# Messages from the server.


class ChunkCounter(Protocol):
    """The counter of received chunks."""

    chunks_received: int


class MessageReader:
    """Decodes the messages of one socket and joins the chunks of long transitions."""

    def __init__(self, counter: ChunkCounter) -> None:
        self._assembler = Assembler(limits.CLIENT_MESSAGE_BYTES_MAX)
        self._counter = counter

    def read(self, data: bytes | str) -> codec.Response | wire.ServerNotification | None:
        """
        Decode one WebSocket message.

        Returns:
            The message; None for an unknown notification and for every chunk but the last of a transition.

        Raises:
            UpdateRejected: the message is malformed, or the chunks do not form one transition.
        """
        message = codec.decode_server_message(data)
        if isinstance(message, wire.TransitionChunk):
            self._counter.chunks_received += 1
            joined = self._assembler.add(message.params)
            return None if joined is None else _decode_transition(joined)
        if isinstance(message, wire.Transition) and not self._assembler.idle:
            raise UpdateRejected("a transition arrived between two chunks of another transition")
        return message


def _decode_transition(joined: bytes) -> wire.Transition:
    message = codec.decode_server_message(joined)
    if not isinstance(message, wire.Transition):
        raise UpdateRejected("the joined chunks are not a transition")
    return message


def check_continuity(transition: wire.TransitionParams, version: wire.StateVersion, sent_query_set: int) -> None:
    """
    Check that a transition continues from the client's version.

    Args:
        transition: the transition received.
        version: the client's version, which the last transition led to.
        sent_query_set: the newest query-set version that the client has sent.

    Raises:
        UpdateRejected: the transition starts at another version, goes backwards, or reaches a query-set version
            that was not sent.
    """
    start, end = transition.start_version, transition.end_version
    if start != version:
        raise UpdateRejected(
            f"a transition starts at {_version_text(start)}, but this client is at {_version_text(version)}"
        )
    if end.query_set < start.query_set or end.identity < start.identity or end.ts < start.ts:
        raise UpdateRejected(f"a transition goes backwards, from {_version_text(start)} to {_version_text(end)}")
    if end.query_set > sent_query_set:
        raise UpdateRejected(
            f"a transition reaches {_version_text(end)}, but the last query-set version sent is {sent_query_set}"
        )


def _version_text(version: wire.StateVersion) -> str:
    return f"{version.query_set}/{version.identity}/{version.ts}"


def decode_connect_result(result: bytes | None) -> wire.ConnectResult:
    """
    Decode the result of `tinyvex/connect`.

    Raises:
        UpdateRejected: it is malformed.
    """
    return _decode(result, wire.ConnectResult)


def decode_answer(kind: CallKind, result: bytes | None) -> Answer:
    """
    Decode the result of a call.

    Raises:
        UpdateRejected: it is malformed.
    """
    if kind is CallKind.ACTION:
        action = _decode(result, wire.ActionResult)
        return Answer(bytes(action.value), tuple(action.log_lines))
    mutation = _decode(result, wire.MutationResult)
    return Answer(bytes(mutation.value), tuple(mutation.log_lines), mutation.ts)


def _decode(result: bytes | None, type_: type[_Result]) -> _Result:
    try:
        return msgspec.json.decode(result or b"null", type=type_)
    except msgspec.MsgspecError as error:
        raise UpdateRejected(f"a result from the server does not fit the protocol: {error}") from None


def _as_json(rpc_id: object) -> str:
    return msgspec.json.encode(rpc_id).decode()
