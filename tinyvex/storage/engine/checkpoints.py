"""
The write-ahead log: how much of it is not in the file yet, and copying it there.

A commit is appended to the log; a checkpoint copies the log into the file, and the next commit begins it anew,
in the same place, unless somebody reads in it.
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
"""Of a row that the storage engine itself changes, many at a time: they share pages."""


class WriteAheadLog:
    """
    The log of one database file; used by whoever writes.

    Attributes:
        size: at most so many bytes of it are not in the file.
    """

    def __init__(self) -> None:
        self.size = 0
        self._retry_size = 0  # below this a checkpoint would copy little more than the last did
        self._wait_size = 0  # below this the last wait for readers, which was in vain, is not repeated

    def committed(self, record: CommitRecord, rows: int) -> None:
        """
        Count what a commit adds, at most: a page for each row of the record and for each entry of a unique index.

        Args:
            record: the commit.
            rows: those that it changed; steps change more than the record contains, many at a time in shared pages.
        """
        pages = 3  # last_ts; the request and its index
        size = 0
        for operation in record.operations:
            if isinstance(operation, WriteDocuments | FillTablet):
                for write in operation.writes:
                    pages += 2 + len(write.kept) + 2 * (len(write.added) + len(write.removed))
                    size += len(write.json or b"")
        self.size += max(pages * PAGE_BYTES + size, rows * ROW_BYTES)

    def changed(self, rows: int) -> None:
        """Count rows that housekeeping changed."""
        self.size += rows * ROW_BYTES

    def is_above(self, limit_bytes: int) -> bool:
        """Whether it is longer than that, and a checkpoint is worth it."""
        return self.size > max(limit_bytes, self._retry_size)

    def checkpoint(self, connection: sqlite3.Connection, mode: CheckpointMode) -> None:
        """
        Copy the log into the file; between transactions.

        PASSIVE leaves the log's file as long as it is, to be written over.
        Cutting it off (TRUNCATE) takes many times as long, and so do the commits that make it longer again:
        that is for a log that has grown, in a pause.
        Where a reader still needs the log it is copied as far as that allows, and emptied another time.

        Raises:
            sqlite3.Error: as it came.
        """
        _, frames, copied = _checkpoint(connection, mode)
        if frames * PAGE_BYTES > max(WAL_BYTES_WAIT, self._wait_size):
            frames, copied = self._wait_for_readers(connection)
        if frames == copied >= 0:
            self.size = self._retry_size = 0
            return
        if frames >= 0:  # else another process is copying it, and nothing is known
            self.size = frames * PAGE_BYTES
        self._retry_size = self.size + WAL_BYTES_CHECKPOINT

    def _wait_for_readers(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """
        Let the log be begun anew although there is always somebody who reads; meanwhile nobody writes.

        Who begins to read when all is copied is not in the log.
        Who began while some was still to be copied may be; therefore it is tried again after a short wait, and again.
        """
        busy = frames = copied = 0
        for _ in range(WAL_WAITS):
            busy, frames, copied = _checkpoint(connection, "RESTART", WAL_WAIT_MS)
            if not busy:
                break
        self._wait_size = frames * PAGE_BYTES * 3 // 2 if busy else 0
        return frames, copied


def _checkpoint(connection: sqlite3.Connection, mode: CheckpointMode, wait_ms: int = 0) -> tuple[int, int, int]:
    """Whether somebody was in the way; the frames in the log, and how many of them are in the file."""
    pragmas.busy_timeout(connection, wait_ms)
    try:
        busy, frames, copied = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    finally:
        pragmas.busy_timeout(connection)
    return busy, frames, copied
