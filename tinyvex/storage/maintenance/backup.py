"""
Copying a database while it is used, and putting a copy in a database's place.

A backup is one file, a database like any other, of one moment: it is read in one read transaction.
It appears under its name when it is whole and synced.
A restored database has another epoch, so that clients do not take its history for the one they knew.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinyvex.errors import DataFolderUnusable, FileDamaged, FileTooNew
from tinyvex.storage.file import database_file
from tinyvex.storage.file.data_folder import DataFolder, whole_file
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.maintenance.check import check

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime

__all__ = ["Copy", "back_up", "look_at", "restore"]

PAGES_PER_STEP = 512
"""2 MiB: how often progress is told, and Control-C heard."""

Progress = Callable[[int, int], None]
"""Called with how many pages are done, and how many there are."""


class Copy(NamedTuple):
    """What a database file holds."""

    ts: int
    """Its newest commit."""
    size_bytes: int


def back_up(folder: Path, target: Path, progress: Progress | None = None, *, replace: bool = False) -> Copy:
    """
    Copy the database of a data folder into a file; a server may be using it.

    Args:
        folder: the data folder.
        target: the file to make.
        progress: told between steps.
        replace: put it in the place of a file that is there.

    Raises:
        DataFolderUnusable: there is no database, the target is there already or the database's own, or cannot be written.
        DiskFull: there is no room for it.
        StorageError: the database cannot be read.
    """
    source = DataFolder(folder)
    source.require_database()
    source.refuse_own(target)
    _refuse_leftovers(target)
    with (
        whole_file(target, replace=replace) as unfinished,
        closing(database_file.open_reader(source.database)) as connection,
    ):
        connection.execute("BEGIN")
        ts = int(database_file.read_globals(connection)["last_ts"])  # the first read: the moment that is copied
        _copy(connection, unfinished, progress)
    return Copy(ts, target.stat().st_size)


def _refuse_leftovers(target: Path) -> None:
    """SQLite would take another file's log for the copy's, and put into the copy what was never in it."""
    for suffix in ("-wal", "-journal"):
        beside = target.with_name(target.name + suffix)
        if beside.exists():
            raise DataFolderUnusable(
                f"{beside} is there, of another database or one in use; choose another file for the copy"
            )


def look_at(file: Path) -> Copy:
    """
    What a backup holds, when it is one and whole.

    Raises:
        FileDamaged: it is no database of Tinyvex, or is damaged; the message has the first problem.
        FileTooNew: a newer Tinyvex made it.
        DataFolderUnusable: it cannot be read.
    """
    if not file.is_file():
        raise DataFolderUnusable(f"there is no file {file}")
    with closing(database_file.open_reader(file)) as connection:
        problems = check(connection)
        if problems:
            raise FileDamaged(f"{file} is damaged: {problems[0]}")
        return Copy(int(database_file.read_globals(connection)["last_ts"]), file.stat().st_size)


def restore(file: Path, folder: Path, runtime: Runtime, progress: Progress | None = None) -> Path | None:
    """
    Make a backup the database of a data folder that nobody uses.

    Args:
        file: the backup, which `look_at` has found whole.
        folder: the data folder; made if it does not exist.
        runtime: for the clock, and the randomness of the new epoch.
        progress: told between steps.

    Returns:
        Where the database is that was there before; None where there was none.

    Raises:
        DataFolderLocked: a server uses it.
        DataFolderUnusable: it cannot be written.
        StorageError: one of the files.
    """
    data = DataFolder(folder)
    data.prepare()
    lock = data.lock()
    try:
        return _replace(data, file, runtime, progress)
    finally:
        lock.release()


def _replace(data: DataFolder, file: Path, runtime: Runtime, progress: Progress | None) -> Path | None:
    aside = _Aside(data, data.database.with_name(f"replaced-{runtime.now_us()}.sqlite3"))
    try:
        with whole_file(data.database, replace=True) as unfinished:
            with closing(database_file.open_reader(file)) as connection:
                _copy(connection, unfinished, progress, epoch=f"{runtime.random.getrandbits(64):016x}")
            aside.put()
    except BaseException:
        aside.take_back()
        raise
    return aside.file


class _Aside:
    """
    What was in a database's place, under a second name.

    It keeps its first until the new one takes that: at no moment is there a folder without a database,
    in which a server would begin an empty one.

    Attributes:
        file: where it is, once it is; None where there was nothing.
    """

    def __init__(self, data: DataFolder, name: Path) -> None:
        self._data = data
        self._name = name
        self._moved: list[tuple[Path, Path]] = []
        self.file: Path | None = None

    def put(self) -> None:
        """
        Give it the second name.

        Raises:
            StorageError: somebody uses it, or its log cannot be emptied into it.
            OSError: as it came.
        """
        if self._data.database.exists():
            self._end_log()
            self._link()
        # The new database must not meet the old one's log: SQLite would put what is in it into the new one.
        for path in self._data.beside:
            if path.exists():
                aside = path.with_name(path.name.replace(self._data.database.name, self._name.name))
                path.replace(aside)
                self._moved.append((path, aside))
                self.file = self.file or aside

    def _end_log(self) -> None:
        """Make one file of it; what is damaged, or too new to be read, stays as it is, with its log."""
        try:
            database_file.open_reader(self._data.database).close()  # which changes nothing
            with closing(database_file.open_writer(self._data.database, "full")) as connection:
                database_file.end_log(connection)
        except (FileDamaged, FileTooNew):
            return
        except sqlite3.Error as error:
            told = translate(error, self._data.database)
            if not isinstance(told, FileDamaged):
                raise told from error

    def _link(self) -> None:
        self.file = self._name
        try:
            self._name.hardlink_to(self._data.database)
        except OSError:  # a file system without links
            shutil.copy2(self._data.database, self._name)

    def take_back(self) -> None:
        """The new database did not come: everything is as it was."""
        for path, aside in self._moved:
            aside.replace(path)
        self._name.unlink(missing_ok=True)


def _copy(source: sqlite3.Connection, target: Path, progress: Progress | None, *, epoch: str | None = None) -> None:
    """Copy what a connection sees into an empty file, which is whole and synced afterwards."""

    def told(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = FULL")
            source.backup(copy, pages=PAGES_PER_STEP, progress=told)
            copy.execute("PRAGMA journal_mode = DELETE")  # a copy is one file; it gets its log where it is used
            if epoch is not None:
                database_file.set_global(copy, "epoch", epoch)
    except sqlite3.Error as error:
        raise translate(error, target) from error
