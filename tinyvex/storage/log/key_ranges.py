"""
Ranges of index keys: half-open intervals of bytes.

A range is a pair `(lo, hi)` of all keys with lo <= key < hi.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

__all__ = ["KEY_MAX", "KEY_MIN", "Range", "contains", "merge", "point", "successor"]

Range = tuple[bytes, bytes]

KEY_MIN = b""
KEY_MAX = b"\xff" * 17
"""Above every key: encoded parts begin with a tag below FF, and document ids have 16 bytes."""


def successor(key: bytes) -> bytes:
    """The least key above `key`."""
    return key + b"\0"


def point(key: bytes) -> Range:
    """The range that holds one key."""
    return key, key + b"\0"


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same keys as sorted ranges that neither touch nor overlap; empty ones are dropped."""
    merged: list[Range] = []
    for lo, hi in sorted(ranges):
        if lo >= hi:
            continue
        if merged and lo <= merged[-1][1]:
            if hi > merged[-1][1]:
                merged[-1] = (merged[-1][0], hi)
        else:
            merged.append((lo, hi))
    return merged


def contains(merged: Sequence[Range], key: bytes) -> bool:
    """Whether one of the ranges, as `merge` returns them, holds the key."""
    place = bisect_right(merged, (key, KEY_MAX + b"\xff"))
    return place > 0 and key < merged[place - 1][1]
