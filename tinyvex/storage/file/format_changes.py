"""
The changes from each format of the database file to the next.

`upgrade.py` executes them. A change copies every table, in order: later tables may read what earlier ones wrote.
Statements name the old file `old`. They and what they use are never edited after a release, because files of every older
format exist: a change imports nothing that belongs to the current format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from tinyvex.storage.file import format_2

__all__ = ["FORMAT_CHANGES", "FormatChange", "TableCopy"]

Row: TypeAlias = tuple[Any, ...]


class TableCopy(NamedTuple):
    """
    Copies one table in the order of its key, so that an interrupted copy continues after its last row.

    Attributes:
        table: its name in the old file.
        key: the columns of its key.
        first: a key that is before every row's.
        columns: the columns that `insert` needs, after the key.
        source: where they are read from, if not from the table alone.
        convert: returns the new row for an old one, with its key first.
        insert: the statement that writes the new row.
    """

    table: str
    key: tuple[str, ...]
    first: Row
    columns: tuple[str, ...]
    convert: Callable[..., Row]
    insert: str
    source: str = ""

    @property
    def page(self) -> str:
        """The statement that reads the rows after a key."""
        key = ", ".join(self.key)
        marks = ", ".join("?" * len(self.key))
        return (
            f"SELECT {', '.join(self.key + self.columns)} FROM {self.source or f'old.{self.table}'}"  # noqa: S608 - names from this file
            f" WHERE ({key}) > ({marks}) ORDER BY {key}"
        )


class FormatChange(NamedTuple):
    """
    The change to one format from the one before it.

    Attributes:
        format: the new format.
        schema: the script that creates the new file's tables.
        copies: the tables, in order.
    """

    format: int
    schema: str
    copies: tuple[TableCopy, ...]


# Format 2: every row has a checksum; stored requests have the numbers of their sessions.


def _document(
    log_row: int, ts: int, tablet: int, key: bytes, json: bytes | None, deleted: int, prev: int | None
) -> Row:
    checksum = format_2.revision_checksum(log_row, ts, tablet, key, json, prev)
    return log_row, ts, tablet, key, json, deleted, prev, checksum


def _entry(index_id: int, key: bytes, ts: int, deleted: int, tablet: int, document_key: bytes) -> Row:
    return index_id, key, ts, deleted, tablet, document_key, format_2.entry_checksum(index_id, key, ts, deleted, tablet)


def _current(index_id: int, key: bytes, log_row: int, ts: int, json: bytes) -> Row:
    return index_id, key, log_row, format_2.current_checksum(index_id, key, format_2.content_checksum(ts, json))


def _session(_ts: int, session_id: str) -> Row:
    return session_id, format_2.session_checksum(session_id)


def _request(ts: int, session: int, request: int, digest: bytes, result: bytes, log_lines: str) -> Row:
    stored_result = None if result == b"null" else result
    stored_lines = None if log_lines == "[]" else log_lines
    columns = session, request, ts, digest[:8], stored_result, stored_lines, 0
    return *columns, format_2.request_checksum(*columns)


def _global(key: str, value: int | str) -> Row:
    return key, value, format_2.global_checksum(key, value)


_FORMAT_2 = FormatChange(
    2,
    format_2.SCHEMA,
    (
        TableCopy(
            "documents", ("log_row",), (0,), ("ts", "table_id", "id", "json_value", "deleted", "prev_ts"), _document,
            "INSERT INTO documents(log_row, ts, table_id, id, json_value, deleted, prev_ts, checksum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ),
        TableCopy(
            "indexes", ("index_id", "key", "ts"), (0, b"", 0), ("deleted", "table_id", "document_id"), _entry,
            "INSERT INTO indexes(index_id, key, ts, deleted, table_id, document_id, checksum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
        ),
        TableCopy(
            "current", ("index_id", "key"), (0, b""), ("log_row", "d.ts", "d.json_value"), _current,
            "INSERT INTO current(index_id, key, log_row, checksum) VALUES (?, ?, ?, ?)",
            source="old.current CROSS JOIN old.documents AS d USING (log_row)",
        ),
        TableCopy(
            "requests", ("ts",), (0,), ("session_id",), _session,
            "INSERT OR IGNORE INTO sessions(session_id, checksum) VALUES (?, ?)",
        ),
        TableCopy(
            "requests", ("ts",), (0,), ("s.number", "request_id", "digest", "result", "log_lines"), _request,
            "INSERT INTO requests(session, request_id, ts, digest, result, log_lines, acknowledged, checksum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            source="old.requests CROSS JOIN main.sessions AS s USING (session_id)",
        ),
        TableCopy(
            "globals", ("key",), ("",), ("json_value",), _global,
            "INSERT INTO globals(key, json_value, checksum) VALUES (?, ?, ?)",
        ),
    ),
)  # fmt: skip

FORMAT_CHANGES = {change.format: change for change in (_FORMAT_2,)}
