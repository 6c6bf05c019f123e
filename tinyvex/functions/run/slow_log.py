"""
The log of slow calls: the function, its run time, the rows it read; never its arguments.

The run time is measured by the runtime's clock without suspensions while the function runs. A mutation's wait for the writer is
logged with it, but never makes a call slow: other mutations caused it. Beyond SLOW_LINES_PER_MINUTE lines, calls are
counted, and one line reports the count at the end of the minute.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, Self

from tinyvex import errors, limits

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from tinyvex.functions.run.call import Call
    from tinyvex.runtime import Runtime

__all__ = ["SlowLog", "Stopwatch"]

log = logging.getLogger("tinyvex.functions")

MINUTE_SECONDS = 60.0


class SlowLog:
    """
    Logs finished calls that were slow, on the loop.

    ::

        idle ── a slow call ──► a minute, in which lines are counted ── its end ──► idle

    Args:
        runtime: bound to the loop before a call is reported.
        slow_ms: the run time from which a call is slow; 0 logs every call.
    """

    def __init__(self, runtime: Runtime, slow_ms: int = limits.SLOW_MS) -> None:
        self.runtime = runtime
        self._slow_ms = slow_ms
        self._lines = 0  # in this minute
        self._left_out = 0
        self._minute: TimerHandle | None = None

    def ran(self, watch: Stopwatch, rows_read: int | None, error: errors.TinyvexError | None) -> None:
        """Report a finished or failed call."""
        run_ms = round(watch.run_seconds() * 1000, 1)
        # The path of an unknown function is arbitrary text from a client.
        if run_ms < self._slow_ms or isinstance(error, errors.FunctionNotFound):
            return
        if self._minute is None:
            self._minute = self.runtime.loop.call_later(MINUTE_SECONDS, self._end_minute)
        if self._lines >= limits.SLOW_LINES_PER_MINUTE:
            self._left_out += 1
            return
        self._lines += 1
        self._warn(watch, run_ms, rows_read, error)

    def _warn(self, watch: Stopwatch, run_ms: float, rows_read: int | None, error: errors.TinyvexError | None) -> None:
        call = watch.call
        fields: dict[str, Any] = {
            "kind": watch.kind, "function": call.path, "request_id": call.request_id or None, "duration_ms": run_ms,
        }  # fmt: skip
        parts = [f"{run_ms:g} ms"]
        if watch.kind == "mutation":
            fields["waited_ms"] = waited_ms = round(watch.waited_seconds() * 1000, 1)
            parts.append(f"after {waited_ms:g} ms of waiting for the writer")
        if rows_read is not None:
            fields["rows_read"] = rows_read
            parts.append(f"{rows_read} rows read")
        if error is not None:
            fields["error"] = error.name
            parts.append(error.name)
        log.warning(
            "slow %s %s: %s (request %s)", watch.kind, call.path, ", ".join(parts), call.request_id or "-", extra=fields
        )

    def _end_minute(self) -> None:
        """Log the count of the calls that were left out."""
        self._minute = None
        self._lines, left_out, self._left_out = 0, self._left_out, 0
        if left_out:
            log.warning("%d more slow calls in the same minute", left_out, extra={"left_out": left_out})

    def close(self) -> None:
        """Log the count of this minute without waiting for its end."""
        if self._minute is not None:
            self._minute.cancel()
            self._end_minute()


class Stopwatch:
    """
    The times of one call: its wait, and its run, which is a `with` block on the thread that runs it.

    The writer may run a unit of work more than once. The last run counts; the wait ends with the first.
    """

    __slots__ = ("_created", "_ended", "_started", "_waited", "call", "clock", "kind")

    def __init__(self, runtime: Runtime, kind: Literal["query", "mutation"], call: Call) -> None:
        self.kind = kind
        self.call = call
        self.clock = runtime.awake_seconds
        self._created = self.clock()
        self._waited: float | None = None
        self._started: float | None = None
        self._ended: float | None = None

    def __enter__(self) -> Self:
        self._started = self.clock()
        self._ended = None
        if self._waited is None:
            self._waited = self._started - self._created
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = self.clock()

    def run_seconds(self) -> float:
        """Return the run time: up to now if the thread was abandoned, 0 if the function never started."""
        if self._started is None:
            return 0.0
        return (self.clock() if self._ended is None else self._ended) - self._started

    def waited_seconds(self) -> float:
        """Return the time from the call to the start of its run."""
        return self.clock() - self._created if self._waited is None else self._waited
