"""
Check every row by itself: its types, lengths and signs, and its checksum.

SQLite stores any type in any column, so a file edited by hand may hold values that no code of ours expects. A change of the
disk that leaves the types as they are is found by the checksum. Those of index entries are verified with their contents,
because reading all of them twice takes longer (`check_entries.py`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

from tinyvex.storage.file import statements
from tinyvex.storage.file.checksums import (
    global_checksum,
    request_checksum,
    revision_checksum,
    session_checksum,
)
from tinyvex.storage.file.database_file import schema_script
from tinyvex.storage.log.index_walk import INDEX_WALK, IndexWalk
from tinyvex.storage.log.request_records import EXPIRY_POSITION, expiry_position
from tinyvex.values.ids import TABLE_NUMBER_MAX
from tinyvex.values.timestamps import TS_MAX

__all__ = ["SWEPT_ROW", "row_problems"]

INVALID_ROWS_MAX = 10
"""Invalid rows reported for each table."""

ROW_CONDITIONS = {
    "documents": """
        typeof(log_row) = 'integer' AND log_row > 0 AND typeof(ts) = 'integer' AND ts > 0
        AND typeof(table_id) = 'integer' AND typeof(id) = 'blob' AND LENGTH(id) = 16
        AND typeof(json_value) IN ('blob', 'null') AND typeof(deleted) = 'integer' AND deleted IN (0, 1)
        AND (prev_ts IS NULL OR typeof(prev_ts) = 'integer' AND prev_ts > 0)""",
    "indexes": """
        typeof(index_id) = 'integer' AND index_id > 0 AND typeof(key) = 'blob' AND typeof(ts) = 'integer' AND ts > 0
        AND typeof(deleted) = 'integer' AND deleted IN (0, 1) AND typeof(table_id) = 'integer'
        AND typeof(document_id) = 'blob' AND LENGTH(document_id) = 16 AND SUBSTR(key, -16) = document_id""",
    "current": "typeof(index_id) = 'integer' AND index_id > 0 AND typeof(key) = 'blob' AND typeof(log_row) = 'integer'",
    "sessions": "typeof(number) = 'integer' AND number > 0 AND typeof(session_id) = 'text'",
    "requests": """
        typeof(session) = 'integer' AND typeof(request_id) = 'integer' AND request_id >= 0
        AND typeof(ts) = 'integer' AND ts > 0 AND typeof(digest) = 'blob' AND typeof(result) IN ('blob', 'null')
        AND typeof(log_lines) IN ('text', 'null') AND typeof(acknowledged) = 'integer' AND acknowledged >= 0""",
}
ROW_NAMES = {
    "documents": "'log row ' || log_row",
    "indexes": "'index ' || index_id || ', key ' || HEX(key) || ' at ' || ts",
    "current": "'index ' || index_id || ', key ' || HEX(key)",
    "sessions": "'session number ' || number",
    "requests": "'request at ' || ts",
}
STRING_GLOBALS = ("database_id", "epoch")
NUMBER_GLOBALS = {
    "created_us": TS_MAX, "last_ts": TS_MAX, "catalog_ts": TS_MAX, "floor_ts": TS_MAX,
    "next_table_number": TABLE_NUMBER_MAX + 1, "next_tablet": TS_MAX, "next_index_id": TS_MAX,
}  # fmt: skip
"""Each global number with its largest valid value."""
SWEPT_ROW = "swept_row"
"""A global number that exists only after the first purge."""


class _Checksums(NamedTuple):
    """
    The checksums of one table.

    Attributes:
        rows: the statement that reads the rows; their last column is the checksum.
        name: returns what a row is called.
        checksum: returns the checksum of the other columns.
    """

    rows: str
    name: Callable[..., str]
    checksum: Callable[..., int]


CHECKSUMS = (
    _Checksums(statements.CHECKSUMS_DOCUMENTS, lambda log_row, *_: f"documents: log row {log_row}", revision_checksum),
    _Checksums(statements.CHECKSUMS_SESSIONS, lambda session_id, *_: f"sessions: {session_id}", session_checksum),
    _Checksums(
        statements.CHECKSUMS_REQUESTS,
        lambda session, request_id, *_: f"requests: request {request_id} of session number {session}",
        request_checksum,
    ),
    _Checksums(statements.GLOBALS, lambda key, _: f"globals: {key}", global_checksum),
)


def row_problems(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield problems of the schema, of global values and of single rows."""
    problems = list(_schema_problems(connection))
    yield from problems
    if problems:
        return  # the statements below need the columns
    yield from _global_problems(connection)
    are_types_valid = True
    for table, condition in ROW_CONDITIONS.items():
        statement = statements.CHECK_SHAPE.format(name=ROW_NAMES[table], table=table, shape=condition)
        for (row,) in connection.execute(statement, (INVALID_ROWS_MAX,)):
            are_types_valid = False
            yield f"{table} has an invalid row: {row}"
    if are_types_valid:
        for checksums in CHECKSUMS:
            yield from islice(_checksum_problems(connection, checksums), INVALID_ROWS_MAX)


def _schema_problems(connection: sqlite3.Connection) -> Iterator[str]:
    with closing(sqlite3.connect(":memory:")) as reference:
        reference.executescript(schema_script())
        expected, actual = _schema_objects(reference), _schema_objects(connection)
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            yield f"the {name} is missing"
        elif name not in expected:
            yield f"the {name} does not belong to Tinyvex"
        elif expected[name] != actual[name]:
            yield f"the {name} has different columns than it should"


def _schema_objects(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return the columns of every table, trigger, view and index, except those of SQLite itself."""
    return {
        f"{kind} {name}": connection.execute(statements.CHECK_COLUMNS, (name,)).fetchall()
        for kind, name in connection.execute(statements.CHECK_OBJECTS)
    }


def _global_problems(connection: sqlite3.Connection) -> Iterator[str]:
    stored: Mapping[str, Any] = {
        key: json.loads(value) if isinstance(value, str) else value
        for key, value, _ in connection.execute(statements.GLOBALS)
    }
    for name in STRING_GLOBALS:
        if not isinstance(stored.get(name), str):
            yield f"the global value {name} is not a string: {stored.get(name)}"
    for name, largest in {**NUMBER_GLOBALS, **({SWEPT_ROW: TS_MAX} if SWEPT_ROW in stored else {})}.items():
        value = stored.get(name)
        if not isinstance(value, int) or not 0 <= value <= largest:
            yield f"the global value {name} is not a whole number from 0 to {largest}: {value}"
    if stored.get(EXPIRY_POSITION) not in (None, [[*expiry_position(stored)]]):
        yield f"the global value {EXPIRY_POSITION} is not the key of a request record: {stored[EXPIRY_POSITION]}"
    if stored.get(INDEX_WALK) not in (None, IndexWalk.stored(stored).text):
        yield f"the global value {INDEX_WALK} is not a walk through the index entries: {stored[INDEX_WALK]}"


def _checksum_problems(connection: sqlite3.Connection, checksums: _Checksums) -> Iterator[str]:
    for *columns, stored in connection.execute(checksums.rows):
        if checksums.checksum(*columns) != stored:
            yield f"{checksums.name(*columns)} has a wrong checksum"
