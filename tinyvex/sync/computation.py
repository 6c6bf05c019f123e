"""
Computations: the executions of a live query's function, each from its start to its result.

`prepare` runs on the reader's thread, before the outcome returns to the loop: hashing a result and comparing two of
them takes time that the loop must not spend. `LiveQueries` starts computations and handles their outcomes on the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvex.functions.transaction.range_cache import CachedRanges, RangeCache
from tinyvex.sync.diff import Difference, diff

if TYPE_CHECKING:
    from tinyvex.functions.run.call import QueryOutcome
    from tinyvex.sync.live_query import LiveQuery
    from tinyvex.sync.results import Result, Version

__all__ = ["Computation", "Recomputation", "Reconstruction", "SnapshotComputation"]


class Computation:
    """
    A computation of a live query; the base of the three kinds below.

    Attributes:
        live: the query.
        at: the snapshot; None for the newest one.
        range_cache: serves the function's scans.
        number: assigned when it starts; computations are numbered in order.
        request_id: names the execution in the server's log.
    """

    __slots__ = ("at", "live", "number", "range_cache", "request_id")

    def __init__(self, live: LiveQuery, at: int | None, ranges: CachedRanges | None = None) -> None:
        self.live = live
        self.at = at
        self.range_cache = RangeCache(ranges)
        self.number = 0
        self.request_id = ""

    def is_wanted(self) -> bool:
        """Return whether the query still has a subscriber; called on the reader's thread."""
        return bool(self.live.subscribers)

    def prepare(self, outcome: QueryOutcome) -> None:
        """Compute the hash on the reader's thread; the outcome's body caches it."""
        _ = outcome.hash


class Recomputation(Computation):
    """
    Compute the newest state, and the patch for the clients that hold the state before it.

    Attributes:
        base: the version that was the newest when the computation started; None if there was none.
        started_at: by `Runtime.awake_seconds`.
        difference: from `base` to the new result; None if they were not compared.
    """

    __slots__ = ("base", "difference", "started_at")

    def __init__(self, live: LiveQuery, ranges: CachedRanges | None, started_at: float) -> None:
        super().__init__(live, None, ranges)
        self.base: Version | None = None if live.result is None else live.result.version
        self.started_at = started_at
        self.difference: Difference | None = None

    def prepare(self, outcome: QueryOutcome) -> None:
        """Compute the hash and the patch on the reader's thread."""
        token, base = outcome.hash, self.base
        if outcome.body is not None and base is not None and base.holders:
            body = base.body
            if body is not None and base.hash != token:
                self.difference = diff(body, outcome.body)


class SnapshotComputation(Computation):
    """Compute the state as of an older snapshot."""

    __slots__ = ()

    def __init__(self, live: LiveQuery, ts: int) -> None:
        super().__init__(live, ts)


class Reconstruction(Computation):
    """
    Compute the older result that clients offered in `resume`, and the patch from it to the newest one.

    Attributes:
        client_hash: the hash that they offered.
        newest: the newest result when the computation started.
        difference: from the reconstructed result to the newest one; None if they were not compared.
    """

    __slots__ = ("client_hash", "difference", "newest")

    def __init__(self, live: LiveQuery, client_hash: str, ts: int) -> None:
        super().__init__(live, ts)
        self.client_hash = client_hash
        self.newest: Result | None = live.result
        self.difference: Difference | None = None

    def prepare(self, outcome: QueryOutcome) -> None:
        """Compute the hash and the patch on the reader's thread."""
        body = None if self.newest is None else self.newest.version.body
        if outcome.body is not None and outcome.hash == self.client_hash and body is not None:
            self.difference = diff(outcome.body, body)
