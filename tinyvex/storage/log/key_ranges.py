"""
Ranges of index keys: half-open intervals of bytes.

A range `(lo, hi)` contains all keys with lo <= key < hi.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

__all__ = ["KEY_MAX", "KEY_MIN", "Range", "contains", "merge", "successor"]

Range = tuple[bytes, bytes]

KEY_MIN = b""
KEY_MAX = b"\xff" * 17
"""Above every key: encoded parts begin with a tag below FF, and document ids have 16 bytes."""


def successor(key: bytes) -> bytes:
    """Return the least key above `key`."""
    return key + b"\0"


def merge(ranges: Iterable[Range]) -> list[Range]:
    """Return the same keys as sorted ranges that neither touch nor overlap, without empty ones."""
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
    """Return whether one of the ranges contains the key; they must be as `merge` returns them."""
    position = bisect_right(merged, (key, KEY_MAX + b"\xff"))
    return position > 0 and key < merged[position - 1][1]
