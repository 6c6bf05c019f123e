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

import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tinyvex import limits
from tinyvex.storage.file import statements
from tinyvex.storage.file.database_file import FIRST_INDEX_ID, set_global
from tinyvex.storage.log.catalog import INDEXES_TABLET, TABLETS_TABLET
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.schema.index_backfill import drop_unfinished
from tinyvex.storage.schema.tablets import abandon_all, clear_tablets

if TYPE_CHECKING:
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.document_log import Snapshot

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
        state = await self._store.write(_look)
        floor = self._policy.floor(self._now_us(), state.last_ts, state.floor, state.used_bytes)
        if floor > state.floor:
            await self._store.write(_change(lambda connection: set_global(connection, "floor_ts", floor)))
        # Nobody may come back who filled these; what is in them takes room.
        await abandon_all(self._store, self._now_us() - int(limits.IMPORT_SECONDS * 1_000_000))
        await drop_unfinished(self._store, building=False)
        pace = _Pace()
        deleted, row, dropped = await clear_tablets(self._store, floor, self._pause), state.last_row, False
        while True:
            step = _Revisions(row, floor, pace)
            await self._store.write(step.unit)
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
        known, pace = await self._store.write(_look_at_indexes), _Pace()
        place: tuple[int, bytes] | None = (-1, b"")
        while place is not None:
            step = _Entries(place, floor, known, pace)
            await self._store.write(step.unit)
            self._entries += step.size
            place = step.end
            await self._pause()


def _look(snapshot: Snapshot, _ts: int) -> Outcome[_State]:
    stored = snapshot.globals()
    used = snapshot.used_bytes()
    return Outcome(_State(stored["floor_ts"], stored.get("swept_row", 0), stored["last_ts"], used))


def _change(then: Callable[[sqlite3.Connection], None]) -> Callable[[Snapshot, int], Outcome[None]]:
    return lambda _snapshot, _ts: Outcome(None, None, then)


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

    def unit(self, snapshot: Snapshot, _ts: int) -> Outcome[None]:
        """The step, on the writer; run again, it is as large as it was."""
        self._size = self._size or self._pace.rows(snapshot)
        return Outcome(None, None, self._run)

    def _run(self, connection: sqlite3.Connection) -> None:
        # A group that is rolled back runs its units again: nothing may be left of the first time.
        self.last_row, self.deleted, self.dropped_index = self._after, 0, False
        rows = connection.execute(statements.LOG_AFTER, (self._after, self._size)).fetchall()
        readable = [row for row in rows if row[1] <= self._floor]
        if not readable:
            return
        self.last_row = readable[-1][0]
        span = self._after, self.last_row
        self.dropped_index = (
            connection.execute(statements.DELETED_BETWEEN, (*span, INDEXES_TABLET)).fetchone() is not None
        )
        self.deleted += connection.execute(statements.DELETE_REPLACED, span).rowcount
        self.deleted += connection.execute(statements.DELETE_DELETIONS, span).rowcount
        set_global(connection, "swept_row", self.last_row)


class _KnownIndexes(NamedTuple):
    """
    The indexes there were when a walk began.

    Attributes:
        ids: of all that some moment knows, and of those that an import fills; JSON.
        next_id: those from it on are younger than the walk.
    """

    ids: str
    next_id: int


def _look_at_indexes(snapshot: Snapshot, _ts: int) -> Outcome[_KnownIndexes]:
    ids = [document["indexId"] for document in snapshot.all_revisions(INDEXES_TABLET)]
    ids += [index["id"] for document in snapshot.all_revisions(TABLETS_TABLET) for index in document["indexes"]]
    return Outcome(_KnownIndexes(json.dumps(sorted(set(ids))), snapshot.globals()["next_index_id"]))


class _Entries:
    """
    One step through `indexes`, whole keys at a time.

    Attributes:
        end: the key it ended with; None after the last.
        size: how many entries it looked at, about.
    """

    def __init__(self, after: tuple[int, bytes], floor: int, known: _KnownIndexes, pace: _Pace) -> None:
        self._after, self._floor, self._known, self._pace = after, floor, known, pace
        self.size = 0
        self.end: tuple[int, bytes] | None = None

    def unit(self, snapshot: Snapshot, _ts: int) -> Outcome[None]:
        """The step, on the writer; run again, it is as large as it was."""
        self.size = self.size or ENTRIES_PER_ROW * self._pace.rows(snapshot)
        return Outcome(None, None, self._run)

    def _run(self, connection: sqlite3.Connection) -> None:
        self.end = connection.execute(statements.ENTRY_AFTER, (*self._after, self.size)).fetchone()
        last = self.end if self.end is not None else connection.execute(statements.LAST_ENTRY).fetchone()
        if last is not None:
            known = self._known
            connection.execute(
                statements.DELETE_ENTRIES, (*self._after, *last, self._floor, FIRST_INDEX_ID, known.next_id, known.ids)
            )
