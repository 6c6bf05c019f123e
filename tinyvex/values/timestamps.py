"""
Commit timestamps (microseconds since the epoch, strictly increasing) and the creation times derived from them.

A timestamp is below 2^53 until the year 2255, so it is a plain JSON number.
"""

from __future__ import annotations

import math

__all__ = ["TS_MAX", "creation_time", "next_creation_time", "next_ts"]

TS_MAX = 2**53 - 1


def next_ts(last: int, now_us: int) -> int:
    """
    Return the timestamp of the next commit: the wall clock, or `last + 1` if that is later.

    Args:
        last: the newest timestamp that the database ever assigned; 0 if none.
        now_us: the wall clock in microseconds; it may have stepped back.
    """
    ts = max(last + 1, now_us)
    assert 0 < ts <= TS_MAX, ts
    return ts


def creation_time(ts: int) -> float:
    """Return `_creationTime` of the first document inserted at `ts`, in milliseconds since the epoch."""
    return ts / 1000


def next_creation_time(previous: float) -> float:
    """Return `_creationTime` of the next document of the same transaction: the next representable double."""
    return math.nextafter(previous, math.inf)
