"""
Looking at the file from outside the hot paths, one statement at a time, without a thread of ours waiting for it.

`aiosqlite` fits exactly here: nothing depends on how these statements are grouped, and nobody waits for the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyvex.storage import queries
from tinyvex.storage.catalog import TABLES_TABLET
from tinyvex.storage.database import file_uri

if TYPE_CHECKING:
    from pathlib import Path

    import aiosqlite

__all__ = ["FileFacts", "inspect_file"]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is in a database file, in numbers that cost the same for any size of it."""

    page_bytes: int
    pages: int
    free_pages: int
    """Pages that deleted rows left, and that new ones will use first."""
    revisions: int
    """Revisions ever appended to the log."""
    tables: int
    sqlite_version: str


async def inspect_file(database: Path) -> FileFacts:
    """
    Read the facts, beside whoever writes.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    import aiosqlite

    async with aiosqlite.connect(file_uri(database, "ro"), uri=True) as connection:
        return FileFacts(
            page_bytes=int(await _value(connection, "PRAGMA page_size")),
            pages=int(await _value(connection, "PRAGMA page_count")),
            free_pages=int(await _value(connection, "PRAGMA freelist_count")),
            revisions=int(await _value(connection, queries.NEWEST_ROW)),
            tables=int(await _value(connection, queries.COUNT_TABLES, (TABLES_TABLET,))),
            sqlite_version=str(await _value(connection, "SELECT sqlite_version()")),
        )


async def _value(connection: aiosqlite.Connection, statement: str, parameters: tuple[int, ...] = ()) -> str | int:
    async with connection.execute(statement, parameters) as cursor:
        row = await cursor.fetchone()
    assert row is not None, statement
    value: str | int = row[0]
    return value
