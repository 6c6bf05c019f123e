"""
Forgetting: revisions that may be read no more, deleted in short units beside the mutations.

History is kept down to the floor, a `ts` below which nothing is read. Forgetting is three things, in this order:

1.  The floor moves, and is durable before anything beneath it goes: whoever reads below it is refused, never half-served.
    Reads that began before see their own snapshot of the file and end in peace.
2.  The log is walked once, from the revision after the last that was looked at up to the floor.
    A revision at or below the floor makes the one before it unreadable; a deletion makes itself so too.
3.  When so many revisions went that it is worth a walk through `indexes`, entries are deleted that a later one at or below
    the floor has replaced, and those of indexes that were dropped.

Before these, tablets are cleared that no table has any more (`tablets.py`).

The newest revision of each document at the floor stays, and with it everything that any `ts` from the floor on can see.
SQLite uses the pages again: the file does not shrink, and does not grow (`compact` makes it small).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.storage.schema.index_backfill import drop_unfinished
from tinyvex.storage.schema.tablets import abandon_all, clear_tablets

if TYPE_CHECKING:
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.document_log import Snapshot
    from tinyvex.storage.log.housekeeping import Housekeeping, KnownIndexes

__all__ = ["Policy", "Retention"]

ENTRIES_PER_ROW = 2
"""An overwrite that changes an indexed field ends one entry of that index and begins another."""


@dataclass(frozen=True, slots=True)
class Policy:
    """
    How much history is kept.

    Attributes:
        seconds: how far back any state can be read.
        bytes_max: what is in use of the file, above which less than that is kept; None for no bound.
    """

    seconds: float = limits.RETENTION_SECONDS
    bytes_max: int | None = None

    @property
    def interval_seconds(self) -> float:
        """How long to wait between two sweeps."""
        return max(min(limits.RETENTION_INTERVAL_SECONDS, self.seconds / 10), limits.RETENTION_PAUSE_SECONDS)

    def floor(self, now_us: int, last_ts: int, floor: int, used_bytes: int) -> int:
        """
        Where the floor should be.

        It never goes back, never above the newest commit, and never nearer than RETENTION_SECONDS_MIN to now.

        Too many bytes take half of the history that is left, again and again: how much that saves shows only then.
        """
        wanted = now_us - int(self.seconds * 1_000_000)
        if self.bytes_max is not None and used_bytes > self.bytes_max:
            wanted = max(wanted, last_ts - (last_ts - max(floor, wanted)) // 2)
        nearest = now_us - int(limits.RETENTION_SECONDS_MIN * 1_000_000)
        return max(floor, min(wanted, nearest, last_ts))


@dataclass(frozen=True, slots=True)
class _State:
    """What the file says about its history."""

    floor: int
    last_row: int
    """The last row of the log that was looked at."""
    last_ts: int
    used_bytes: int


class Retention:
    """
    Applies a policy to a store.

    Args:
        store: open for writing.
        now_us: the clock.
        pause: awaited between two units, so that mutations go first.
    """

    def __init__(
        self, store: Store, policy: Policy, now_us: Callable[[], int], pause: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._policy = policy
        self._now_us = now_us
        self._pause = pause
        self._replaced = 0  # revisions deleted since the last walk through the indexes
        self._entries = 0  # how many entries that walk met

    async def sweep(self, *, thorough: bool = False) -> int:
        """
        Move the floor and forget what is beneath it.

        Args:
            thorough: walk through the indexes in any case.

        Returns:
            How many revisions were deleted.

        Raises:
            TinyvexError: the store is closing, or cannot write now; the next sweep goes on where this one ended.
        """
        state = await self._store.housekeep(_look)
        floor = self._policy.floor(self._now_us(), state.last_ts, state.floor, state.used_bytes)
        if floor > state.floor:
            await self._store.housekeep(partial(_raise_floor, floor))
        # Nobody may come back who filled these; what is in them takes room.
        await abandon_all(self._store, self._now_us() - int(limits.IMPORT_SECONDS * 1_000_000))
        await drop_unfinished(self._store, building=False)
        pace = _Pace()
        deleted, row, dropped = await clear_tablets(self._store, floor, self._pause), state.last_row, False
        while True:
            step = _Revisions(row, floor, pace)
            await self._store.housekeep(step.run)
            deleted += step.deleted
            self._replaced += step.deleted
            dropped = dropped or step.dropped_index
            if step.last_row == row:
                break
            row = step.last_row
            await self._pause()
        if thorough or dropped or self._replaced >= max(limits.RETENTION_STEP_ROWS, self._entries // 4):
            await self._walk_indexes(floor)
        return deleted

    async def _walk_indexes(self, floor: int) -> None:
        self._replaced = self._entries = 0
        known, pace = await self._store.housekeep(lambda house: house.known_indexes()), _Pace()
        place: tuple[int, bytes] | None = (-1, b"")
        while place is not None:
            step = _Entries(place, floor, known, pace)
            await self._store.housekeep(step.run)
            self._entries += step.size
            place = step.end
            await self._pause()


def _look(house: Housekeeping) -> _State:
    stored = house.snapshot.globals()
    used = house.snapshot.used_bytes()
    return _State(stored["floor_ts"], stored.get("swept_row", 0), stored["last_ts"], used)


def _raise_floor(floor: int, house: Housekeeping) -> None:
    house.raise_floor(floor)


class _Pace:
    """
    How much a step does: twice what was written since the step before.

    So forgetting never falls behind, however long a step waits among the mutations: it takes as large a part of the
    writer's time as they make necessary, and no more.
    """

    def __init__(self) -> None:
        self._newest_row: int | None = None

    def rows(self, snapshot: Snapshot) -> int:
        """Rows of the log to be looked at now."""
        newest = snapshot.newest_row()
        written = 0 if self._newest_row is None else newest - self._newest_row
        self._newest_row = newest
        return min(max(limits.RETENTION_STEP_ROWS, 2 * written), limits.RETENTION_STEP_ROWS_MAX)


class _Revisions:
    """
    One step along the log.

    Attributes:
        last_row: the last row looked at.
        deleted: how many revisions went.
        dropped_index: whether the end of an index was forgotten, so that its entries can go.
    """

    def __init__(self, after: int, floor: int, pace: _Pace) -> None:
        self._after, self._floor, self._pace = after, floor, pace
        self._size = 0
        self.last_row = after
        self.deleted = 0
        self.dropped_index = False

    def run(self, house: Housekeeping) -> None:
        """Do the step, on the writer; run again after a roll back, it has the same size."""
        self._size = self._size or self._pace.rows(house.snapshot)
        self.last_row, self.deleted, self.dropped_index = house.sweep_revisions(self._after, self._size, self._floor)


class _Entries:
    """
    One step through `indexes`, whole keys at a time.

    Attributes:
        end: the key it ended with; None after the last.
        size: how many entries it looked at, about.
    """

    def __init__(self, after: tuple[int, bytes], floor: int, known: KnownIndexes, pace: _Pace) -> None:
        self._after, self._floor, self._known, self._pace = after, floor, known, pace
        self.size = 0
        self.end: tuple[int, bytes] | None = None

    def run(self, house: Housekeeping) -> None:
        """Do the step, on the writer; run again after a roll back, it has the same size."""
        self.size = self.size or ENTRIES_PER_ROW * self._pace.rows(house.snapshot)
        self.end = house.sweep_entries(self._after, self.size, self._floor, self._known)
