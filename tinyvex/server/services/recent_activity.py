"""
Recent activity for the dashboard: log records, and one sample of figures per second, in two bounded rings.

Both rings number their entries from one counter, so a reader that passes the last number it has seen gets the new
entries of both. No call pays for this: a sample is taken once a second, a record when something is logged.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tinyvex import limits
from tinyvex.server.log_redaction import describe
from tinyvex.server.services.background_service import BackgroundService
from tinyvex.server.services.ticker import every_second

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.storage.engine.store import Store
    from tinyvex.sync.counters import Counters

__all__ = ["RecentActivity"]


class RecentActivity(BackgroundService):
    """
    The two rings, filled while the service runs.

    Args:
        store: the source of the commit figures.
        counters: the source of all other figures.
        runtime: the clock.
        reveal: include the text of exceptions in their tracebacks.
    """

    name = "recent-activity"

    def __init__(self, store: Store, counters: Counters, runtime: Runtime, *, reveal: bool) -> None:
        super().__init__()
        self._store = store
        self._counters = counters
        self._runtime = runtime
        self._number = 0
        # Records arrive on any thread. A number and its entry are added together, so that a reader that has seen number
        # N has seen every entry up to N. Reentrant: garbage collection inside the lock may run a finaliser that logs.
        self._lock = threading.RLock()
        self._records: deque[dict[str, Any]] = deque(maxlen=limits.DASHBOARD_RECORDS_MAX)
        self._samples: deque[dict[str, Any]] = deque(maxlen=limits.DASHBOARD_SAMPLES_MAX)
        self._handler = _ActivityHandler(self, reveal=reveal)
        self._previous = self._totals()

    async def run(self) -> None:
        """Collect log records, and take a sample once a second."""
        with self.collecting_records():
            async for _ in every_second(self._runtime):
                self.sample(self._runtime.now_us())

    @contextmanager
    def collecting_records(self) -> Iterator[None]:
        """Collect the log records of all loggers inside the context."""
        root = logging.getLogger()
        root.addHandler(self._handler)
        try:
            yield
        finally:
            root.removeHandler(self._handler)

    def sample(self, now_us: int) -> None:
        """Add the differences to the previous sample."""
        previous, now = self._previous, self._totals()
        self._previous = now
        counts = [count - old for count, old in zip(now.commit_counts, previous.commit_counts, strict=True)]
        sample = {
            "time": now_us // 1000,
            "commits": now.commits - previous.commits,
            "recomputations": now.recomputations - previous.recomputations,
            "bytesSent": now.bytes_sent - previous.bytes_sent,
            "p50": quantile(now.commit_bounds, counts, 0.50),
            "p99": quantile(now.commit_bounds, counts, 0.99),
        }
        self._append(self._samples, sample)

    def add(self, record: dict[str, Any]) -> None:
        """Add a described log record; thread-safe."""
        self._append(self._records, record)

    def since(self, number: int) -> dict[str, Any]:
        """Return the entries after `number`; all entries if the number comes from another run of the server."""
        with self._lock:
            last = self._number
            after = number if number <= last else 0
            return {
                "number": last,
                "records": _between(self._records, after, last),
                "samples": _between(self._samples, after, last),
            }

    def _append(self, ring: deque[dict[str, Any]], entry: dict[str, Any]) -> None:
        with self._lock:
            self._number += 1
            ring.append({"number": self._number, **entry})

    def _totals(self) -> _Totals:
        return _Totals(self._store, self._counters)


class _Totals:
    """The running totals that samples are differences of."""

    def __init__(self, store: Store, counters: Counters) -> None:
        statistics = store.statistics()
        self.commits = statistics.commits
        self.commit_bounds = statistics.commit_seconds.bounds
        self.commit_counts = list(statistics.commit_seconds.counts)
        self.recomputations = counters.recomputations
        self.bytes_sent = counters.bytes_sent


class _ActivityHandler(logging.Handler):
    """
    Adds log records to the ring, described as they are emitted.

    Storing the record itself would keep its exception alive, and with that the frames and their variables.
    """

    def __init__(self, activity: RecentActivity, *, reveal: bool) -> None:
        super().__init__()
        self._activity = activity
        self._reveal = reveal

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record (called by `logging`)."""
        try:
            described = describe(record, reveal=self._reveal)
            self._activity.add({name: _bounded(value) for name, value in described.items()})
        except Exception:  # noqa: BLE001 - a handler must never raise into the code that logs
            self.handleError(record)


def _bounded(value: object) -> object:
    """Return a value that can be encoded as JSON, of bounded size: the app may attach any object to a record."""
    if value is None or type(value) in {bool, int, float}:
        return value
    text = str(value)
    if len(text) > limits.DASHBOARD_TEXT_LENGTH_MAX:
        text = f"{text[: limits.DASHBOARD_TEXT_LENGTH_MAX]}…"
    return text.encode(errors="replace").decode()


def _between(ring: Iterable[dict[str, Any]], after: int, last: int) -> list[dict[str, Any]]:
    """Return the entries of a ring numbered above `after`, up to `last`, in order."""
    return [entry for entry in list(ring) if after < entry["number"] <= last]


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """
    Estimate a quantile from the buckets of a histogram, assuming an even spread within each bucket.

    Args:
        bounds: the upper bounds of the buckets, ascending.
        counts: the observations per bucket, and last those above every bound.
        share: between 0 and 1; 0.99 for the 99th percentile.

    Returns:
        The value, at most the last bound; None without observations.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    lower, passed = 0.0, 0
    for count, upper in zip(counts, bounds, strict=False):
        if count and passed + count >= wanted:
            return lower + (upper - lower) * (wanted - passed) / count
        passed += count
        lower = upper
    return lower
