"""
The document log: reading it at a timestamp, and appending a commit to it.

Everything here is synchronous and works on one connection inside somebody else's transaction.

The log is the truth.
`current` is derived from it, written in the same transaction, and serves reads of the newest state;
reads at an older `ts` use the log alone:
the newest entry of each key and the newest revision of each document at or before `ts`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

from tinyvex.errors import SnapshotUnavailable
from tinyvex.limits import SCAN_PAGE_BYTES, SCAN_PAGE_ROWS
from tinyvex.storage.file import statements
from tinyvex.storage.file.database_file import read_globals
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log.catalog import Catalog, IndexInfo
from tinyvex.storage.log.key_ranges import successor
from tinyvex.storage.log.operations import DropIndexEntries, ExpireRequests, RequestRecord
from tinyvex.storage.log.revisions import CountPage, LogRevision, Revision, ScanPage, StoredDocument
from tinyvex.values.codec import decode_canonical

if TYPE_CHECKING:
    from tinyvex.storage.log.recent_commits import RecentCommits

__all__ = ["Snapshot"]

_document = partial(tuple.__new__, StoredDocument)  # what NamedTuple's own constructor does, without its Python frame


class Snapshot:
    """
    The database at a timestamp, while a transaction is open on a connection.

    Attributes:
        ts: of the newest commit that is visible.
        catalog: the tables and indexes at `ts`.
    """

    __slots__ = ("_connection", "_execute", "_floor", "_newest", "_tail", "catalog", "ts")

    def __init__(
        self,
        connection: sqlite3.Connection,
        ts: int,
        catalog: Catalog,
        *,
        newest: bool = True,
        floor: Callable[[], int] | None = None,
        tail: RecentCommits | None = None,
    ) -> None:
        self.ts = ts
        self.catalog = catalog
        self._connection = connection
        self._execute = connection.execute
        self._newest = newest
        self._floor = floor
        self._tail = tail

    def get(self, tablet: int, internal: bytes) -> StoredDocument | None:
        """A document by its id; None where it does not exist."""
        try:
            row = self._execute(statements.GET, (tablet, internal, self.ts)).fetchone()
        except sqlite3.Error as error:
            raise translate(error) from error
        return None if row is None or row[3] is None else _document(row)

    def common_document(self, tablet: int, other: int) -> bytes | None:
        """The id of a document of which the log has revisions in both tablets; None where there is none."""
        row = self._one(statements.COMMON_DOCUMENT, (tablet, other))
        return None if row is None else bytes(row[0])

    def existed(self, tablet: int, internal: bytes) -> bool:
        """Whether the log has any revision of the document, deleted or not, at any timestamp."""
        return self._one(statements.EXISTED, (tablet, internal)) is not None

    def page(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool = False, limit: int = SCAN_PAGE_ROWS
    ) -> ScanPage:
        """
        The first documents of a range of an index, in key order or the reverse of it.

        The caller goes on from the last key.
        A page ends early when its documents are large; `complete` tells whether the range is exhausted.
        """
        page = ScanPage()
        size = fetched = 0
        try:
            for row in self._rows(index, lo, hi, reverse=reverse, limit=limit):
                fetched += 1
                page.append(_document(row))
                size += len(row[3])
                if size >= SCAN_PAGE_BYTES:
                    return page
        except sqlite3.Error as error:
            raise translate(error) from error
        page.complete = fetched < limit
        return page

    def _rows(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool, limit: int
    ) -> Iterator[tuple[bytes, bytes, int, bytes]]:
        if self._newest:
            statement = statements.PAGE_REVERSE if reverse else statements.PAGE
            return self._execute(statement, (index.id, lo, hi, limit))
        return self._rows_at(index, lo, hi, reverse=reverse, limit=limit)

    def _rows_at(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool, limit: int
    ) -> Iterator[tuple[bytes, bytes, int, bytes]]:
        statement = statements.PAGE_AT_REVERSE if reverse else statements.PAGE_AT
        for key, internal, tablet, _, _ in self._execute(statement, (index.id, lo, hi, self.ts, limit)).fetchall():
            document = self.get(tablet, internal)
            assert document is not None, f"index {index.id} has an entry at {self.ts} without its document"
            yield key, internal, document.ts, document.json

    def count_page(self, index: IndexInfo, lo: bytes, hi: bytes, *, limit: int = SCAN_PAGE_ROWS) -> CountPage:
        """How many documents are among the first `limit` keys of a range; the caller goes on after the last key."""
        if self._newest:
            row = self._one(statements.COUNT_PAGE, (index.id, lo, hi, limit))
        else:
            row = self._one(statements.COUNT_PAGE_AT, (index.id, lo, hi, self.ts, limit))
        total, last_key = row
        return CountPage(total, last_key if total == limit else None)

    def history(self, tablet: int, internal: bytes) -> Iterator[Revision]:
        """A document's revisions at or before `ts`, newest first."""
        before = self.ts
        while True:
            try:
                rows = self._execute(statements.HISTORY, (tablet, internal, before, SCAN_PAGE_ROWS)).fetchall()
            except sqlite3.Error as error:
                raise translate(error) from error
            for row in rows:
                yield Revision(*row)
            if len(rows) < SCAN_PAGE_ROWS:
                return
            before = rows[-1][0] - 1
            self.validate()

    def revision_at(self, tablet: int, internal: bytes, ts: int) -> Revision | None:
        """A document's newest revision at or before `ts`; None where the log has none."""
        row = self._one(statements.HISTORY, (tablet, internal, ts, 1))
        return None if row is None else Revision(*row)

    def revisions(self, tablet: int, internal: bytes, after: int, until: int) -> Iterator[Revision]:
        """A document's revisions with after < ts <= until, oldest first, read as they are asked for."""
        while True:
            row, fetched = None, 0
            try:
                for row in self._execute(statements.REVISIONS_AFTER, (tablet, internal, after, until, SCAN_PAGE_ROWS)):
                    fetched += 1
                    yield Revision(*row)
            except sqlite3.Error as error:
                raise translate(error) from error
            if row is None or fetched < SCAN_PAGE_ROWS:
                return
            after = row[0]
            self.validate()

    def request(self, session_id: str, request_id: int) -> RequestRecord | None:
        """What a mutation with this key answered, if it was committed within the time such records are kept."""
        row = self._one(statements.REQUEST, (session_id, request_id))
        if row is None:
            return None
        session_id, request_id, digest, result, log_lines, ts = row
        return RequestRecord(session_id, request_id, digest, result, tuple(json.loads(log_lines)), ts)

    def validate(self) -> None:
        """
        Called by every reader between pages: refuse to go on where revisions may be missing.

        Raises:
            SnapshotUnavailable: the floor of what is kept has passed `ts`.
        """
        self._require_retained(self.ts)

    def _require_retained(self, ts: int) -> None:
        if self._floor is not None and ts < self._floor():
            raise SnapshotUnavailable(
                f"ts {ts} is older than the retained history, which begins at {self._floor()}", floorTs=self._floor()
            )

    def changes(self, index: IndexInfo, after: int) -> list[tuple[bytes, StoredDocument | None]] | None:
        """What commits after `after` did to an index; None when that is not known in memory. See `RecentCommits.changes`."""
        return None if self._tail is None else self._tail.changes(index.id, after, self.ts)

    def stored_revisions(self, tablet: int) -> Iterator[StoredDocument]:
        """Yield every revision of a system tablet that retention has not deleted, by id, the oldest first."""
        try:
            for row in self._execute(statements.REVISIONS_OF, (tablet,)):
                yield _document(row)
        except sqlite3.Error as error:
            raise translate(error) from error

    def all_revisions(self, tablet: int) -> Iterator[dict[str, Any]]:
        """Yield the fields of every revision of a system tablet that retention has not deleted."""
        for stored in self.stored_revisions(tablet):
            yield cast("dict[str, Any]", decode_canonical(stored.json))

    def globals(self) -> Mapping[str, Any]:
        """All global values."""
        try:
            return read_globals(self._connection)
        except sqlite3.Error as error:
            raise translate(error) from error

    def used_bytes(self) -> int:
        """How much of the file holds something; the rest is used again."""
        used: int = self._one(statements.USED_BYTES, ())[0]
        return used

    def count_revisions(self, tablet: int) -> int:
        """Return how many revisions a tablet has, at any timestamp."""
        count: int = self._one(statements.COUNT_REVISIONS_OF, (tablet,))[0]
        return count

    def count_staged(self, source: int, target: int, ts: int) -> int:
        """Return how many documents of `target` an `UpgradeDocuments` from `source` at `ts` would change."""
        count: int = self._one(statements.COUNT_STAGED, {"source": source, "target": target, "ts": ts})[0]
        return count

    def drop_step(self, index_id: int, *, history: bool, limit: int) -> DropIndexEntries | None:
        """Return the next step of dropping an index, of about `limit` rows; None if the index has no entries left."""
        statement = statements.FIRST_ENTRIES if history else statements.FIRST_CURRENT
        (last,) = self._one(statement, (index_id, limit))
        if last is None:
            return None
        (rows,) = self._one(statements.COUNT_CURRENT_TO, (index_id, last))
        return DropIndexEntries(index_id, successor(last), history, rows)

    def expiry_step(self, before: int, limit: int) -> ExpireRequests | None:
        """Return the operation that deletes the oldest request records before a `ts`; None if there are none."""
        rows, last = self._one(statements.FIRST_REQUESTS, (before, limit))
        return ExpireRequests(last + 1, rows) if rows else None

    def newest_row(self) -> int:
        """The number of the newest revision in the log; see `rows_since`."""
        row: int = self._one(statements.NEWEST_ROW, ())[0]
        return row

    def rows_since(self, log_row: int, limit: int) -> list[tuple[int, int, bytes]]:
        """Revisions appended after a row, in order: row, tablet, internal id."""
        try:
            return self._execute(statements.ROWS_SINCE, (log_row, limit)).fetchall()
        except sqlite3.Error as error:
            raise translate(error) from error

    def revisions_since(self, after: int) -> Iterator[LogRevision]:
        """
        Yield every revision with after < ts <= the snapshot's, in the order of commits, read a page at a time.

        It is complete if `after` is at or above the floor.

        Raises:
            SnapshotUnavailable: `after` is below the floor, so revisions may be missing.
        """
        self._require_retained(after)
        position = self._last_row_at(after)
        while True:
            size = fetched = 0
            try:
                parameters = (position, after, self.ts, SCAN_PAGE_ROWS)
                for row in self._execute(statements.REVISIONS_SINCE, parameters):
                    revision = LogRevision(*row)
                    yield revision
                    position = revision.log_row
                    fetched += 1
                    size += len(revision.json or b"")
                    if size >= SCAN_PAGE_BYTES:
                        break
            except sqlite3.Error as error:
                raise translate(error) from error
            if fetched < SCAN_PAGE_ROWS and size < SCAN_PAGE_BYTES:
                return
            self._require_retained(after)

    def _last_row_at(self, ts: int) -> int:
        """Return a log row that is below the first revision after `ts`, by bisection: rows grow with `ts`."""
        low, high = 0, (self._one(statements.LAST_ROW, ())[0] or 0) + 1
        while low + 1 < high:
            middle = (low + high) // 2
            row = self._one(statements.FIRST_ROW, (middle,))
            if row is not None and row[1] <= ts:
                low = row[0]
            else:
                high = middle
        return low

    def end(self) -> None:
        """The transaction is over: any further read is a defect of the caller and says so."""
        self._execute = _ended

    def _one(self, statement: str, parameters: tuple[object, ...] | dict[str, object]) -> Any:
        """The first row of a statement, None where there is none."""
        try:
            return self._execute(statement, parameters).fetchone()
        except sqlite3.Error as error:
            raise translate(error) from error


def _ended(*_: object) -> NoReturn:
    raise RuntimeError("this snapshot's transaction is over; a function must not keep its context or its rows' source")
