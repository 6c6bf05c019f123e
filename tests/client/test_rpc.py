"""JSON-RPC on a client's socket: the server reads the client's messages, and the client reads the answers."""

from __future__ import annotations

import pytest

from tinyvex.client import rpc
from tinyvex.client.pending_requests import Answer, CallKind, PendingRequest
from tinyvex.errors import UpdateRejected
from tinyvex.wire import codec, messages


@pytest.mark.parametrize(
    ("kind", "message"),
    [(CallKind.MUTATION, messages.Mutation), (CallKind.ACTION, messages.Action), (CallKind.QUERY, messages.Query)],
)
def test_calls_are_read_by_the_server(kind: CallKind, message: type) -> None:
    """With path, arguments and id."""
    decoded = codec.decode_request(rpc.encode_call(3, PendingRequest(7, kind, "m:f", b'{"a":1}', at=5), 6))
    assert isinstance(decoded, message)
    assert decoded.id == 3
    assert decoded.params.udf_path == "m:f"  # type: ignore[union-attr]
    assert bytes(decoded.params.args) == b'{"a":1}'  # type: ignore[union-attr]
    assert getattr(decoded.params, "acknowledged_below", None) == (6 if kind is CallKind.MUTATION else None)


def test_a_call_is_never_longer_than_its_estimate() -> None:
    """Even with the largest numbers and a path that has to be escaped."""
    for kind in CallKind:
        for path in ("m:f", "\x01" * 512, '"' * 512, "ü" * 512):
            frame = rpc.encode_call(2**31, PendingRequest(2**32 - 1, kind, path, b"{}", at=2**53 - 1), 2**32 - 1)
            assert len(frame) <= rpc.call_size_bytes(path, b"{}")


def test_answers_are_read() -> None:
    """An action's answer has no `ts`."""
    assert rpc.decode_answer(CallKind.MUTATION, b'{"value":[1],"ts":5,"logLines":["x"]}') == Answer(b"[1]", ("x",), 5)
    assert rpc.decode_answer(CallKind.ACTION, b'{"value":null,"logLines":[]}') == Answer(b"null", ())


@pytest.mark.parametrize("result", [None, b"{}", b"[]", b'{"value":1,"ts":-1,"logLines":[]}'])
def test_a_malformed_answer_is_rejected(result: bytes | None) -> None:
    """The socket must be closed."""
    with pytest.raises(UpdateRejected):
        rpc.decode_answer(CallKind.MUTATION, result)
    with pytest.raises(UpdateRejected):
        rpc.decode_connect_result(result)
