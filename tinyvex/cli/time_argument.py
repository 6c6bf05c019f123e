"""
Parse timestamps as people write them, and resolve them to a snapshot that can be read.

::

    1767225600000000        a `ts`: microseconds since the epoch
    2026-01-01T09:30        a local time; with Z or +02:00 a time of that zone; a date alone means its midnight
    10m, 10m ago            a duration before now: seconds s, minutes m, hours h, days d

If the clock was ahead once, a `ts` may be later than the time of its commit; the log then knows which `ts` it had at a time.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import NamedTuple

import click

from tinyvex.cli.options import duration
from tinyvex.cli.output import time_text
from tinyvex.cli.session import Session
from tinyvex.errors import SnapshotUnavailable
from tinyvex.values.timestamps import TS_MAX

__all__ = ["GivenTime", "parse_time", "resolve"]

_TS_DIGITS = 12
"""A `ts` has at least this many digits; a shorter number is probably a typing error."""
_TS_DIGITS_MAX = len(str(TS_MAX))


class GivenTime(NamedTuple):
    """
    A time as a user gave it.

    Attributes:
        us: microseconds since the epoch.
        is_ts: whether it is a `ts`, and not a time of the wall clock.
    """

    us: int
    is_ts: bool = False


def parse_time(text: str, now_us: int) -> GivenTime:
    """
    Parse a time.

    Raises:
        click.BadParameter: the text is in none of the three forms.
    """
    text = text.strip()
    if text.isdecimal() and _TS_DIGITS <= len(text) <= _TS_DIGITS_MAX:
        return GivenTime(int(text), is_ts=True)
    ago = re.fullmatch(r"(\S+?)(?:\s+ago)?", text)
    if ago is not None and re.fullmatch(r"[\d.]+[a-zA-Z]+", ago[1]):
        return GivenTime(now_us - int(duration(ago[1]) * 1_000_000))
    try:
        return GivenTime(int(dt.datetime.fromisoformat(text).timestamp() * 1_000_000))
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"`{text}` is not a time; write 10m ago (or s, h, d), a time such as 2026-01-31T09:30,"
            " or a ts in microseconds"
        ) from None


async def resolve(session: Session, wanted: GivenTime | None, now_us: int) -> int:
    """
    Return the `ts` to pass to every query, so that all pages are of one snapshot.

    Args:
        session: the session to read from.
        wanted: the time to read as of; None for the newest state.
        now_us: the current time.

    Raises:
        SnapshotUnavailable: the time is in the future or no longer retained; the message has the retained range.
    """
    # A time in the future can only be the time that a `ts` states, as `tinyvex history` prints it.
    is_past = wanted is not None and not wanted.is_ts and 0 <= wanted.us <= now_us
    question = {"time": wanted.us, "now": now_us} if wanted is not None and is_past else {}
    span = json.loads(await session.query("_system:span", question))
    last, floor = int(span["lastTs"]), int(span["floorTs"])
    if wanted is None:
        return last
    if wanted.us > max(now_us, last):
        raise SnapshotUnavailable(f"{time_text(wanted.us)} is in the future", lastTs=last)
    ts = int(span.get("timeTs", wanted.us))
    if ts < floor:
        raise SnapshotUnavailable(
            f"{time_text(wanted.us)} is no longer retained; history begins at {time_text(floor)}", floorTs=floor
        )
    return min(ts, last)
