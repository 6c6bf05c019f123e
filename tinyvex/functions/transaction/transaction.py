"""
One execution's view of the database: a snapshot, what was read of it, and the writes that wait in an overlay.

Nothing is written here.
`record` turns the overlay into one self-contained commit record, which the writer applies
after the function has returned and its result is valid;
a function that raises leaves nothing, because nothing was written.
"""

from __future__ import annotations

import random as random_module
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from tinyvex.errors import DocumentNotFound, IdExists, TransactionTooLarge, UnknownIndex, ValueTooLarge
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.functions.transaction.write_buffer import Entry, WriteBuffer
from tinyvex.limits import (
    COUNT_PAGE_KEYS,
    DOCUMENT_BYTES_MAX,
    SCAN_PAGE_ROWS,
    TRANSACTION_BYTES_MAX,
    TRANSACTION_DOCUMENTS_MAX,
)
from tinyvex.storage.log.document_log import CommitRecord, Outcome, RequestRecord, Snapshot, StoredDocument
from tinyvex.storage.log.key_ranges import Range, successor
from tinyvex.values.codec import decode_canonical, encode
from tinyvex.values.ids import DocumentId, new_internal
from tinyvex.values.timestamps import creation_time, next_creation_time
from tinyvex.values.types import Int64, Value

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import IndexInfo, Key, TableInfo

__all__ = ["Transaction"]

_by_key = attrgetter("key")
_SCALARS = frozenset((str, int, float, bool, bytes, type(None), Int64))


class Transaction:
    """
    A snapshot with an overlay.

    A scan sees the transaction as it was when the scan began: what is written while it runs, it does not see.

    Args:
        snapshot: what is read.
        ts: for a mutation, the timestamp its revisions get; for a query, the snapshot's.
        writable: whether `insert` and `put` may be used.
        random: for new ids.
        reads: where reads are recorded; a new set where none is given.
        give_way: called between the pages of a scan.

    Attributes:
        system_change: a change of the system that commits along with the writes.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        ts: int,
        writable: bool,
        random: random_module.Random,
        reads: ReadSet | None = None,
        give_way: Callable[[], None] | None = None,
    ) -> None:
        self.ts = ts
        self.catalog = snapshot.catalog
        self.reads = ReadSet() if reads is None else reads
        self.snapshot = snapshot
        self._writable = writable
        self.random = random
        self._give_way = give_way
        self._overlays: dict[int, WriteBuffer] = {}
        # What `get` found last: `patch` and most functions write what they have just read.
        self._last_read: StoredDocument | None = None
        self._last_tablet = 0
        self._creation_time = 0.0
        self.rows_read = 0
        self._documents = 0
        self._bytes = 0
        self.system_change: Outcome[Any] | None = None

    # Reading.

    def get(self, table: TableInfo, internal: bytes) -> StoredDocument | None:
        """A document by its id; None where it does not exist."""
        tablet = table.tablet
        self.reads.add(-tablet, internal, internal + b"\0")
        overlay = self._overlays.get(tablet)
        if overlay is not None:
            entry = overlay.entries.get(internal)
            if entry is not None:
                return entry.now
        stored = self._last_read = self.snapshot.get(tablet, internal)
        self._last_tablet = tablet
        return stored

    def scan(
        self,
        table: TableInfo,
        index: IndexInfo,
        lo: bytes,
        hi: bytes,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[StoredDocument]:
        """
        The documents whose key is in lo <= key < hi, in key order or the reverse of it.

        They are read in pages as they are asked for; what is recorded as read ends where the last page ended.

        Args:
            table: the documents' table.
            index: one of its indexes.
            lo: the least key.
            hi: the first key above the range.
            reverse: begin with the greatest key.
            limit: stop after so many.

        Raises:
            UnknownIndex: the index is not ready.
        """
        if not index.ready:
            raise UnknownIndex(f"the index `{index.name}` of table `{table.name}` is still being built")
        overlay = self._overlays.get(table.tablet)
        if overlay is None:
            return self._scan_snapshot(index, lo, hi, reverse=reverse, limit=limit)
        rows = overlay.rows(index, lo, hi, reverse=reverse, limit=limit)
        return self._scan_merged(overlay, len(overlay.entries), rows, index, lo, hi, reverse=reverse, limit=limit)

    def _scan_snapshot(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool, limit: int | None
    ) -> Iterator[StoredDocument]:
        """Every document of the range; the common case of nothing written."""
        for page, _ in self._pages(index, lo, hi, reverse=reverse, limit=limit):
            yield from page

    def _scan_merged(
        self,
        overlay: WriteBuffer,
        written: int,
        rows: list[StoredDocument],
        index: IndexInfo,
        lo: bytes,
        hi: bytes,
        *,
        reverse: bool,
        limit: int | None,
    ) -> Iterator[StoredDocument]:
        """
        Stored documents without those that were written, and those written, in one order.

        `written` is how many documents of the table had been written when the scan began,
        `rows` are those of them that were in the range then, as far as the limit.
        """
        entries = overlay.entries
        left = limit
        # Each document that was written may have left the range: beside so many stored ones there are enough others.
        needed = None if limit is None else limit + written
        for page, (page_lo, page_hi) in self._pages(index, lo, hi, reverse=reverse, limit=needed):
            merged = [
                stored for stored in page if (entry := entries.get(stored.internal)) is None or entry.number >= written
            ]
            place = bisect_left(rows, page_lo, key=_by_key)
            merged += rows[place : bisect_left(rows, page_hi, lo=place, key=_by_key)]
            merged.sort(key=_by_key, reverse=reverse)
            for stored in merged:
                if left is not None:
                    if left == 0:
                        return
                    left -= 1
                yield stored

    def changes(self, index: IndexInfo, after: int) -> list[tuple[bytes, StoredDocument | None]] | None:
        """What commits after `after` did to an index, up to this snapshot; None when that is not known in memory."""
        return None if self._overlays else self.snapshot.changes(index, after)

    def _pages(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool, limit: int | None
    ) -> Iterator[tuple[list[StoredDocument], Range]]:
        """Pages of the snapshot, each with exactly the range it covers, which is recorded as read."""
        snapshot = self.snapshot
        left = limit
        while lo < hi and left != 0:
            size = SCAN_PAGE_ROWS if left is None or left > SCAN_PAGE_ROWS else left
            page = snapshot.page(index, lo, hi, reverse=reverse, limit=size)
            self.rows_read += len(page)
            if left is not None:
                left -= len(page)
            covered = (lo, hi)
            if page.complete:
                lo = hi
            elif reverse:
                hi = page[-1].key
                covered = (hi, covered[1])
            else:
                lo = successor(page[-1].key)
                covered = (covered[0], lo)
            self.reads.add(index.id, *covered)
            yield page, covered
            if self._give_way is not None and lo < hi and left != 0:
                self._give_way()
            snapshot.validate()

    def count(self, table: TableInfo, index: IndexInfo, lo: bytes, hi: bytes) -> int:
        """
        How many documents have a key in lo <= key < hi.

        Raises:
            UnknownIndex: the index is not ready.
        """
        if not index.ready:
            raise UnknownIndex(f"the index `{index.name}` of table `{table.name}` is still being built")
        self.reads.add(index.id, lo, hi)
        total = 0
        overlay = self._overlays.get(table.tablet)
        if overlay is not None:
            total += overlay.count(index, lo, hi)
        while True:
            page = self.snapshot.count_page(index, lo, hi, limit=COUNT_PAGE_KEYS)
            total += page.total
            if page.last_key is None:
                return total
            lo = successor(page.last_key)
            if self._give_way is not None:
                self._give_way()
            self.snapshot.validate()

    # Writing.

    def insert(self, table: TableInfo, fields: Mapping[str, Any], internal: bytes | None = None) -> StoredDocument:
        """
        Add a document.

        Args:
            table: where.
            fields: without `_id` and `_creationTime`, which are added.
            internal: its id, where the client made one.

        Raises:
            IdExists: the id exists, or existed before.
            InvalidValue: something in `fields` is no value.
            ValueTooLarge: the document is over a limit.
            TransactionTooLarge: so is everything written.
        """
        if internal is None:
            internal = new_internal(self.ts, self.random)
        elif self._existed(table, internal):
            text = DocumentId(table.number, internal).text
            raise IdExists(f"the id {text!r} of table {table.name!r} exists already, or existed before", id=text)
        last = self._creation_time
        self._creation_time = creation_time(self.ts) if last == 0.0 else next_creation_time(last)
        overlay = self._overlay(table)
        entry = Entry(len(overlay.entries), internal, self._creation_time)
        stored, document, keys = self._encode(table, entry, fields)
        self._count_document()
        overlay.add(entry)
        overlay.set(entry, stored, document, keys)
        return stored

    def put(self, table: TableInfo, internal: bytes, fields: Mapping[str, Any] | None) -> StoredDocument | None:
        """
        Replace a document's fields, or delete it.

        Its id and creation time stay.

        Args:
            table: where.
            internal: which document.
            fields: without `_id` and `_creationTime`; None deletes.

        Returns:
            The new document; None where it was deleted.

        Raises:
            DocumentNotFound: there is none with this id.
            InvalidValue: something in `fields` is no value.
            ValueTooLarge: the document is over a limit.
            TransactionTooLarge: so is everything written.
        """
        overlay = self._overlay(table)
        entry = overlay.entries.get(internal)
        fresh = entry is None
        if entry is None:
            entry = self._entry(table, overlay, internal)
        if entry is None or entry.now is None:
            text = DocumentId(table.number, internal).text
            raise DocumentNotFound(f"there is no document {text!r} in table {table.name!r}", id=text)
        stored, document, keys = (None, None, []) if fields is None else self._encode(table, entry, fields)
        if fresh:
            self._count_document()
            overlay.add(entry)
        overlay.set(entry, stored, document, keys)
        return stored

    def _overlay(self, table: TableInfo) -> WriteBuffer:
        assert self._writable, "a query cannot write"
        overlay = self._overlays.get(table.tablet)
        if overlay is None:
            overlay = self._overlays[table.tablet] = WriteBuffer()
        return overlay

    def _existed(self, table: TableInfo, internal: bytes) -> bool:
        self.reads.add_point(table.by_id, internal)
        overlay = self._overlays.get(table.tablet)
        return (overlay is not None and internal in overlay.entries) or self.snapshot.existed(table.tablet, internal)

    def _entry(self, table: TableInfo, overlay: WriteBuffer, internal: bytes) -> Entry | None:
        """An entry for a document as the snapshot has it."""
        self.reads.add_point(table.by_id, internal)
        base = self._last_read
        if base is None or base.internal != internal or self._last_tablet != table.tablet:
            base = self.snapshot.get(table.tablet, internal)
        if base is None:
            return None
        document = cast("dict[str, Value]", decode_canonical(base.json))
        creation = cast("float", document["_creationTime"])
        return Entry(len(overlay.entries), internal, creation, base, table.keys(document, internal), document)

    def _encode(
        self, table: TableInfo, entry: Entry, fields: Mapping[str, Any]
    ) -> tuple[StoredDocument, Mapping[str, Value], list[Key]]:
        """The document with its system fields, stored and decoded, and its keys."""
        internal = entry.internal
        document = dict(fields)
        document["_creationTime"] = entry.creation_time
        document["_id"] = DocumentId(table.number, internal).text
        data = encode(document)
        size = len(data)
        if size > DOCUMENT_BYTES_MAX:
            raise ValueTooLarge(
                f"a document of table {table.name!r} has {size} bytes; the limit is {DOCUMENT_BYTES_MAX}", path="$"
            )
        self._bytes += size
        if self._bytes > TRANSACTION_BYTES_MAX:
            raise TransactionTooLarge(f"this mutation writes more than {TRANSACTION_BYTES_MAX} bytes")
        # Keys are those of what is stored. What was given is the same where the indexed fields are scalars;
        # else it may hold structs, enums, tuples.
        for name in table.indexed:
            if name in document and type(document[name]) not in _SCALARS:
                document = cast("dict[str, Value]", decode_canonical(data))
                break
        if entry.fields is None:
            keys = table.keys(document, internal)
        else:
            keys = table.keys_after(entry.fields, entry.keys, document, internal)
        return StoredDocument(internal, internal, self.ts, data), document, keys

    def _count_document(self) -> None:
        self._documents += 1
        if self._documents > TRANSACTION_DOCUMENTS_MAX:
            raise TransactionTooLarge(f"this mutation writes more than {TRANSACTION_DOCUMENTS_MAX} documents")

    # The outcome.

    def add_system_change(self, change: Outcome[Any]) -> None:
        """Commit a change of the system along with the writes; at most one."""
        assert self.system_change is None, "a mutation commits at most one change of the system"
        self.system_change = change

    def record(self, request: RequestRecord | None = None) -> CommitRecord | None:
        """
        The commit record: the net effect of all writes.

        A document that was inserted and deleted again, or that is what it was, is not in it.

        Returns:
            None where there is nothing to commit.
        """
        writes = [
            entry.write(tablet)
            for tablet, overlay in self._overlays.items()
            for entry in overlay.entries.values()
            if entry.changed()
        ]
        own = None if self.system_change is None else self.system_change.record
        if own is None:
            return CommitRecord(self.ts, tuple(writes), request) if writes or request is not None else None
        return CommitRecord(self.ts, (*writes, *own.writes), request, own.moves, own.unseen and not writes)
