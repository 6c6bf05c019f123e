"""The server's pulse: counting seconds, for heartbeats and deadlines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime

__all__ = ["every_second"]


async def every_second(runtime: Runtime) -> AsyncIterator[int]:
    """
    Count from 0, at once, and on, once a second.

    By the clock, not by pauses: those of a busy loop are longer than asked for, and would add up,
    so that heartbeats came later and later. What was missed while the machine slept is not made up for.
    """
    count = 0
    due = runtime.monotonic()
    while True:
        yield count
        count += 1
        due = max(due + 1.0, runtime.monotonic())
        await runtime.sleep(due - runtime.monotonic())
