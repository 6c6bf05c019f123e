"""
Format 2 of the database file as it is released: its tables and its checksums.

The upgrade from format 1 uses them, whatever the current format is. They are never edited after a release.
"""

from __future__ import annotations

import struct
from zlib import crc32

__all__ = [
    "SCHEMA",
    "content_checksum",
    "current_checksum",
    "entry_checksum",
    "global_checksum",
    "request_checksum",
    "revision_checksum",
    "session_checksum",
]

SCHEMA = """
CREATE TABLE documents (
    log_row    INTEGER PRIMARY KEY,
    ts         INTEGER NOT NULL,
    table_id   INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    json_value BLOB,
    deleted    INTEGER NOT NULL,
    prev_ts    INTEGER,
    checksum   INTEGER NOT NULL,
    UNIQUE (table_id, id, ts)
);
CREATE TABLE indexes (
    index_id    INTEGER NOT NULL,
    key         BLOB    NOT NULL,
    ts          INTEGER NOT NULL,
    deleted     INTEGER NOT NULL,
    table_id    INTEGER NOT NULL,
    document_id BLOB    NOT NULL,
    checksum    INTEGER NOT NULL,
    PRIMARY KEY (index_id, key, ts)
) WITHOUT ROWID;
CREATE TABLE globals (
    key        TEXT PRIMARY KEY,
    json_value NOT NULL,
    checksum   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE current (
    index_id INTEGER NOT NULL,
    key      BLOB    NOT NULL,
    log_row  INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (index_id, key)
) WITHOUT ROWID;
CREATE TABLE sessions (
    number     INTEGER PRIMARY KEY,
    session_id TEXT    NOT NULL UNIQUE,
    checksum   INTEGER NOT NULL
);
CREATE TABLE requests (
    session      INTEGER NOT NULL,
    request_id   INTEGER NOT NULL,
    ts           INTEGER NOT NULL,
    digest       BLOB    NOT NULL,
    result       BLOB,
    log_lines    TEXT,
    acknowledged INTEGER NOT NULL,
    checksum     INTEGER NOT NULL,
    PRIMARY KEY (session, request_id)
) WITHOUT ROWID;
"""

_revision_head = struct.Struct("<qqq?16s").pack
_entry_head = struct.Struct("<qqq?").pack


def content_checksum(ts: int, json: bytes | None) -> int:
    """Return what the checksums of a revision, and of the rows of `current` that point at it, have in common."""
    return crc32(json or b"", ts ^ ts >> 32)


def revision_checksum(
    log_row: int, ts: int, tablet: int, document_key: bytes, json: bytes | None, prev_ts: int | None
) -> int:
    """Return the checksum of a row of `documents`; `json` is None for a deletion."""
    head = _revision_head(log_row, tablet, prev_ts or 0, json is None, document_key)
    return crc32(head, content_checksum(ts, json))


def current_checksum(index_id: int, key: bytes, content: int) -> int:
    """Return the checksum of a row of `current`; `content` is of the revision that it points at."""
    return crc32(key, content ^ index_id)


def entry_checksum(index_id: int, key: bytes, ts: int, deleted: int, tablet: int) -> int:
    """Return the checksum of a row of `indexes`."""
    return crc32(key, crc32(_entry_head(index_id, ts, tablet, bool(deleted))))


def session_checksum(session_id: str) -> int:
    """Return the checksum of a row of `sessions`."""
    return crc32(session_id.encode())


def request_checksum(
    session: int,
    request_id: int,
    ts: int,
    digest: bytes,
    result: bytes | None,
    log_lines: str | None,
    acknowledged: int,
) -> int:
    """Return the checksum of a row of `requests`."""
    head = f"{session} {request_id} {ts} {acknowledged} {result is None} {log_lines}"
    return crc32(result or b"", crc32(digest, crc32(head.encode())))


def global_checksum(key: str, value: int | str) -> int:
    """Return the checksum of a row of `globals`."""
    return crc32(f"{key} {value}".encode())
