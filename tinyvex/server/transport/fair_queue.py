"""Long pieces of work that share the loop with everything that is short."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime

__all__ = ["FairQueue"]


class FairQueue:
    """
    One piece of work in each turn of the loop, first come, first served.

    However many clients are sent something long,
    what else happens on the loop waits for one part of one of them at most.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiting: deque[Callable[[], None]] = deque()

    def ask(self, work: Callable[[], None]) -> None:
        """Call `work` once, in a turn of its own."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self._runtime.loop.call_soon(self._turn)

    def _turn(self) -> None:
        work = self._waiting[0]
        try:
            work()
        finally:
            self._waiting.popleft()
            if self._waiting:
                self._runtime.loop.call_soon(self._turn)
