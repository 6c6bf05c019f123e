"""
The time limit of code that runs on a worker's thread.

The thread runs the code inside `Guard.run`; a timer on the loop looks at the guard, and at the limit::

    idle ──run──► running ──limit──► stopping ──grace──► abandoned
      ▲              │                  │                    │
      └──── ends ────┴────── ends ──────┘        the thread ends when it ever returns

*Stopping* interrupts SQLite and raises `Stopped` in the thread.
*Abandoned* is for code that neither notices: a C call that does not return, or a function that swallows everything.

The race between a late `Stopped` and the next piece of work:

1. The timer sends `Stopped` only while it holds the lock and sees the guard running.
2. The thread takes the lock to leave; afterwards none can be sent.
3. One that was sent before is pending for this thread, and is raised inside `_drain`, before anything else runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tinyvex.errors import TimeLimitExceeded
from tinyvex.limits import FUNCTION_GRACE_SECONDS

if TYPE_CHECKING:
    import asyncio

    from tinyvex.runtime import Runtime

__all__ = ["Abandoned", "Guard", "Stopped", "Watch"]

T = TypeVar("T")


class Stopped(BaseException):
    """Raised inside a function that ran too long; no `Exception`, so that an `except Exception` lets it through."""


class Abandoned(BaseException):
    """Raised on a thread that was given up when its function returned after all: it must end."""


class Guard:
    """
    Runs code so that the loop can stop it.

    Args:
        stop: interrupts what the thread is doing; called on the loop, under the lock.
    """

    def __init__(self, runtime: Runtime, stop: Callable[[], None]) -> None:
        self._runtime = runtime
        self._stop = stop
        self._lock = threading.Lock()
        # All below: written under the lock, except that `run` sets them while it is idle.
        self._limit_seconds = 0.0
        self._deadline: float | None = None  # None while idle
        self._stopping = False
        self._abandoned = False

    def run(self, call: Callable[[], T], limit_seconds: float) -> T:
        """
        Call, on the worker's thread.

        Raises:
            TimeLimitExceeded: the limit passed, whatever the call then returned or raised.
            Abandoned: the thread was given up.
        """
        self._stopping = False
        self._limit_seconds = limit_seconds
        self._deadline = self._runtime.monotonic() + limit_seconds
        try:
            value = call()
            self._leave()
        except Stopped:
            pass  # the only one there is; what follows is outside, so that its traceback and the frames in it go
        except BaseException:  # noqa: BLE001 - raised again, unless it came together with the stop
            try:
                self._leave()
            except Stopped:
                pass
            else:
                raise
        else:
            return value
        self._leave()
        raise AssertionError("unreachable: `_leave` raises after a stop")

    def _leave(self) -> None:
        # Between acquiring and releasing, this block makes no call and no backward jump,
        # so CPython raises nothing asynchronous inside it.
        with self._lock:
            self._deadline = None
            stopping = self._stopping
            abandoned = self._abandoned
        if stopping:
            _drain()
            if abandoned:
                raise Abandoned
            raise TimeLimitExceeded(f"stopped after {self._limit_seconds:g} s, its time limit; nothing was written")

    def check(self) -> float | None:
        """
        Look, on the loop: stop what is over its limit.

        Returns:
            Seconds until the next look is worth it; None when nothing runs; negative once abandoned.
        """
        with self._lock:
            if self._deadline is None or self._abandoned:
                return None
            left = self._deadline - self._runtime.monotonic()
            if left > 0:
                return left
            if not self._stopping:
                self._stopping = True
                self._deadline += FUNCTION_GRACE_SECONDS
                self._stop()
                return max(left + FUNCTION_GRACE_SECONDS, 0.0)
            self._abandoned = True
            return -1.0

    def abandon(self) -> bool:
        """Give up what runs now, whatever time it has left; on the loop. False when nothing runs."""
        with self._lock:
            if self._deadline is None:
                return False
            if not self._stopping:
                self._stopping = True
                self._stop()
            self._abandoned = True
            return True


def _drain() -> None:
    """Let a pending `Stopped` be raised here: CPython looks for one at every backward jump."""
    for _ in range(100):
        pass


class Watch:
    """
    The timer on the loop that looks at guards while there is work for them.

    Args:
        look: checks the guards; seconds until the next look is needed, None when nothing runs.
        busy: whether work waits or runs.
    """

    def __init__(self, runtime: Runtime, look: Callable[[], float | None], busy: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._look = look
        self._busy = busy
        self._timer: asyncio.TimerHandle | None = None
        self._interval = 0.0

    def expect(self, limit_seconds: float) -> None:
        """Work with this limit was queued: look in time."""
        if self._timer is None or limit_seconds < self._interval:
            self.cancel()
            self._interval = limit_seconds
            self._timer = self._runtime.loop.call_later(limit_seconds, self._tick)

    def cancel(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        wait = self._look()
        if wait is None and self._busy():
            wait = self._interval  # whatever begins from now on has at least this long
        if wait is not None:
            self._timer = self._runtime.loop.call_later(wait, self._tick)
