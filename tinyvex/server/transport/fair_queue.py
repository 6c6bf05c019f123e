"""Long pieces of work that share the loop with short ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime

__all__ = ["FairQueue"]


class FairQueue:
    """
    Runs one piece of work in each iteration of the loop, first come, first served.

    However many clients are sent long transitions, everything else on the loop waits for at most one chunk of one of them.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiting: deque[Callable[[], None]] = deque()

    def submit(self, work: Callable[[], None]) -> None:
        """Call `work` once, in a loop iteration that no other work of this queue shares."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self._runtime.loop.call_soon(self._run_next)

    def _run_next(self) -> None:
        work = self._waiting[0]
        try:
            work()
        finally:
            self._waiting.popleft()
            if self._waiting:
                self._runtime.loop.call_soon(self._run_next)
