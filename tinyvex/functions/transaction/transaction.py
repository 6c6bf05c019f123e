"""
A transaction: one execution's view of the database.

It consists of a snapshot, a read set, and for a mutation the write buffers of the tables that it has written. Nothing is
written to the database here: `record` turns the buffers into one commit record, which the writer applies after the
function has returned and its result is valid. A function that raises leaves nothing, because nothing was written.

A scan merges two sorted sequences, page by page: the snapshot's documents in the range without those that were written,
and the written documents that are in the range now. Each page records exactly the keys that it covers as read, so a
function that stops early depends only on what it passed.
"""

from __future__ import annotations

import random as random_module
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from tinyvex.errors import DocumentNotFound, IdExists, TransactionTooLarge, UnknownIndex, ValueTooLarge
from tinyvex.functions.transaction.context_ended import ContextEnded
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.functions.transaction.write_buffer import WriteBuffer, WriteEntry
from tinyvex.limits import (
    COUNT_PAGE_KEYS,
    DOCUMENT_BYTES_MAX,
    SCAN_PAGE_ROWS,
    TRANSACTION_BYTES_MAX,
    TRANSACTION_DOCUMENTS_MAX,
)
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.key_ranges import Range, successor
from tinyvex.storage.log.operations import Operation, RequestRecord, StoreRequest, WriteDocuments
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.values.codec import decode_canonical, encode
from tinyvex.values.ids import format_id, new_internal
from tinyvex.values.timestamps import creation_time, next_creation_time
from tinyvex.values.types import Int64, Value

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import IndexInfo, TableInfo
    from tinyvex.storage.log.document_log import Snapshot
    from tinyvex.storage.log.operations import IndexKey

__all__ = ["Transaction"]

_by_key = attrgetter("key")
_SCALARS = frozenset((str, int, float, bool, bytes, type(None), Int64))


class Transaction:
    """
    A snapshot, and writes that wait to be committed.

    A scan sees the transaction as it was when the scan began; it does not see writes that follow.

    Args:
        snapshot: the state that is read.
        ts: for a mutation, the timestamp of its commit; for a query, the snapshot's.
        writable: whether `insert` and `put` are allowed.
        random: the source of new ids.
        reads: the read set; a new one if None.
        give_way: called between the pages of a scan.

    Attributes:
        rows_read: the number of rows fetched from the database.
        system_record: a record of the system whose operations commit along with the writes.
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
        self._buffers: dict[int, WriteBuffer] = {}
        # The last document that was read: most functions write the document that they have just read.
        self._last_read: StoredDocument | None = None
        self._last_tablet = 0
        self._creation_time = 0.0
        self.rows_read = 0
        self._documents = 0
        self._bytes = 0
        self.system_record: CommitRecord | None = None
        self._ended = False

    def end(self) -> None:
        """Refuse all further reads and writes, because the function has ended; `record` stays possible."""
        self._ended = True

    # Reading.

    def get(self, table: TableInfo, document_key: bytes) -> StoredDocument | None:
        """Return a document by its key; None if it does not exist."""
        if self._ended:
            raise ContextEnded
        tablet = table.tablet
        self.reads.add(-tablet, document_key, document_key + b"\0")
        buffer = self._buffers.get(tablet)
        if buffer is not None:
            entry = buffer.entries.get(document_key)
            if entry is not None:
                return entry.now
        return self._read(tablet, document_key)

    def _read(self, tablet: int, document_key: bytes) -> StoredDocument | None:
        """Return a document of the snapshot; the last one that was read is not read again."""
        stored = self._last_read
        if stored is None or stored.internal != document_key or self._last_tablet != tablet:
            stored = self._last_read = self.snapshot.get(tablet, document_key)
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
        Yield the documents with lo <= key < hi, in key order or in reverse.

        Pages are read as they are needed; the keys recorded as read end with the last page.

        Args:
            table: the documents' table.
            index: one of its indexes.
            lo: the first key of the range.
            hi: the first key after the range.
            reverse: whether to begin with the greatest key.
            limit: the maximum number of documents.

        Raises:
            UnknownIndex: the index is not ready.
        """
        _require_ready(table, index)
        if self._ended:
            raise ContextEnded
        buffer = self._buffers.get(table.tablet)
        if buffer is None:
            return self._scan_snapshot(index, lo, hi, reverse=reverse, limit=limit)
        rows = buffer.rows(index, lo, hi, reverse=reverse, limit=limit)
        return self._scan_merged(buffer, len(buffer.entries), rows, index, lo, hi, reverse=reverse, limit=limit)

    def _scan_snapshot(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool, limit: int | None
    ) -> Iterator[StoredDocument]:
        """Yield the documents of the range in the common case that none of the table was written."""
        for page, _ in self._pages(index, lo, hi, reverse=reverse, limit=limit):
            yield from page

    def _scan_merged(
        self,
        buffer: WriteBuffer,
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
        Yield the snapshot's unwritten documents and the written ones, merged in key order.

        Args:
            buffer: the writes to the table.
            written: the number of documents that had been written when the scan began.
            rows: those of them that were in the range then, up to the limit.
            index: the index.
            lo: the first key of the range.
            hi: the first key after the range.
            reverse: whether to begin with the greatest key.
            limit: the maximum number of documents.
        """
        entries = buffer.entries
        left = limit
        # Each written document may have left the range, so this many of the snapshot's documents suffice in any case.
        needed = None if limit is None else limit + written
        for page, (page_lo, page_hi) in self._pages(index, lo, hi, reverse=reverse, limit=needed):
            merged = [
                stored for stored in page if (entry := entries.get(stored.internal)) is None or entry.number >= written
            ]
            first = bisect_left(rows, page_lo, key=_by_key)
            merged += rows[first : bisect_left(rows, page_hi, lo=first, key=_by_key)]
            merged.sort(key=_by_key, reverse=reverse)
            for stored in merged:
                if left is not None:
                    if left == 0:
                        return
                    left -= 1
                yield stored

    def changes(self, index: IndexInfo, after: int) -> list[tuple[bytes, StoredDocument | None]] | None:
        """Return the changes to an index by commits after `after`, up to this snapshot; None if memory lacks them."""
        if self._ended:
            raise ContextEnded
        return None if self._buffers else self.snapshot.changes(index, after)

    def _pages(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool, limit: int | None
    ) -> Iterator[tuple[list[StoredDocument], Range]]:
        """Yield pages of the snapshot, each with exactly the range that it covers; that range is recorded as read."""
        snapshot = self.snapshot
        left = limit
        while lo < hi and left != 0:
            if self._ended:
                raise ContextEnded
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
        Count the documents with lo <= key < hi.

        Raises:
            UnknownIndex: the index is not ready.
        """
        _require_ready(table, index)
        if self._ended:
            raise ContextEnded
        self.reads.add(index.id, lo, hi)
        total = 0
        buffer = self._buffers.get(table.tablet)
        if buffer is not None:
            total += buffer.count(index, lo, hi)
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

    def insert(self, table: TableInfo, fields: Mapping[str, Any], document_key: bytes | None = None) -> StoredDocument:
        """
        Add a document.

        Args:
            table: the document's table.
            fields: its fields; `_id` and `_creationTime` are added.
            document_key: the key of an id that the client made; None for a new one.

        Raises:
            IdExists: the id exists, or existed before.
            InvalidValue: a part of `fields` is not a value.
            ValueTooLarge: the document exceeds a limit.
            TransactionTooLarge: all writes together exceed a limit.
        """
        if document_key is None:
            document_key = new_internal(self.ts, self.random)
        elif self._existed(table, document_key):
            text = format_id(table.number, document_key)
            raise IdExists(f"the id `{text}` of table `{table.name}` exists already, or existed before", id=text)
        last = self._creation_time
        self._creation_time = creation_time(self.ts) if last == 0.0 else next_creation_time(last)
        buffer = self._buffer(table)
        entry = WriteEntry(len(buffer.entries), document_key, self._creation_time)
        stored, document, keys = self._encode(table, entry, fields)
        self._count_document()
        buffer.add(entry)
        buffer.set(entry, stored, document, keys)
        return stored

    def put(self, table: TableInfo, document_key: bytes, fields: Mapping[str, Any] | None) -> StoredDocument | None:
        """
        Replace a document's fields, or delete it; its id and creation time stay.

        Args:
            table: the document's table.
            document_key: the document.
            fields: its new fields, without `_id` and `_creationTime`; None deletes it.

        Returns:
            The new document; None if it was deleted.

        Raises:
            DocumentNotFound: the document does not exist.
            InvalidValue: a part of `fields` is not a value.
            ValueTooLarge: the document exceeds a limit.
            TransactionTooLarge: all writes together exceed a limit.
        """
        buffer = self._buffer(table)
        entry = buffer.entries.get(document_key)
        is_first_write = entry is None
        if entry is None:
            entry = self._entry(table, buffer, document_key)
        if entry is None or entry.now is None:
            text = format_id(table.number, document_key)
            raise DocumentNotFound(f"table `{table.name}` has no document `{text}`", id=text)
        stored, document, keys = (None, None, []) if fields is None else self._encode(table, entry, fields)
        if is_first_write:
            self._count_document()
            buffer.add(entry)
        buffer.set(entry, stored, document, keys)
        return stored

    def _buffer(self, table: TableInfo) -> WriteBuffer:
        if self._ended:
            raise ContextEnded
        assert self._writable, "a query cannot write"
        buffer = self._buffers.get(table.tablet)
        if buffer is None:
            buffer = self._buffers[table.tablet] = WriteBuffer()
        return buffer

    def _existed(self, table: TableInfo, document_key: bytes) -> bool:
        self.reads.add_point(table.by_id, document_key)
        buffer = self._buffers.get(table.tablet)
        if buffer is not None and document_key in buffer.entries:
            return True
        return self.snapshot.existed(table.tablet, document_key)

    def _entry(self, table: TableInfo, buffer: WriteBuffer, document_key: bytes) -> WriteEntry | None:
        """Return an entry for a document of the snapshot; None if it does not exist there."""
        self.reads.add_point(table.by_id, document_key)
        base = self._read(table.tablet, document_key)
        if base is None:
            return None
        document: Any = decode_canonical(base.json)
        keys = table.keys(document, document_key)
        return WriteEntry(len(buffer.entries), document_key, document["_creationTime"], base, keys, document)

    def _encode(
        self, table: TableInfo, entry: WriteEntry, fields: Mapping[str, Any]
    ) -> tuple[StoredDocument, Mapping[str, Value], list[IndexKey]]:
        """Return the document with its system fields, both stored and decoded, and its index keys."""
        document_key = entry.document_key
        document = dict(fields)
        document["_creationTime"] = entry.creation_time
        document["_id"] = format_id(table.number, document_key)
        data = encode(document)
        size = len(data)
        if size > DOCUMENT_BYTES_MAX:
            raise ValueTooLarge(
                f"a document of table `{table.name}` has {size} bytes; the limit is {DOCUMENT_BYTES_MAX}", path="$"
            )
        self._bytes += size
        if self._bytes > TRANSACTION_BYTES_MAX:
            raise TransactionTooLarge(
                f"this mutation writes more than {TRANSACTION_BYTES_MAX} bytes; split it into several"
            )
        # Index keys are those of the stored form. The given form has the same keys if its indexed fields are scalars;
        # otherwise it may contain structs, enums or tuples, and is decoded again.
        for name in table.indexed:
            if name in document and type(document[name]) not in _SCALARS:
                document = cast("dict[str, Value]", decode_canonical(data))
                break
        if entry.fields is None:
            keys = table.keys(document, document_key)
        else:
            keys = table.keys_after(entry.fields, entry.keys, document, document_key)
        return StoredDocument(document_key, document_key, self.ts, data), document, keys

    def _count_document(self) -> None:
        self._documents += 1
        if self._documents > TRANSACTION_DOCUMENTS_MAX:
            raise TransactionTooLarge(
                f"this mutation writes more than {TRANSACTION_DOCUMENTS_MAX} documents; split it into several"
            )

    # Committing.

    def add_system_record(self, record: CommitRecord) -> None:
        """Commit the operations of a record along with the writes; at most one record."""
        assert self.system_record is None, "a mutation commits at most one record of the system"
        self.system_record = record

    def record(self, request: RequestRecord | None = None) -> CommitRecord | None:
        """
        Return the commit record: the net effect of all writes.

        It omits documents that were inserted and deleted again, and documents that are as they were.

        Returns:
            The record; None if there is nothing to commit.
        """
        writes = [
            entry.write(tablet)
            for tablet, buffer in self._buffers.items()
            for entry in buffer.entries.values()
            if entry.changed()
        ]
        operations: tuple[Operation, ...] = (WriteDocuments(tuple(writes)),) if writes else ()
        if self.system_record is not None:
            operations += self.system_record.operations
        if request is not None:
            operations += (StoreRequest(request),)
        return CommitRecord(self.ts, operations) if operations else None


def _require_ready(table: TableInfo, index: IndexInfo) -> None:
    if not index.ready:
        raise UnknownIndex(
            f"index `{index.name}` of table `{table.name}` is still being built; use another index, or try again later"
        )
