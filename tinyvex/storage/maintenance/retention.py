"""
Delete the history that is no longer retained, in short steps between mutations.

History is retained from the *floor* on, a timestamp before which no snapshot can be read. A sweep deletes in this order:

1.  *Raise the floor*, durably, before anything below it is deleted. From then on a read below it is refused, never
    answered in part. A read that began earlier sees SQLite's own snapshot of the file and finishes undisturbed.
2.  *Clear tablets* that no table has at a retained timestamp: abandoned imports and replaced contents of tables. Removed
    indexes whose entries are not yet dropped are dropped first.
3.  *Purge revisions*. The log is read once, from the row after the last sweep up to the floor. Each revision at or below
    the floor makes the revision before it unreadable; a deletion makes itself unreadable as well.
4.  *Purge index entries*, once enough revisions were purged to justify a walk through `indexes`: entries that a later
    entry at or below the floor has replaced, and entries of indexes that were dropped. The file stores the walk
    (`storage/log/index_walk.py`), and the next sweep continues one that was interrupted.

The newest revision of each document at the floor stays, and with it everything that a snapshot from the floor on can see.
SQLite reuses the freed pages: the file stops growing but does not shrink (`compaction.py` shrinks it).

`retention_policy.py` decides how far the floor moves, and `storage/log/housekeeping.py` has the deletions themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tinyvex import limits
from tinyvex.storage.maintenance.live_size import LiveSize, LiveSizeMeasurement
from tinyvex.storage.maintenance.retention_policy import HistoryState
from tinyvex.storage.schema.index_backfill import drop_unfinished
from tinyvex.storage.schema.tablets import abandon_all, clear_tablets

if TYPE_CHECKING:
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.document_log import Snapshot
    from tinyvex.storage.log.housekeeping import Housekeeping, KnownIndexes
    from tinyvex.storage.maintenance.retention_policy import Policy

__all__ = ["Retention"]

ENTRIES_PER_ROW = 2
"""An overwrite that changes an indexed field ends one entry of that index and begins another."""


class Retention:
    """
    Applies a policy to a store.

    Args:
        store: a store open for writing.
        now_us: the clock.
        pause: awaited between two steps, so that mutations go first.
    """

    def __init__(
        self, store: Store, policy: Policy, now_us: Callable[[], int], pause: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._policy = policy
        self._now_us = now_us
        self._pause = pause
        self._size = LiveSize()
        self._measured = (0, 0)  # the time of that measurement, and the bytes that the file used

    async def sweep(self, *, thorough: bool = False, is_alone: bool = False) -> int:
        """
        Raise the floor and delete what is below it.

        Args:
            thorough: walk through the indexes even if few revisions were purged.
            is_alone: abandon every unfinished import, because no client is connected.

        Returns:
            The number of purged revisions.

        Raises:
            TinyvexError: the store is closing or cannot write. The next sweep continues at the last completed step.
        """
        now_us = self._now_us()
        state = await self._store.housekeep(partial(_history_state, now_us, self._size))
        if self._needs_size(state, now_us):
            state = replace(state, size=await self._measure())
            self._measured = now_us, state.used_bytes
        floor = self._policy.floor(state, now_us)
        if floor > state.floor:
            await self._store.housekeep(partial(_raise_floor, floor))
        # The clients that began these may never return, and their rows occupy space.
        old_ts = state.clock.ts_at(now_us - int(limits.IMPORT_SECONDS * 1_000_000))
        await abandon_all(self._store, None if is_alone else old_ts)
        await drop_unfinished(self._store, building=False)
        pace = _Pace()
        purged, row = await clear_tablets(self._store, floor, self._pause), state.swept_row
        while True:
            step = _LogStep(row, floor, pace)
            await self._store.housekeep(step.run)
            purged += step.purged
            if step.last_row == row:
                break
            row = step.last_row
            await self._pause()
        if thorough:
            await self._store.housekeep(_begin_walk)
        await self._walk_indexes(floor)
        return purged

    def _needs_size(self, state: HistoryState, now_us: int) -> bool:
        """Return whether to measure the live data: not while the file is smaller than any bound."""
        if self._policy.bytes_max is not None or state.used_bytes <= limits.RETENTION_BYTES:
            return False
        measured_us, measured_bytes = self._measured
        is_old = not 0 <= now_us - measured_us < limits.LIVE_SIZE_SECONDS * 1_000_000
        has_grown = state.used_bytes > measured_bytes * 11 // 10
        return is_old or (has_grown and state.used_bytes > self._policy.bound(self._size))

    async def _measure(self) -> LiveSize:
        measurement = LiveSizeMeasurement()
        while await self._store.read(measurement.step):
            await self._pause()
        self._size = measurement.size
        return self._size

    async def _walk_indexes(self, floor: int) -> None:
        """Continue the walk through the index entries to its end, if one is in progress."""
        known, pace = await self._store.housekeep(lambda house: house.known_indexes()), _Pace()
        while known is not None and await self._store.housekeep(_IndexStep(floor, known, pace).run):
            await self._pause()


def _history_state(now_us: int, size: LiveSize, house: Housekeeping) -> HistoryState:
    return HistoryState.of(house.snapshot, house.observe_clock(now_us), size)


def _raise_floor(floor: int, house: Housekeeping) -> None:
    house.raise_floor(floor)


def _begin_walk(house: Housekeeping) -> None:
    house.begin_walk()


class _Pace:
    """
    The size of a step: twice the rows that were written since the previous step.

    With it, sweeping never falls behind, however long a step waits among mutations. It takes the share of the writer's
    time that the mutations make necessary, and no more.
    """

    def __init__(self) -> None:
        self._newest_row: int | None = None

    def rows(self, snapshot: Snapshot) -> int:
        """Return the number of log rows that the next step reads."""
        newest = snapshot.newest_row()
        written = 0 if self._newest_row is None else newest - self._newest_row
        self._newest_row = newest
        return min(max(limits.RETENTION_STEP_ROWS, 2 * written), limits.RETENTION_STEP_ROWS_MAX)


class _LogStep:
    """
    A step along the log.

    Attributes:
        last_row: the last row read.
        purged: the number of purged revisions.
    """

    def __init__(self, after: int, floor: int, pace: _Pace) -> None:
        self._after, self._floor, self._pace = after, floor, pace
        self._size = 0
        self.last_row = after
        self.purged = 0

    def run(self, house: Housekeeping) -> None:
        """Perform the step on the writer thread; if it is retried after a rollback, its size is the same."""
        self._size = self._size or self._pace.rows(house.snapshot)
        self.last_row, self.purged = house.sweep_revisions(self._after, self._size, self._floor)


class _IndexStep:
    """A step through `indexes`, whole keys at a time."""

    def __init__(self, floor: int, known: KnownIndexes, pace: _Pace) -> None:
        self._floor, self._known, self._pace = floor, known, pace
        self._size = 0

    def run(self, house: Housekeeping) -> bool:
        """Perform the step on the writer thread; if it is retried after a rollback, its size is the same."""
        self._size = self._size or ENTRIES_PER_ROW * self._pace.rows(house.snapshot)
        return house.sweep_entries(self._size, self._floor, self._known)
