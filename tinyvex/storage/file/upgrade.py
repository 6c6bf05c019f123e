"""
Upgrade a database file of an older format.

The upgrade copies the file, row by row, into a new file of the next format, which then replaces the old file::

    data.sqlite3           format 1; the upgrade only reads it
    data.sqlite3.upgrade   format 2, unfinished: its table `upgrade` has the position that the copy has reached

The copy commits every UPGRADE_STEP_ROWS rows or UPGRADE_STEP_BYTES bytes. An upgrade that was interrupted continues after
its last commit, if the old file is the same as then. Otherwise an older version was started in between, and the upgrade
begins again. It also begins again if it was interrupted between dropping the table `upgrade` and replacing the old file:
nothing then states which old file the new one came from. The disk needs room for both files.

`format_changes.py` has what each format changes.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from tinyvex.errors import FileDamaged
from tinyvex.limits import UPGRADE_STEP_BYTES, UPGRADE_STEP_ROWS
from tinyvex.storage.file import pragmas
from tinyvex.storage.file.atomic_file import follow_links, sync_file, sync_folder
from tinyvex.storage.file.data_folder import remove_unfinished_upgrade, unfinished_upgrade
from tinyvex.storage.file.database_file import end_log_of, file_uri, read_format
from tinyvex.storage.file.format_changes import FORMAT_CHANGES, FormatChange, Row, TableCopy
from tinyvex.storage.file.os_errors import translate_os_error
from tinyvex.storage.file.sqlite_errors import translate

__all__ = ["Progress", "upgrade_file"]

log = logging.getLogger("tinyvex.storage")

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the rows copied and in total, after each step. It may raise an error to interrupt the upgrade."""


def upgrade_file(database: Path, progress: Progress | None = None) -> None:
    """
    Upgrade a file to the newest format; the caller owns the folder.

    Raises:
        FileDamaged: the file cannot be read completely; it is not changed.
        FileTooNew: a newer Tinyvex wrote the file.
        DiskFull: the disk has no room for the new file; the next attempt continues.
        StorageError: another program uses the file, or it cannot be written.
    """
    while (version := read_format(database)) is not None and version < pragmas.FORMAT_VERSION:
        change = FORMAT_CHANGES[version + 1]
        log.warning("upgrading `%s` from format %d to %d", database, version, change.format)
        try:
            end_log_of(database)  # it is one file then, and does not change during the upgrade
            real = follow_links(database)
            unfinished = unfinished_upgrade(real)
            _copy(real, unfinished, change, progress)
            sync_file(unfinished)
            unfinished.replace(real)
            sync_folder(unfinished.parent)
        except sqlite3.Error as error:
            raise translate(error, database) from error
        except OSError as error:
            raise translate_os_error(error, f"`{database}` cannot be upgraded") from error
        log.warning("upgraded `%s` to format %d", database, change.format)


def _copy(database: Path, unfinished: Path, change: FormatChange, progress: Progress | None) -> None:
    """Create the complete new file under its unfinished name."""
    state = database.stat()
    identity = f"{state.st_size} {state.st_mtime_ns}"
    if unfinished.exists() and not _continues(unfinished, identity, change):
        remove_unfinished_upgrade(database)
    if not unfinished.exists():
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(file_uri(unfinished, "rw"), uri=True, isolation_level=None)) as connection:
        pragmas.page_size(connection)
        pragmas.full_fsync(connection)
        pragmas.cache(connection, pragmas.WRITER_CACHE_KIB)
        connection.execute("ATTACH ? AS old", (file_uri(database, "ro"),))
        _FileCopy(connection, identity, change, progress).run()


def _continues(unfinished: Path, identity: str, change: FormatChange) -> bool:
    """Return whether the new file was begun by the same upgrade of the same old file."""
    try:
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
            begun: object = connection.execute("SELECT source, format FROM upgrade").fetchone()
            return begun == (identity, change.format)
    except sqlite3.Error:  # it was killed before its first commit, or after its last
        return False


class _FileCopy:
    """The copy of one file, which continues at the position that the table `upgrade` has."""

    def __init__(
        self, connection: sqlite3.Connection, identity: str, change: FormatChange, progress: Progress | None
    ) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._identity = identity
        self._change = change
        self._progress = progress
        self._counts = [self._count(copy) for copy in change.copies]
        self._total = sum(self._counts)
        self._done = 0
        self._percent = 0

    def _count(self, copy: TableCopy) -> int:
        (rows,) = self._execute(f"SELECT COUNT(*) FROM old.{copy.table}").fetchone()  # noqa: S608 - names from the list
        return int(rows)

    def run(self) -> None:
        """Copy the rows that are missing."""
        if self._execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
            self._begin()
        table, self._done, position = self._position()
        for number, copy in enumerate(self._change.copies[table:], table):
            while not self._step(number, copy, position or copy.first):
                _, _, position = self._position()
            position = None
        self._finish()

    def _begin(self) -> None:
        self._connection.executescript(f"BEGIN; {self._change.schema}")
        self._execute("CREATE TABLE upgrade (source TEXT, format INTEGER, table_number INTEGER, done INTEGER, a, b, c)")
        self._execute(
            "INSERT INTO upgrade VALUES (?, ?, 0, 0, NULL, NULL, NULL)", (self._identity, self._change.format)
        )
        self._execute("COMMIT")

    def _position(self) -> tuple[int, int, Row | None]:
        """Return the table that is being copied, the rows copied of all tables, and the key of the last one of this table."""
        table, done, *key = self._execute("SELECT table_number, done, a, b, c FROM upgrade").fetchone()
        return table, done, None if key[0] is None else tuple(key[: len(self._change.copies[table].key)])

    def _step(self, number: int, copy: TableCopy, after: Row) -> bool:
        """Copy and commit the next rows of a table; return whether it is complete."""
        self._execute("BEGIN")
        rows = _CopiedRows(self._execute(copy.page, after), copy)
        self._connection.executemany(copy.insert, rows)
        self._done += rows.done
        if rows.complete:
            expected = sum(self._counts[: number + 1])
            if self._done != expected:
                raise FileDamaged(
                    f"{expected - self._done} rows of the table `{copy.table}` refer to rows that do not exist;"
                    " keep a copy of the file and restore a backup"
                )
        key = (None, None, None) if rows.complete else (*rows.last, None, None)[:3]
        self._execute(
            "UPDATE upgrade SET table_number = ?, done = ?, a = ?, b = ?, c = ?",
            (number + rows.complete, self._done, *key),
        )
        self._execute("COMMIT")
        self._report()
        return rows.complete

    def _report(self) -> None:
        percent = 100 * self._done // max(self._total, 1)
        if percent >= self._percent + 10 and percent < 100:
            self._percent = percent
            log.info("upgrading: %d %%", percent)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _finish(self) -> None:
        """Turn the new file into a database of the new format."""
        self._execute("BEGIN")
        self._execute("DROP TABLE upgrade")
        self._execute(f"PRAGMA application_id = {pragmas.APPLICATION_ID}")
        self._execute(f"PRAGMA user_version = {self._change.format}")
        self._execute("COMMIT")


class _CopiedRows:
    """
    Yields the new rows of one step, and stops when the step is large enough.

    Attributes:
        done: old rows read.
        last: the key of the last one.
        complete: whether the table has no more.
    """

    def __init__(self, old: Iterator[Row], copy: TableCopy) -> None:
        self._old = old
        self._copy = copy
        self.done = 0
        self.last: Row = copy.first
        self.complete = False

    def __iter__(self) -> Iterator[Row]:
        size = 0
        for row in self._old:
            self.done += 1
            self.last = row[: len(self._copy.key)]
            try:
                new = self._copy.convert(*row)
            except (TypeError, ValueError, struct.error) as error:
                raise FileDamaged(
                    f"the table `{self._copy.table}` has an invalid row ({error}); keep a copy of the file and restore a backup"
                ) from error
            yield new
            size += sum([len(value) for value in row if isinstance(value, bytes | str)])
            if self.done >= UPGRADE_STEP_ROWS or size >= UPGRADE_STEP_BYTES:
                return
        self.complete = True
