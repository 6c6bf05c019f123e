"""
Checkpoint the write-ahead log.

SQLite appends each commit to the write-ahead log (WAL). A checkpoint copies committed pages from the WAL into the
database file. After a complete checkpoint, and once no reader uses the WAL, the next commit reuses it from its beginning.

SQLite's automatic checkpoint is disabled because it runs inside COMMIT and raises its 99th percentile from 1 ms to about
20 ms. The writer thread checkpoints between groups instead, the more urgently the larger the WAL is:

1.  *In a pause* (no commit for CHECKPOINT_IDLE_SECONDS), above WAL_BYTES_CHECKPOINT: PASSIVE, which copies the pages that no
    reader needs and never waits. In a long pause (TRUNCATE_IDLE_SECONDS) a file above WAL_BYTES_TRUNCATE is truncated.
2.  *Whenever the queue is empty*, above WAL_BYTES_LULL: PASSIVE.
3.  *Before the next group*, above WAL_BYTES_MAX: PASSIVE.
4.  *If overlapping readers kept the WAL from being reused*, above WAL_BYTES_WAIT: RESTART, which waits for the active readers,
    at most WAL_WAITS times WAL_WAIT_MS. Without this tier the WAL could grow indefinitely.

How much of the WAL is not in the database file is estimated from what was committed. The size of the WAL's file is no
measure of it, because a PASSIVE checkpoint leaves the file as large as it is.
"""

from __future__ import annotations

import sqlite3
from typing import Literal, TypeAlias

from tinyvex.limits import WAL_BYTES_CHECKPOINT, WAL_BYTES_WAIT, WAL_WAIT_MS, WAL_WAITS
from tinyvex.storage.file import pragmas
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import FillTablet, WriteDocuments

__all__ = ["CheckpointMode", "WriteAheadLog"]

CheckpointMode: TypeAlias = Literal["PASSIVE", "RESTART", "TRUNCATE"]

PAGE_BYTES = 4096
ROW_BYTES = 1024
"""Per row of a step or of housekeeping: they change many rows at a time, which share pages."""


class WriteAheadLog:
    """
    The write-ahead log of one database file; used by the writer thread.

    Attributes:
        size: an upper bound of the bytes that are not in the database file.
    """

    def __init__(self) -> None:
        self.size = 0
        self._retry_size = 0  # below this a checkpoint would copy little more than the last one did
        self._wait_size = 0  # below this a wait for readers is not repeated after one that timed out

    def committed(self, record: CommitRecord, rows: int) -> None:
        """
        Count at most what a commit adds: a page for each row of the record and for each entry of a unique index.

        Args:
            record: the commit.
            rows: the rows that it changed; steps change more than the record contains, many of them in one page.
        """
        pages = 3  # last_ts; the request and its index
        size = 0
        for operation in record.operations:
            if type(operation) is WriteDocuments or type(operation) is FillTablet:
                for write in operation.writes:
                    pages += 2 + len(write.unchanged) + 2 * (len(write.added) + len(write.removed))
                    size += len(write.json or b"")
        self.size += max(pages * PAGE_BYTES + size, rows * ROW_BYTES)

    def changed(self, rows: int) -> None:
        """Count rows that housekeeping changed."""
        self.size += rows * ROW_BYTES

    def is_above(self, limit_bytes: int) -> bool:
        """Return whether the log is larger than the limit and a checkpoint is worthwhile."""
        return self.size > max(limit_bytes, self._retry_size)

    def checkpoint(self, connection: sqlite3.Connection, mode: CheckpointMode) -> None:
        """
        Copy the log into the database file, between transactions.

        PASSIVE leaves the log's file as large as it is, to be overwritten. TRUNCATE takes many times as long, and so do the
        commits that extend the file again, so it is for a log that has grown, in a long pause.
        If a reader needs pages of the log, as much is copied as that allows.

        Raises:
            sqlite3.Error: as raised by SQLite.
        """
        _, frames, copied = _checkpoint(connection, mode)
        if frames * PAGE_BYTES > max(WAL_BYTES_WAIT, self._wait_size):
            frames, copied = self._wait_for_readers(connection)
        if frames == copied >= 0:
            self.size = self._retry_size = 0
            return
        if frames >= 0:  # otherwise another process is checkpointing, and SQLite reports nothing
            self.size = frames * PAGE_BYTES
        self._retry_size = self.size + WAL_BYTES_CHECKPOINT

    def _wait_for_readers(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """
        Restart the log despite overlapping readers; blocks the writer while waiting.

        A reader that begins after everything was copied does not use the log. One that began earlier may, so the restart
        is retried while those readers finish.
        """
        busy = frames = copied = 0
        for _ in range(WAL_WAITS):
            busy, frames, copied = _checkpoint(connection, "RESTART", WAL_WAIT_MS)
            if not busy:
                break
        self._wait_size = frames * PAGE_BYTES * 3 // 2 if busy else 0
        return frames, copied


def _checkpoint(connection: sqlite3.Connection, mode: CheckpointMode, wait_ms: int = 0) -> tuple[int, int, int]:
    """Return whether a reader was in the way, the frames in the log, and how many of them are in the file."""
    pragmas.busy_timeout(connection, wait_ms)
    try:
        busy, frames, copied = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    finally:
        pragmas.busy_timeout(connection)
    return busy, frames, copied
