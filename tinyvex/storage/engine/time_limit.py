"""
Time limits for code that runs on a worker thread.

The thread runs the code inside `Guard.run`. A timer on the event loop checks the guard, and acts at the limit::

    idle ──run──► running ──limit──► stopping ──grace──► abandoned
      ▲              │                  │                    │
      └──── ends ────┴────── ends ──────┘        the thread ends if it ever returns

*Stopping* interrupts SQLite and raises `Stopped` in the thread.
*Abandoned* is for code that reacts to neither: a C call that does not return, or a function that catches everything.

Time in which the process was suspended does not count (`Runtime.awake_seconds`).

The race between a late `Stopped` and the next piece of work:

1. The timer raises `Stopped` in the thread only while it holds the lock and the guard is running.
2. The thread takes the lock to leave; after that, none can be raised.
3. One that was raised before is pending for this thread, and surfaces inside `_drain`, before anything else runs.
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
    """Raised inside a function that ran too long; not an `Exception`, so that `except Exception` does not catch it."""


class Abandoned(BaseException):
    """Raised on an abandoned thread when its function returns after all: the thread must end."""


class Guard:
    """
    Runs code that the event loop can stop.

    Args:
        stop: interrupts the thread; called on the loop, under the lock.
    """

    def __init__(self, runtime: Runtime, stop: Callable[[], None]) -> None:
        self._runtime = runtime
        self._stop = stop
        self._lock = threading.Lock()
        # Everything below is written under the lock, except that `run` sets it while the guard is idle.
        self._limit_seconds = 0.0
        self._deadline: float | None = None  # None while idle
        self._stopping = False
        self._abandoned = False

    def run(self, call: Callable[[], T], limit_seconds: float) -> T:
        """
        Call, on the worker thread.

        Raises:
            TimeLimitExceeded: the limit passed, whatever the call then returned or raised.
            Abandoned: the thread was abandoned.
        """
        self._stopping = False
        self._limit_seconds = limit_seconds
        self._deadline = self._runtime.awake_seconds() + limit_seconds
        try:
            value = call()
            self._leave()
        except Stopped:
            pass  # continue outside the handler, so that the traceback and its frames are released
        except BaseException:  # noqa: BLE001 - raised again, unless it came with the stop
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
            raise TimeLimitExceeded(f"stopped after its time limit of {self._limit_seconds:g} s; nothing was written")

    def check(self) -> float | None:
        """
        Stop the call if it is over its limit; called on the loop.

        Returns:
            Seconds until the next check is worthwhile; None if nothing runs; negative once abandoned.
        """
        with self._lock:
            if self._deadline is None or self._abandoned:
                return None
            left = self._deadline - self._runtime.awake_seconds()
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
        """Abandon the running call, whatever time it has left; called on the loop. Return False if nothing runs."""
        with self._lock:
            if self._deadline is None:
                return False
            if not self._stopping:
                self._stopping = True
                self._stop()
            self._abandoned = True
            return True


def _drain() -> None:
    """Give a pending `Stopped` the opportunity to be raised: CPython checks for one at every backward jump."""
    for _ in range(100):
        pass


class Watch:
    """
    The timer on the loop that checks guards while there is work for them.

    Args:
        look: checks the guards; returns seconds until the next check, or None if nothing runs.
        busy: returns whether work waits or runs.
    """

    def __init__(self, runtime: Runtime, look: Callable[[], float | None], busy: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._look = look
        self._busy = busy
        self._timer: asyncio.TimerHandle | None = None
        self._interval = 0.0

    def expect(self, limit_seconds: float) -> None:
        """Schedule a check in time for work with this limit, which was just queued."""
        if self._timer is None or limit_seconds < self._interval:
            self.cancel()
            self._interval = limit_seconds
            self._timer = self._runtime.loop.call_later(limit_seconds, self._tick)

    def cancel(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        wait = self._look()
        if wait is None and self._busy():
            wait = self._interval  # work that begins from here on has at least this long
        if wait is not None:
            self._timer = self._runtime.loop.call_later(wait, self._tick)
