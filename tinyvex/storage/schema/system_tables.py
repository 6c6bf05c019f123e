"""Read and write the system tables: build commits that change tables, indexes and tablets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from tinyvex.limits import SCAN_PAGE_ROWS
from tinyvex.storage.log.catalog import BY_CREATION_TIME, Catalog, TableInfo
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN, successor
from tinyvex.storage.log.operations import Operation, Write, WriteDocuments
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.storage.log.system_tablets import INDEXES_TABLET, TABLES_TABLET
from tinyvex.values.codec import decode_canonical, encode
from tinyvex.values.ids import DocumentId, new_internal
from tinyvex.values.timestamps import creation_time, next_creation_time

__all__ = [
    "SystemChange",
    "SystemDocument",
    "change_code",
    "documents",
    "fields_of",
    "is_empty",
    "system_tables",
    "table_fields",
]


class SystemDocument(NamedTuple):
    """A document of a system table, and its fields."""

    stored: StoredDocument
    fields: dict[str, Any]

    @classmethod
    def of(cls, stored: StoredDocument) -> SystemDocument:
        """Decode a stored document."""
        return cls(stored, fields_of(stored))


def documents(snapshot: Snapshot, table: TableInfo) -> Iterator[SystemDocument]:
    """Yield all documents of a small table, in the order of their creation."""
    index = table.indexes[BY_CREATION_TIME]
    lo = KEY_MIN
    while True:
        page = snapshot.page(index, lo, KEY_MAX, limit=SCAN_PAGE_ROWS)
        for stored in page:
            yield SystemDocument.of(stored)
        if page.complete:
            return
        lo = successor(page[-1].key)


class SystemChange:
    """
    Builds the record of one commit to system tables.

    A transaction of the functions layer records reads and lets a function read its own writes. This needs neither: the
    caller reads everything before it writes.
    """

    def __init__(self, snapshot: Snapshot, ts: int) -> None:
        self.ts = ts
        self.catalog = snapshot.catalog
        self._random = random.Random(ts)
        self._creation_time = 0.0
        self._writes: list[Write] = []

    def insert(self, table: TableInfo, fields: dict[str, Any], internal: bytes | None = None) -> None:
        """Insert a document; with `internal` None its key is derived from the `ts`."""
        last = self._creation_time
        self._creation_time = creation_time(self.ts) if last == 0.0 else next_creation_time(last)
        internal = new_internal(self.ts, self._random) if internal is None else internal
        document = fields | {"_creationTime": self._creation_time, "_id": DocumentId(table.number, internal).text}
        keys = tuple(table.keys(document, internal))
        self._writes.append(Write(table.tablet, internal, encode(document), None, (), keys, ()))

    def update(self, table: TableInfo, document: SystemDocument, **fields: Any) -> None:
        """Update fields of a document; indexed fields must not change."""
        stored = document.stored
        keys = tuple(table.keys(document.fields, stored.internal))
        data = encode(document.fields | fields)
        self._writes.append(Write(table.tablet, stored.internal, data, stored.ts, (), (), keys))

    def delete(self, table: TableInfo, document: SystemDocument) -> None:
        """Delete a document."""
        stored = document.stored
        keys = tuple(table.keys(document.fields, stored.internal))
        self._writes.append(Write(table.tablet, stored.internal, None, stored.ts, keys, (), ()))

    def record(self, *operations: Operation) -> CommitRecord | None:
        """Return the commit: the writes, then further operations; None if there are neither."""
        writes = (WriteDocuments(tuple(self._writes)),) if self._writes else ()
        operations = (*writes, *operations)
        return CommitRecord(self.ts, operations) if operations else None


def change_code(change: SystemChange, code: StoredDocument, **fields: Any) -> None:
    """Write the code document, which every query reads, so that all live queries run again."""
    change.update(change.catalog.table("_code"), SystemDocument.of(code), **fields)


def is_empty(snapshot: Snapshot, table: TableInfo) -> bool:
    """Return whether a table has no documents."""
    return snapshot.count_page(table.indexes[BY_CREATION_TIME], KEY_MIN, KEY_MAX, limit=1).total == 0


def fields_of(stored: StoredDocument) -> dict[str, Any]:
    """Decode a stored document's fields."""
    fields = decode_canonical(stored.json)
    assert isinstance(fields, dict), fields
    return fields


def table_fields(name: str, number: int, tablet: int) -> dict[str, Any]:
    """Return the fields of a new table in `_tables`; the commit that makes its class current fills in the last two."""
    return {"name": name, "number": number, "tablet": tablet, "fingerprint": None, "schema": None}


def system_tables(catalog: Catalog) -> tuple[TableInfo, TableInfo]:
    """Return `_tables` and `_indexes`."""
    tables, indexes = catalog.tablet(TABLES_TABLET), catalog.tablet(INDEXES_TABLET)
    assert tables is not None
    assert indexes is not None
    return tables, indexes
