"""
Verify the storage invariants of a database.

The check runs at the end of every storage test, and as `tinyvex check`. It goes from the file to its meaning; each stage
relies on the one before:

1.  *File*: SQLite's own integrity check.
2.  *Rows*: the schema is ours, and every row has the types, lengths and signs that its table requires, and the right
    checksum (`check_rows.py`).
3.  *Log*: timestamps increase with the log and none exceeds `last_ts`; counters are above every number in use; no two
    tables share a name, a number or a tablet.
4.  *Documents*: the revisions of a document form one chain by `prev_ts`, from its first revision to its deletion. At or
    below the floor the chain may begin late, since older revisions were purged. A document's JSON is canonical and
    has its own id and a creation time that never changes, and fits its table's schema (`check_schemas.py`).
5.  *Indexes*: every entry has the right checksum. Every entry above the floor has its revision, and the key computed from it.
    `current` has exactly the newest entries, pointing at the newest revisions (`check_entries.py`). At every timestamp from
    the floor on, every index that was ready has the documents of that timestamp (`check_indexes.py`).
6.  *Requests*: the stored result and log lines of every request can be decoded, every session has requests, and the record
    with a session's highest request id has what its client acknowledged, which no record is below.

Memory is bounded: every table is read once, in order, and compared with what it must agree with.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from msgspec.structs import replace

from tinyvex.errors import FileDamaged, InvalidValue
from tinyvex.storage.file import statements
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.file.database_file import identify, open_reader, read_format, read_globals
from tinyvex.storage.file.last_commit import LastCommit, missing_commits, read_last_commit
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log.catalog import Catalog, TableInfo, load_catalog
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.system_tablets import INDEXES_TABLET, TABLES_TABLET
from tinyvex.storage.maintenance.check_entries import EntryCheck
from tinyvex.storage.maintenance.check_indexes import NO_END, IndexHistory
from tinyvex.storage.maintenance.check_rows import SWEPT_ROW, row_problems
from tinyvex.storage.maintenance.check_schemas import SchemaHistory
from tinyvex.storage.maintenance.progress import Progress
from tinyvex.storage.schema.system_tables import documents
from tinyvex.storage.schema.tablets import past_tablets
from tinyvex.values.codec import decode_exact
from tinyvex.values.ids import DocumentId

__all__ = ["check", "check_folder", "check_pages"]

PROBLEMS_MAX = 100
ROWS_PER_REPORT = 4096

Row: TypeAlias = tuple[Any, ...]


def check_folder(path: Path, progress: Progress | None = None) -> list[str]:
    """
    Check the database of a data folder; a server may be using it.

    Args:
        path: the data folder.
        progress: called with the rows checked and in total.

    Returns:
        The first PROBLEMS_MAX problems.

    Raises:
        StorageError: there is no database, or it cannot be opened.
    """
    folder = DataFolder(path)
    folder.require_database()
    last_commit = read_last_commit(folder.last_commit)  # before the snapshot, which is then at least as new
    try:
        connection = open_reader(folder.database, any_format=True)  # which reads no other global value than `last_ts`
    except FileDamaged as error:
        if read_format(folder.database) is None:
            raise  # it is not ours
        return [error.message]
    with closing(connection):
        identify(connection, folder.database)
        missing = _missing_commits(connection, last_commit)
        return [*([] if missing is None else [missing]), *check(connection, progress)]


def _missing_commits(connection: sqlite3.Connection, last_commit: LastCommit | None) -> str | None:
    try:
        stored = read_globals(connection)
        return missing_commits(last_commit, stored["epoch"], stored["last_ts"])
    except (sqlite3.DatabaseError, FileDamaged, LookupError):
        return None  # `check` finds what is wrong with the global values


def check(connection: sqlite3.Connection, progress: Progress | None = None) -> list[str]:
    """
    Check a database through a connection, in its open transaction or in one of its own.

    Returns:
        The first PROBLEMS_MAX problems.
    """
    problems: list[str] = []
    is_in_transaction = connection.in_transaction
    if not is_in_transaction:
        connection.execute("BEGIN")
    try:
        for problem in _problems(connection, progress):
            problems.append(problem)
            if len(problems) == PROBLEMS_MAX:
                break
    except sqlite3.DatabaseError as error:
        problems.append(str(translate(error)))
    except FileDamaged as error:
        problems.append(str(error))
    except (ValueError, LookupError, TypeError) as error:
        problems.append(f"the catalog cannot be read: {error}")
    finally:
        if not is_in_transaction:
            connection.execute("ROLLBACK")
    return problems


def check_pages(connection: sqlite3.Connection) -> list[str]:
    """Return the problems that SQLite finds in its pages; works for files of every format."""
    return [f"SQLite: {line}" for (line,) in connection.execute("PRAGMA integrity_check(20)") if line != "ok"]


def _problems(connection: sqlite3.Connection, progress: Progress | None) -> Iterator[str]:
    if progress is not None:
        progress(0, 0)
    are_rows_valid = True
    for problem in (*check_pages(connection), *row_problems(connection)):
        are_rows_valid = False
        yield problem
    if are_rows_valid:  # the later stages rely on it
        yield from _Check(connection, progress).problems()


# The later stages: rows against each other.


class _Check:
    def __init__(self, connection: sqlite3.Connection, progress: Progress | None) -> None:
        self._connection = connection
        self._globals = read_globals(connection)
        self._last_ts: int = self._globals["last_ts"]
        self._floor: int = self._globals["floor_ts"]
        self._swept_row: int = self._globals.get(SWEPT_ROW, 0)
        self._catalog: Catalog = load_catalog(connection, self._last_ts)
        self._history = IndexHistory(connection, self._floor, self._catalog)
        self._schemas = SchemaHistory(connection, self._catalog, self._globals["next_table_number"])
        # Tablets that no table names any more, or that an import is filling.
        others = list(past_tablets(Snapshot(connection, self._last_ts, Catalog(self._last_ts, ()))))
        self._tablets = {other.table.tablet: replace(other.table, indexes={}, maintained=()) for other in others}
        self._filled = {index_id: other.table.tablet for other in others for index_id in other.index_ids}
        self._indexes = {index.id: index for table in self._catalog.tables() for index in table.maintained}
        self._entries = EntryCheck(self._floor, self._indexes, self._owner)
        self._progress = progress
        self._rows_done = 0
        self._rows_total = 0 if progress is None else sum(map(self._count, ("documents", "indexes")))

    def problems(self) -> Iterator[str]:
        yield from self._timestamps()
        yield from self._counters()
        yield from self._documents()
        yield from self._entries_of_indexes()
        yield from self._requests()
        if self._progress is not None:
            total = max(self._rows_total, 1)  # 0 would mean that it is not known
            self._progress(total, total)

    def _rows(self, statement: str, *parameters: object) -> Iterator[Row]:
        return self._connection.execute(statement, parameters)

    def _count(self, table: str) -> int:
        ((count,),) = self._rows(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - names from above
        return int(count)

    def _reported(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Report progress while rows are read."""
        for row in rows:
            self._rows_done += 1
            if self._progress is not None and self._rows_done % ROWS_PER_REPORT == 0:
                self._progress(self._rows_done, self._rows_total)
            yield row

    def _timestamps(self) -> Iterator[str]:
        previous = 0
        for log_row, ts in self._rows(statements.CHECK_LOG_ORDER):
            if ts < previous:
                yield f"log row {log_row} has ts {ts}, which is before {previous} of the row before it"
            if ts > self._floor and log_row <= self._swept_row:
                yield f"log row {log_row} will never be purged: rows up to {self._swept_row} count as swept"
            previous = ts
        for table in ("documents", "indexes", "requests"):
            ((newest,),) = self._rows(f"SELECT COALESCE(MAX(ts), 0) FROM {table}")  # noqa: S608 - names from above
            if newest > self._last_ts:
                yield f"{table} has ts {newest}, which is after last_ts {self._last_ts}"
        for name in ("catalog_ts", "floor_ts"):
            if self._globals[name] > self._last_ts:
                yield f"{name} {self._globals[name]} is after last_ts {self._last_ts}"
        ((newest,),) = self._rows(statements.CHECK_CATALOG_TS, TABLES_TABLET, INDEXES_TABLET)
        if newest > self._globals["catalog_ts"]:
            yield f"tables changed at {newest}, which is after catalog_ts {self._globals['catalog_ts']}"

    def _counters(self) -> Iterator[str]:
        for table in (*self._catalog.tables(), *self._tablets.values()):
            if table.number >= self._globals["next_table_number"]:
                yield f"table number {table.number} is in use and will be assigned again"
            if table.tablet >= self._globals["next_tablet"]:
                yield f"tablet {table.tablet} is in use and will be assigned again"
        for index_id in self._indexes:
            if index_id >= self._globals["next_index_id"]:
                yield f"index id {index_id} is in use and will be assigned again"
        for name in ("name", "number", "tablet"):
            values = [fields[name] for fields in self._table_fields()]
            if len(set(values)) < len(values):
                yield f"two tables share a {name}"

    def _table_fields(self) -> list[Mapping[str, Any]]:
        catalog = Catalog(self._last_ts, ())
        snapshot = Snapshot(self._connection, self._last_ts, catalog)
        return [document.fields for document in documents(snapshot, catalog.table("_tables"))]

    def _documents(self) -> Iterator[str]:
        rows = self._reported(self._rows(statements.CHECK_DOCUMENTS))
        for (tablet, key), revisions in groupby(rows, key=itemgetter(0, 1)):
            table = self._catalog.tablet(tablet) or self._tablets.get(tablet)
            if table is None:
                yield f"tablet {tablet} belongs to no table"
                continue
            name = f"{table.name} {DocumentId(table.number, key).text}"
            for problem in self._revisions(table, tablet, key, revisions):
                yield f"{name}: {problem}"

    def _revisions(self, table: TableInfo, tablet: int, key: bytes, revisions: Iterable[Row]) -> Iterator[str]:
        """Check one document; stops at a revision that cannot be decoded."""
        previous_ts: int | None = None
        was_deleted = False
        creation: Any = None
        document: Any = None
        id_text = DocumentId(table.number, key).text
        walk = self._history.walk(tablet, key)
        for _, _, ts, _, data, deleted, prev_ts in revisions:
            if prev_ts != previous_ts or deleted or was_deleted or data is None:
                yield from self._chain(previous_ts, was_deleted, ts, prev_ts, data, deleted)
            if document is not None and previous_ts is not None:
                yield from self._fits_schema(tablet, document, previous_ts, ts)
            previous_ts, was_deleted = ts, bool(deleted)
            document = None
            if data is not None:
                document, problem = _decoded(data, id_text, creation)
                if problem is not None:
                    yield f"revision {ts}: {problem}"
                    return
                creation = document["_creationTime"]
            yield from walk.add(ts, document)
        yield from walk.end()
        if document is not None and previous_ts is not None:
            yield from self._fits_schema(tablet, document, previous_ts, NO_END)

    def _fits_schema(self, tablet: int, document: Any, ts: int, until: int) -> Iterator[str]:
        problem = self._schemas.problem(tablet, document, until)
        if problem is not None:
            yield f"revision {ts} does not fit the schema of its table: {problem}"

    def _chain(
        self, previous_ts: int | None, was_deleted: bool, ts: int, prev_ts: int | None, data: bytes | None, deleted: int
    ) -> Iterator[str]:
        """Check that a revision continues the one before it."""
        is_purged = previous_ts is None and prev_ts is not None and prev_ts <= self._floor
        if prev_ts != previous_ts and not is_purged:
            yield f"revision {ts} has prev_ts {prev_ts}, not {previous_ts}"
        if bool(deleted) != (data is None):
            yield f"revision {ts} is marked as deleted but has a value, or the reverse"
        if deleted and (previous_ts is None or was_deleted):
            yield f"revision {ts} deletes a document that does not exist"
        if was_deleted:
            yield f"revision {ts} follows the document's deletion"

    def _entries_of_indexes(self) -> Iterator[str]:
        rows = self._reported(self._rows(statements.CHECK_ENTRIES))
        for (index_id, key), entries in groupby(rows, key=itemgetter(0, 1)):
            for problem in self._entries.key_problems(index_id, key, entries):
                yield f"index {index_id}, key {key.hex()}: {problem}"
        yield from self._entries.rows_without_entry(self._connection)

    def _owner(self, index_id: int) -> int | None:
        """Return the tablet of an index that some retained timestamp has, or that an import fills; None if unknown."""
        return self._history.owner(index_id) or self._filled.get(index_id)

    def _requests(self) -> Iterator[str]:
        for ts, log_lines, result in self._rows(statements.CHECK_REQUESTS):
            if log_lines is not None and not isinstance(_json(log_lines), list):
                yield f"the request at {ts} has unreadable log lines"
            if result is not None and _json(result) is _UNREADABLE:
                yield f"the request at {ts} has an unreadable result"
        for (session,) in self._rows(statements.CHECK_REQUESTS_WITHOUT_SESSION):
            yield f"requests have the session number {session}, which no session has"
        for session, lowest, largest, acknowledged in self._rows(statements.CHECK_SESSIONS):
            if lowest is None:
                yield f"session number {session} has no requests"
            elif not largest <= acknowledged <= lowest:
                yield f"session number {session} has requests from {lowest} on, and acknowledged those below {acknowledged}"


_UNREADABLE = object()


def _json(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return _UNREADABLE


def _decoded(data: bytes, id_text: str, creation: Any) -> tuple[Any, str | None]:
    """Return a stored document and None, or None and its problem."""
    try:
        document: Any = decode_exact(data)
    except InvalidValue as error:
        return None, f"its JSON is damaged: {error}"
    if not isinstance(document, dict):
        return None, "its JSON is not an object"
    if document.get("_id") != id_text:
        return None, f"its JSON has the id `{document.get('_id')}`"
    if not isinstance(document.get("_creationTime"), int | float):
        return None, "its JSON has no creation time"
    if creation is not None and document["_creationTime"] != creation:
        return None, f"its creation time changed from {creation} to {document['_creationTime']}"
    return document, None
