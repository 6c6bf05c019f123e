"""
Slow calls in the log: which function, how long it ran, what it read; never what it was called with.

The clock is the runtime's monotonic one, and runs while the function does:
a mutation's wait for the writer is told beside it, but makes nothing slow, since it is another one's doing.
Above SLOW_LINES_PER_MINUTE calls are only counted, and one line tells the count when the minute is over.
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
    Where finished calls are reported, on the loop.

    ::

        quiet ──slow call──► a minute runs, lines are counted ──it is over──► quiet

    Args:
        runtime: bound to the loop before a call is reported.
        slow_ms: a call that ran this long is slow; 0 for every one.
    """

    def __init__(self, runtime: Runtime, slow_ms: int = limits.SLOW_MS) -> None:
        self.runtime = runtime
        self._slow_ms = slow_ms
        self._lines = 0  # in this minute
        self._left_out = 0
        self._minute: TimerHandle | None = None

    def ran(self, watch: Stopwatch, rows_read: int | None, error: errors.TinyvexError | None) -> None:
        """A call ended, well or not."""
        run_ms = round(watch.run_seconds() * 1000, 1)
        # The path of a function that does not exist is whatever the client says.
        if run_ms < self._slow_ms or isinstance(error, errors.FunctionNotFound):
            return
        if self._minute is None:
            self._minute = self.runtime.loop.call_later(MINUTE_SECONDS, self._tell)
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

    def _tell(self) -> None:
        self._minute = None
        self._lines, left_out, self._left_out = 0, self._left_out, 0
        if left_out:
            log.warning("%d more slow calls in the same minute", left_out, extra={"left_out": left_out})

    def close(self) -> None:
        """Tell at once what was only counted."""
        if self._minute is not None:
            self._minute.cancel()
            self._tell()


class Stopwatch:
    """
    The times of one call; entered around the function's run, on the thread that runs it.

    Entered again when a group is run again: then the last run counts, and the wait is that for the first.
    """

    __slots__ = ("_asked", "_began", "_ended", "_waited", "call", "clock", "kind")

    def __init__(self, runtime: Runtime, kind: Literal["query", "mutation"], call: Call) -> None:
        self.kind = kind
        self.call = call
        self.clock = runtime.monotonic
        self._asked = self.clock()
        self._waited: float | None = None
        self._began: float | None = None
        self._ended: float | None = None

    def __enter__(self) -> Self:
        self._began = self.clock()
        self._ended = None
        if self._waited is None:
            self._waited = self._began - self._asked
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = self.clock()

    def run_seconds(self) -> float:
        """How long the function ran; up to now where its thread was given up, nothing where it never began."""
        if self._began is None:
            return 0.0
        return (self.clock() if self._ended is None else self._ended) - self._began

    def waited_seconds(self) -> float:
        """From the call to the beginning of its run."""
        return self.clock() - self._asked if self._waited is None else self._waited
