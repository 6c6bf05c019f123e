"""
Commit timestamps: microseconds since the epoch, strictly increasing; and creation times made from them.

They stay below 2^53 until the year 2255, so a timestamp is a plain JSON number.
"""

from __future__ import annotations

import math

__all__ = ["TS_MAX", "creation_time", "next_creation_time", "next_ts"]

TS_MAX = 2**53 - 1


def next_ts(last: int, now_us: int) -> int:
    """
    The timestamp of the next commit.

    Args:
        last: the newest timestamp that the database has ever allotted, 0 for none.
        now_us: the wall clock; it may stand still or have stepped back.

    Returns:
        The clock, or one more than `last` where that is later.
    """
    ts = max(last + 1, now_us)
    assert 0 < ts <= TS_MAX, ts
    return ts


def creation_time(ts: int) -> float:
    """`_creationTime` of the first document that the transaction at `ts` inserts: milliseconds since the epoch."""
    return ts / 1000


def next_creation_time(previous: float) -> float:
    """`_creationTime` of the document inserted after the one at `previous`: the next number there is."""
    return math.nextafter(previous, math.inf)
