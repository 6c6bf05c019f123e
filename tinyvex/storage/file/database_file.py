"""
Create, identify and open the database file.

A new file is written under another name, and renamed when it is complete and synced. A file with the right name is
therefore a valid database, whenever the process or the machine stopped.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvex import errors
from tinyvex.storage.file import pragmas, statements
from tinyvex.storage.file.atomic_file import sync_folder
from tinyvex.storage.file.os_errors import translate_os_error
from tinyvex.storage.file.sqlite_errors import translate

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.storage.file.data_folder import DataFolder

__all__ = [
    "create",
    "end_log",
    "identify",
    "initialise",
    "open_reader",
    "open_writer",
    "read_globals",
    "schema_script",
    "set_global",
]

STATEMENTS_CACHED = 256

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


def identify(connection: sqlite3.Connection, path: Path) -> None:
    """
    Refuse a file that is not a Tinyvex database, before anything is written to it.

    Raises:
        FileDamaged: the file is not an SQLite database, is damaged, or belongs to another program.
        FileTooNew: a newer Tinyvex wrote it.
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


def open_reader(path: Path) -> sqlite3.Connection:
    """
    Open a connection that only reads.

    Raises:
        StorageError: the file is missing, damaged, too new, or cannot be opened.
    """
    connection = _connect(path, "ro")
    with _closed_on_failure(connection, path):
        identify(connection, path)
        pragmas.for_reader(connection)
        read_globals(connection)
    return connection


@contextmanager
def _closed_on_failure(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Close a connection that cannot be used, and raise SQLite's errors as StorageError."""
    try:
        yield
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise translate(error, path) from error
        raise


def file_uri(path: Path, mode: str) -> str:
    """Return the URI with which SQLite opens a database as `ro` or `rw`, and never creates it."""
    return f"{path.absolute().as_uri()}?mode={mode}"


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            file_uri(path, mode),
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS_CACHED,
        )
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


def read_globals(connection: sqlite3.Connection) -> Mapping[str, Any]:
    """Return all global values."""
    return {
        key: json.loads(value) if isinstance(value, str) else value
        for key, value in connection.execute(statements.GLOBALS)
    }


def set_global(connection: sqlite3.Connection, key: str, value: str | int | Sequence[Sequence[int]]) -> None:
    """Write one global value, in the caller's transaction."""
    connection.execute(statements.SET_GLOBAL, (key, value if isinstance(value, int) else json.dumps(value)))
