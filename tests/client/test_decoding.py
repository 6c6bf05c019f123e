"""Decoding of values to the requested types."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from typing import Any, Generic, Literal, TypeVar

import msgspec
import pytest

import tinyvex as tv
from tinyvex.client.decoding import check_idempotency_key, decode_value, encode_arguments
from tinyvex.errors import DecodeError, InvalidParams
from tinyvex.values import codec
from tinyvex.values.types import Int64

T = TypeVar("T")


class Id(str, Generic[T]):
    """An id class as in the functions, which the client may not import."""

    __slots__ = ()


class Line(tv.Document):
    text: str
    size: tv.Int64


class Row(msgspec.Struct):
    owner: Id[Any]
    size: Int64
    data: bytes
    ratio: float


def test_every_field_type_of_a_document_is_decoded() -> None:
    """Wrapped values, ids of any class, integral floats."""
    row = {"owner": "abc", "size": Int64(2**62), "data": b"\x00\xff", "ratio": 2.0}
    decoded = decode_value(codec.encode([row]), list[Row], "m:f")
    assert decoded == [Row(owner=Id("abc"), size=Int64(2**62), data=b"\x00\xff", ratio=2.0)]
    assert type(decoded[0].owner) is Id
    assert type(decoded[0].size) is Int64


def test_special_floats_are_decoded() -> None:
    """They are wrapped."""
    decoded = decode_value(codec.encode([math.inf, 1]), list[float], "m:f")
    assert decoded == [math.inf, 1.0]


def test_untyped_values_are_plain() -> None:
    """`Any` checks nothing."""
    value = {"a": [1, None, True, "x", b"y", Int64(3)]}
    assert decode_value(codec.encode(value), Any, "m:f") == value


@pytest.mark.parametrize(
    ("value", "target"),
    [("x", int), (1, Id[int]), ([1], list[str]), ({}, Row), ("x", Int64), ({"b": b"x"}, dict[str, int]), (1, object())],
)
def test_a_decode_error_names_the_function(value: Any, target: Any) -> None:
    """The value or the type may be wrong."""
    with pytest.raises(DecodeError, match="m:f"):
        decode_value(codec.encode(value), target, "m:f")


def test_a_string_is_not_decoded_to_bytes() -> None:
    """Bytes are wrapped; a string next to them is not treated as base64."""
    with pytest.raises(DecodeError):
        decode_value(codec.encode([b"x", "YWJj"]), list[bytes], "m:f")


def test_equal_arguments_are_equal_bytes() -> None:
    """Whatever the order of names; 1.0 equals 1."""
    assert encode_arguments({"b": 1.0, "a": None}) == encode_arguments({"a": None, "b": 1})
    assert encode_arguments(None) == encode_arguments({}) == b"{}"


def test_results_are_decoded_to_the_return_types_of_functions() -> None:
    """`tv.Rows[X]` and `tv.Page[X]`, with their rows as instances of X."""
    json = b'[{"_id":"i","_creationTime":1,"text":"a","size":{"$integer":"BQAAAAAAAAA="}}]'
    rows = decode_value(json, tv.Rows[Line], "m:f")
    assert (rows[0].text, rows[0].size, rows[0].id) == ("a", 5, "i")
    page = decode_value(b'{"items":%b,"cursor":"c","isDone":true}' % json, tv.Page[Line], "m:f")
    assert page == tv.Page(items=rows, cursor="c", is_done=True)
    with pytest.raises(DecodeError, match="Expected `str`, got `int` - at"):
        decode_value(b'[{"text":1,"size":1}]', tv.Rows[Line], "m:f")


class Cell(msgspec.Struct):
    data: bytes
    by_number: dict[int, str] = {}


TARGETS: list[tuple[Any, list[Any]]] = [
    (dict[int, str], [{"1": "a"}, {"1": "$a"}, {"x": "a"}]),
    (dict[float, int], [{"1.5": 1}]),
    (dict[dt.date, int], [{"2026-01-02": 1}]),
    (bytes, ["YWJj", b"abc", 1]),
    (list[bytes | None], [["YWJj"], [None]]),
    (bytes | int, ["YWJj", 1]),
    (Cell, [{"data": "YWJj"}, {"data": b"x", "by_number": {"1": "$"}}]),
    (tv.Rows[Cell], [[{"data": "YWJj"}], [{"data": b"x", "by_number": {"1": "a"}}]]),
    (int, [1, 1.5, 2.0**70, "1", True, Int64(5)]),
    (float, [1, 1.5, math.inf, "1", 2.0**70]),
    (Int64, [1, Int64(2**60), "1", True]),
    (dt.datetime, ["2026-01-02T00:00:00Z", "$", 5]),
    (dt.timedelta, ["PT1S", 5, 1.5]),
    (uuid.UUID, ["12345678-1234-5678-1234-567812345678", 5]),
    (decimal.Decimal, ["1.5", 1.5, 5]),
    (Literal["$a", 1], ["$a", 1, "b"]),
    (set[str], [["$a", "b"], "a"]),
    (tuple[int, str], [[1, "$"], [1]]),
    (bool, [True, 1]),
    (Id[int], ["abc", 1]),
    (dict[str, Any], [{"a": [1, None]}, [1]]),
]


@pytest.mark.parametrize(("target", "value"), [(target, value) for target, values in TARGETS for value in values])
def test_a_value_is_decoded_in_the_same_way_whatever_is_next_to_it(target: Any, value: Any) -> None:
    """A text that begins with `$`, or a wrapped value."""
    outcomes = []
    for neighbour in ("a", "$a", b"a"):
        try:
            decoded = decode_value(codec.encode([value, neighbour]), tuple[target, Any], "m:f")[0]
            outcomes.append((type(decoded), repr(decoded)))
        except DecodeError:
            outcomes.append((DecodeError, ""))
    assert len(set(outcomes)) == 1, outcomes


@pytest.mark.parametrize(("key", "error"), [("", InvalidParams), ("k" * 257, InvalidParams), (7, TypeError)])
def test_an_invalid_idempotency_key_is_refused(key: Any, error: type[Exception]) -> None:
    """The error names the length or the type."""
    with pytest.raises(error, match="an idempotency key"):
        check_idempotency_key(key)
