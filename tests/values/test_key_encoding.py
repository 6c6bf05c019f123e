"""Index keys: the byte order of encodings is the order of values."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.values import compare, encode_key, escaped_strings, scalars, values
from tinyvex.errors import InvalidValue, ValueTooLarge
from tinyvex.limits import NESTING_MAX
from tinyvex.values.key_encoding import encode_part, prefix_end
from tinyvex.values.types import INT64_MAX, INT64_MIN, MISSING, Int64

parts = st.just(MISSING) | values
LADDER: list[Any] = [
    MISSING, None, Int64(INT64_MIN), Int64(-1), Int64(0), Int64(1), Int64(INT64_MAX),
    -math.inf, -1e300, -2.5, -1, -5e-324, -0.0, 0, 5e-324, 1, 1.5, 256, 2**53 - 1, 1e300, math.inf, math.nan,
    False, True, "", "\x00", "\x00\x01", "\x01", "a", "a\x00", "a\x00b", "aa", "b", "\x7f", "\u0080", "é", "\uffff",
    "\U0001f600", b"", b"\x00", b"\x00\x00", b"\x00\xff", b"\x01", b"a", b"\xff", b"\xff\xff",
    [], [None], [None, None], [0], [0, 0], ["a"], [[]], [[], []], [[1]], [{}],
    {}, {"": 1}, {"a": 1}, {"a": 1, "b": 1}, {"a": 2}, {"a": [1]}, {"a\x00": 1}, {"b": 0},
]  # fmt: skip


def test_the_ladder_ascends() -> None:
    """Adjacent values, chosen to be close to each other, encode in ascending order."""
    keys = [encode_part(value) for value in LADDER]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_no_encoding_of_the_ladder_is_a_prefix_of_another() -> None:
    """Otherwise the range of one value of a field would contain keys with another value, such as "" and "\\x00"."""
    keys = [encode_part(value) for value in LADDER]
    assert [(one, other) for one, other in itertools.permutations(keys, 2) if other.startswith(one)] == []


@given(parts, parts)
def test_encodings_compare_like_values(one: Any, other: Any) -> None:
    """The expected order comes from code that shares nothing with the encoder."""
    key, other_key = encode_part(one), encode_part(other)
    assert (key > other_key) - (key < other_key) == (compare(one, other) > 0) - (compare(one, other) < 0)


@given(st.lists(parts, min_size=2, max_size=3), st.lists(parts, min_size=2, max_size=3))
def test_keys_compare_field_by_field(one: list[Any], other: list[Any]) -> None:
    """The first field that differs decides."""
    size = min(len(one), len(other))
    decided = next((c for c in map(compare, one, other) if c), 0)
    key, other_key = encode_key(one[:size]), encode_key(other[:size])
    assert (key > other_key) - (key < other_key) == (decided > 0) - (decided < 0)


@given(parts, parts, st.binary(max_size=4))
def test_no_encoding_is_a_prefix_of_another(one: Any, other: Any, tail: bytes) -> None:
    """Encodings are self-delimiting: different values differ before the bytes that follow them."""
    key, other_key = encode_part(one), encode_part(other)
    assert key == other_key or not (other_key + tail).startswith(key)


@given(escaped_strings, escaped_strings.filter(bool))
def test_a_longer_string_is_not_in_the_range_of_its_prefix(text: str, more: str) -> None:
    """This includes a string that continues with the terminator byte."""
    for one, other in ((text, text + more), (text.encode(), (text + more).encode())):
        assert not encode_part(other).startswith(encode_part(one))
        assert encode_part(other) >= prefix_end(encode_part(one))


@given(parts)
def test_tags_are_between_01_and_fe(value: Any) -> None:
    """So the end of an array (00) is less than every element, and a prefix always has an end."""
    assert 0x01 <= encode_part(value)[0] <= 0xFE


@given(st.lists(scalars, min_size=1, max_size=2), st.lists(scalars, max_size=2), st.lists(scalars, max_size=3))
def test_a_prefix_is_a_range(leading: list[Any], following: list[Any], other: list[Any]) -> None:
    """A key is in [prefix, prefix_end) exactly if it starts with the prefix."""
    prefix = encode_key(leading)
    for key in (encode_key([*leading, *following]), encode_key(other)):
        assert (prefix <= key < prefix_end(prefix)) == key.startswith(prefix)


@pytest.mark.parametrize("prefix", [b"\x05", b"\x05\xff", b"\xff", b"", b"\x00\xff\xff"])
def test_the_end_of_a_prefix_is_greater_than_its_keys(prefix: bytes) -> None:
    """This includes prefixes whose last bytes are FF."""
    for tail in (b"", b"\x00", b"\xff", b"\xff" * 16):
        assert prefix <= (prefix + tail)[:16] < prefix_end(prefix)


def test_equal_numbers_have_one_key() -> None:
    """An integral float and the equal int have the same key."""
    assert encode_part(2.0) == encode_part(2)
    assert encode_part(True) != encode_part(1)
    assert encode_part(Int64(1)) != encode_part(1)


def test_every_nan_has_one_key() -> None:
    """The sign and payload of a NaN are ignored."""
    assert encode_part(-math.nan) == encode_part(math.nan)


def test_tuples_and_lists_are_arrays() -> None:
    """Both are the same value, so they have the same key."""
    assert encode_part((1, "a")) == encode_part([1, "a"])


@pytest.mark.parametrize("value", [2**53, object(), {1: 2}, {"a": MISSING}, [MISSING], "\ud800"])
def test_an_invalid_value_has_no_key(value: Any) -> None:
    """The error is InvalidValue, not a Python error."""
    with pytest.raises(InvalidValue):
        encode_part(value)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_nesting_is_bounded(wrap: Any) -> None:
    """The limit is the one for values."""
    value: Any = 1
    for _ in range(NESTING_MAX):
        value = wrap(value)
    encode_part(value)
    with pytest.raises(ValueTooLarge):
        encode_part(wrap(value))


def test_subclasses_have_the_key_of_their_base() -> None:
    """An id class that is a subclass of str is encoded as a string."""

    class Name(str):
        __slots__ = ()

    assert encode_part(Name("a")) == encode_part("a")
    assert all(encode_part(a) < encode_part(b) for a, b in itertools.pairwise([Name("a"), Name("b")]))
