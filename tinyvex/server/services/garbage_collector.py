"""
The garbage collector of the server's process: when it runs, and which objects it examines.

Python frees an object as soon as nothing refers to it. Its collector exists only for *cycles* of objects, and a full
collection examines every object that could be part of one. No thread runs meanwhile: for 1.2 s with 2.4 million objects.

The server's own objects live long and need no collector: a session breaks its cycles when it closes, and results are not
tracked at all (`gc=False`). Cyclic garbage comes from the functions of users (exceptions that refer to their frames,
closures, graphs), and most of it is found young. So each object is examined a few times, and then no more:

1.  *Young collections* stay automatic, on any thread that creates objects. Each examines at most about 8,000 objects;
    those that remain become old.
2.  *Full collections* run here, on the loop, when COLLECTOR_YOUNG_COLLECTIONS of the longer young ones have run since the
    last. They examine all objects that are not frozen. None is automatic: it would start in the middle of a function,
    find that function's objects alive, and step 3 would make them permanent.
3.  *Freezing.* If more than COLLECTOR_FREEZE_OBJECTS remain after a full collection, they become permanent: no collection
    examines them. This waits until no function runs, but not above COLLECTOR_FREEZE_BUSY_OBJECTS.
4.  *Holding.* A permanent object is still freed when nothing refers to it, but a permanent cycle is not. So if the new
    live queries and connections do not explain the objects (LIVE_QUERY_OBJECTS and CONNECTION_OBJECTS each), step 3 also
    waits until they are COLLECTOR_HOLD_SECONDS old, and as long as many of those examined are garbage: functions need
    their cycles for some seconds. Above COLLECTOR_HOLD_OBJECTS it waits no longer, because each full collection examines
    all that are held.
5.  *Thawing.* Frozen objects that are too many for the live queries and connections may be permanent garbage. Above
    COLLECTOR_THAW_OBJECTS, when the server is idle, and above COLLECTOR_THAW_BUSY_OBJECTS in any case, one collection
    examines all objects. If many of those that were frozen since the last time are garbage, functions need their cycles
    for longer than step 4 waits: its time doubles, at most to COLLECTOR_PATIENCE_MAX times.

::

                 young collections          a full collection          freezing
    new objects ──────────────────► old ──────────────────────► old ─────────────► permanent
                                     ▲                                                 │
                                     └──────────────────── thawing ────────────────────┘

A pause therefore depends on the objects that were created in the last seconds, and not on the number of live queries.
Thawing is the exception: it bounds the memory of permanent garbage. It happens in a busy server if functions need more
cycles at a time than step 4 holds, or for longer than it waits.

This concerns Python 3.11 to 3.13. The collector of Python 3.14 examines old objects in increments and ignores the third
threshold. There the service freezes the objects that exist at the start, and does nothing else.

No callback in `gc.callbacks` measures the collections. It would run on the threads of users' functions, and `Stopped`,
raised inside it when a function exceeds its time limit, would be lost there.

All of this belongs to the process, so only a process that runs nothing but one server starts the service.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tinyvex import limits
from tinyvex.server.services.background_service import BackgroundService
from tinyvex.storage.engine.store_statistics import SECONDS_BOUNDS, Histogram

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.storage.engine.store_statistics import StoreStatistics
    from tinyvex.sync.counters import Counters

__all__ = ["GarbageCollector"]

log = logging.getLogger("tinyvex.server")

OLD = 2
"""The generation of the objects that remained after two young collections."""

NEVER = 2**31 - 1
"""A threshold that is not reached."""


class GarbageCollector(BackgroundService):
    """
    Runs the full collections of a process.

    Args:
        runtime: the clock.
        counters: show how many live queries exist, and whether clients are active.
        statistics: returns the store's statistics, which show whether functions run.
        python: Python's collector.

    Attributes:
        seconds: the durations of full collections.
    """

    name = "garbage-collector"

    def __init__(
        self, runtime: Runtime, counters: Counters, statistics: Callable[[], StoreStatistics], python: Any = gc
    ) -> None:
        super().__init__()
        self.seconds = Histogram(SECONDS_BOUNDS)
        self._runtime = runtime
        self._counters = counters
        self._statistics = statistics
        self._python = python
        self._other_frozen = 0  # those that are not explained, when all objects were last examined
        self._frozen_since = 0  # the number of objects frozen since then; many have been freed
        self._explained_frozen = 0  # of live queries and connections when objects were last frozen
        self._held_since: float | None = None  # when step 4 began to wait
        # Counting frozen objects takes milliseconds. They are counted again at this `_frozen_since`, or when half of these
        # live queries have ended.
        self._count_at = 0
        self._live_queries_counted = 0
        self._remaining = 0  # objects that were not frozen after the last full collection
        self._patience = 1  # multiplies COLLECTOR_HOLD_SECONDS
        self._work_done = -1
        self._worked_at = 0.0

    async def run(self) -> None:
        """Freeze the objects that exist; then collect, freeze and thaw when it is due."""
        python = self._python
        thresholds = python.get_threshold()
        python.freeze()
        if thresholds[OLD] == 0:
            await asyncio.Event().wait()  # forever: the collector is incremental
        self._frozen(python.get_freeze_count())
        python.set_threshold(limits.COLLECTOR_YOUNG_OBJECTS, limits.COLLECTOR_YOUNG_PASSES, NEVER)
        try:
            while True:
                collected = python.isenabled() and self._tick()  # not if the app has disabled it
                await self._runtime.sleep(limits.COLLECTOR_SECONDS_MIN if collected else limits.COLLECTOR_SECONDS)
        finally:
            python.set_threshold(*thresholds)

    def _tick(self) -> bool:
        """Run the collection that is due; return whether it was a full one."""
        counters, statistics, now = self._counters, self._statistics(), self._runtime.monotonic()
        work_done = counters.messages_received + counters.recomputations + statistics.commits
        if work_done != self._work_done:
            self._work_done, self._worked_at = work_done, now
        if self._must_thaw(idle=now - self._worked_at >= limits.COLLECTOR_IDLE_SECONDS):
            self._thaw()
        elif self._python.get_count()[OLD] >= limits.COLLECTOR_YOUNG_COLLECTIONS:
            self._collect(now, busy=bool(statistics.queue_length or statistics.read_queue_length))
        else:
            return False
        return True

    def _collect(self, now: float, *, busy: bool) -> None:
        """Examine the objects that are not frozen, and freeze those that remain if they are many."""
        garbage = self._full_collection()
        bound = limits.COLLECTOR_FREEZE_BUSY_OBJECTS if busy else limits.COLLECTOR_FREEZE_OBJECTS
        if self._remaining <= bound:
            self._held_since = None
        elif not self._must_hold(bound, garbage, now):
            self._python.freeze()
            self._frozen_since += self._remaining
            self._remaining = 0
            self._explained_frozen, self._held_since = self._explained(), None

    def _must_hold(self, bound: int, garbage: int, now: float) -> bool:
        """Return whether too many of the objects may be cycles that functions need for some seconds."""
        unexplained = self._remaining - max(0, self._explained() - self._explained_frozen)
        if unexplained <= bound or self._remaining > limits.COLLECTOR_HOLD_OBJECTS:
            return False
        if self._held_since is None:
            self._held_since = now
        is_new = now - self._held_since < limits.COLLECTOR_HOLD_SECONDS * self._patience
        return is_new or garbage > limits.COLLECTOR_HOLD_GARBAGE * self._remaining

    def _explained(self) -> int:
        """Return about how many objects the live queries and connections have."""
        counters = self._counters
        return limits.LIVE_QUERY_OBJECTS * counters.live_queries + limits.CONNECTION_OBJECTS * counters.connections

    def _must_thaw(self, *, idle: bool) -> bool:
        # In proportion to the objects that are not explained, so that an app that creates ever more of them is not
        # interrupted ever more often.
        bound = limits.COLLECTOR_THAW_OBJECTS if idle else max(limits.COLLECTOR_THAW_BUSY_OBJECTS, self._other_frozen)
        live_queries = self._counters.live_queries
        if self._frozen_since <= bound:
            return False
        if self._frozen_since <= self._count_at and live_queries >= self._live_queries_counted / 2:
            return False
        self._count_at, self._live_queries_counted = self._frozen_since + limits.COLLECTOR_THAW_OBJECTS, live_queries
        return bool(self._python.get_freeze_count() - self._other_frozen - self._explained() > bound)

    def _thaw(self) -> None:
        """Examine all objects, and freeze those that remain."""
        before = self._python.get_freeze_count()
        self._python.unfreeze()
        self._full_collection()
        self._python.freeze()
        garbage = max(0, before - self._remaining)
        log.info("examined %d frozen objects; %d of them were garbage", before, garbage)
        if garbage > self._frozen_since / 4:
            self._patience = min(2 * self._patience, limits.COLLECTOR_PATIENCE_MAX)
        else:
            self._patience = max(self._patience // 2, 1)
        self._frozen(self._remaining)

    def _frozen(self, count: int) -> None:
        """Record that all objects were examined or are new, and that this many are frozen."""
        self._explained_frozen, self._held_since = self._explained(), None
        self._other_frozen = count - self._explained_frozen
        self._frozen_since = self._count_at = self._remaining = 0

    def _full_collection(self) -> int:
        """Collect, and count the objects that are not frozen and remain; return how many were garbage."""
        started = self._runtime.monotonic()
        garbage: int = self._python.collect()
        self._remaining = len(self._python.get_objects(generation=OLD))
        self.seconds.add(self._runtime.monotonic() - started)
        return garbage
