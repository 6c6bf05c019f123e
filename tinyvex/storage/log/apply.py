"""
Execute commit records: the only code that writes what a reader can see.

Everything runs on one connection, inside the caller's transaction.

The log (`documents`, `indexes`) is the truth. `current` is derived from it in the same transaction and serves reads of
the newest state. See `document_log.py` for how both are read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from tinyvex.errors import FileDamaged
from tinyvex.limits import SCAN_PAGE_BYTES, SCAN_PAGE_ROWS
from tinyvex.storage.file import statements
from tinyvex.storage.file.checksums import (
    checked_entry,
    checked_revision,
    content_checksum,
    current_checksum,
    entry_checksum,
    row_checksum,
)
from tinyvex.storage.file.database_file import read_snapshot_globals, set_global
from tinyvex.storage.log import request_records
from tinyvex.storage.log.catalog import IndexInfo
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import (
    BackfillIndex,
    DropIndexEntries,
    ExpireRequests,
    FillTablet,
    IndexFields,
    IndexKey,
    MoveTablet,
    Operation,
    SetNumbers,
    StoreRequest,
    UpgradeDocuments,
    Write,
    WriteDocuments,
)
from tinyvex.values.codec import decode_canonical
from tinyvex.values.types import Value

__all__ = ["apply", "newest_row", "replay"]

MOVE_STEP_ROWS = 256
"""Read before they are written into the same table: this many rows are in memory."""

Rows = list[tuple[Any, ...]]


Between: TypeAlias = Callable[[], None]
"""Called after every page of an operation on any number of documents; it may raise an error to end it."""


def _nothing() -> None:
    pass


def apply(
    connection: sqlite3.Connection,
    record: CommitRecord,
    *,
    log_row: int | None = None,
    between: Between = _nothing,
) -> int:
    """
    Append a commit to the log and bring `current` up to it.

    The caller stores `last_ts`, once for a group of commits.

    Args:
        connection: with a transaction open.
        record: later than everything in the log.
        log_row: of the next revision, if the caller knows it.
        between: see `Between`.

    Returns:
        The log row of the revision after this commit's.

    Raises:
        sqlite3.Error: as raised by SQLite; an `IntegrityError` if a revision or an entry exists already.
        FileDamaged: a step found a number of rows other than the record's, or a row with a wrong checksum.
    """
    if log_row is None:
        log_row = newest_row(connection) + 1
    for operation in record.operations:
        log_row = _EXECUTE[type(operation)](connection, record.ts, log_row, operation, between)
    if record.changes_catalog:
        set_global(connection, "catalog_ts", record.ts)
    return log_row


def replay(connection: sqlite3.Connection, record: CommitRecord) -> bool:
    """
    Apply a record that was made for another file, or for this one at an earlier time, in the caller's transaction.

    Records must come in order. A record at or below `last_ts` is in the file already, because `last_ts` is stored in the
    transaction of the commit; applying it again would bring back what later steps and housekeeping have deleted.

    Returns:
        Whether the record was applied; False if the file contains it.

    Raises:
        sqlite3.Error: as raised by SQLite.
        FileDamaged: a step found a number of rows other than the record's, or a row with a wrong checksum.
    """
    _, _, last_ts = read_snapshot_globals(connection)
    if record.ts <= last_ts:
        return False
    apply(connection, record)
    set_global(connection, "last_ts", record.ts)
    return True


def newest_row(connection: sqlite3.Connection) -> int:
    """Return the log row of the newest revision that the log ever had."""
    (row,) = connection.execute(statements.NEWEST_ROW).fetchone()
    return int(row)


# Data.


def _write_documents(
    connection: sqlite3.Connection, ts: int, log_row: int, operation: WriteDocuments | FillTablet, _between: Between
) -> int:
    documents, entries, removed, added, unchanged = _rows_of(ts, operation.writes, log_row)
    # One call per statement and not per row: about a microsecond less for each row.
    many = connection.cursor().executemany
    if documents:
        many(statements.INSERT_DOCUMENT, documents)
    if entries:
        many(statements.INSERT_INDEX, entries)
    if removed:
        many(statements.DELETE_CURRENT, removed)
    if added:
        many(statements.INSERT_CURRENT, added)
    if unchanged:
        # An UPDATE and not an upsert: a key that a building index does not have yet is left to its backfill.
        many(statements.UPDATE_CURRENT, unchanged)
    return log_row + len(documents)


def _rows_of(ts: int, writes: Iterable[Write], log_row: int) -> tuple[Rows, Rows, list[IndexKey], Rows, Rows]:
    """Return rows of `documents` and `indexes`, and what is removed from, added to and updated in `current`."""
    documents: Rows = []
    entries: Rows = []
    removed: list[IndexKey] = []
    added: Rows = []
    unchanged: Rows = []
    for write in writes:
        tablet, internal, json_value, prev_ts = write.tablet, write.internal, write.json, write.prev_ts
        content = content_checksum(ts, json_value)
        checksum = row_checksum(log_row, tablet, internal, prev_ts, content, deleted=json_value is None)
        documents.append((log_row, ts, tablet, internal, json_value, json_value is None, prev_ts, checksum))
        for index_id, key in write.removed:
            entries.append(_entry(index_id, key, ts, 1, tablet, internal))
            removed.append((index_id, key))
        for index_id, key in write.added:
            entries.append(_entry(index_id, key, ts, 0, tablet, internal))
            added.append((index_id, key, log_row, current_checksum(index_id, key, content)))
        for index_id, key in write.unchanged:
            unchanged.append((log_row, current_checksum(index_id, key, content), index_id, key))
        log_row += 1
    return documents, entries, removed, added, unchanged


def _entry(index_id: int, key: bytes, ts: int, deleted: int, tablet: int, internal: bytes) -> tuple[Any, ...]:
    return index_id, key, ts, deleted, tablet, internal, entry_checksum(index_id, key, ts, deleted, tablet)


def _store_request(
    connection: sqlite3.Connection, _ts: int, log_row: int, operation: StoreRequest, _between: Between
) -> int:
    request_records.store(connection, operation)
    return log_row


def _set_numbers(
    connection: sqlite3.Connection, _ts: int, log_row: int, operation: SetNumbers, _between: Between
) -> int:
    set_global(connection, "next_table_number", operation.next_table_number)
    set_global(connection, "next_tablet", operation.next_tablet)
    set_global(connection, "next_index_id", operation.next_index_id)
    return log_row


# Steps.


def _require_rows(operation: Operation, expected: int, actual: int) -> None:
    if actual != expected:
        raise FileDamaged(
            f"a {type(operation).__name__} step found {actual} rows where {expected} were expected;"
            " run `tinyvex check` and restore a backup"
        )


def _expire_requests(
    connection: sqlite3.Connection, _ts: int, log_row: int, operation: ExpireRequests, _between: Between
) -> int:
    _require_rows(operation, operation.rows, request_records.expire(connection, operation))
    return log_row


def _backfill_index(
    connection: sqlite3.Connection, _ts: int, log_row: int, operation: BackfillIndex, _between: Between
) -> int:
    """
    Enter documents into indexes being built.

    A document that was written since the index was created has its entry already.
    A new entry gets the `ts` of its document's revision, because no older revision can be read through this index.
    """
    indexes = _index_infos(operation.indexes)
    entries: Rows = []
    current: Rows = []
    rows = 0
    parameters = (operation.by_creation_time, operation.lo, operation.hi)
    for revision in connection.execute(statements.BACKFILL_PAGE, parameters):
        row, ts, _, internal, data, _, _ = checked_revision(revision)
        rows += 1
        content = content_checksum(ts, data)
        document = _fields(data)
        for index in indexes:
            key = index.key(document, internal)
            entries.append(_entry(index.id, key, ts, 0, operation.tablet, internal))
            current.append((index.id, key, row, current_checksum(index.id, key, content)))
    _require_rows(operation, operation.rows, rows)
    connection.executemany(statements.BACKFILL_INDEX, entries)
    connection.executemany(statements.BACKFILL_CURRENT, current)
    return log_row


def _drop_index_entries(
    connection: sqlite3.Connection, _ts: int, log_row: int, operation: DropIndexEntries, _between: Between
) -> int:
    parameters = (operation.index_id, operation.hi)
    deleted = connection.execute(statements.DROP_CURRENT_BELOW, parameters).rowcount
    _require_rows(operation, operation.rows, deleted)
    if operation.history:
        connection.execute(statements.DROP_ENTRIES_BELOW, parameters)
    return log_row


def _move_tablet(connection: sqlite3.Connection, ts: int, log_row: int, operation: MoveTablet, between: Between) -> int:
    rows = _move_documents(connection, ts, log_row, operation, between)
    _require_rows(operation, operation.rows, rows)
    for source, target in operation.indexes:
        _move_entries(connection, ts, operation.target, source, target, between)
    return log_row + rows


def _move_documents(
    connection: sqlite3.Connection, ts: int, log_row: int, operation: MoveTablet, between: Between
) -> int:
    """Copy the documents as first revisions; return how many there are."""
    rows = 0
    after: bytes | None = b""  # less than any id
    while after is not None:
        step: list[Write] = []
        size = 0
        for revision in connection.execute(statements.MOVE_DOCUMENTS_PAGE, (operation.source, after, MOVE_STEP_ROWS)):
            _, _, _, internal, data, _, _ = checked_revision(revision)
            step.append(Write(operation.target, internal, data, None, (), (), ()))
            size += len(data)
            if size >= SCAN_PAGE_BYTES:
                break
        _write_documents(connection, ts, log_row + rows, WriteDocuments(tuple(step)), between)
        rows += len(step)
        after = step[-1].internal if step else None
        between()
    return rows


def _move_entries(
    connection: sqlite3.Connection, ts: int, tablet: int, source: int, target: int, between: Between
) -> None:
    """Enter the copied documents into an index of the target, with their keys in the source's index."""
    after: bytes | None = b""  # less than any key
    while after is not None:
        parameters = {"ts": ts, "tablet": tablet, "source": source, "after": after, "limit": MOVE_STEP_ROWS}
        entries: Rows = []
        current: Rows = []
        after = None
        for columns in connection.execute(statements.MOVE_ENTRIES_PAGE, parameters):
            _, key, _, _, _, _, internal = checked_entry(columns[:7])
            row, data = columns[7:]
            entries.append(_entry(target, key, ts, 0, tablet, internal))
            current.append((target, key, row, current_checksum(target, key, content_checksum(ts, data))))
            after = key
        connection.executemany(statements.INSERT_INDEX, entries)
        connection.executemany(statements.INSERT_CURRENT, current)
        between()


def _upgrade_documents(
    connection: sqlite3.Connection, ts: int, log_row: int, operation: UpgradeDocuments, between: Between
) -> int:
    indexes = _index_infos(operation.indexes)
    tablets = {"ts": ts, "source": operation.source, "target": operation.target}
    after: bytes | None = b""
    rows = 0
    while after is not None:
        writes: list[Write] = []
        size = 0
        parameters = {**tablets, "after": after, "limit": SCAN_PAGE_ROWS}
        for columns in connection.execute(statements.STAGED_PAGE, parameters):
            _, _, _, internal, staged, _, _ = checked_revision(columns[:7])
            _, prev_ts, _, _, data, _, _ = checked_revision(columns[7:])
            before, document = _fields(data), _fields(staged)
            old = [(index.id, index.key(before, internal)) for index in indexes]
            new = [(index.id, index.key(document, internal)) for index in indexes]
            writes.append(Write.between(operation.target, internal, staged, prev_ts, old, new))
            size += len(staged) + len(data)
            if size >= SCAN_PAGE_BYTES:
                break
        log_row = _write_documents(connection, ts, log_row, WriteDocuments(tuple(writes)), between)
        rows += len(writes)
        after = writes[-1].internal if writes else None
        between()
    _require_rows(operation, operation.rows, rows)
    return log_row


def _index_infos(indexes: Iterable[IndexFields]) -> list[IndexInfo]:
    return [IndexInfo(index_id, "", fields) for index_id, fields in indexes]


def _fields(data: bytes) -> dict[str, Value]:
    return cast("dict[str, Value]", decode_canonical(data))


_EXECUTE: Mapping[type, Callable[[sqlite3.Connection, int, int, Any, Between], int]] = {
    WriteDocuments: _write_documents,
    FillTablet: _write_documents,
    StoreRequest: _store_request,
    ExpireRequests: _expire_requests,
    SetNumbers: _set_numbers,
    BackfillIndex: _backfill_index,
    DropIndexEntries: _drop_index_entries,
    MoveTablet: _move_tablet,
    UpgradeDocuments: _upgrade_documents,
}
