"""
Back up a database while a server uses it, and restore a backup.

A backup is one file, itself a database. It is consistent although a server keeps writing: all of it is read in one read
transaction, which sees the database as of one commit. Later commits go to the write-ahead log, and SQLite keeps the pages
that the transaction needs until it ends. A backup appears under its name only when it is complete and synced.

A restored database gets a new epoch, so that clients do not continue from results of the database it replaces.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinyvex.errors import DataFolderUnusable, FileDamaged, FileTooNew
from tinyvex.storage.file import database_file
from tinyvex.storage.file.atomic_file import atomic_file, follow_links
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.file.output_file import output_file
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.file.upgrade import upgrade_file
from tinyvex.storage.maintenance.check import check, check_pages
from tinyvex.storage.maintenance.progress import Progress

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime

__all__ = ["Backup", "VerifiedBackup", "back_up"]

PAGES_PER_STEP = 512
"""2 MiB: between two steps, progress is reported and Control-C is handled."""


class Backup(NamedTuple):
    """A backup's newest commit and its size."""

    ts: int
    size_bytes: int


def back_up(folder: Path, target: Path, progress: Progress | None = None, *, replace: bool = False) -> Backup:
    """
    Copy the database of a data folder into a file; a server may be using it.

    Args:
        folder: the data folder.
        target: the file to create.
        progress: called with the pages done and in total.
        replace: replace an existing file.

    Raises:
        DataFolderUnusable: there is no database; the target exists, belongs to a database, or cannot be written.
        DiskFull: the disk has no room for the copy.
        StorageError: the database cannot be read.
    """
    source = DataFolder(folder)
    source.require_database()
    _refuse_stale_logs(follow_links(target))
    with (
        output_file(target, source, replace=replace) as unfinished,
        closing(database_file.open_reader(source.database, any_format=True)) as connection,
    ):
        connection.execute("BEGIN")
        # The first read of the transaction fixes the snapshot.
        ts = database_file.read_last_ts(connection)
        _copy(connection, unfinished, progress)
    return Backup(ts, target.stat().st_size)


def _refuse_stale_logs(target: Path) -> None:
    """Refuse a target next to the log of another database: SQLite would replay that log into the copy."""
    for suffix in ("-wal", "-journal"):
        log = target.with_name(target.name + suffix)
        if log.exists():
            raise DataFolderUnusable(
                f"`{log}` exists and belongs to another database, or to one in use; choose another file for the copy"
            )


class VerifiedBackup:
    """
    A backup that was verified, and is held open in one read transaction: what was verified is what is restored.

    A backup of an older format is verified by SQLite alone, and again by us when `restore` has upgraded a copy of it.

    Attributes:
        ts: its newest commit.
        size_bytes: the size of the file.
    """

    def __init__(self, file: Path, progress: Progress | None = None) -> None:
        """
        Open and verify a backup.

        Args:
            file: the backup.
            progress: called with the rows checked and in total.

        Raises:
            FileDamaged: the file is not a Tinyvex database or is damaged; the message has the first problem.
            FileTooNew: a newer Tinyvex made the backup.
            DataFolderUnusable: the file does not exist, is not a regular file, or cannot be read.
        """
        if not file.exists():
            raise DataFolderUnusable(f"the backup `{file}` does not exist")
        if not file.is_file():
            raise DataFolderUnusable(f"the backup `{file}` is not a regular file; copy the backup into a file first")
        self._connection = database_file.open_reader(file, any_format=True)
        try:
            self._connection.execute("BEGIN")
            self._is_older = database_file.is_older(file)
            problems = check_pages(self._connection) if self._is_older else check(self._connection, progress)
            if problems:
                raise FileDamaged(f"the backup `{file}` is damaged: {problems[0]}")
            self.ts = database_file.read_last_ts(self._connection)
            self.size_bytes = file.stat().st_size
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the file; idempotent."""
        self._connection.close()

    def restore(self, folder: Path, runtime: Runtime, progress: Progress | None = None) -> Path | None:
        """
        Make the backup the database of a data folder that no process uses; the backup is closed, also after an error.

        Args:
            folder: the data folder; created if it does not exist.
            runtime: the clock, and the randomness of the new epoch.
            progress: called with the pages done and in total.

        Returns:
            The new path of the replaced database; None if there was none.

        Raises:
            DataFolderLocked: a process uses the folder.
            DataFolderUnusable: the folder cannot be written.
            DiskFull: the disk has no room for a second database.
            StorageError: one of the files is unusable.
        """
        data = DataFolder(folder)
        try:
            data.prepare()
            lock = data.lock()
            try:
                return self._replace(data, runtime, progress)
            finally:
                lock.release()
        finally:
            self.close()

    def _replace(self, data: DataFolder, runtime: Runtime, progress: Progress | None) -> Path | None:
        replaced = _ReplacedDatabase(data, data.database.with_name(f"replaced-{runtime.now_us()}.sqlite3"))
        try:
            with atomic_file(data.database, replace=True) as unfinished:
                if self._is_older:
                    self._upgrade(data, progress)
                _copy(self._connection, unfinished, progress, epoch=f"{runtime.random.getrandbits(64):016x}")
                self.close()  # the backup may be the database itself
                replaced.move_aside()
        except BaseException:
            replaced.move_back()
            raise
        return replaced.file

    def _upgrade(self, data: DataFolder, progress: Progress | None) -> None:
        """Replace the connection by one to an upgraded copy, which has no name any more."""
        copy = data.restoring
        try:
            data.remove_restoring()
            _copy(self._connection, copy, progress)
            upgrade_file(copy, progress)
            self.close()
            self._connection = database_file.open_reader(copy)
            self._connection.execute("BEGIN")
            problems = check(self._connection, progress)
            if problems:
                raise FileDamaged(f"the backup is damaged: {problems[0]}")
        finally:
            data.remove_restoring()


class _ReplacedDatabase:
    """
    The database that a backup replaces, under a second name.

    It keeps its first name until the new database takes it over. So the folder has a database at all times; a server
    that started on an empty folder would create an empty database.

    Attributes:
        file: the second name, once the database has it; None if there was no database.
    """

    def __init__(self, data: DataFolder, name: Path) -> None:
        self._data = data
        self._name = name
        self._moved: list[tuple[Path, Path]] = []
        self.file: Path | None = None

    def move_aside(self) -> None:
        """
        Give the database its second name, and move its logs to match.

        Raises:
            StorageError: a process uses it, or its log cannot be copied into it.
            OSError: the file system refused.
        """
        if self._data.database.exists():
            self._fold_log()
            self._link()
        # A log that stayed under the old name would be replayed into the new database.
        database = follow_links(self._data.database).name
        for path in self._data.side_files:
            if path.exists():
                aside = Path(f"{self._name}{path.name.removeprefix(database)}")
                shutil.move(path, aside)  # it may be on another disk, to which a link leads
                self._moved.append((path, aside))
                self.file = self.file or aside

    def _fold_log(self) -> None:
        """Copy the log into the database; a damaged database, or one of a newer format, stays as it is, with its log."""
        with suppress(FileDamaged, FileTooNew):
            database_file.end_log_of(self._data.database)

    def _link(self) -> None:
        self.file = self._name
        try:
            self._name.hardlink_to(follow_links(self._data.database))
        except OSError:  # a file system without hard links, or a link to another file system
            shutil.copy2(self._data.database, self._name)

    def move_back(self) -> None:
        """Undo `move_aside` after the new database could not be put in place."""
        for path, aside in self._moved:
            shutil.move(aside, path)
        self._name.unlink(missing_ok=True)


def _copy(source: sqlite3.Connection, target: Path, progress: Progress | None, *, epoch: str | None = None) -> None:
    """Copy the snapshot of a connection into an empty file, as a complete database of one file."""

    def report(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = FULL")
            source.backup(copy, pages=PAGES_PER_STEP, progress=report)
            copy.execute("PRAGMA journal_mode = DELETE")  # a backup has no log; it gets one when a server opens it
            if epoch is not None:
                database_file.set_global(copy, "epoch", epoch)
    except sqlite3.Error as error:
        raise translate(error, target) from error
