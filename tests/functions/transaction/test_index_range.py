"""Ranges of an index, narrowed field by field."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.values import encode_key
from tinyvex.errors import UnknownIndex
from tinyvex.functions.transaction.index_range import IndexRange
from tinyvex.storage.log.catalog import IndexInfo

INDEX = IndexInfo(1, "by_a_b", ("a", "b"))

values = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3)


def whole() -> IndexRange:
    return IndexRange("things", INDEX, lambda path, value, *, bound: value)


def has(narrowed: IndexRange, key: bytes) -> bool:
    lo, hi = narrowed.bounds()
    return lo <= key < hi


def key(a: Any, b: Any) -> bytes:
    return encode_key([a, b, 1.0]) + b"\xff" * 16


@given(values, values)
def test_the_whole_index(a: Any, b: Any) -> None:
    """Before any narrowing, the range has every key."""
    assert whole().is_whole
    assert has(whole(), key(a, b))


@given(values, values, values)
def test_equal_fields(a: Any, b: Any, wanted: Any) -> None:
    """The range has exactly the keys whose field equals the value."""
    assert has(whole().equals("a", wanted), key(a, b)) == (encode_key([a]) == encode_key([wanted]))


@given(values, values, values, st.booleans())
def test_bounds(a: Any, b: Any, bound: Any, inclusive: bool) -> None:
    """Bounds follow the total order of values; `inclusive` decides about the bound itself."""
    narrowed = whole().equals("a", a)
    is_bound = encode_key([b]) == encode_key([bound])
    above, below = encode_key([b]) > encode_key([bound]), encode_key([b]) < encode_key([bound])
    expected = inclusive if is_bound else above
    assert has(narrowed.above("b", bound, inclusive=inclusive), key(a, b)) == expected
    expected = inclusive if is_bound else below
    assert has(narrowed.below("b", bound, inclusive=inclusive), key(a, b)) == expected


def test_the_next_field() -> None:
    """Fields are narrowed in order, creation time last."""
    narrowed = whole()
    assert narrowed.next_field() == "a"
    narrowed = narrowed.equals("a", 1)
    assert narrowed.next_field() == "b"
    narrowed = narrowed.equals("b", 1)
    assert narrowed.next_field() == "_creationTime"
    assert narrowed.equals("_creationTime", 1.0).next_field() is None


def test_equalities_in_any_order() -> None:
    """The order of the arguments does not matter."""
    assert whole().all_equal({"b": 2, "a": 1}).bounds() == whole().equals("a", 1).equals("b", 2).bounds()


@pytest.mark.parametrize(
    ("equalities", "message"),
    [
        ({"b": 2, "author": 1}, "the next field is `a`, not `author`"),
        ({"author": 1, "b": 2}, "the next field is `a`, not `author`"),
        ({"b": 2}, "the next field is `a`, not `b`"),
        ({"a": 1, "bb": 2}, "the next field is `b`, not `bb`"),
    ],
)
def test_an_error_names_the_field_that_the_index_does_not_have(equalities: dict[str, int], message: str) -> None:
    """A field of the index may be given in any order, so it is not the mistake."""
    with pytest.raises(UnknownIndex, match=f"{message}$"):
        whole().all_equal(equalities)


def test_a_range_is_named_by_index_and_table() -> None:
    """In error messages."""
    assert str(whole()) == "index `by_a_b` of table `things`"
