"""The client's requests as frames, and the answers to them (pure)."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Raw

from tinyvex.client.requests import Answer, Kind, PendingRequest
from tinyvex.errors import MessageTooLarge, UpdateRejected
from tinyvex.wire import codec
from tinyvex.wire import messages as wire

__all__ = [
    "call_size_bytes",
    "decode_answer",
    "decode_greeting",
    "encode_authenticate",
    "encode_call",
    "encode_connect",
    "encode_modify",
    "token_of",
    "too_large",
]

_Result = TypeVar("_Result", bound=msgspec.Struct)

_BYTES_PER_CHARACTER_MAX = 6  # of a path, escaped
_ENVELOPE_BYTES = 512  # more than names and numbers take around arguments and path


def encode_connect(rpc_id: int, params: wire.ConnectParams) -> bytes:
    """`tinyvex/connect`."""
    return codec.encode_request(wire.Connect(jsonrpc="2.0", id=rpc_id, params=params))


def encode_authenticate(rpc_id: int, params: wire.AuthenticateParams) -> bytes:
    """`tinyvex/authenticate`."""
    return codec.encode_request(wire.Authenticate(jsonrpc="2.0", id=rpc_id, params=params))


def encode_modify(rpc_id: int, base_version: int, modifications: list[wire.QueryAdd | wire.QueryRemove]) -> bytes:
    """`tinyvex/modifyQuerySet`, one version on."""
    params = wire.ModifyQuerySetParams(
        base_version=base_version, new_version=base_version + 1, modifications=modifications
    )
    return codec.encode_request(wire.ModifyQuerySet(jsonrpc="2.0", id=rpc_id, params=params))


def encode_call(rpc_id: int, request: PendingRequest) -> bytes:
    """A mutation, action or one-shot query."""
    path, args = request.path, Raw(request.args)
    if request.kind is Kind.QUERY:
        query = wire.QueryParams(udf_path=path, args=args, ts=request.at)
        return codec.encode_request(wire.Query(jsonrpc="2.0", id=rpc_id, params=query))
    if request.kind is Kind.ACTION:
        action = wire.ActionParams(request_id=request.number, udf_path=path, args=args)
        return codec.encode_request(wire.Action(jsonrpc="2.0", id=rpc_id, params=action))
    mutation = wire.CallParams(request_id=request.number, udf_path=path, args=args)
    return codec.encode_request(wire.Mutation(jsonrpc="2.0", id=rpc_id, params=mutation))


def call_size_bytes(path: str, args: bytes) -> int:
    """How long the frame is at most, before it is made."""
    return len(args) + _BYTES_PER_CHARACTER_MAX * len(path) + _ENVELOPE_BYTES


def too_large(path: str, args: bytes, bytes_max: int) -> MessageTooLarge | None:
    """Why the server would not take a call or a query; None when it would."""
    if call_size_bytes(path, args) <= bytes_max:
        return None
    return MessageTooLarge(f"{path}: {len(args):,} bytes of arguments; the server takes {bytes_max:,} a message")


def decode_greeting(result: bytes | None) -> wire.ConnectResult:
    """
    The answer to `tinyvex/connect`.

    Raises:
        UpdateRejected: it is none.
    """
    return _decode(result, wire.ConnectResult)


def token_of(greeting: wire.ConnectResult) -> str | None:
    """The token that the server gave for a pairing's code; None in every other answer."""
    return greeting.token if isinstance(greeting.token, str) else None


def decode_answer(kind: Kind, result: bytes | None) -> Answer:
    """
    The answer to a call.

    Raises:
        UpdateRejected: it is none.
    """
    if kind is Kind.ACTION:
        ran = _decode(result, wire.ActionResult)
        return Answer(bytes(ran.value), tuple(ran.log_lines))
    answered = _decode(result, wire.MutationResult)
    return Answer(bytes(answered.value), tuple(answered.log_lines), answered.ts)


def _decode(result: bytes | None, kind: type[_Result]) -> _Result:
    try:
        return msgspec.json.decode(result or b"null", type=kind)
    except msgspec.MsgspecError as error:
        raise UpdateRejected(f"an answer from the server cannot be understood: {error}") from None
