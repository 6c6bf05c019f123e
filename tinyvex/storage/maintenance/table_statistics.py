"""
Count what a database file holds, outside the hot paths.

Inside a server, `inspect_file` reads through `aiosqlite`: these statements need no common transaction, and none is
urgent enough for a reader thread of the store.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct
from msgspec.structs import asdict

from tinyvex.storage.file import statements
from tinyvex.storage.file.database_file import FIRST_TABLE_NUMBER, file_uri, open_reader, read_globals
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log.catalog import BY_CREATION_TIME, load_catalog
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.system_tablets import TABLES_TABLET
from tinyvex.storage.maintenance.live_size import measure
from tinyvex.storage.maintenance.retention_policy import Policy
from tinyvex.storage.schema.tablets import tablets

if TYPE_CHECKING:
    from pathlib import Path

    import aiosqlite

    from tinyvex.storage.file.data_folder import DataFolder
    from tinyvex.storage.log.catalog import Catalog, TableInfo

__all__ = ["DatabaseFacts", "FileFacts", "TableFacts", "TableSize", "count", "inspect_file", "table_sizes"]

SIZE_SAMPLE = 5_000
"""Documents of a table whose sizes are added up. The size of a larger table is estimated from this sample."""


class FileFacts(Struct, frozen=True):
    """Facts about a database file that take constant time, whatever its size."""

    page_bytes: int
    pages: int
    free_pages: int
    """Pages of deleted rows, which new rows reuse first."""
    revisions: int
    """Revisions ever appended to the log."""
    tables: int
    sqlite_version: str


class TableFacts(NamedTuple):
    """The counts of one table; `revisions` and `bytes` include its retained history."""

    table: str
    documents: int
    revisions: int
    bytes: int


class TableSize(NamedTuple):
    """The current size of one table, and the number of its retained revisions."""

    table: str
    documents: int
    size_bytes: int
    """The size of the documents' JSON."""
    size_is_exact: bool
    revisions: int


class DatabaseFacts(Struct, frozen=True):
    """The counts of a database."""

    tables: tuple[TableFacts, ...]
    last_ts: int
    floor_ts: int
    """The first readable timestamp; 0 if all history is retained."""
    file_bytes: int
    free_bytes: int
    wal_bytes: int
    live_bytes: int
    """The newest revisions and their index entries."""
    request_bytes: int
    """The stored results of mutations."""
    bound_bytes: int
    """The default bound: a larger file retains less history."""

    def record(self) -> dict[str, object]:
        """Return the counts as JSON for programs."""
        return {**asdict(self), "tables": [table._asdict() for table in self.tables]}


def count(files: DataFolder) -> DatabaseFacts:
    """
    Count the tables of a database; reads every revision. A server may be writing.

    Raises:
        StorageError: the database cannot be read.
    """
    with closing(open_reader(files.database)) as connection:
        try:
            connection.execute("BEGIN")
            stored = read_globals(connection)
            catalog = load_catalog(connection, stored["last_ts"])
            retained = _retained_by_name(connection, catalog, stored["last_ts"])
            tables = []
            for table in sorted(catalog.tables(), key=attrgetter("number")):
                if table.number < FIRST_TABLE_NUMBER:
                    continue  # a system table
                index_id = table.indexes[BY_CREATION_TIME].id
                (documents,) = connection.execute(statements.COUNT_CURRENT, (index_id,)).fetchone()
                tables.append(TableFacts(table.name, documents, *retained.get(table.name, (0, 0))))
            size = measure(Snapshot(connection, stored["last_ts"], catalog))
            (free,) = connection.execute(statements.FREE_BYTES).fetchone()
        except sqlite3.Error as error:
            raise translate(error, files.database) from error
    sizes = [path.stat().st_size if path.exists() else 0 for path in (files.database, files.wal)]
    span = stored["last_ts"], stored["floor_ts"]
    return DatabaseFacts(tuple(tables), *span, sizes[0], int(free), sizes[1], *size, Policy().bound(size))


def _retained_by_name(connection: sqlite3.Connection, catalog: Catalog, ts: int) -> dict[str, tuple[int, int]]:
    """Return the revisions and bytes of each table: in its tablet, in its past tablets, and in those that imports fill."""
    names = {table.tablet: table.name for table in catalog.tables()}
    names |= {tablet.table.tablet: tablet.table.name for tablet in tablets(Snapshot(connection, ts, catalog))}
    retained: dict[str, tuple[int, int]] = {}
    for tablet, revisions, size in connection.execute(statements.COUNT_REVISIONS):
        before = retained.get(names.get(tablet, ""), (0, 0))
        retained[names.get(tablet, "")] = (before[0] + revisions, before[1] + size)
    return retained


def table_sizes(files: DataFolder) -> list[TableSize]:
    """
    Return the sizes of the user's tables by name, as of one snapshot. A server may be writing.

    Documents and revisions are counted by their indexes, without reading them. A table's bytes are estimated from its
    oldest and newest documents, SIZE_SAMPLE in all.

    Raises:
        StorageError: the database cannot be read.
    """
    with closing(open_reader(files.database)) as connection:
        try:
            connection.execute("BEGIN")
            catalog = load_catalog(connection, read_globals(connection)["last_ts"])
            return [_size_of(connection, catalog.table(name)) for name in catalog.names()]
        except sqlite3.Error as error:
            raise translate(error, files.database) from error


def _size_of(connection: sqlite3.Connection, table: TableInfo) -> TableSize:
    index_id = table.indexes[BY_CREATION_TIME].id
    (documents,) = connection.execute(statements.COUNT_CURRENT, (index_id,)).fetchone()
    (revisions,) = connection.execute(statements.COUNT_REVISIONS_OF, (table.tablet,)).fetchone()
    if documents <= SIZE_SAMPLE:
        (size_bytes,) = connection.execute(statements.SIZE_FIRST, (index_id, documents)).fetchone()
        return TableSize(table.name, documents, size_bytes, True, revisions)
    half = SIZE_SAMPLE // 2
    ends = [
        connection.execute(statement, (index_id, half)) for statement in (statements.SIZE_FIRST, statements.SIZE_LAST)
    ]
    sampled = sum(cursor.fetchone()[0] for cursor in ends)
    return TableSize(table.name, documents, sampled * documents // (2 * half), False, revisions)


async def inspect_file(database: Path) -> FileFacts:
    """
    Read the facts of a database file. A server may be writing.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    import aiosqlite

    async with aiosqlite.connect(file_uri(database, "ro"), uri=True) as connection:
        return FileFacts(
            page_bytes=int(await _value(connection, "PRAGMA page_size")),
            pages=int(await _value(connection, "PRAGMA page_count")),
            free_pages=int(await _value(connection, "PRAGMA freelist_count")),
            revisions=int(await _value(connection, statements.NEWEST_ROW)),
            tables=int(await _value(connection, statements.COUNT_TABLES, (TABLES_TABLET,))),
            sqlite_version=str(await _value(connection, "SELECT sqlite_version()")),
        )


async def _value(connection: aiosqlite.Connection, statement: str, parameters: tuple[int, ...] = ()) -> str | int:
    async with connection.execute(statement, parameters) as cursor:
        row = await cursor.fetchone()
    assert row is not None, statement
    value: str | int = row[0]
    return value
