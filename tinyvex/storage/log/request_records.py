"""
The stored results of mutations, by session, for exactly-once.

A client states with each mutation below which request id it has finished: it will never send those again. The commit of
the mutation stores this floor and deletes the records below it, so a session has few records, however long it lasts. A
session whose client acknowledges nothing keeps its records until they expire.

::

    sessions   number → session_id
    requests   (session number, request_id) → result, and the session's floor at that commit

1.  *The floor of a session* is in the record with its highest request id. A record that is stored out of order raises the
    floor in the records above it, so this holds whichever records expire first.
2.  *A session ends* with its last record. Until then a request id below its floor is refused.
3.  *Expiry* walks through all records, a step at a time, and the file stores its position, so that short runs of the
    process complete the walk together. The records' order is by session, so that a commit writes one page for all that it
    stores and deletes here.

Everything here is synchronous and runs on one connection, inside the caller's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias, cast

from tinyvex.limits import REQUEST_RECORD_BYTES_STEP
from tinyvex.storage.file import statements
from tinyvex.storage.file.checksums import checked_request, request_checksum, session_checksum
from tinyvex.storage.log.operations import ExpireRequests, RequestRecord, StoreRequest

__all__ = [
    "EXPIRY_POSITION",
    "FIRST",
    "ExpiryStep",
    "RequestsPage",
    "StoredRequest",
    "expire",
    "expiry_position",
    "expiry_step",
    "find",
    "page",
    "store",
]

RecordKey: TypeAlias = tuple[int, int]
"""A session's number and a request id."""

FIRST: RecordKey = (0, -1)
"""Less than the key of any record."""

EXPIRY_POSITION = "expiry_position"
"""The global value; it exists only after the first step."""

_INTEGER_MAX = (1 << 63) - 1  # of SQLite

DIGEST_BYTES = 8
"""Stored of a digest. It detects mistakes of a client, which need not be safe from attacks by the same client."""


class StoredRequest(NamedTuple):
    """
    All that is stored about a request.

    Attributes:
        acknowledged_below: the floor of its session.
        record: None if it was not committed, was acknowledged, or has expired.
    """

    acknowledged_below: int
    record: RequestRecord | None


class ExpiryStep(NamedTuple):
    """
    A step of the walk through the records.

    Attributes:
        operation: deletes the expired records of the step; None if it has none.
        end: the last record of the step; FIRST after the last one of all.
        is_short: whether it ends early, because the results are large.
    """

    operation: ExpireRequests | None
    end: RecordKey
    is_short: bool


class RequestsPage(NamedTuple):
    """
    The size of some records.

    Attributes:
        rows: their number.
        sessions: the number of their sessions, without the one in which the page before ended.
        size: the bytes of their contents.
        end: the key of the last one; None after the last one of all.
    """

    rows: int
    sessions: int
    size: int
    end: RecordKey | None


def find(connection: sqlite3.Connection, session_id: str, request_id: int) -> StoredRequest:
    """
    Return what is stored about a request.

    Raises:
        sqlite3.Error: as raised by SQLite.
        FileDamaged: the record, or the one that has the session's floor, has a wrong checksum.
    """
    newest = connection.execute(statements.NEWEST_REQUEST, (session_id,)).fetchone()
    if newest is None:
        return StoredRequest(0, None)
    session, highest, *_, floor, _ = checked_request(newest)
    row = newest if highest == request_id else None
    if request_id < highest:
        row = connection.execute(statements.REQUEST, (session, request_id)).fetchone()
    if row is None:
        return StoredRequest(floor, None)
    _, _, ts, digest, result, log_lines, _, _ = checked_request(row)
    lines = () if log_lines is None else tuple(json.loads(log_lines))
    record = RequestRecord(session_id, request_id, digest, b"null" if result is None else result, lines, ts)
    return StoredRequest(floor, record)


def store(connection: sqlite3.Connection, operation: StoreRequest) -> None:
    """
    Store the record of a request, and delete those that its client acknowledged with it.

    Raises:
        sqlite3.Error: as raised by SQLite; an `IntegrityError` if the request has a record.
        FileDamaged: the record that has the session's floor, or one whose floor must be raised, has a wrong checksum.
    """
    request = operation.request
    execute = connection.execute
    row = execute(statements.NEWEST_REQUEST, (request.session_id,)).fetchone()
    if row is None:
        added = execute(statements.ADD_SESSION, (request.session_id, session_checksum(request.session_id)))
        session, highest, before = cast("int", added.lastrowid), -1, 0
    else:
        session, highest, *_, before, _ = checked_request(row)
    acknowledged = max(before, request.acknowledged_below)
    result = None if request.result == b"null" else request.result
    log_lines = json.dumps(request.log_lines) if request.log_lines else None
    digest = request.digest[:DIGEST_BYTES]
    columns = session, request.request_id, request.ts, digest, result, log_lines, acknowledged
    execute(statements.INSERT_REQUEST, (*columns, request_checksum(*columns)))
    if acknowledged > before:
        execute(statements.DELETE_REQUESTS_BELOW, (session, acknowledged))
        if highest > request.request_id:
            _raise_above(connection, session, request.request_id, acknowledged)


def _raise_above(connection: sqlite3.Connection, session: int, request_id: int, acknowledged: int) -> None:
    """Raise the floor in the records with higher request ids."""
    above = connection.execute(statements.REQUESTS_ABOVE, (session, request_id)).fetchall()
    raised = []
    for row in above:
        # A new checksum for a damaged record would hide the damage.
        _, number, ts, digest, result, log_lines, _, _ = checked_request(row)
        checksum = request_checksum(session, number, ts, digest, result, log_lines, acknowledged)
        raised.append((acknowledged, checksum, session, number))
    connection.executemany(statements.RAISE_ACKNOWLEDGED, raised)


def _page_end(connection: sqlite3.Connection, after: RecordKey, limit: int) -> tuple[RecordKey, bool]:
    """Return the key of the last of the next `limit` records, and whether more may follow."""
    end: RecordKey | None = connection.execute(statements.REQUEST_KEY_AFTER, (*after, limit - 1)).fetchone()
    if end is not None:
        return end, True
    last: RecordKey | None = connection.execute(statements.LAST_REQUEST_KEY).fetchone()
    return last or FIRST, False


def expiry_position(stored_globals: Mapping[str, Any]) -> RecordKey:
    """Return the record with which the last step of the walk ended; FIRST if the global value is not a record's key."""
    match stored_globals.get(EXPIRY_POSITION):
        case [[int(session), int(request_id)]] if max(abs(session), abs(request_id)) <= _INTEGER_MAX:
            return session, request_id
    return FIRST


def expiry_step(connection: sqlite3.Connection, after: RecordKey, before: int, limit: int) -> ExpiryStep:
    """
    Return the next step of the walk.

    Args:
        connection: inside a transaction.
        after: the end of the step before.
        before: records with a `ts` below this have expired.
        limit: records to inspect; fewer if more than REQUEST_RECORD_BYTES_STEP of them would be deleted.
    """
    first = last = end = after
    inspected = expired = size = 0
    is_short = False
    for session, request_id, ts, result_bytes in connection.execute(statements.REQUESTS_AFTER, (*after, limit)):
        if expired:
            size += result_bytes
            is_short = size > REQUEST_RECORD_BYTES_STEP
            if is_short:
                break
        if ts < before:
            if not expired:
                first, size = end, result_bytes
            last = session, request_id
            expired += 1
        end = session, request_id
        inspected += 1
    operation = ExpireRequests(before, first, last, expired) if expired else None
    return ExpiryStep(operation, end if is_short or inspected == limit else FIRST, is_short)


def expire(connection: sqlite3.Connection, operation: ExpireRequests) -> int:
    """Delete the expired records of a step, and sessions that have none left; return the number of records."""
    (first, _), (last, _) = operation.after, operation.end
    rows = connection.execute(statements.EXPIRE_REQUESTS, (*operation.after, *operation.end, operation.before)).rowcount
    connection.execute(statements.END_SESSIONS, (first, last))
    return rows


def page(connection: sqlite3.Connection, after: RecordKey, limit: int) -> RequestsPage:
    """Return the size of the next records."""
    end, has_more = _page_end(connection, after, limit)
    rows, sessions, size = connection.execute(statements.REQUESTS_SIZE, (*after, *end)).fetchone()
    return RequestsPage(rows, sessions, size, end if has_more else None)
