"""
What a row of each table must be, whatever it says: kinds of values, lengths, signs.

SQLite keeps any kind of value in any column, so a file that was changed by hand may hold what no code of ours expects.
What is compared with other rows is in `check.py`, which relies on this.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from tinyvex.storage.file import statements
from tinyvex.storage.file.database_file import schema_script
from tinyvex.values.ids import TABLE_NUMBER_MAX
from tinyvex.values.timestamps import TS_MAX

__all__ = ["shape_problems"]

SHAPES = {
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
    "requests": """
        typeof(ts) = 'integer' AND ts > 0 AND typeof(session_id) = 'text' AND typeof(request_id) = 'integer'
        AND typeof(digest) = 'blob' AND typeof(result) = 'blob' AND typeof(log_lines) = 'text'""",
}
NAMES = {
    "documents": "'log row ' || log_row",
    "indexes": "'index ' || index_id || ', key ' || HEX(key) || ' at ' || ts",
    "current": "'index ' || index_id || ', key ' || HEX(key)",
    "requests": "'the one at ' || ts",
}
TEXTS = ("database_id", "epoch")
NUMBERS = {
    "created_us": TS_MAX, "last_ts": TS_MAX, "catalog_ts": TS_MAX, "floor_ts": TS_MAX,
    "next_table_number": TABLE_NUMBER_MAX + 1, "next_tablet": TS_MAX, "next_index_id": TS_MAX,
}  # fmt: skip
"""Each with the greatest that makes sense."""
SWEPT = "swept_row"
"""A number that is there when something was forgotten."""
SHOWN = 10


def shape_problems(connection: sqlite3.Connection, stored: Mapping[str, Any]) -> Iterator[str]:
    """
    What is wrong with tables, rows and global values, each by itself.

    Args:
        connection: with a transaction.
        stored: the global values.
    """
    for name in TEXTS:
        if not isinstance(stored.get(name), str):
            yield f"the global value {name} is {stored.get(name)!r}"
    for name, greatest in {**NUMBERS, **({SWEPT: TS_MAX} if SWEPT in stored else {})}.items():
        value = stored.get(name)
        if not isinstance(value, int) or not 0 <= value <= greatest:
            yield f"the global value {name} is {value!r}"
    with closing(sqlite3.connect(":memory:")) as expected:
        expected.executescript(schema_script())
        ours, theirs = _objects(expected), _objects(connection)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            yield f"the {name} is not there"
        elif name not in ours:
            yield f"there is a {name}, which is not Tinyvex's"
        elif ours[name] != theirs[name]:
            yield f"the {name} has other columns than it should"
    for table, shape in SHAPES.items():
        if f"table {table}" not in theirs:
            continue
        statement = statements.CHECK_SHAPE.format(name=NAMES[table], table=table, shape=shape)
        for (row,) in connection.execute(statement, (SHOWN,)):
            yield f"{table} has a row that cannot be: {row}"


def _objects(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Tables, triggers, views and indexes, without SQLite's own; of each its columns."""
    return {
        f"{kind} {name}": connection.execute(statements.CHECK_COLUMNS, (name,)).fetchall()
        for kind, name in connection.execute(statements.CHECK_OBJECTS)
    }
