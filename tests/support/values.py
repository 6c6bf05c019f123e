"""Hypothesis strategies for values, and a second, independent implementation of their total order."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import strategies as st

from tinyvex.values.key_encoding import encode_part
from tinyvex.values.types import INT64_MAX, INT64_MIN, MISSING, Int64

SAFE = 2**53 - 1

# The bytes that the key encoding escapes are rare among all characters, so they are generated explicitly.
escaped_strings = st.text(st.sampled_from("\x00\x01\x02a"), max_size=4)
strings = escaped_strings | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
blobs = escaped_strings.map(str.encode) | st.binary(max_size=8)
keys = strings.filter(lambda key: not key.startswith("$"))
numbers = st.integers(-SAFE, SAFE) | st.floats()
int64s = st.integers(INT64_MIN, INT64_MAX).map(Int64)
scalars = st.none() | st.booleans() | numbers | int64s | strings | blobs
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


def encode_key(fields: Iterable[Any]) -> bytes:
    """Encode several fields as one index key."""
    return b"".join(map(encode_part, fields))


def same(one: Any, other: Any) -> bool:
    """Return whether two values are the same: NaN equals NaN, but -0 differs from 0, True from 1, Int64 from int."""
    return compare(one, other) == 0


def compare(one: Any, other: Any) -> int:
    """Compare two values by cases, as the specification defines it: negative, zero or positive."""
    rank, other_rank = _rank(one), _rank(other)
    if rank != other_rank:
        return rank - other_rank
    if isinstance(one, bool) or one is None or one is MISSING:
        return 0
    if isinstance(one, Int64):
        return _sign(int(one), int(other))
    if isinstance(one, (int, float)):
        return _compare_numbers(float(one), float(other))
    if isinstance(one, str):
        return _sign([ord(character) for character in one], [ord(character) for character in other])
    if isinstance(one, bytes):
        return _sign(list(one), list(other))
    if isinstance(one, Mapping):
        ordered = functools.cmp_to_key(compare)
        one = [part for pair in sorted(one.items(), key=lambda pair: ordered(pair[0])) for part in pair]
        other = [part for pair in sorted(other.items(), key=lambda pair: ordered(pair[0])) for part in pair]
    for element, other_element in zip(one, other, strict=False):
        if (result := compare(element, other_element)) != 0:
            return result
    return _sign(len(one), len(other))


def _rank(value: Any) -> int:
    if value is MISSING:
        return 0
    if value is None:
        return 1
    if isinstance(value, bool):
        return 5 if value else 4
    ranks = [(Int64, 2), ((int, float), 3), (str, 6), (bytes, 7), ((list, tuple), 8), (Mapping, 9)]
    return next(rank for types, rank in ranks if isinstance(value, types))  # type: ignore[arg-type]


def _compare_numbers(one: float, other: float) -> int:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) - math.isnan(other)
    if one == other == 0:
        return _sign(math.copysign(1, one), math.copysign(1, other))
    return _sign(one, other)


def _sign(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


def bits(number: float) -> bytes:
    """Return the eight bytes of a double."""
    return struct.pack(">d", number)
