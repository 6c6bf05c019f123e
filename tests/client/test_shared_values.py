"""Values that results share: frozen, checked when a program sets them, and compared by the parts they do not share."""

from __future__ import annotations

import datetime as dt
import enum
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.values import values
from tinyvex.client.shared_values import SharedDict, SharedList, adopt, is_same, share, writable
from tinyvex.errors import InvalidValue, ValueTooLarge
from tinyvex.values import codec
from tinyvex.values.types import Int64


def test_a_shared_value_cannot_be_changed() -> None:
    """At any depth; the error names the way to change a copy."""
    rows = share([{"tags": ["a"]}])
    for change in (
        lambda: rows.append(1),
        lambda: rows[0].update(x=1),
        lambda: rows[0].__setitem__("x", 1),
        lambda: rows[0]["tags"].append("b"),
    ):
        with pytest.raises(TypeError, match="set a copy"):
            change()
    assert rows == [{"tags": ["a"]}]


def test_the_outermost_list_of_a_copy_may_be_changed() -> None:
    """The original stays, and the rows are shared."""
    rows = share([{"n": 1}])
    copied = writable(rows)
    copied.append({"n": 2})
    assert rows == [{"n": 1}]
    assert copied[0] is rows[0]
    assert writable(share({"n": 1})) == {"n": 1}
    assert writable("text") == "text"


def test_shared_parts_are_adopted_as_they_are() -> None:
    """Neither copied nor encoded again."""
    rows = share([{"n": 1}, {"n": 2}])
    adopted = adopt({"items": [*rows, {"n": 3}], "first": rows})
    assert adopted["items"][0] is rows[0]
    assert adopted["first"] is rows


class Colour(enum.Enum):
    RED = "red"


class Row(msgspec.Struct):
    at: dt.datetime
    colour: Colour


@given(values)
def test_an_adopted_value_is_what_a_reader_decodes(value: Any) -> None:
    """As if it were encoded and decoded."""
    adopted = adopt(value)
    assert is_same(adopted, share(codec.decode(codec.encode(value))))
    assert codec.encode(adopted) == codec.encode(value)


def test_objects_of_a_program_are_adopted() -> None:
    """Structs, tuples, enums, dates, subclasses, integral floats."""
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    adopted = adopt([Row(at, Colour.RED), (1.0, Int64(2)), b"x", math.nan])
    assert is_same(
        adopted,
        share([{"at": "2026-01-02T00:00:00.000000Z", "colour": "red"}, [1, Int64(2)], b"x", math.nan]),
    )


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ([1, {"a": object()}], r"\$\[1\]\.a", InvalidValue),
        ({"a": ["\ud83d"]}, r"\$\.a\[0\]", InvalidValue),
        ({"$a": 1}, r"\$", InvalidValue),
        ([2**53], r"\$\[0\]", InvalidValue),
        ([list(range(8193))], r"\$\[0\]", ValueTooLarge),
        ({"a": dict.fromkeys(map(str, range(1025)))}, r"\$\.a", ValueTooLarge),
    ],
)
def test_what_is_not_a_value_is_refused(value: Any, path: str, kind: type[Exception]) -> None:
    """The error names the path from the root."""
    with pytest.raises(kind, match=path):
        adopt(value)


def test_deep_nesting_is_refused() -> None:
    """At the limit of values."""
    value: Any = 1
    for _ in range(65):
        value = [value]
    with pytest.raises(ValueTooLarge, match="nested"):
        adopt(value)


@pytest.mark.parametrize("other", [1.5, True, Int64(1), "1", b"1", None, [1], {"a": 1}])
def test_values_of_different_types_differ(other: Any) -> None:
    """Python compares some of them as equal."""
    assert not is_same(share([1]), share([other]))
    assert is_same(share([other]), share([other]))


@given(st.lists(values, min_size=2, max_size=2))
def test_two_values_are_the_same_if_their_encodings_are(pair: list[Any]) -> None:
    """For any two."""
    one, other = pair
    assert is_same(adopt(one), adopt(other)) == (codec.encode(one) == codec.encode(other))
    assert is_same(adopt([one]), adopt([other])) == (codec.encode(one) == codec.encode(other))


def test_classes_of_shared_values_are_plain_when_copied() -> None:
    """A copy can be changed."""
    assert type(SharedList([1]).copy()) is list
    assert type(SharedDict(a=1).copy()) is dict
