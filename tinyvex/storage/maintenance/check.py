"""
The storage invariants, as one function.

Run at the end of every storage test, and by `tinyvex check`.

- SQLite finds the file whole, and every row is of the right shape (`check_shape.py`).
- Revisions of a document form one chain by `prev_ts`, begin with a document and end at its deletion;
  at or below the floor the chain may end, since what is beneath is forgotten.
- Timestamps increase with the log; none is later than `last_ts`.
- A document's JSON carries its own id and creation time, which never changes.
- Every index entry above the floor has its revision, and its key is the one computed from that revision.
- `current` holds exactly the newest entries of the log, pointing at the newest revisions.
- At every moment from the floor on, the indexes that were ready have the documents of that moment (`check_past.py`).
- No two tables have one name, one number or one tablet.

Memory is bounded: everything is read in order, once, and compared with what it must agree with.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from tinyvex.errors import InvalidValue
from tinyvex.storage.file import statements
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.file.database_file import open_reader, read_globals
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log.catalog import Catalog, IndexInfo, TableInfo, load_catalog
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.system_tablets import INDEXES_TABLET, TABLES_TABLET
from tinyvex.storage.maintenance.check_indexes import PastEntries
from tinyvex.storage.maintenance.check_rows import SWEPT, shape_problems
from tinyvex.storage.schema.system_tables import documents
from tinyvex.storage.schema.tablets import past_tablets
from tinyvex.values.codec import decode, encode
from tinyvex.values.ids import DocumentId

__all__ = ["check", "check_folder"]

PROBLEMS_MAX = 100
Row = tuple[Any, ...]


def check_folder(path: Path) -> list[str]:
    """
    Check the database of a data folder; a server may be using it.

    Returns:
        Problems, at most 100; empty when all is well.

    Raises:
        StorageError: there is no database, or it cannot be opened.
    """
    folder = DataFolder(path)
    folder.require_database()
    connection = open_reader(folder.database)
    try:
        return check(connection)
    finally:
        connection.close()


def check(connection: sqlite3.Connection) -> list[str]:
    """
    Check a database through a connection without a transaction.

    Returns:
        Problems, at most 100; empty when all is well.
    """
    problems: list[str] = []
    connection.execute("BEGIN")
    try:
        for problem in _problems(connection):
            problems.append(problem)
            if len(problems) == PROBLEMS_MAX:
                break
    except sqlite3.DatabaseError as error:
        problems.append(str(translate(error)))
    except (ValueError, LookupError, TypeError) as error:
        problems.append(f"the catalog cannot be read: {error!r}")
    finally:
        connection.execute("ROLLBACK")
    return problems


def _problems(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute("PRAGMA integrity_check(20)"):
        if line != "ok":
            yield f"SQLite: {line}"
    has_shape = True
    for problem in shape_problems(connection, read_globals(connection)):
        has_shape = False
        yield problem
    if has_shape:  # else comparing makes no sense
        yield from _Check(connection).problems()


class _Check:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._globals = read_globals(connection)
        self._last_ts: int = self._globals["last_ts"]
        self._floor: int = self._globals["floor_ts"]
        self._catalog: Catalog = load_catalog(connection, self._last_ts)
        self._past = PastEntries(connection, self._floor, self._catalog)
        self._swept_row: int = self._globals.get(SWEPT, 0)
        others = list(past_tablets(Snapshot(connection, self._last_ts, Catalog(self._last_ts, ()))))
        self._tablets = {other.table.tablet: replace(other.table, indexes={}, maintained=()) for other in others}
        self._filled = {index_id: other.table.tablet for other in others for index_id in other.index_ids}
        self._indexes: dict[int, tuple[TableInfo, IndexInfo]] = {
            index.id: (table, index) for table in self._catalog.tables() for index in table.maintained
        }

    def problems(self) -> Iterator[str]:
        yield from self._timestamps()
        yield from self._counters()
        yield from self._documents()
        yield from self._entries()
        yield from self._current()
        yield from self._requests()

    def _rows(self, statement: str, *parameters: object) -> Iterator[Row]:
        return self._connection.execute(statement, parameters)

    def _timestamps(self) -> Iterator[str]:
        last = 0
        for log_row, ts in self._rows(statements.CHECK_LOG_ORDER):
            if ts < last:
                yield f"log row {log_row} has ts {ts}, after {last}"
            if ts > self._floor and log_row <= self._swept_row:
                yield f"log row {log_row} will never be forgotten: those up to {self._swept_row} count as looked at"
            last = ts
        for table in ("documents", "indexes", "requests"):
            ((newest,),) = self._rows(f"SELECT COALESCE(MAX(ts), 0) FROM {table}")  # noqa: S608 - names from above
            if newest > self._last_ts:
                yield f"{table} has ts {newest}, later than last_ts {self._last_ts}"
        for name in ("catalog_ts", "floor_ts"):
            if self._globals[name] > self._last_ts:
                yield f"{name} {self._globals[name]} is later than last_ts {self._last_ts}"
        ((newest,),) = self._rows(statements.CHECK_CATALOG_TS, TABLES_TABLET, INDEXES_TABLET)
        if newest > self._globals["catalog_ts"]:
            yield f"tables changed at {newest}, later than catalog_ts {self._globals['catalog_ts']}"

    def _counters(self) -> Iterator[str]:
        for table in (*self._catalog.tables(), *self._tablets.values()):
            if table.number >= self._globals["next_table_number"]:
                yield f"table number {table.number} will be given again"
            if table.tablet >= self._globals["next_tablet"]:
                yield f"tablet {table.tablet} will be given again"
        for name in ("name", "number", "tablet"):
            given = [fields[name] for fields in _fields_of_tables(self._connection, self._last_ts)]
            if len(set(given)) < len(given):
                yield f"two tables have one {name}"
        for index_id in self._indexes:
            if index_id >= self._globals["next_index_id"]:
                yield f"index id {index_id} will be given again"

    def _documents(self) -> Iterator[str]:
        for (tablet, internal), revisions in groupby(self._rows(statements.CHECK_DOCUMENTS), key=itemgetter(0, 1)):
            table = self._catalog.tablet(tablet) or self._tablets.get(tablet)
            if table is None:
                yield f"tablet {tablet} belongs to no table"
                continue
            text = f"{table.name} {DocumentId(table.number, internal).text}"
            before: Row | None = None
            creation: Any = None
            document: Any = None
            trail = self._past.trail(tablet, internal)
            for row in revisions:
                _, _, ts, _, data, deleted, prev_ts = row
                is_forgotten = before is None and prev_ts is not None and prev_ts <= self._floor
                if prev_ts != (None if before is None else before[2]) and not is_forgotten:
                    yield f"{text}: revision {ts} has prev_ts {prev_ts}, not {None if before is None else before[2]}"
                if bool(deleted) != (data is None) or (deleted and (before is None or before[5])):
                    yield f"{text}: revision {ts} is a deletion of nothing, or half a deletion"
                if before is not None and before[5]:
                    yield f"{text}: revision {ts} follows its deletion"
                before = row
                document = None
                if data is not None:
                    document, problem = _read(data, DocumentId(table.number, internal).text, creation)
                    if problem is not None:
                        yield f"{text}: revision {ts}: {problem}"
                        break
                    creation = document["_creationTime"]
                for problem in trail.add(ts, document):
                    yield f"{text}: {problem}"
            else:
                assert before is not None
                for problem in trail.end():
                    yield f"{text}: {problem}"
                if document is not None:
                    yield from self._is_current(table, internal, document, before[3])

    def _is_current(self, table: TableInfo, internal: bytes, document: Any, log_row: int) -> Iterator[str]:
        """A newest revision is what every index that is ready points at."""
        for index in table.maintained:
            key = index.key(document, internal)
            found = self._connection.execute(statements.CHECK_CURRENT_ENTRY, (index.id, key)).fetchone()
            if found is None and index.ready:
                yield f"index {index.name} of {table.name} lacks the key {key.hex()}"
            elif found is not None and found[0] != log_row:
                yield f"index {index.name} of {table.name}: the key {key.hex()} points at row {found[0]}, not {log_row}"

    def _entries(self) -> Iterator[str]:
        """The log of each index: revisions are there, keys fit them, and keys begin and end in turn."""
        for (index_id, key), entries in groupby(self._rows(statements.CHECK_ENTRIES), key=itemgetter(0, 1)):
            name = f"index {index_id}, key {key.hex()}"
            _, index = self._indexes.get(index_id, (None, None))
            owner = self._owner(index_id)
            last_deleted: int | None = None
            for _, _, ts, deleted, tablet, internal, log_row, data in entries:
                if log_row is None and ts > self._floor:
                    yield f"{name}: no revision of its document at {ts}"
                elif owner is not None and owner != tablet:
                    yield f"{name}: it belongs to tablet {tablet}, not {owner}"
                elif not deleted and data is None and log_row is not None:
                    yield f"{name}: it begins at {ts}, where its document was deleted"
                elif index is not None and data is not None and (_key(index, data, internal) == key) == bool(deleted):
                    yield f"{name}: at {ts} it does not agree with its document"
                if deleted == last_deleted:
                    yield f"{name}: it {'ends' if deleted else 'begins'} twice, at {ts} the second time"
                last_deleted = deleted
            if index is not None:
                found = self._connection.execute(statements.CHECK_CURRENT_ENTRY, (index_id, key)).fetchone()
                if (found is not None) == bool(last_deleted):
                    yield f"{name}: log and current disagree"

    def _owner(self, index_id: int) -> int | None:
        """The tablet that an index is or was of, also one that an import fills; None where there is no such index."""
        return self._past.owner(index_id) or self._filled.get(index_id)

    def _current(self) -> Iterator[str]:
        """Every row of `current` has an entry in the log and points at the newest revision, whose key it is."""
        for index_id, key, ts, data, internal, has_entry, has_later in self._rows(statements.CHECK_CURRENT):
            name = f"index {index_id}, key {key.hex()}"
            _, index = self._indexes.get(index_id, (None, None))
            if ts is None:
                yield f"{name}: current points at no revision"
            elif index is None:
                if self._owner(index_id) is None:
                    yield f"{name}: current has it, but there is no such index"
                # else it is being dropped
            elif not has_entry:
                yield f"{name}: current has it, the log does not"
            elif has_later or data is None:
                yield f"{name}: current points at revision {ts}, which is not the newest"
            elif _key(index, data, internal) != key:
                yield f"{name}: current points at a revision with another key"

    def _requests(self) -> Iterator[str]:
        for ts, log_lines, result in self._rows(statements.CHECK_REQUESTS):
            if not isinstance(_json(log_lines), list):
                yield f"the request at {ts} has unreadable log lines"
            if _json(result) is _UNREADABLE:
                yield f"the request at {ts} has an unreadable result"


_UNREADABLE = object()


def _json(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return _UNREADABLE


def _fields_of_tables(connection: sqlite3.Connection, ts: int) -> list[dict[str, Any]]:
    catalog = Catalog(ts, ())
    return [found.fields for found in documents(Snapshot(connection, ts, catalog), catalog.table("_tables"))]


def _read(data: bytes, text: str, creation: Any) -> tuple[Any, str | None]:
    """A stored document, and what is wrong with it."""
    try:
        document: Any = decode(data)
    except InvalidValue as error:
        return None, f"its JSON is damaged: {error}"
    if not isinstance(document, dict) or encode(document) != data:
        return None, "its JSON is not in canonical form"
    if document.get("_id") != text:
        return None, f"its JSON has the id {document.get('_id')!r}"
    if not isinstance(document.get("_creationTime"), int | float):
        return None, "its JSON has no creation time"
    if creation is not None and document["_creationTime"] != creation:
        return None, f"its creation time changed from {creation} to {document['_creationTime']}"
    return document, None


def _key(index: IndexInfo, data: bytes, internal: bytes) -> bytes | None:
    """The key of a stored document; None where it cannot be read, which is reported with the documents."""
    try:
        document: Any = decode(data)
        return index.key(document, internal)
    except (InvalidValue, TypeError, KeyError):
        return None
