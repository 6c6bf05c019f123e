"""
Create, identify and open the database file.

A new file is written under another name, and renamed when it is complete and synced. A file with the right name is
therefore a valid database, whenever the process or the machine stopped.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvex import errors
from tinyvex.storage.file import pragmas, statements
from tinyvex.storage.file.atomic_file import follow_links, sync_folder
from tinyvex.storage.file.checksums import checked_global, damaged_row, global_checksum
from tinyvex.storage.file.sqlite_errors import translate

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.storage.file.data_folder import DataFolder

__all__ = [
    "create",
    "end_log",
    "end_log_of",
    "identify",
    "initialise",
    "is_older",
    "open_reader",
    "open_writer",
    "read_format",
    "read_globals",
    "read_last_ts",
    "read_snapshot_globals",
    "refuse_triggers",
    "roll_back_journal",
    "schema_script",
    "set_global",
]

STATEMENTS_CACHED = 256

_HEADER_BYTES = 100
"""The header of an SQLite file."""

FIRST_TABLE_NUMBER = 10_001
FIRST_TABLET = 101
FIRST_INDEX_ID = 101


def create(folder: DataFolder, runtime: Runtime) -> None:
    """
    Create an empty database in a folder without one; the caller owns the folder.

    Raises:
        FileDamaged: a write-ahead log exists without its database; it may hold acknowledged commits.
        StorageError: the file cannot be written.
    """
    for log in folder.logs:
        if log.exists() and log.stat().st_size > 0:
            raise errors.FileDamaged(
                f"`{log}` exists but `{folder.database.name}` does not; restore the database next to its log,"
                " or move the log away"
            )
    try:
        folder.unfinished.unlink(missing_ok=True)
        _write_new(folder.unfinished, runtime)
        folder.unfinished.replace(folder.database)
        sync_folder(folder.path)
    except sqlite3.Error as error:
        raise translate(error, folder.path) from error
    except OSError as error:
        from tinyvex.storage.file.os_errors import translate_os_error

        raise translate_os_error(error, f"the data folder `{folder.path}` cannot be written") from error


def _write_new(path: Path, runtime: Runtime) -> None:
    # Readable only by its owner from the start. SQLite gives its log the same permissions.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        pragmas.for_creation(connection)
        initialise(connection, runtime)
    finally:
        connection.close()


def schema_script() -> str:
    """Return the SQL script that creates the file's tables."""
    return Path(__file__).with_name("schema.sql").read_text("utf-8")


def initialise(connection: sqlite3.Connection, runtime: Runtime) -> None:
    """Create the tables and the initial global values of an empty database."""
    now_us = runtime.now_us()
    values: dict[str, str | int] = {
        "database_id": f"{runtime.random.getrandbits(128):032x}",
        "epoch": f"{runtime.random.getrandbits(64):016x}",
        "created_us": now_us,
        "last_ts": now_us,
        "catalog_ts": 0,
        "floor_ts": 0,
        "next_table_number": FIRST_TABLE_NUMBER,
        "next_tablet": FIRST_TABLET,
        "next_index_id": FIRST_INDEX_ID,
    }
    connection.executescript(f"BEGIN; {schema_script()}")
    for key, value in values.items():
        set_global(connection, key, value)
    connection.execute("COMMIT")


def read_format(path: Path) -> int | None:
    """Return the format of a Tinyvex database, from the file's header; None for any other file."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return None
    if not header.startswith(b"SQLite format 3\0") or len(header) < _HEADER_BYTES:
        return None
    application_id, version = (int.from_bytes(header[at : at + 4], "big") for at in (68, 60))
    return version if application_id == pragmas.APPLICATION_ID else None


def is_older(path: Path) -> bool:
    """Return whether a file is a Tinyvex database of an older format."""
    version = read_format(path)
    return version is not None and version < pragmas.FORMAT_VERSION


def identify(connection: sqlite3.Connection, path: Path, *, any_format: bool = False) -> None:
    """
    Refuse a file that this version cannot use, before anything is written to it.

    Args:
        connection: a connection to the file.
        path: the file, for messages.
        any_format: accept older formats.

    Raises:
        FileDamaged: the file is not an SQLite database, is damaged, or belongs to another program.
        FileTooNew: a newer Tinyvex wrote it.
        DataFolderUnusable: it has an older format.
    """
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise translate(error, path) from error
    if application_id != pragmas.APPLICATION_ID:
        raise errors.FileDamaged(f"`{path}` is not a Tinyvex database; move it away, or choose another data folder")
    if version > pragmas.FORMAT_VERSION:
        raise errors.FileTooNew(
            f"`{path}` has format {version}, and this version of Tinyvex reads {pragmas.FORMAT_VERSION}; install a newer version",
            format=version,
        )
    if version < pragmas.FORMAT_VERSION and not any_format:
        raise errors.DataFolderUnusable(
            f"`{path}` has the older format {version}; start a server on its folder, or run `tinyvex compact`, to upgrade it",
            format=version,
        )


def refuse_triggers(connection: sqlite3.Connection, path: Path) -> None:
    """
    Refuse a file with triggers or views: Tinyvex creates none, and they could change what is written or read.

    Raises:
        FileDamaged: it has one.
        sqlite3.Error: as raised by SQLite.
    """
    found = connection.execute(statements.FOREIGN_OBJECT).fetchone()
    if found is not None:
        kind, name = found
        raise errors.FileDamaged(
            f"`{path}` has the {kind} `{name}`, which does not belong to Tinyvex; restore a backup, or remove it after you"
            " have found out what it changed"
        )


def open_writer(path: Path, durability: pragmas.Durability) -> sqlite3.Connection:
    """
    Open the connection that writes. First `identify` the file with a reader, which cannot change it.

    One thread at a time uses the connection, but not always the same thread: the event loop interrupts it, and a new
    writer thread rolls back the transaction of a stuck one.

    Raises:
        StorageError: the file is damaged, too new, or cannot be opened for writing.
    """
    connection = _connect(path, "rw")
    with _closed_on_failure(connection, path):
        pragmas.for_writer(connection, durability)
        read_globals(connection)
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            raise errors.DataFolderUnusable(
                f"`{path}` cannot be switched to write-ahead logging; move the data folder to a local disk"
            )
    return connection


def open_reader(path: Path, *, any_format: bool = False) -> sqlite3.Connection:
    """
    Open a connection that only reads; also if nothing can be written next to the file (`read_only_folder.py`).

    Args:
        path: the file.
        any_format: accept older formats; only their `last_ts` can be read.

    Raises:
        DataFolderUnusable: the folder cannot be written, and a log must be copied into the file first.
        DataFolderLocked: the folder cannot be written here, and a process that can owns it.
        StorageError: the file is missing, damaged, too new, too old, or cannot be opened.
    """
    connection = _connect(path, "ro")
    try:
        _prepare_reader(connection, path, any_format=any_format)
    except errors.DataFolderUnusable:
        from tinyvex.storage.file.read_only_folder import is_unwritable, open_immutable

        if not path.is_file() or not is_unwritable(path):
            raise
        connection = _opened(path, partial(open_immutable, path))
        _prepare_reader(connection, path, any_format=any_format)
    return connection


def _prepare_reader(connection: sqlite3.Connection, path: Path, *, any_format: bool) -> None:
    with _closed_on_failure(connection, path):
        identify(connection, path, any_format=any_format)
        pragmas.for_reader(connection)
        read_last_ts(connection) if any_format else read_globals(connection)


@contextmanager
def _closed_on_failure(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Close a connection that cannot be used, and raise SQLite's errors as StorageError."""
    try:
        yield
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise translate(error, path) from error
        if isinstance(error, UnicodeDecodeError):  # Python's module, of SQLite's message about a damaged schema
            raise errors.FileDamaged(f"the database file is damaged (`{path}`); restore a backup") from error
        raise


def file_uri(path: Path, mode: str) -> str:
    """Return the URI with which SQLite opens a database as `ro` or `rw`, and never creates it."""
    return f"{path.absolute().as_uri()}?mode={mode}"


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return _opened(path, partial(sqlite3.connect, file_uri(path, mode), uri=True))


def _opened(path: Path, connect: Callable[..., sqlite3.Connection]) -> sqlite3.Connection:
    try:
        return connect(isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_CACHED)
    except sqlite3.Error as error:
        raise translate(error, path) from error


def end_log(connection: sqlite3.Connection) -> None:
    """
    Copy the write-ahead log into the database and delete it. Until it is opened again, the database is one file.

    Raises:
        sqlite3.Error: a reader is active; nothing is lost.
    """
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA journal_mode = DELETE")


def end_log_of(path: Path) -> None:
    """
    Copy the write-ahead log of a file of any format into it, and delete the log.

    Raises:
        StorageError: the file is not ours, is damaged or too new, or another program uses it.
    """
    roll_back_journal(path)
    open_reader(path, any_format=True).close()  # identifies the file without changing it
    connection = _connect(path, "rw")
    with _closed_on_failure(connection, path), closing(connection):
        pragmas.busy_timeout(connection)
        pragmas.full_fsync(connection)
        end_log(connection)


def roll_back_journal(path: Path) -> None:
    """
    Undo the change that a process was making when it was killed inside `end_log`; the caller owns the folder.

    SQLite does this when a file is opened, but not through a connection that only reads.

    Raises:
        StorageError: the file cannot be written.
    """
    journal = Path(f"{follow_links(path)}-journal")
    try:
        is_hot = journal.stat().st_size > 0 and read_format(path) is not None
    except OSError:
        return
    if is_hot:
        connection = _connect(path, "rw")
        with _closed_on_failure(connection, path), closing(connection):
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()


def read_last_ts(connection: sqlite3.Connection) -> int:
    """
    Return the newest commit's timestamp, from a file of any format.

    Raises:
        sqlite3.Error: as raised by SQLite.
        FileDamaged: the file has none.
    """
    row = connection.execute(statements.LAST_TS).fetchone()
    if row is None or not isinstance(row[0], int):
        raise damaged_row("the global value `last_ts`")
    return int(row[0])


def read_globals(connection: sqlite3.Connection) -> Mapping[str, Any]:
    """
    Return all global values.

    Raises:
        sqlite3.Error: as raised by SQLite.
        FileDamaged: a value has a wrong checksum.
    """
    values: dict[str, Any] = {}
    for row in connection.execute(statements.GLOBALS):
        value = checked_global(row)
        values[row[0]] = json.loads(value) if isinstance(value, str) else value
    return values


def read_snapshot_globals(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """
    Return `catalog_ts`, `floor_ts` and `last_ts`.

    Raises:
        sqlite3.Error: as raised by SQLite.
        FileDamaged: a value is missing or has a wrong checksum.
    """
    rows = connection.execute(statements.SNAPSHOT).fetchall()
    if len(rows) != 3:
        raise damaged_row("a global value")
    catalog_ts, floor_ts, last_ts = map(checked_global, rows)
    return catalog_ts, floor_ts, last_ts


def set_global(connection: sqlite3.Connection, key: str, value: str | int | Sequence[Sequence[int]]) -> None:
    """Write one global value, in the caller's transaction."""
    stored = value if isinstance(value, int) else json.dumps(value)
    connection.execute(statements.SET_GLOBAL, (key, stored, global_checksum(key, stored)))
