"""
Set SQLite's pragmas: one function each, with its reason.

A pragma is a setting of its connection unless its docstring states that it is stored in the file.

"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Literal

__all__ = ["PAGE_BYTES", "Durability", "for_creation", "for_reader", "for_writer"]

Durability = Literal["full", "normal"]

APPLICATION_ID = 0x54566578  # "TVex"
FORMAT_VERSION = 2

PAGE_BYTES = 1024
BUSY_MS = 5_000
WRITER_CACHE_KIB = 16_384
READER_CACHE_KIB = 4_096


def for_creation(connection: sqlite3.Connection) -> None:
    """Prepare a new file, before its first table."""
    page_size(connection)
    identity(connection)
    journal_mode_wal(connection)
    full_fsync(connection)


def for_writer(connection: sqlite3.Connection, durability: Durability) -> None:
    """Prepare the connection that writes."""
    busy_timeout(connection)
    journal_mode_wal(connection)
    synchronous(connection, durability)
    full_fsync(connection)
    no_automatic_checkpoint(connection)
    deleted_content(connection)
    cache(connection, WRITER_CACHE_KIB)
    memory_for_temporary_tables(connection)
    untrusted_schema(connection)


def for_reader(connection: sqlite3.Connection) -> None:
    """Prepare a connection that only reads."""
    busy_timeout(connection)
    query_only(connection)
    no_automatic_checkpoint(connection)
    cache(connection, READER_CACHE_KIB)
    memory_for_temporary_tables(connection)
    untrusted_schema(connection)


def page_size(connection: sqlite3.Connection) -> None:
    """
    Stored in the file. Small pages, because a commit changes a few bytes in each of many pages and writes all of them.

    A mutation that patches a document and inserts one with two indexes writes 36 KB, and 82 KB with SQLite's default of
    4096 (`bench write_bytes`). The file is a quarter larger, and reading a whole table takes a third longer.
    Nothing happens if the file has tables already.
    """
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")


def identity(connection: sqlite3.Connection) -> None:
    """Store the application and the format in the header of the file, where programs read them without opening it."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def rewrite_first_page(connection: sqlite3.Connection) -> None:
    """Write the file's first page without a change of its content, in the caller's transaction; `identity` set the value."""
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def journal_mode_wal(connection: sqlite3.Connection) -> None:
    """Stored in the file. Readers keep their snapshot while the writer appends; a commit is one sequential write."""
    connection.execute("PRAGMA journal_mode = WAL")


def synchronous(connection: sqlite3.Connection, durability: Durability) -> None:
    """
    Set when SQLite syncs the write-ahead log.

    FULL syncs at every commit, so acknowledged commits survive power loss. NORMAL syncs only at checkpoints: the file
    stays consistent, but power loss may lose the last commits.
    """
    connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")


def full_fsync(connection: sqlite3.Connection) -> None:
    """Flush the drive's cache on macOS, because a plain fsync leaves data in it."""
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")


def no_automatic_checkpoint(connection: sqlite3.Connection) -> None:
    """
    Leave checkpoints to the writer thread, which runs them between commits.

    An automatic checkpoint runs inside a commit, which then takes 9 to 21 ms. Before version 3.51.3, SQLite can also lose
    data if a checkpoint runs concurrently with a commit.
    """
    connection.execute("PRAGMA wal_autocheckpoint = 0")


def deleted_content(connection: sqlite3.Connection) -> None:
    """
    Overwrite deleted content only in pages that are written anyway.

    Some builds of SQLite, such as Debian's, overwrite all of it by default: purging a revision of 300 bytes then writes 3.1 KB
    instead of 1.7 KB.
    """
    connection.execute("PRAGMA secure_delete = FAST")


def busy_timeout(connection: sqlite3.Connection, milliseconds: int = BUSY_MS) -> None:
    """Wait for locks that another program, such as the `sqlite3` shell, holds briefly."""
    connection.execute(f"PRAGMA busy_timeout = {milliseconds}")


def query_only(connection: sqlite3.Connection) -> None:
    """Prevent writes through a connection that only reads."""
    connection.execute("PRAGMA query_only = ON")


def cache(connection: sqlite3.Connection, kibibytes: int) -> None:
    """Bound the page cache, which fills as pages are read, so that memory does not grow with the file."""
    connection.execute(f"PRAGMA cache_size = -{kibibytes}")


def memory_for_temporary_tables(connection: sqlite3.Connection) -> None:
    """Sort in memory, so that no temporary file is left behind; queries are paged, which bounds a sort."""
    connection.execute("PRAGMA temp_store = MEMORY")


def forget_pages(connection: sqlite3.Connection) -> None:
    """Drop cached pages between transactions, after reading a damaged page: the next read of the disk may be correct."""
    with contextlib.suppress(sqlite3.Error):  # the original error is being reported
        connection.execute("PRAGMA shrink_memory")


def untrusted_schema(connection: sqlite3.Connection) -> None:
    """Prevent views and triggers of a foreign file from running functions."""
    connection.execute("PRAGMA trusted_schema = OFF")
