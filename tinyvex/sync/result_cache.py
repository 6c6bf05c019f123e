"""
How much memory live queries keep, and who gives up theirs when it is too much.

Kept are the newest result, the ranges behind it, older versions that clients still hold, patches from those,
and results at older snapshots that are about to be told.
All of it only saves work: without its ranges a live query reads them again,
without its body a result is computed again for the next who subscribes,
without an older version a client that was behind is sent the whole value.
The one computed longest ago gives up first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from tinyvex import limits

if TYPE_CHECKING:
    from tinyvex.sync.counters import Counters
    from tinyvex.sync.live_query import LiveQuery

__all__ = ["ResultCache"]


class ResultCache:
    """The weights of all live queries, in the order in which they were computed."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._weights: OrderedDict[LiveQuery, int] = OrderedDict()

    def weigh(self, live: LiveQuery) -> None:
        """A live query was computed: weigh it anew, and make room if that is too much."""
        self._set(live, _weight(live))
        if self._counters.kept_bytes > limits.KEPT_BYTES_MAX:
            self._make_room()

    def forget(self, live: LiveQuery) -> None:
        """Nobody watches it any more."""
        self._counters.kept_bytes -= self._weights.pop(live, 0)

    def _set(self, live: LiveQuery, weight: int) -> None:
        """Note a weight; the live query is the last of the order then, or not in it where there is nothing to gain."""
        self._counters.kept_bytes += weight - self._weights.pop(live, 0)
        if weight:
            self._weights[live] = weight

    def _make_room(self) -> None:
        for _ in range(len(self._weights)):
            if self._counters.kept_bytes <= limits.KEPT_BYTES_MAX:
                return
            live = next(iter(self._weights))
            self._counters.results_evicted += 1
            _give_up(live)
            self._set(live, _weight(live))


def _give_up(live: LiveQuery) -> None:
    result = live.result
    live.kept = None
    for version in live.versions.values():
        # Somebody may be about to be told the newest: to compute it again for them would only begin this anew.
        if result is None or version is not result.version or version.holders >= sum(live.subscribers.values()):
            version.body = None


def _weight(live: LiveQuery) -> int:
    """About how many bytes it keeps; what versions share is counted once."""
    if live.result is None:
        return 0
    newest = live.result.version
    weight = live.result.weight + sum([version.weight_beside(newest) for version in live.versions.values()])
    pinned = [pin.result.version for pin in live.pins.values() if pin.result is not None]
    weight += sum([version.weight_beside(newest) for version in pinned])
    if live.kept is not None and live.kept.ranges:
        parts = [] if newest.body is None else newest.body.parts
        counted = {id(part.rows) for part in parts}
        weight += sum([rows.weight for rows in live.kept.ranges.values() if id(rows) not in counted])
    return weight
