"""Values to JSON and back."""

import base64
import collections
import dataclasses
import datetime as dt
import enum
import json
import math
import struct
import types
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.values import SAFE, bits, compare, same, values
from tinyvex.errors import InvalidValue, TinyvexError, ValueTooLarge
from tinyvex.limits import ARRAY_ELEMENTS_MAX, NESTING_MAX, OBJECT_FIELDS_MAX
from tinyvex.values.codec import decode, decode_canonical, decode_exact, encode, to_builtins, unwrap
from tinyvex.values.key_encoding import encode_part
from tinyvex.values.types import MISSING, Int64


@given(values)
def test_values_round_trip(value: object) -> None:
    """Decoding the encoding of a value returns the value."""
    assert same(decode(encode(value)), value)


@given(values)
def test_both_decoders_agree(value: object) -> None:
    """The fast decoder of canonical bytes returns the same as the validating one, including types."""
    data = encode(value)
    assert repr(decode_canonical(data)) == repr(decode(data))


@given(values)
def test_the_exact_decoder_accepts_canonical_form(value: object) -> None:
    """It returns the same as the validating one."""
    data = encode(value)
    assert repr(decode_exact(data)) == repr(decode(data))


@pytest.mark.parametrize(
    "text",
    [
        '{"b":1,"a":2}', '{"a":1,"a":1}', '{"a": 1}', '{"a":1} ', '{"a":1.0}', '{"a":-0.0}', '{"a":-0}', '{"a":1e3}',
        '{"a":0.10}', '{"a":18446744073709552000}', '{"a":"\\u0041"}', '{"a":"\\/"}', '{"a":{"$float":"AAAAAAAA8D8="}}',
        '{"b":{"$bytes":""},"a":1}', '{"a":{"$bytes":"","b":1}}', '{"$a":1}', '{"a":[[1.0]]}', '{"a":9007199254740993}',
    ],
)  # fmt: skip
def test_the_exact_decoder_refuses_any_other_form(text: str) -> None:
    """Also a form that the validating decoder accepts."""
    with pytest.raises(InvalidValue):
        decode_exact(text.encode())


@given(values, values)
def test_one_value_has_one_canonical_form(one: object, other: object) -> None:
    """Encodings are equal exactly if the values are."""
    assert (encode(one) == encode(other)) == (compare(one, other) == 0)


@given(values)
def test_canonical_form_is_a_fixed_point(value: object) -> None:
    """Encoding a decoded encoding returns the same bytes."""
    assert encode(decode(encode(value))) == encode(value)


@given(values)
def test_canonical_bytes_are_standard_json(value: object) -> None:
    """Any JSON parser can read them."""
    parsed = json.loads(encode(value), parse_float=lambda text: f"float {text}")
    assert parsed == json.loads(json.dumps(parsed))


@given(values)
def test_encoding_does_not_change_the_value(value: object) -> None:
    """The caller's objects stay unchanged."""
    before = repr(value)
    encode(value)
    assert repr(value) == before


@given(values)
def test_storage_does_not_change_the_index_key(value: Any) -> None:
    """A value has the same index key before encoding and after decoding."""
    assert encode_part(decode(encode(value))) == encode_part(value)


@given(st.floats())
def test_numbers_from_other_encoders_are_normalised(number: float) -> None:
    """Python's JSON encoder writes integral floats with a fraction; they are decoded as ints."""
    if not math.isfinite(number) or bits(number) == bits(-0.0):
        return
    read = decode(json.dumps(number))
    assert read == number
    assert isinstance(read, int) == (number.is_integer() and abs(number) <= SAFE)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.0", 1),
        ("-0.0", 0),  # only the wrapper is the negative zero
        ("-0", 0),
        ("1e2", 100),
        ("18446744073709552000", 2.0**64),  # as JavaScript writes it
        ("1152921504606846976", 2.0**60),
        ("9007199254740992", 2.0**53),
        ('{"$integer":"KgAAAAAAAAA="}', Int64(42)),
        ('{"$integer":"AAAAAAAAAIA="}', Int64(-(2**63))),
        ('{"$float":"AAAAAAAA8H8="}', math.inf),
        ('{"$bytes":""}', b""),
        ('{"a":{"$bytes":"AP8="}}', {"a": b"\x00\xff"}),
        (' { "b" : 1 , "a" : [ ] } ', {"a": [], "b": 1}),
    ],
)
def test_decoding(text: str, value: object) -> None:
    """JSON as other encoders write it."""
    read = decode(text)
    assert same(read, value)
    assert type(read) is type(value)


def test_every_nan_is_normalised() -> None:
    """All NaN bit patterns decode to the same value."""
    data = base64.b64encode(struct.pack("<Q", 0xFFF8_0000_0000_0001)).decode()
    assert encode(decode(json.dumps({"$float": data}))) == b'{"$float":"AAAAAAAA+H8="}'


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a":{"$integer":"KgAAAAAAAA=="}}', "$.a.$integer"),
        ('{"$integer":"KgAAAAAAAAA"}', "$.$integer"),
        ('{"$integer":42}', "$.$integer"),
        ('{"$integer":"KgAAAAAAAAA=","b":1}', "$.$integer"),
        ('{"b":1,"$integer":"KgAAAAAAAAA="}', "$.$integer"),
        ('{"$float":"AAAAAAAA8D8="}', "$.$float"),
        ('{"$bytes":"AP9="}', "$.$bytes"),
        ('{"$bytes":"A P8="}', "$.$bytes"),
        ('{"$bytes":"é"}', "$.$bytes"),
        ('{"$set":[]}', "$.$set"),
        ('[1,{"$a":1}]', "$[1].$a"),
        ('{"a":[0,9007199254740993]}', "$.a[1]"),
        ("1" + "0" * 400, "$"),
        ("", "$"),
        ("nul", "$"),
        ("NaN", "$"),
        ('"\\ud800"', "$"),
    ],
)
def test_invalid_json_is_refused(text: str, path: str) -> None:
    """The error names the path."""
    with pytest.raises(InvalidValue) as caught:
        decode(text)
    assert caught.value.data["path"] == path


def test_bytes_that_are_not_utf8_are_refused() -> None:
    """Also inside a string."""
    with pytest.raises(InvalidValue):
        decode(b'"\xff"')


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [0, {"$b": 1}]}, "$.a[1].$b"),
        ({"a": {1: 2}}, "$.a"),
        ({"a": {b"b": 2}}, "$.a"),
        ({"a": 2**53}, "$.a"),
        ([-(2**53)], "$[0]"),
        ({"a": object()}, "$.a"),
        ({"a": {1, 2}}, "$.a"),
        ([[MISSING]], "$[0][0]"),
        ({"a": ["b", "\ud800"]}, "$.a[1]"),
        (lambda: None, "$"),
    ],
)
def test_invalid_values_are_not_encoded(value: object, path: str) -> None:
    """The error names the path."""
    with pytest.raises(InvalidValue) as caught:
        encode(value)
    assert caught.value.data["path"] == path
    assert f"`{path}`" in caught.value.message


def test_a_too_large_int_names_int64() -> None:
    """The error names the type that can hold the number."""
    with pytest.raises(InvalidValue, match="Int64"):
        encode(2**53)


def nested(depth: int, *, arrays: bool) -> object:
    """Return a value nested to a depth."""
    value: object = 1
    for _ in range(depth):
        value = [value] if arrays else {"a": value}
    return value


@pytest.mark.parametrize(
    ("fitting", "too_large"),
    [
        (nested(NESTING_MAX, arrays=True), nested(NESTING_MAX + 1, arrays=True)),
        (nested(NESTING_MAX, arrays=False), nested(NESTING_MAX + 1, arrays=False)),
        ([0] * ARRAY_ELEMENTS_MAX, [0] * (ARRAY_ELEMENTS_MAX + 1)),
        (dict.fromkeys(map(str, range(OBJECT_FIELDS_MAX))), dict.fromkeys(map(str, range(OBJECT_FIELDS_MAX + 1)))),
    ],
)
def test_limits_apply_to_encoding_and_decoding(fitting: object, too_large: object) -> None:
    """A value at the limit is accepted, and one above it is refused."""
    assert decode(encode(fitting)) == fitting
    with pytest.raises(ValueTooLarge) as caught:
        encode(too_large)
    assert caught.value.data["path"].startswith("$")
    with pytest.raises(ValueTooLarge):
        decode(json.dumps(too_large))


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_nested_a_hundred_thousand_deep_is_refused(opening: str) -> None:
    """The parser's recursion limit does not escape as another exception."""
    with pytest.raises(ValueTooLarge):
        decode(opening * 100_000)


def test_a_value_that_contains_itself_is_refused() -> None:
    """A cycle is nested too deep."""
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueTooLarge):
        encode(value)


class Colour(enum.Enum):
    """An enum of strings."""

    RED = "red"


class Size(enum.IntEnum):
    """An enum of integers."""

    SMALL = 1


class Point(msgspec.Struct, rename="camel"):
    """A struct with renamed, optional and wrapped fields."""

    x_axis: float
    big: Int64
    note: str | msgspec.UnsetType = msgspec.UNSET


class Circle(msgspec.Struct, tag="circle"):
    """A struct with a tag."""

    radius: int


@dataclasses.dataclass
class Place:
    """A dataclass."""

    latitude: float
    names: list[str]


class WithJson:
    """An object that provides its own JSON."""

    def __tinyvex_json__(self) -> bytes:
        """Return stored bytes."""
        return b'{"stored":true}'


class Name(str):
    """A subclass of str."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (Name("a"), b'"a"'),
        ({Name("a"): Name("b")}, b'{"a":"b"}'),
        (Colour.RED, b'"red"'),
        (Size.SMALL, b"1"),
        ((1, (2,)), b"[1,[2]]"),
        (collections.OrderedDict(b=1, a=2), b'{"a":2,"b":1}'),
        (types.MappingProxyType({"a": 1}), b'{"a":1}'),
        (Point(x_axis=1.0, big=Int64(5)), b'{"big":{"$integer":"BQAAAAAAAAA="},"xAxis":1}'),
        (Circle(radius=2), b'{"radius":2,"type":"circle"}'),
        (Place(1.5, ["Ur"]), b'{"latitude":1.5,"names":["Ur"]}'),
        ([WithJson(), 1], b'[{"stored":true},1]'),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), b'"2026-01-02T00:00:00.000000Z"'),
        (dt.datetime(2026, 1, 2, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))), b'"2026-01-01T23:00:00.000000Z"'),
        (dt.datetime(5, 1, 2, microsecond=20, tzinfo=dt.UTC), b'"0005-01-02T00:00:00.000020Z"'),
        (dt.time(1, 2), b'"01:02:00.000000"'),
        (dt.date(2026, 1, 2), b'"2026-01-02"'),
    ],
)
def test_python_objects_are_encoded_as_their_values(value: object, data: bytes) -> None:
    """Subclasses, structs, enums, dates, and objects that provide JSON."""
    assert encode(value) == data


def test_to_builtins_and_unwrap_are_inverse() -> None:
    """Any JSON encoder can write the builtins in between."""
    value = {"a": (Int64(1), b"b", math.inf)}
    builtins = to_builtins(value)
    assert builtins == {
        "a": [{"$integer": "AQAAAAAAAAA="}, {"$bytes": "Yg=="}, {"$float": "AAAAAAAA8H8="}],
    }
    assert unwrap(builtins) == {"a": [Int64(1), b"b", math.inf]}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "$integer", "$float", "$bytes"]), inner),
    )
)
def test_any_json_is_a_value_or_an_error(builtins: object) -> None:
    """JSON that is accepted can be encoded again."""
    try:
        value = decode(json.dumps(builtins))
    except TinyvexError:
        return
    encode(value)


async def _answer() -> None: ...


@pytest.mark.parametrize(
    ("value", "hint"),
    [({1}, "convert it to a list"), ((n for n in [1]), "convert it to a list"), (int, "create an instance")],
    ids=["set", "generator", "class"],
)
def test_the_error_suggests_a_valid_type(value: object, hint: str) -> None:
    """For common mistakes."""
    with pytest.raises(InvalidValue, match=hint):
        encode([value])


def test_the_error_suggests_a_missing_await() -> None:
    """A coroutine is not a value."""
    value = _answer()
    with pytest.raises(InvalidValue, match="is an `await` missing"):
        encode(value)
    value.close()
