"""
Moments of the past, as people write them.

::

    1767225600000000        a `ts`: microseconds since the epoch
    2026-01-01T09:30        a time where you are; with Z or +02:00 one of that zone; the day alone is its midnight
    10m, 10m ago            so long ago: seconds s, minutes m, hours h, days d
"""

from __future__ import annotations

import datetime as dt
import json
import re

import click

from tinyvex.cli.options import duration
from tinyvex.cli.output import time_text
from tinyvex.cli.session import Session
from tinyvex.errors import SnapshotUnavailable
from tinyvex.values.timestamps import TS_MAX

__all__ = ["moment", "resolve"]

_TS_DIGITS = 12
"""A shorter number is no `ts` of this age, and more likely a slip."""
_TS_DIGITS_MAX = len(str(TS_MAX))


def moment(text: str, now_us: int) -> int:
    """
    The moment that a text names, in microseconds since the epoch.

    Raises:
        click.BadParameter: it is none of the three.
    """
    text = text.strip()
    if text.isdecimal() and _TS_DIGITS <= len(text) <= _TS_DIGITS_MAX:
        return int(text)
    ago = re.fullmatch(r"(\S+?)(?:\s+ago)?", text)
    if ago is not None and re.fullmatch(r"[\d.]+[a-zA-Z]+", ago[1]):
        return now_us - int(duration(ago[1]) * 1_000_000)
    try:
        return int(dt.datetime.fromisoformat(text).timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r} is no moment: write 10m ago (or s, h, d), a time such as 2026-01-31T09:30,"
            " or a ts in microseconds"
        ) from None


async def resolve(session: Session, wanted: int | None, now_us: int) -> int:
    """
    The `ts` to read at so that the state of a moment is seen, and stays the same from page to page.

    Args:
        session: where to read.
        wanted: the moment; None for the newest state.
        now_us: by the clock.

    Raises:
        SnapshotUnavailable: it is in the future, or older than what is kept; the message says what can be read.
    """
    span = json.loads(await session.query("_system:span", {}))
    last, floor = int(span["lastTs"]), int(span["floorTs"])
    if wanted is None:
        return last
    if wanted > max(now_us, last):
        raise SnapshotUnavailable(f"{time_text(wanted)} is in the future", lastTs=last)
    if wanted < floor:
        raise SnapshotUnavailable(
            f"{time_text(wanted)} is older than what is kept: states can be read from {time_text(floor)} on",
            floorTs=floor,
        )
    return min(wanted, last)
