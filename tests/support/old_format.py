"""Files of older formats, with the contents of a new file."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.fixtures.make import HERE

TABLES = {
    "documents": "log_row, ts, table_id, id, json_value, deleted, prev_ts",
    "indexes": "index_id, key, ts, deleted, table_id, document_id",
    "current": "index_id, key, log_row",
    "requests": "ts, session_id, request_id, digest, result, log_lines",
    "globals": "key, json_value",
}

SOURCES = {table: f"new.{table}" for table in TABLES} | {
    "requests": """(
        SELECT ts, session_id, request_id, digest, IFNULL(result, CAST('null' AS BLOB)) AS result,
        IFNULL(log_lines, '[]') AS log_lines
        FROM new.requests JOIN new.sessions ON number = session)""",
}


def as_format_1(source: Path, target: Path) -> None:
    """Create a file of format 1 with the rows of a closed file."""
    shutil.copyfile(HERE / "format-1.sqlite3", target)
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("ATTACH ? AS new", (str(source),))
        with connection:
            for table, columns in TABLES.items():
                connection.execute(f"DELETE FROM main.{table}")
                connection.execute(f"INSERT INTO main.{table}({columns}) SELECT {columns} FROM {SOURCES[table]}")
