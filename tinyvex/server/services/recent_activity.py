"""
What the server did of late: log records and one sample per second, in two bounded rings.

Both take their numbers from one counter, so a reader that names the last number it has seen gets what is new of both.
Nothing here is on the path of a call: a sample is taken by the server's tick, a record when something is logged.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tinyvex import limits
from tinyvex.server.log_redaction import describe

if TYPE_CHECKING:
    from tinyvex.storage.engine.store import Store
    from tinyvex.sync.counters import Counters

__all__ = ["Activity"]


class Activity:
    """
    The two rings; `start` and `stop` frame the time in which log records are taken.

    Args:
        store: whose commits are sampled.
        counters: what else is.
        reveal: whether the text of exceptions is kept with their tracebacks.
    """

    def __init__(self, store: Store, counters: Counters, *, reveal: bool) -> None:
        self._store = store
        self._counters = counters
        self._number = 0
        # Records come on any thread; who is told a number is told all up to it.
        # The thread that holds it may log, too: where the collector of garbage runs, an object's end may say something.
        self._lock = threading.RLock()
        self._records: deque[dict[str, Any]] = deque(maxlen=limits.DASHBOARD_RECORDS_MAX)
        self._samples: deque[dict[str, Any]] = deque(maxlen=limits.DASHBOARD_SAMPLES_MAX)
        self._handler = _Handler(self, reveal=reveal)
        self._before = self._totals()

    def start(self) -> None:
        """Take log records from now on."""
        logging.getLogger().addHandler(self._handler)

    def stop(self) -> None:
        """Take none any more."""
        logging.getLogger().removeHandler(self._handler)

    def sample(self, now_us: int) -> None:
        """Note what happened since the sample before; called once a second."""
        before, now = self._before, self._totals()
        self._before = now
        counts = [count - old for count, old in zip(now.commit_counts, before.commit_counts, strict=True)]
        found = {
            "time": now_us // 1000,
            "commits": now.commits - before.commits,
            "recomputations": now.recomputations - before.recomputations,
            "bytesSent": now.bytes_sent - before.bytes_sent,
            "p50": quantile(now.commit_bounds, counts, 0.50),
            "p99": quantile(now.commit_bounds, counts, 0.99),
        }
        self._append(self._samples, found)

    def add(self, record: dict[str, Any]) -> None:
        """Keep a log record; may be called on any thread."""
        self._append(self._records, record)

    def since(self, number: int) -> dict[str, Any]:
        """All that is kept and has a later number; everything where the number is of another server's run."""
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
    """What a sample is the difference of."""

    def __init__(self, store: Store, counters: Counters) -> None:
        statistics = store.statistics()
        self.commits = statistics.commits
        self.commit_bounds = statistics.commit_seconds.bounds
        self.commit_counts = list(statistics.commit_seconds.counts)
        self.recomputations = counters.recomputations
        self.bytes_sent = counters.bytes_sent


class _Handler(logging.Handler):
    """Describes records when they are made: an exception kept until somebody asks would keep its frames, too."""

    def __init__(self, activity: Activity, *, reveal: bool) -> None:
        super().__init__()
        self._activity = activity
        self._reveal = reveal

    def emit(self, record: logging.LogRecord) -> None:
        """Of logging: keep a record."""
        try:
            found = describe(record, reveal=self._reveal)
            self._activity.add({name: _bounded(value) for name, value in found.items()})
        except Exception:  # noqa: BLE001 - logging's own rule: a record that cannot be shown ends nobody's work
            self.handleError(record)


def _bounded(value: object) -> object:
    """A number, or a text that is not too long and can be encoded: the app puts whatever it likes into a record."""
    if value is None or type(value) in {bool, int, float}:
        return value
    text = str(value)
    if len(text) > limits.DASHBOARD_TEXT_LENGTH_MAX:
        text = f"{text[: limits.DASHBOARD_TEXT_LENGTH_MAX]}…"
    return text.encode(errors="replace").decode()


def _between(ring: Iterable[dict[str, Any]], after: int, last: int) -> list[dict[str, Any]]:
    """What a ring has of late, in its order, without what comes while it is looked at."""
    return [entry for entry in list(ring) if after < entry["number"] <= last]


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """
    What a share of some quantities did not exceed, about; None where there were none.

    Args:
        bounds: upper bounds of the buckets, rising.
        counts: how many quantities are in each, and last how many are above all.
        share: between 0 and 1; within a bucket quantities are taken to be spread evenly.
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
