"""Encoding and decoding of messages; a malformed message gets the right error and the right id."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.errors import (
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    ParseError,
    ProtocolError,
    UpdateRejected,
)
from tinyvex.wire import codec, messages
from tinyvex.wire.error_objects import to_object


def request(**changes: object) -> str:
    """Return a one-shot query's frame with replaced fields; `...` omits a field."""
    fields: dict[str, object] = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tinyvex/query",
        "params": {"udfPath": "accounts:list", "args": {}},
    }
    return json.dumps({key: value for key, value in {**fields, **changes}.items() if value is not ...})


def refused(text: bytes | str) -> ProtocolError:
    """Return the error that a frame causes."""
    with pytest.raises(ProtocolError) as caught:
        codec.decode_request(text)
    return caught.value


def test_a_request_is_typed_and_its_arguments_stay_bytes() -> None:
    """The function's arguments are not decoded with the request."""
    decoded = codec.decode_request(request(params={"udfPath": "accounts:list", "args": {"a": 1}}))
    assert isinstance(decoded, messages.Query)
    assert bytes(decoded.params.args) == b'{"a": 1}'


def test_unknown_fields_are_ignored() -> None:
    """A newer client may send fields that this server does not know."""
    decoded = codec.decode_request(request(later=1, params={"udfPath": "a:b", "args": {}, "later": 1}))
    assert isinstance(decoded, messages.Query)


@pytest.mark.parametrize(
    ("text", "kind", "request_id"),
    [
        ("", ParseError, None),
        ("{", ParseError, None),
        ("{'a': 1}", ParseError, None),
        (request() + "x", ParseError, None),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tinyvex/query","params":{"udfPath":"a:b","args":"\xff"}}',
            ParseError,
            None,
        ),
        ("[]", InvalidRequest, None),
        (f"[{request()}]", InvalidRequest, None),
        ("7", InvalidRequest, None),
        (request(jsonrpc=...), InvalidRequest, 7),
        (request(jsonrpc="1.0", id="x"), InvalidRequest, "x"),
        (request(id=...), InvalidRequest, None),
        (request(id=None), InvalidRequest, None),
        (request(id=True), InvalidRequest, None),
        (request(id=1.5), InvalidRequest, None),
        (request(id=[1]), InvalidRequest, None),
        (request(method=...), InvalidRequest, 7),
        (request(method=3), InvalidRequest, 7),
        ('{"jsonrpc":"2.0","id":7,"result":{}}', InvalidRequest, 7),
        (request(method="tinyvex/unknown"), MethodNotFound, 7),
        (request(method="tinyvex/transition"), MethodNotFound, 7),
        (request(params=...), InvalidParams, 7),
        (request(params=[]), InvalidParams, 7),
        (request(params=None), InvalidParams, 7),
        (request(params={}), InvalidParams, 7),
        (request(params={"udfPath": "", "args": {}}), InvalidParams, 7),
    ],
)
def test_a_malformed_frame_gets_its_error_and_the_id(text: bytes | str, kind: type, request_id: object) -> None:
    """The error distinguishes the JSON-RPC cases and has the request's id if it can be read."""
    error = refused(text)
    assert (type(error), error.request_id) == (kind, request_id)


def test_invalid_params_name_the_path() -> None:
    """`data.path` names the invalid field."""
    changes = {"baseVersion": 0, "newVersion": 1, "modifications": [{"type": "Remove", "queryId": -1}]}
    error = refused(request(method="tinyvex/modifyQuerySet", params=changes))
    assert error.data["path"] == "$.params.modifications[0].queryId"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_in_arguments_is_an_error_with_the_id(opening: str) -> None:
    """JSON nested 100,000 levels deep is refused, and the request gets an answer."""
    text = request(params={"udfPath": "a:b", "args": "DEEP"}).replace('"DEEP"', opening * 100_000)
    error = refused(text)
    assert (type(error), error.request_id) == (InvalidParams, 7)


def test_arguments_nested_deeper_than_values_reach_the_function() -> None:
    """S-9: 128 levels are read, so that the check of the function's arguments can name the fault."""
    text = request(params={"udfPath": "a:b", "args": "DEEP"}).replace('"DEEP"', "[" * 128 + "]" * 128)
    assert isinstance(codec.decode_request(text), messages.Query)


def test_the_id_in_a_deep_message_is_the_top_level_one() -> None:
    """An `id` inside the arguments, or inside a string, is not the request's."""
    deep = '{"x":"\\"id\\":1","params":{"id":2,"args":' + "[" * 5_000 + "]" * 5_000 + '},"id" : "ours"}'
    assert refused(deep).request_id == "ours"


def test_a_deep_message_without_an_id_is_answered_with_null() -> None:
    """No id is invented."""
    assert refused('{"id":1.5,"a":' + "[" * 100_000).request_id is None
    assert refused('{"a":' + "[" * 100_000).request_id is None


def test_a_deep_batch_is_an_invalid_request() -> None:
    """An array is refused whatever it contains."""
    assert type(refused("[" * 100_000)) is InvalidRequest


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes_give_a_request_or_a_protocol_error(frame: bytes | str) -> None:
    """No frame raises another exception."""
    with contextlib.suppress(ProtocolError):
        codec.decode_request(frame)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "udfPath", "args"]), inner)
        ),
    )
)
def test_any_json_gives_a_request_or_a_protocol_error(frame: object) -> None:
    """No JSON raises another exception."""
    with contextlib.suppress(ProtocolError):
        codec.decode_request(json.dumps(frame))


def test_requests_round_trip() -> None:
    """The server decodes what the client encoded."""
    sent = messages.Mutation(
        jsonrpc="2.0",
        id=3,
        params=messages.CallParams(request_id=0, udf_path="accounts:open", args=msgspec.Raw(b'{"owner":"ada"}')),
    )
    received = codec.decode_request(codec.encode_request(sent))
    assert isinstance(received, messages.Mutation)
    assert (received.id, received.params.request_id, received.params.udf_path) == (3, 0, "accounts:open")
    assert bytes(received.params.args) == b'{"owner":"ada"}'


def test_a_response_round_trips() -> None:
    """The result stays bytes, for the request to decode."""
    frame = codec.encode_response("x", messages.PingResult(server_ts=5))
    assert codec.decode_server_message(frame) == codec.Response("x", b'{"serverTs":5}', None)


def test_a_result_in_bytes_is_not_encoded_again() -> None:
    """The bytes are inserted unchanged."""
    assert codec.encode_response(1, b'{"a":1}') == b'{"jsonrpc":"2.0","id":1,"result":{"a":1}}'


def test_an_error_response_round_trips() -> None:
    """The error object is complete, also without an id."""
    received = codec.decode_server_message(codec.encode_error_response(None, ParseError("no JSON"), "r-1"))
    assert isinstance(received, codec.Response)
    assert received == codec.Response(None, None, to_object(ParseError("no JSON"), request_id="r-1"))


@pytest.mark.parametrize(
    "notification",
    [
        messages.ServerPing(jsonrpc="2.0"),
        messages.FatalError(jsonrpc="2.0", params=messages.FatalErrorParams(error=to_object(ParseError("x")))),
    ],
)
def test_notifications_round_trip(notification: messages.ServerNotification) -> None:
    """The client decodes what the server encoded."""
    assert codec.decode_server_message(codec.encode_notification(notification)) == notification


def test_the_order_of_fields_does_not_matter_to_the_client() -> None:
    """Another server may order the fields differently."""
    frame = '{ "params": {}, "method": "tinyvex/ping", "jsonrpc": "2.0" }'
    assert codec.decode_server_message(frame) == messages.ServerPing(jsonrpc="2.0")


@pytest.mark.parametrize("gap", ["", " "])
def test_an_unknown_notification_is_ignored(gap: str) -> None:
    """A newer server may send notifications that this client does not know."""
    assert codec.decode_server_message(f'{{"jsonrpc":"2.0",{gap}"method":"tinyvex/later","params":{{}}}}') is None


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "[]",
        "7",
        "[" * 100_000,
        '{"jsonrpc":"2.0"}',
        '{"jsonrpc":"2.0","id":1}',
        '{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"","data":{}}}',
        '{"jsonrpc":"2.0","method":"tinyvex/transition","params":{}}',
        '{"method":"tinyvex/transition","jsonrpc":"2.0","params":{}}',
    ],
)
def test_a_malformed_message_is_rejected_by_the_client(frame: str) -> None:
    """The only exception is UpdateRejected, after which the client reconnects."""
    with pytest.raises(UpdateRejected):
        codec.decode_server_message(frame)
