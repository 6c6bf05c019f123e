"""
Local housekeeping: changes of the file that are in no commit record.

A file may do these on its own, whenever it likes, because they touch only what no readable timestamp sees:

-   revisions and index entries that a later one at or below the floor has replaced;
-   entries of indexes that no readable timestamp knows;
-   everything in tablets that no table leads to, at any readable timestamp.

How much of it a file has done is its own affair: two files that applied the same records answer every read in the same
way at every timestamp that is readable in both, though one keeps more history than the other.
Everything that a reader can see is an operation (`operations.py`).

The one exception is the floor itself: raising it makes timestamps unreadable. It is stored, and durable, before anything
below it is deleted, so a read below it is refused instead of answered in part.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tinyvex.storage.file import statements
from tinyvex.storage.file.database_file import FIRST_INDEX_ID, read_globals, set_global
from tinyvex.storage.log.clock_history import CLOCK_HISTORY, ClockHistory
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.index_walk import FIRST, INDEX_WALK, EntryKey, IndexWalk
from tinyvex.storage.log.request_records import EXPIRY_POSITION, RecordKey
from tinyvex.storage.log.system_tablets import INDEXES_TABLET, TABLETS_TABLET

__all__ = ["Housekeeping", "KnownIndexes", "SweptRevisions", "observe_clock", "store_expiry_position"]


PIECE_ROWS = 16
"""
Rows that a step deletes before it looks at the clock.

The time of a row depends on its size: it takes some 0.5 ms to delete a document of 500 KB, and a few microseconds to delete
one of 500 bytes.
"""

PIECE_ENTRIES = 256
PIECE_BYTES = 1 << 20
"""Index entries, and bytes of their keys, that a step inspects before it looks at the clock."""


class SweptRevisions(NamedTuple):
    """
    The result of one step along the log.

    Attributes:
        last_row: the last log row inspected; the step's start if there was nothing left to inspect.
        deleted: revisions deleted.
    """

    last_row: int
    deleted: int


class KnownIndexes(NamedTuple):
    """
    The indexes that some readable timestamp knows, or that an import fills.

    Attributes:
        ids: as a JSON array.
        next_id: indexes from this id on are younger than the list.
    """

    ids: str
    next_id: int


def observe_clock(connection: sqlite3.Connection, last_ts: int, now_us: int) -> ClockHistory:
    """Store an observation of the clock in the caller's transaction, if it is needed; return the clock's history."""
    stored = ClockHistory.stored(read_globals(connection))
    history = stored.observed(last_ts, now_us)
    if history is not stored:
        set_global(connection, CLOCK_HISTORY, history.observations)
    return history


def store_expiry_position(connection: sqlite3.Connection, position: RecordKey) -> None:
    """Store how far the walk through the request records is, in the caller's transaction."""
    set_global(connection, EXPIRY_POSITION, (position,))


class Housekeeping:
    """
    The changes that housekeeping may make; used inside the writer's transaction.

    Args:
        connection: in a transaction.
        snapshot: the newest state.
        is_late: returns whether a step should end, because mutations have waited long enough for it.

    Attributes:
        snapshot: the newest state.
    """

    def __init__(self, connection: sqlite3.Connection, snapshot: Snapshot, is_late: Callable[[], bool]) -> None:
        self.snapshot = snapshot
        self._connection = connection
        self._is_late = is_late

    def raise_floor(self, ts: int) -> None:
        """Make timestamps below `ts` unreadable, unless a later floor is stored: another sweep has raised it."""
        if ts > self.snapshot.globals()["floor_ts"]:
            set_global(self._connection, "floor_ts", ts)

    def observe_clock(self, now_us: int) -> ClockHistory:
        """Store which `ts` the log has now, if that is ahead of the clock; return the clock's history."""
        return observe_clock(self._connection, self.snapshot.ts, now_us)

    def sweep_revisions(self, after: int, limit: int, floor: int) -> SweptRevisions:
        """
        Delete unreadable revisions among the next rows of the log.

        A revision at or below the floor makes the one before it unreadable; a deletion makes itself unreadable too.

        Args:
            after: the last log row inspected before.
            limit: rows to inspect.
            floor: the lowest readable timestamp.
        """
        execute = self._connection.execute
        stored = self.snapshot.globals()
        rows = execute(statements.LOG_AFTER, (after, limit)).fetchall()
        below = [log_row for log_row, ts in rows if ts <= floor]
        last_row, deleted, dropped_index = after, 0, False
        for size in self._pieces(len(below)):
            span = last_row, below[size - 1]
            dropped_index = dropped_index or (
                execute(statements.DELETED_BETWEEN, (*span, INDEXES_TABLET)).fetchone() is not None
            )
            deleted += execute(statements.DELETE_REPLACED, span).rowcount
            deleted += execute(statements.DELETE_DELETIONS, span).rowcount
            last_row = span[1]
        if last_row > stored.get("swept_row", 0):  # of two sweeps at once, one is behind
            set_global(self._connection, "swept_row", last_row)
        if deleted:
            self._store_walk(IndexWalk.stored(stored).purging(deleted, dropped_index=dropped_index))
        return SweptRevisions(last_row, deleted)

    def _store_walk(self, walk: IndexWalk) -> None:
        set_global(self._connection, INDEX_WALK, walk.text)

    def _pieces(self, limit: int) -> Iterator[int]:
        """Yield how many rows are to be done after each piece, up to `limit`, or until the step has run long enough."""
        done = 0
        while done < limit and (done == 0 or not self._is_late()):
            done = min(done + PIECE_ROWS, limit)
            yield done

    def known_indexes(self) -> KnownIndexes | None:
        """Return the indexes whose entries the walk that is in progress must keep; None if none is."""
        if IndexWalk.stored(self.snapshot.globals()).after is None:
            return None
        ids = [document["indexId"] for document in self.snapshot.all_revisions(INDEXES_TABLET)]
        ids += [
            index["id"] for document in self.snapshot.all_revisions(TABLETS_TABLET) for index in document["indexes"]
        ]
        return KnownIndexes(json.dumps(sorted(set(ids))), self.snapshot.globals()["next_index_id"])

    def begin_walk(self) -> None:
        """Begin a walk with `sweep_entries`, whether or not one is due or in progress."""
        self._store_walk(IndexWalk(after=FIRST))

    def sweep_entries(self, limit: int, floor: int, known: KnownIndexes) -> bool:
        """
        Delete unreadable index entries among the next ones of the walk, whole keys at a time.

        Args:
            limit: about how many entries to inspect.
            floor: the lowest readable timestamp.
            known: the indexes whose entries stay.

        Returns:
            Whether the walk goes on; False too if none is due.
        """
        walk = IndexWalk.stored(self.snapshot.globals())
        if walk.after is None:
            return False
        done = 0
        while walk.after is not None and done < limit and (done == 0 or not self._is_late()):
            rows, last, is_end = self._next_entries(walk.after, min(PIECE_ENTRIES, limit - done))
            if last is not None:
                self._connection.execute(
                    statements.DELETE_ENTRIES, (*walk.after, *last, floor, FIRST_INDEX_ID, known.next_id, known.ids)
                )
            walk = walk.continued(rows, None if is_end else last)
            done += rows
        self._store_walk(walk)
        return walk.after is not None

    def _next_entries(self, after: EntryKey, limit: int) -> tuple[int, EntryKey | None, bool]:
        """Return the number of the next few entries, the last of them, and whether it is the last of all."""
        rows, size = 0, 0
        last: EntryKey | None = None
        for entry in self._connection.execute(statements.ENTRIES_AFTER, (*after, limit)):
            last = entry
            rows += 1
            size += len(entry[1])
            if size >= PIECE_BYTES:
                return rows, last, False
        return rows, last, rows < limit

    def clear_tablet(self, tablet: int, limit: int) -> int:
        """Delete revisions of a tablet that no readable timestamp leads to; return how many, 0 if none is left."""
        deleted = 0
        for size in self._pieces(limit):
            cleared = self._connection.execute(statements.CLEAR_TABLET_STEP, (tablet, size - deleted)).rowcount
            deleted += cleared
            if deleted < size:
                break
        return deleted

    def clear_index(self, index_id: int, limit: int) -> int:
        """Delete entries of an index that no readable timestamp knows; return how many, 0 if none is left."""
        deleted = done = 0
        for size in self._pieces(limit):
            cleared = self._connection.execute(statements.CLEAR_CURRENT_STEP, (index_id, size - done)).rowcount
            cleared += self._connection.execute(statements.CLEAR_ENTRIES_STEP, (index_id, size - done)).rowcount
            deleted, done = deleted + cleared, size
            if not cleared:
                break
        return deleted
