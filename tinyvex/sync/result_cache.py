"""
The memory that live queries use, and its eviction.

A live query caches its newest result, the ranges that the result read, older versions that clients hold, patches from
those, and results as of older snapshots that are about to be sent. All of it only saves work:

- without its ranges, a live query reads them from the database again;
- without its body, a result is computed again for the next subscriber;
- without an older version, a client that was behind is sent the full value.

Above RESULT_CACHE_BYTES_MAX, the live query that was computed longest ago is evicted first.

A result that a subscriber has not been sent yet is not evicted: it waits until the others of the same transition are known,
and would be computed again at once. `SyncState.check_size` bounds what waits for one client. Above AWAITED_BYTES_MAX for all
clients together, the client with the most is closed, until the rest fits. Clients that wait for the same result share its
weight, so a client that alone waits for a result goes before those that share one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from tinyvex import errors, limits

if TYPE_CHECKING:
    from tinyvex.sync.counters import Counters
    from tinyvex.sync.live_query import LiveQuery, Subscriber

__all__ = ["ResultCache"]


class ResultCache:
    """The weights of all live queries, in the order in which they were computed."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._weights: OrderedDict[LiveQuery, int] = OrderedDict()

    @property
    def is_full(self) -> bool:
        """Return whether results that clients are about to be sent exceed the bound, although all others were evicted."""
        return self._counters.cached_bytes > limits.RESULT_CACHE_BYTES_MAX

    def must_relieve(self) -> bool:
        """Return whether results that clients are about to be sent take so much memory that a client must be closed."""
        return self._counters.cached_bytes > limits.AWAITED_BYTES_MAX

    def update(self, live: LiveQuery) -> None:
        """Weigh a live query that was computed, and evict others if the total is too large."""
        self._set(live, _weight(live))
        if self.is_full:
            self._make_room()

    def discard(self, live: LiveQuery) -> None:
        """Remove a live query that has no subscriber left."""
        self._counters.cached_bytes -= self._weights.pop(live, 0)

    def relieve(self) -> None:
        """Close clients until the results that wait to be sent fit."""
        self._make_room()  # some were sent since they were weighed
        if not self.must_relieve():
            return
        shares = self._shares()
        for client in sorted(shares, key=shares.__getitem__, reverse=True):
            client.fail(
                errors.Overloaded(
                    "results of this connection wait until its other queries are computed; those of all clients together "
                    f"have {self._counters.cached_bytes:,} bytes, and the limit is {limits.AWAITED_BYTES_MAX:,}",
                    retry_after_ms=limits.RETRY_AFTER_MS,
                )
            )
            self._make_room()
            if not self.must_relieve():
                return

    def _shares(self) -> dict[Subscriber, float]:
        """Return what waits for each subscriber; those that wait for the same result share its weight."""
        shares: dict[Subscriber, float] = {}
        for live, weight in self._weights.items():
            waiting = [subscriber for subscriber in live.subscribers if subscriber.awaits(live)]
            for subscriber in waiting:
                shares[subscriber] = shares.get(subscriber, 0.0) + weight / len(waiting)
        return shares

    def _set(self, live: LiveQuery, weight: int) -> None:
        """Record a weight and move the live query to the end of the order; leave it out if it has nothing to evict."""
        self._counters.cached_bytes += weight - self._weights.pop(live, 0)
        if weight:
            self._weights[live] = weight

    def _make_room(self) -> None:
        for _ in range(len(self._weights)):
            if not self.is_full:
                return
            live = next(iter(self._weights))
            self._counters.results_evicted += 1
            _evict(live)
            self._set(live, _weight(live))


def _evict(live: LiveQuery) -> None:
    result = live.result
    live.cached_ranges = None
    for version in live.versions.values():
        # Keep the newest version if a subscriber still needs it; evicting it would trigger an immediate recomputation.
        if result is None or version is not result.version or version.holders >= sum(live.subscribers.values()):
            version.body = None


def _weight(live: LiveQuery) -> int:
    """Return about how many bytes a live query uses; memory that its versions share counts once."""
    if live.result is None:
        return 0
    newest = live.result.version
    weight = live.result.weight + sum([version.weight_without(newest) for version in live.versions.values()])
    snapshots = [snapshot.result.version for snapshot in live.snapshots.values() if snapshot.result is not None]
    weight += sum([version.weight_without(newest) for version in snapshots])
    if live.cached_ranges is not None and live.cached_ranges.ranges:
        parts = [] if newest.body is None else newest.body.parts
        counted = {id(part.rows) for part in parts}
        weight += sum([rows.weight for rows in live.cached_ranges.ranges.values() if id(rows) not in counted])
    return weight
