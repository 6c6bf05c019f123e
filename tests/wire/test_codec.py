"""Bytes to messages: everything well formed is read, everything else gets the right error and the right id."""

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
    """A one-shot query's frame, with parts replaced; `...` leaves one out."""
    fields: dict[str, object] = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tinyvex/query",
        "params": {"udfPath": "accounts:list", "args": {}},
    }
    return json.dumps({key: value for key, value in {**fields, **changes}.items() if value is not ...})


def refused(text: bytes | str) -> ProtocolError:
    """The error that a frame gets."""
    with pytest.raises(ProtocolError) as caught:
        codec.decode_request(text)
    return caught.value


def test_a_request_is_typed_and_its_arguments_stay_bytes() -> None:
    """Decoding a request does not decode the user's arguments."""
    decoded = codec.decode_request(request(params={"udfPath": "accounts:list", "args": {"a": 1}}))
    assert isinstance(decoded, messages.Query)
    assert bytes(decoded.params.args) == b'{"a": 1}'


def test_unknown_fields_are_ignored() -> None:
    """A newer client may say more than this server understands."""
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
    """The error tells the reserved JSON-RPC cases apart, and answers the request where its id can be read."""
    error = refused(text)
    assert (type(error), error.request_id) == (kind, request_id)


def test_invalid_params_name_the_path() -> None:
    """`data.path` says which field is wrong."""
    changes = {"baseVersion": 0, "newVersion": 1, "modifications": [{"type": "Remove", "queryId": -1}]}
    error = refused(request(method="tinyvex/modifyQuerySet", params=changes))
    assert error.data["path"] == "$.params.modifications[0].queryId"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_in_arguments_is_an_error_with_the_id(opening: str) -> None:
    """JSON nested a hundred thousand deep is refused, and the request is answered."""
    text = request(params={"udfPath": "a:b", "args": "DEEP"}).replace('"DEEP"', opening * 100_000)
    error = refused(text)
    assert (type(error), error.request_id) == (InvalidParams, 7)


def test_arguments_nested_deeper_than_values_may_be_still_reach_the_function() -> None:
    """S-9: 128 levels are read, so that the function's own argument check can name what is wrong."""
    text = request(params={"udfPath": "a:b", "args": "DEEP"}).replace('"DEEP"', "[" * 128 + "]" * 128)
    assert isinstance(codec.decode_request(text), messages.Query)


def test_the_id_in_a_deep_message_is_the_top_level_one() -> None:
    """An `id` inside of the arguments, or inside of a string, is not the request's."""
    deep = '{"x":"\\"id\\":1","params":{"id":2,"args":' + "[" * 5_000 + "]" * 5_000 + '},"id" : "ours"}'
    assert refused(deep).request_id == "ours"


def test_a_deep_message_without_an_id_is_answered_with_null() -> None:
    """Nothing is invented where no id can be read."""
    assert refused('{"id":1.5,"a":' + "[" * 100_000).request_id is None
    assert refused('{"a":' + "[" * 100_000).request_id is None


def test_a_deep_batch_is_an_invalid_request() -> None:
    """An array is refused whatever is in it."""
    assert type(refused("[" * 100_000)) is InvalidRequest


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes_give_a_request_or_a_protocol_error(frame: bytes | str) -> None:
    """No frame makes anything else happen."""
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
    """No JSON makes anything else happen."""
    with contextlib.suppress(ProtocolError):
        codec.decode_request(json.dumps(frame))


def test_requests_survive_the_way_to_the_server() -> None:
    """What the client encodes is what the server decodes."""
    sent = messages.Mutation(
        jsonrpc="2.0",
        id=3,
        params=messages.CallParams(request_id=0, udf_path="accounts:open", args=msgspec.Raw(b'{"owner":"ada"}')),
    )
    received = codec.decode_request(codec.encode_request(sent))
    assert isinstance(received, messages.Mutation)
    assert (received.id, received.params.request_id, received.params.udf_path) == (3, 0, "accounts:open")
    assert bytes(received.params.args) == b'{"owner":"ada"}'


def test_a_response_survives_the_way_to_the_client() -> None:
    """A result arrives as bytes, for the request to decode."""
    frame = codec.encode_response("x", messages.PingResult(server_ts=5))
    assert codec.decode_server_message(frame) == codec.Response("x", b'{"serverTs":5}', None)


def test_a_spliced_response_is_left_as_it_is() -> None:
    """Result bytes are not decoded and encoded again."""
    assert codec.encode_response(1, b'{"a":1}') == b'{"jsonrpc":"2.0","id":1,"result":{"a":1}}'


def test_an_error_response_survives_the_way_to_the_client() -> None:
    """The error object arrives whole, also without an id."""
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
def test_notifications_survive_the_way_to_the_client(notification: messages.ServerNotification) -> None:
    """What the server encodes is what the client decodes."""
    assert codec.decode_server_message(codec.encode_notification(notification)) == notification


def test_the_order_of_fields_does_not_matter_to_the_client() -> None:
    """Another server may write the same message differently."""
    frame = '{ "params": {}, "method": "tinyvex/ping", "jsonrpc": "2.0" }'
    assert codec.decode_server_message(frame) == messages.ServerPing(jsonrpc="2.0")


@pytest.mark.parametrize("gap", ["", " "])
def test_an_unknown_notification_is_ignored(gap: str) -> None:
    """A newer server may tell what this client does not understand."""
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
def test_an_unreadable_message_is_rejected_by_the_client(frame: str) -> None:
    """The client learns that it cannot trust its state; nothing else is raised."""
    with pytest.raises(UpdateRejected):
        codec.decode_server_message(frame)
