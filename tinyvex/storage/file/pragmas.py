"""
Every pragma, one function each, and why.

Pragmas are settings of a connection unless a docstring says that they are written into the file.

The page size stays SQLite's own 4096:
with 8192 a commit of one mutation writes nearly twice as much and takes half as long again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Literal

__all__ = ["Durability", "for_creation", "for_reader", "for_writer"]

Durability = Literal["full", "normal"]

APPLICATION_ID = 0x54566578  # "TVex"
FORMAT_VERSION = 1

BUSY_MS = 5_000
WRITER_CACHE_KIB = 16_384
READER_CACHE_KIB = 4_096


def for_creation(connection: sqlite3.Connection) -> None:
    """What a new file gets before its first table."""
    identity(connection)
    journal_mode_wal(connection)
    full_fsync(connection)


def for_writer(connection: sqlite3.Connection, durability: Durability) -> None:
    """Everything for the one connection that writes."""
    busy_timeout(connection)
    journal_mode_wal(connection)
    synchronous(connection, durability)
    full_fsync(connection)
    no_automatic_checkpoint(connection)
    cache(connection, WRITER_CACHE_KIB)
    memory_for_temporary_tables(connection)
    untrusted_schema(connection)


def for_reader(connection: sqlite3.Connection) -> None:
    """Everything for a connection that only reads."""
    busy_timeout(connection)
    query_only(connection)
    no_automatic_checkpoint(connection)
    cache(connection, READER_CACHE_KIB)
    memory_for_temporary_tables(connection)
    untrusted_schema(connection)


def identity(connection: sqlite3.Connection) -> None:
    """In the file. What it is, and which format; readable in the header without opening it."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def journal_mode_wal(connection: sqlite3.Connection) -> None:
    """In the file. Readers keep their snapshot while the writer appends, and a commit is one sequential write."""
    connection.execute("PRAGMA journal_mode = WAL")


def synchronous(connection: sqlite3.Connection, durability: Durability) -> None:
    """
    FULL syncs the write-ahead log at every commit: what was acknowledged survives power loss.

    NORMAL syncs at checkpoints only: the file stays whole, but the last commits may be lost with the power.
    """
    connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")


def full_fsync(connection: sqlite3.Connection) -> None:
    """macOS: its plain fsync leaves data in the drive's cache."""
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")


def no_automatic_checkpoint(connection: sqlite3.Connection) -> None:
    """
    The writer checkpoints in its pauses.

    An automatic checkpoint happens inside a commit and makes it take 9 to 21 ms;
    and SQLite before 3.51.3 can lose data when a checkpoint runs beside a commit.
    """
    connection.execute("PRAGMA wal_autocheckpoint = 0")


def busy_timeout(connection: sqlite3.Connection, milliseconds: int = BUSY_MS) -> None:
    """Somebody's command line tool may hold a lock for a moment."""
    connection.execute(f"PRAGMA busy_timeout = {milliseconds}")


def query_only(connection: sqlite3.Connection) -> None:
    """Nobody but the writer writes, not even by mistake."""
    connection.execute("PRAGMA query_only = ON")


def cache(connection: sqlite3.Connection, kibibytes: int) -> None:
    """An upper bound: pages are kept only once read. Fixed, so that memory does not grow with the file."""
    connection.execute(f"PRAGMA cache_size = -{kibibytes}")


def memory_for_temporary_tables(connection: sqlite3.Connection) -> None:
    """A sort never leaves a file behind; pages bound what is sorted."""
    connection.execute("PRAGMA temp_store = MEMORY")


def forget_pages(connection: sqlite3.Connection) -> None:
    """Between transactions. Read everything anew, where a page was read that makes no sense: the disk may do better next time."""
    with contextlib.suppress(sqlite3.Error):  # what made this necessary is being reported
        connection.execute("PRAGMA shrink_memory")


def untrusted_schema(connection: sqlite3.Connection) -> None:
    """A file from elsewhere cannot run functions through views or triggers hidden in its schema."""
    connection.execute("PRAGMA trusted_schema = OFF")
