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

So the WAL stays below WAL_BYTES_WAIT and what one group adds, unless a single read lasts longer than the writer waits.

How much the WAL has is counted in its file (`storage/file/wal_file.py`). It cannot be estimated from the commits: deleting a
row of 100 bytes may write two pages, and 100 neighbouring rows may share one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Literal, TypeAlias

from tinyvex.limits import WAL_BYTES_CHECKPOINT, WAL_BYTES_WAIT, WAL_WAIT_MS, WAL_WAITS
from tinyvex.storage.file import pragmas
from tinyvex.storage.file.wal_file import WalFile

__all__ = ["CheckpointMode", "WriteAheadLog"]

CheckpointMode: TypeAlias = Literal["PASSIVE", "RESTART", "TRUNCATE"]

ROW_BYTES = 8192
"""About what a changed row adds, used only to decide when to count."""
COUNT_BYTES = 1 << 20
"""Counting takes some 15 microseconds, so it waits until about this much was added."""


class WriteAheadLog:
    """
    The write-ahead log of one database file; used by the writer thread.

    Args:
        file: the log's file.

    Attributes:
        size: the bytes that are not in the database file, as counted last.
        total_size: the bytes of the whole log, as counted last; a checkpoint alone does not reduce it.
    """

    def __init__(self, file: WalFile) -> None:
        self.size = 0
        self.total_size = 0
        self._file = file
        self._copied = 0  # frames of this log that are in the database file
        self._uncounted = (
            COUNT_BYTES  # about the bytes added since the last count; a killed process may have left a log
        )
        self._retry_size = 0  # below this a checkpoint would copy little more than the last one did
        self._wait_size = 0  # below this a wait for readers is not repeated after one that timed out

    def added(self, rows: int) -> None:
        """Note that a transaction has changed this many rows."""
        self._uncounted += rows * ROW_BYTES

    def is_above(self, limit_bytes: int) -> bool:
        """Return whether the log is larger than the limit, or than WAL_BYTES_WAIT, and a checkpoint is worthwhile."""
        limit = max(limit_bytes, self._retry_size)
        if self._uncounted >= COUNT_BYTES or self.size <= limit < self.size + self._uncounted:
            self._count()
        return self.size > limit or self.total_size > max(WAL_BYTES_WAIT, self._wait_size)

    def _count(self) -> None:
        self._uncounted = 0
        with contextlib.suppress(OSError):  # an error of the file is reported by the next commit
            if self._file.count():
                self._copied = self._retry_size = self._wait_size = 0
        self._measure()

    def _measure(self) -> None:
        self.size = max(0, self._file.frames - self._copied) * self._file.page_bytes
        self.total_size = self._file.frames * self._file.page_bytes

    def checkpoint(self, connection: sqlite3.Connection, mode: CheckpointMode) -> None:
        """
        Copy the log into the database file, between transactions.

        PASSIVE leaves the log's file as large as it is, to be overwritten. TRUNCATE takes many times as long, and so do the
        commits that extend the file again, so it is for a log that has grown, in a long pause.
        If a reader needs pages of the log, as much is copied as that allows.

        Raises:
            sqlite3.Error: as raised by SQLite.
        """
        self._count()
        busy, frames, copied = _checkpoint(connection, mode)
        if frames * self._file.page_bytes > max(WAL_BYTES_WAIT, self._wait_size):
            mode = "RESTART"
            busy, frames, copied = self._wait_for_readers(connection)
        if frames < 0:  # another process is checkpointing, and SQLite reports nothing
            self._retry_size = self.size + WAL_BYTES_CHECKPOINT
        elif frames == copied:
            self._copied, self._retry_size = copied, 0
            if mode != "PASSIVE" and not busy:
                with contextlib.suppress(OSError):
                    self._file.restarted()
                self._copied = 0
        else:
            self._copied = copied
            self._retry_size = (frames - copied) * self._file.page_bytes + WAL_BYTES_CHECKPOINT
        self._measure()

    def _wait_for_readers(self, connection: sqlite3.Connection) -> tuple[int, int, int]:
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
        self._wait_size = frames * self._file.page_bytes * 3 // 2 if busy else 0
        return busy, frames, copied


def _checkpoint(connection: sqlite3.Connection, mode: CheckpointMode, wait_ms: int = 0) -> tuple[int, int, int]:
    """Return whether a reader was in the way, the frames in the log, and how many of them are in the file."""
    pragmas.busy_timeout(connection, wait_ms)
    try:
        busy, frames, copied = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    finally:
        pragmas.busy_timeout(connection)
    return busy, frames, copied
