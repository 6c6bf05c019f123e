"""
The document log, read at a timestamp.

`documents` has a row for every revision of every document, and `indexes` a row for every key that begins or ceases to
exist. Together they are the log: rows are appended, and none is changed. There are two ways to read it:

-   *The newest state* through `current`, a table derived from the log in the same transaction: one row per index key,
    which points at the newest revision. Its cost does not depend on how many revisions a document has.
-   *An older state* through the log alone: for each key the newest entry at or before `ts`, and for each document the
    newest revision at or before `ts`. A scan steps over every key that retention has not deleted yet. It therefore
    reads `current` and undoes the commits since, if they are in memory.

A read is valid down to the retention floor. A long one checks the floor between pages (`Snapshot.validate`), because
retention may raise it in the meantime; the read's own transaction still shows every row that it began with.

Every row that is returned has been compared with its checksum. A damaged one raises FileDamaged.

Everything here is synchronous and runs on one connection, inside the caller's transaction. `apply.py` writes the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, cast

from tinyvex.errors import SnapshotUnavailable
from tinyvex.limits import SCAN_PAGE_BYTES, SCAN_PAGE_ROWS
from tinyvex.storage.file import statements
from tinyvex.storage.file.checksums import (
    checked_entry,
    checked_revision,
    content_checksum,
    current_checksum,
    damaged_row,
)
from tinyvex.storage.file.database_file import read_globals
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log import request_records
from tinyvex.storage.log.catalog import Catalog, IndexInfo
from tinyvex.storage.log.key_ranges import successor
from tinyvex.storage.log.operations import DropIndexEntries
from tinyvex.storage.log.request_records import RequestsPage, StoredRequest
from tinyvex.storage.log.revisions import CountPage, LivePage, LogRevision, Revision, ScanPage, StoredDocument
from tinyvex.values.codec import decode_canonical
from tinyvex.values.ids import INTERNAL_BYTES

if TYPE_CHECKING:
    from tinyvex.storage.log.recent_commits import RecentCommits

__all__ = ["Snapshot"]


class Snapshot:
    """
    The database at a timestamp, for as long as a transaction is open on its connection.

    Args:
        connection: with that transaction.
        ts: of the newest visible commit.
        catalog: the tables and indexes at `ts`.
        newest: whether `ts` is the newest commit of the transaction, so that `current` can be read.
        floor: returns the retention floor; None if it cannot be raised meanwhile.
        recent: the last commits, in memory.
        last_ts: of the newest commit of the transaction, if the catalog is the same then; otherwise None.
    """

    __slots__ = ("_before", "_connection", "_execute", "_floor", "_last_ts", "_newest", "_recent", "catalog", "ts")

    def __init__(
        self,
        connection: sqlite3.Connection,
        ts: int,
        catalog: Catalog,
        *,
        newest: bool = True,
        floor: Callable[[], int] | None = None,
        recent: RecentCommits | None = None,
        last_ts: int | None = None,
    ) -> None:
        self.ts = ts
        self.catalog = catalog
        self._connection = connection
        self._execute = connection.execute
        self._newest = newest
        self._floor = floor
        self._recent = recent
        self._last_ts = last_ts
        self._before: dict[int, Mapping[bytes, tuple[int, bytes] | None] | None] = {}

    def get(self, tablet: int, internal: bytes) -> StoredDocument | None:
        """
        Return a document by its id; None if it does not exist.

        Raises:
            FileDamaged: a checksum is wrong, of the document or of a neighbour that may hide it.
            StorageError: the file cannot be read.
        """
        try:
            if self._newest:
                row = self._execute(statements.GET_NEWEST, (tablet, internal)).fetchone()
            else:
                row = self._execute(statements.GET, (tablet, internal, self.ts)).fetchone()
        except sqlite3.Error as error:
            raise translate(error) from error
        if row is None or not self._newest:
            self._require_intact_around(tablet, internal, self.ts)
        if row is None:
            return None
        _, ts, _, _, data, _, _ = checked_revision(row)
        return None if data is None else StoredDocument(internal, internal, ts, data)

    def common_document(self, tablet: int, other: int) -> bytes | None:
        """Return the key of a document that has revisions in both tablets; None if there is none."""
        row = self._one(statements.COMMON_DOCUMENT, (tablet, other))
        return None if row is None else bytes(row[0])

    def existed(self, tablet: int, internal: bytes) -> bool:
        """Return whether the log has any revision of the document, deleted or not, at any timestamp."""
        return self._one(statements.EXISTED, (tablet, internal)) is not None

    def page(
        self,
        index: IndexInfo,
        lo: bytes,
        hi: bytes,
        *,
        reverse: bool = False,
        limit: int = SCAN_PAGE_ROWS,
        limit_bytes: int | None = None,
    ) -> ScanPage:
        """
        Return the first documents of a range of an index, in key order or in reverse.

        The caller continues from the last key. A page ends early if its documents are large; `complete` is set if the
        range has no more.
        """
        limit_bytes = limit_bytes or SCAN_PAGE_BYTES
        if not self._newest:
            return self._page_at(index, lo, hi, reverse=reverse, limit=limit, limit_bytes=limit_bytes)
        return self._newest_page(index, lo, hi, reverse=reverse, limit=limit, limit_bytes=limit_bytes)

    def _newest_page(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool, limit: int, limit_bytes: int
    ) -> ScanPage:
        page = ScanPage()
        size = fetched = 0
        index_id = index.id
        statement = statements.PAGE_REVERSE if reverse else statements.PAGE
        previous = hi if reverse else b""
        try:
            for key, checksum, ts, data in self._execute(statement, (index_id, lo, hi, limit)):
                if current_checksum(index_id, key, content_checksum(ts, data)) != checksum:
                    raise damaged_row(f"the key {key.hex()} of index {index_id}, or its revision,")
                if key >= previous if reverse else key <= previous:
                    raise damaged_row(f"the order of index {index_id}")
                previous = key
                fetched += 1
                page.append(StoredDocument(key, key[-INTERNAL_BYTES:], ts, data))
                size += len(data)
                if size >= limit_bytes:
                    return page
        except sqlite3.Error as error:
            raise translate(error) from error
        except TypeError as error:  # a column has another type than it should, or there is no revision
            raise damaged_row(f"an entry of index {index_id}, or its revision,") from error
        page.complete = fetched < limit
        return page

    def _page_at(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool, limit: int, limit_bytes: int
    ) -> ScanPage:
        """Return a page of an older state."""
        page = ScanPage()
        size = 0
        before = self._keys_before(index)
        if before is None:
            documents = self._documents_at(index, lo, hi, reverse=reverse)
        else:
            documents = self._documents_before(before, index, lo, hi, reverse=reverse, limit=limit)
        for document in documents:
            page.append(document)
            size += len(document.json)
            if size >= limit_bytes or len(page) == limit:
                return page
        page.complete = True
        return page

    def _documents_at(self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool) -> Iterator[StoredDocument]:
        for key, tablet in self._keys_at(index, lo, hi, reverse=reverse):
            yield self._document_of(index, key, tablet)

    def _document_of(self, index: IndexInfo, key: bytes, tablet: int) -> StoredDocument:
        """Return the document that has a key at `ts`."""
        document = self.get(tablet, key[-INTERNAL_BYTES:])
        if document is None:
            raise damaged_row(f"the key {key.hex()} of index {index.id} at {self.ts}, or its revision,")
        return StoredDocument(key, document.internal, document.ts, document.json)

    def _keys_before(self, index: IndexInfo) -> Mapping[bytes, tuple[int, bytes] | None] | None:
        """Return the keys that commits after `ts` touched, see `RecentCommits.before`; None if they are not in memory."""
        if self._recent is None or self._last_ts is None:
            return None
        if index.id not in self._before:
            self._before[index.id] = self._recent.before(index.id, self.ts, self._last_ts)
        return self._before[index.id]

    def _documents_before(
        self,
        before: Mapping[bytes, tuple[int, bytes] | None],
        index: IndexInfo,
        lo: bytes,
        hi: bytes,
        *,
        reverse: bool,
        limit: int,
    ) -> Iterator[StoredDocument]:
        """Yield the documents of an older state: those of the newest, but for the touched keys those that had them."""
        from tinyvex.storage.log.absence import require_intact_current_ends

        try:
            require_intact_current_ends(self._execute, index.id, lo, hi)
        except sqlite3.Error as error:
            raise translate(error) from error
        touched = {key: had[0] for key, had in before.items() if had is not None and lo <= key < hi}
        keys = sorted(touched, reverse=not reverse)  # the next one is the last
        complete = False
        while not complete:
            newest = self._newest_page(index, lo, hi, reverse=reverse, limit=limit, limit_bytes=SCAN_PAGE_BYTES)
            complete = newest.complete
            for stored in newest:
                while keys and (keys[-1] > stored.key if reverse else keys[-1] < stored.key):
                    key = keys.pop()
                    yield self._document_of(index, key, touched[key])
                if stored.key not in before:
                    yield stored
            if newest and reverse:
                hi = newest[-1].key
            elif newest:
                lo = successor(newest[-1].key)
        for key in reversed(keys):
            yield self._document_of(index, key, touched[key])

    def _keys_at(self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, int]]:
        """Yield the keys that documents have in a range at `ts`, and their tablets."""
        from tinyvex.storage.log.absence import require_intact_entry_ends

        newest: tuple[bytes, int, int] | None = None
        try:
            require_intact_entry_ends(self._execute, index.id, lo, hi)
            statement = statements.ENTRIES_REVERSE if reverse else statements.ENTRIES
            previous = (hi, 0) if reverse else (b"", 0)
            for row in self._execute(statement, (index.id, lo, hi)):
                _, key, ts, deleted, tablet, _, _ = checked_entry(row)
                if (key, ts) >= previous if reverse else (key, ts) <= previous:
                    raise damaged_row(f"the order of index {index.id}")
                previous = key, ts
                if newest is not None and key != newest[0]:
                    if not newest[1]:
                        yield newest[0], newest[2]
                    newest = None
                if ts <= self.ts and (newest is None or not reverse):
                    newest = key, deleted, tablet
        except sqlite3.Error as error:
            raise translate(error) from error
        if newest is not None and not newest[1]:
            yield newest[0], newest[2]

    def count_page(self, index: IndexInfo, lo: bytes, hi: bytes, *, limit: int = SCAN_PAGE_ROWS) -> CountPage:
        """Count the first `limit` keys of a range; the caller continues after the last key."""
        if not self._newest:
            before = self._keys_before(index)
            if before is None:
                keys = [key for key, _ in islice(self._keys_at(index, lo, hi), limit)]
            else:
                documents = self._documents_before(before, index, lo, hi, reverse=False, limit=SCAN_PAGE_ROWS)
                keys = [document.key for document in islice(documents, limit)]
            return CountPage(len(keys), keys[-1] if len(keys) == limit else None)
        from tinyvex.storage.log.absence import require_intact_current_ends

        try:
            total, last_key = self._execute(statements.COUNT_PAGE, (index.id, lo, hi, limit)).fetchone()
            require_intact_current_ends(self._execute, index.id, lo, hi)
        except sqlite3.Error as error:
            raise translate(error) from error
        return CountPage(total, last_key if total == limit else None)

    def history(self, tablet: int, internal: bytes) -> Iterator[Revision]:
        """Yield a document's revisions at or before `ts`, the newest first."""
        before = self.ts
        oldest: Revision | None = None
        self._require_intact_around(tablet, internal, before)
        while True:
            try:
                rows = self._execute(statements.HISTORY, (tablet, internal, before, SCAN_PAGE_ROWS)).fetchall()
            except sqlite3.Error as error:
                raise translate(error) from error
            for row in rows:
                revision = _revision(row)
                if oldest is not None and revision.ts != oldest.prev_ts:
                    raise damaged_row(f"the revision before {oldest.ts}, or its key,")
                yield revision
                oldest = revision
            if len(rows) < SCAN_PAGE_ROWS:
                break
            before = rows[-1][1] - 1
            self.validate()
        floor = self.ts if self._floor is None else self._floor()
        if oldest is not None and oldest.prev_ts is not None and oldest.ts > floor:
            raise damaged_row(f"the revision before {oldest.ts}, or its key,")

    def revision_at(self, tablet: int, internal: bytes, ts: int) -> Revision | None:
        """Return a document's newest revision at or before `ts`; None if the log has none."""
        self._require_intact_around(tablet, internal, ts)
        row = self._one(statements.HISTORY, (tablet, internal, ts, 1))
        return None if row is None else _revision(row)

    def revisions(self, tablet: int, internal: bytes, after: int, until: int) -> Iterator[Revision]:
        """Yield a document's revisions with after < ts <= until, the oldest first, read a page at a time."""
        self._require_intact_around(tablet, internal, until)
        while True:
            row, fetched = None, 0
            try:
                for row in self._execute(statements.REVISIONS_AFTER, (tablet, internal, after, until, SCAN_PAGE_ROWS)):
                    fetched += 1
                    yield _revision(row)
            except sqlite3.Error as error:
                raise translate(error) from error
            if row is None or fetched < SCAN_PAGE_ROWS:
                return
            after = row[1]
            self.validate()

    def request(self, session_id: str, request_id: int) -> StoredRequest:
        """Return the stored record of a client's request."""
        try:
            return request_records.find(self._connection, session_id, request_id)
        except sqlite3.Error as error:
            raise translate(error) from error

    def validate(self) -> None:
        """
        Check, between two pages, that no revision of this snapshot may be missing.

        Raises:
            SnapshotUnavailable: the retention floor has passed `ts`.
        """
        self._require_retained(self.ts)

    def _require_retained(self, ts: int) -> None:
        if self._floor is not None and ts < self._floor():
            raise SnapshotUnavailable(
                f"ts {ts} is older than the retained history, which begins at {self._floor()}", floorTs=self._floor()
            )

    def changes(self, index: IndexInfo, after: int) -> list[tuple[bytes, StoredDocument | None]] | None:
        """Return what commits after `after` did to an index; None if they are not in memory. See `RecentCommits.changes`."""
        return None if self._recent is None else self._recent.changes(index.id, after, self.ts)

    def stored_revisions(self, tablet: int) -> Iterator[StoredDocument]:
        """Yield every revision of a system tablet that retention has not deleted, by id, the oldest first."""
        try:
            for row in self._execute(statements.REVISIONS_OF, (tablet,)):
                _, ts, _, internal, data, _, _ = checked_revision(row)
                yield StoredDocument(internal, internal, ts, data)
        except sqlite3.Error as error:
            raise translate(error) from error

    def all_revisions(self, tablet: int) -> Iterator[dict[str, Any]]:
        """Yield the fields of every revision of a system tablet that retention has not deleted."""
        for stored in self.stored_revisions(tablet):
            yield cast("dict[str, Any]", decode_canonical(stored.json))

    def globals(self) -> Mapping[str, Any]:
        """Return all global values."""
        try:
            return read_globals(self._connection)
        except sqlite3.Error as error:
            raise translate(error) from error

    def used_bytes(self) -> int:
        """Return how many bytes of the file are in use; SQLite reuses the others."""
        used: int = self._one(statements.USED_BYTES, ())[0]
        return used

    def live_page(self, index_id: int, after: bytes, limit: int, *, documents: bool) -> LivePage:
        """Return the sizes of the next entries of an index in the newest state, and of their documents if wanted."""
        statement = statements.LIVE_DOCUMENTS_PAGE if documents else statements.LIVE_ENTRIES_PAGE
        return LivePage(*self._one(statement, (index_id, after, limit)))

    def requests_page(self, after: tuple[int, int], limit: int) -> RequestsPage:
        """Return the size of the next request records."""
        return request_records.page(self._connection, after, limit)

    def has_revisions(self, tablet: int) -> bool:
        """Return whether a tablet has any revision, at any timestamp."""
        return self._one(statements.HAS_REVISIONS, (tablet,)) is not None

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

    def newest_row(self) -> int:
        """Return the log row of the newest revision; see `rows_since`."""
        row: int = self._one(statements.NEWEST_ROW, ())[0]
        return row

    def ts_of_row(self, log_row: int) -> int:
        """Return the `ts` of the first revision from a log row on; the snapshot's if there is none."""
        row = self._one(statements.FIRST_ROW, (log_row,))
        return self.ts if row is None else int(row[1])

    def rows_since(self, log_row: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield the revisions appended after a log row, in order: log row, tablet, document key."""
        rows: list[tuple[int, int, bytes]] | None = None
        while rows is None or len(rows) == SCAN_PAGE_ROWS:
            try:
                rows = self._execute(statements.ROWS_SINCE, (log_row, SCAN_PAGE_ROWS)).fetchall()
            except sqlite3.Error as error:
                raise translate(error) from error
            yield from rows
            log_row = rows[-1][0] if rows else log_row

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
                for row in self._execute(statements.REVISIONS_SINCE, (position, SCAN_PAGE_ROWS)):
                    revision = LogRevision(*checked_revision(row)[:-1])
                    position = revision.log_row
                    fetched += 1
                    if revision.ts > self.ts:
                        return
                    if revision.ts > after:
                        yield revision
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
        """Refuse further reads, because the transaction is over."""
        self._execute = _ended

    def _require_intact_around(self, tablet: int, internal: bytes, ts: int) -> None:
        from tinyvex.storage.log.absence import require_intact_revisions_around  # a start needs none of that module

        try:
            require_intact_revisions_around(self._execute, tablet, internal, ts)
        except sqlite3.Error as error:
            raise translate(error) from error

    def _one(self, statement: str, parameters: tuple[object, ...] | dict[str, object]) -> Any:
        """Return the first row of a statement's result; None if it is empty."""
        try:
            return self._execute(statement, parameters).fetchone()
        except sqlite3.Error as error:
            raise translate(error) from error


def _revision(row: tuple[Any, ...]) -> Revision:
    _, ts, _, _, data, prev_ts, _ = checked_revision(row)
    return Revision(ts, prev_ts, data)


def _ended(*_: object) -> NoReturn:
    raise RuntimeError(
        "this snapshot's transaction is over; do not use a function's context or its lazy rows after the function returned"
    )
