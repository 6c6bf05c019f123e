"""
Export all documents of one snapshot as a zip of JSON lines, while a server may be using the database.

::

    README.md
    _tables/documents.jsonl        a line per table: its name and the number with which its documents' ids begin
    <table>/documents.jsonl        a line per document, oldest first, with `_id` and `_creationTime`
    <table>/generated_schema.jsonl the word "uniform": all values use the same encoding

Convex snapshots have the same layout. Documents are streamed, so memory does not grow with the data. The export is
consistent although a server keeps writing, because all of it is read in one read transaction.
"""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from tinyvex.storage.file import statements
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.file.database_file import FIRST_TABLE_NUMBER, open_reader, read_globals
from tinyvex.storage.file.output_file import output_file
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log.catalog import BY_CREATION_TIME, TableInfo, load_catalog
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN, successor
from tinyvex.storage.maintenance.progress import Progress

__all__ = ["Exported", "export"]

README = """\
A snapshot of a Tinyvex database, as of ts {ts}.
Each folder is a table; documents.jsonl has a document on each line, in the canonical encoding:
{{"$integer": …}}, {{"$float": …}} and {{"$bytes": …}} are values that JSON cannot express.
"""


class Exported(NamedTuple):
    """The snapshot and the size of an export."""

    ts: int
    tables: int
    documents: int
    size_bytes: int


def export(folder: Path, target: Path, progress: Progress | None = None, *, replace: bool = False) -> Exported:
    """
    Write all documents of a data folder into a zip file; a server may be using it.

    Args:
        folder: the data folder.
        target: the file to create; it appears only when it is complete and synced.
        progress: called with the documents done and in total.
        replace: replace an existing file.

    Raises:
        DataFolderUnusable: there is no database; the target exists, belongs to a database, or cannot be written.
        DiskFull: the disk has no room for the file.
        StorageError: the database cannot be read.
    """
    source = DataFolder(folder)
    source.require_database()
    with (
        output_file(target, source, replace=replace) as unfinished,
        closing(open_reader(source.database)) as connection,
    ):
        try:
            connection.execute("BEGIN")
            # The first read of the transaction fixes the snapshot.
            ts = int(read_globals(connection)["last_ts"])
            snapshot = Snapshot(connection, ts, load_catalog(connection, ts))
            tables, documents = _write(connection, snapshot, unfinished, progress)
        except sqlite3.Error as error:
            raise translate(error, source.database) from error
    return Exported(ts, tables, documents, target.stat().st_size)


def _write(
    connection: sqlite3.Connection, snapshot: Snapshot, target: Path, progress: Progress | None
) -> tuple[int, int]:
    """Write the zip; return the number of its tables and documents."""
    tables = [table for table in snapshot.catalog.tables() if table.number >= FIRST_TABLE_NUMBER]
    tables.sort(key=attrgetter("name"))
    total = sum([_count(connection, table) for table in tables])
    done = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("README.md", README.format(ts=snapshot.ts))
        lines = [msgspec.json.encode({"name": table.name, "id": table.number}) for table in tables]
        archive.writestr("_tables/documents.jsonl", b"".join([line + b"\n" for line in lines]))
        for table in tables:
            with archive.open(f"{table.name}/documents.jsonl", "w", force_zip64=True) as entry:
                for page in _pages(snapshot, table):
                    entry.write(b"".join([line + b"\n" for line in page]))
                    done += len(page)
                    if progress is not None:
                        progress(done, total)
            archive.writestr(f"{table.name}/generated_schema.jsonl", '"uniform"\n')
    return len(tables), done


def _count(connection: sqlite3.Connection, table: TableInfo) -> int:
    return int(connection.execute(statements.COUNT_CURRENT, (table.indexes[BY_CREATION_TIME].id,)).fetchone()[0])


def _pages(snapshot: Snapshot, table: TableInfo) -> Iterator[list[bytes]]:
    """Yield pages of a table's documents as stored JSON, oldest first."""
    lo = KEY_MIN
    while True:
        page = snapshot.page(table.indexes[BY_CREATION_TIME], lo, KEY_MAX)
        if page:
            yield [stored.json for stored in page]
        if page.complete:
            return
        lo = successor(page[-1].key)
