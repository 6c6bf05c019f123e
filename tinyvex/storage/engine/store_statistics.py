"""Counters of the store, for `stats` and `/metrics`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct, field

__all__ = ["Histogram", "StoreStatistics"]

SECONDS_BOUNDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)
GROUP_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


class Histogram:
    """Counts of a quantity by upper bound; the last one counts what is above all bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, quantity: float) -> None:
        """Count one quantity."""
        self.counts[bisect_left(self.bounds, quantity)] += 1
        self.total += quantity


class StoreStatistics(Struct):
    """
    Counters since the store was opened, and current sizes.

    Each counter is written by one thread: the loop's, except `checkpoints` and `failed_groups`, which the writer counts.
    `threads_stuck` of the `threads_abandoned` have not returned.
    """

    commits: int = 0
    groups: int = 0
    failed_groups: int = 0
    failed_units: int = 0
    reads: int = 0
    checkpoints: int = 0
    threads_abandoned: int = 0
    threads_stuck: int = 0
    group_sizes: Histogram = field(default_factory=lambda: Histogram(GROUP_BOUNDS))
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS_BOUNDS))
    wal_bytes: int = 0
    file_bytes: int = 0
    queue_length: int = 0
    read_queue_length: int = 0
    sqlite_version: str = ""
    durability: str = ""
