"""
Remember outside the database which commit became durable last.

After a crash, SQLite replays the write-ahead log up to the first frame with a wrong checksum, because that is how the log of
a killed process ends. If the disk damaged a frame in the middle, all commits behind it would be missing, and neither SQLite
nor the database itself would show it. The same is true if the log is deleted, or the database replaced by an older copy.

The file `last-commit` has one line: the epoch of the database, the `ts`, the durability, and a checksum. The writer's thread
writes it after each COMMIT and before the acknowledgement, without a sync. So it is exact whenever the process is killed.
After a power failure it may be half a minute old, because the system writes files to the disk later. It is never ahead of the
database: with `synchronous=FULL` a commit is on the disk before it is in this file. With `normal`, a power failure may lose
commits that are in this file; then a difference is only logged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from tinyvex.errors import FileDamaged
from tinyvex.storage.file.atomic_file import sync_file
from tinyvex.storage.file.private_file import open_private

__all__ = [
    "LastCommit",
    "LastCommitFile",
    "missing_commits",
    "read_last_commit",
    "require_no_missing_commits",
    "require_not_lost",
    "sync_earlier_commits",
]

log = logging.getLogger("tinyvex.storage")


class LastCommit(NamedTuple):
    """
    The contents of the file.

    Attributes:
        epoch: of the database.
        ts: of the last commit.
        durability: with which it was written.
    """

    epoch: str
    ts: int
    durability: str

    def encode(self) -> bytes:
        """Return the line, whose length depends on the durability alone."""
        return _line(self.epoch, self.ts, self.durability)


def _line(epoch: str, ts: int, durability: str) -> bytes:
    text = f"{epoch} {ts:020d} {durability}".encode()
    return b"%b %08x\n" % (text, crc32(text))


class LastCommitFile:
    """
    The open file.

    Args:
        path: the file; it is created if it does not exist.
        first: the state of the database.

    Raises:
        DataFolderUnusable: another user placed the file there.
        OSError: it cannot be created.
    """

    def __init__(self, path: Path, first: LastCommit) -> None:
        self._epoch, self._durability = first.epoch, first.durability
        self._descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, len(first.encode()))
        self.record(first.ts)

    def record(self, ts: int) -> None:
        """
        Write the `ts` of a durable commit; about 2 microseconds.

        If the disk is full, the file keeps an older `ts`, which only makes it notice less.
        """
        line = _line(self._epoch, ts, self._durability)
        try:  # noqa: SIM105 - `suppress` takes as long as the write
            _write_at_start(self._descriptor, line)
        except OSError:
            pass

    def close(self) -> None:
        """Close the file, which stays."""
        os.close(self._descriptor)


def _write_at_start(descriptor: int, data: bytes) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, data)
    else:
        os.pwrite(descriptor, data, 0)


def read_last_commit(path: Path) -> LastCommit | None:
    """Return the contents of the file; None if it does not exist or is damaged."""
    try:
        line = path.read_bytes()  # once: a server may write the next commit meanwhile
        epoch, ts, durability, _ = line.decode("ascii").split(" ")
        last = LastCommit(epoch, int(ts), durability)
        return last if last.encode() == line else None
    except (OSError, ValueError):
        return None


def missing_commits(last: LastCommit | None, epoch: str, last_ts: int) -> str | None:
    """
    Compare a database with the last commit that was recorded before it was opened.

    Returns:
        A sentence if the database lacks commits; None if it does not, or if it was restored from a backup since.
    """
    if last is None or last.epoch != epoch or last.ts <= last_ts:
        return None
    return (
        f"the database ends at ts {last_ts}, but the commit {last.ts} was acknowledged: the newest commits are missing"
    )


def sync_earlier_commits(path: Path, wal: Path) -> None:
    """
    Make commits durable that were written with durability `normal`, before the file states that its commit is.

    Otherwise a power failure could lose them, and the next start would refuse the database.

    Raises:
        OSError: the write-ahead log cannot be synced.
    """
    last = read_last_commit(path)
    if last is not None and last.durability == "normal" and wal.exists():
        sync_file(wal)


def require_not_lost(path: Path, database: Path) -> None:
    """
    Refuse to create a database in the place of one that is gone.

    Raises:
        FileDamaged: a database of this folder had commits.
    """
    if read_last_commit(path) is not None:
        raise FileDamaged(
            f"`{database}` is missing, although commits were acknowledged in it: put it back, or restore a backup"
            f" with `tinyvex restore`; to start with an empty database, delete `{path}`"
        )


def require_no_missing_commits(path: Path, epoch: str, last_ts: int) -> None:
    """
    Refuse a database that lacks acknowledged commits.

    Raises:
        FileDamaged: it lacks some; the message has the way to continue without them.
    """
    last = read_last_commit(path)
    missing = missing_commits(last, epoch, last_ts)
    if missing is None or last is None:
        return
    if last.durability == "normal":
        log.error("%s; with --durability normal this happens after a power failure", missing)
        return
    raise FileDamaged(
        f"{missing}. The write-ahead log was damaged or deleted, or the database was replaced by an older copy."
        f" Keep a copy of the data folder and restore a backup; to continue without these commits, delete `{path}`",
        lastTs=last_ts,
        acknowledgedTs=last.ts,
    )
