"""
Storing anew what an older class stored otherwise, in the commit with which the new one begins.

Whoever reads a document finds the default of a field that is newer than it, and a number of the kind that the class says.
An index finds what is stored. So where a field is indexed, the two must be the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import TypeAlias

from tinyvex.limits import BACKFILL_STEP_ROWS
from tinyvex.storage.log.catalog import BY_CREATION_TIME, Catalog, IndexInfo, TableInfo
from tinyvex.storage.log.commit_record import CommitRecord, StoredDocument, Write
from tinyvex.storage.log.document_log import Snapshot, apply
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN, successor
from tinyvex.storage.schema.system_tables import fields_of

__all__ = ["Validator", "renew"]

Validator: TypeAlias = Callable[[bytes], tuple[list[str], bytes]]
"""What is wrong with a stored document, a sentence for each; and what is to be stored of one that fits: most often the same."""


def renew(
    connection: sqlite3.Connection,
    catalog: Catalog,
    table: TableInfo,
    indexes: Iterable[IndexInfo],
    validator: Validator,
    ts: int,
) -> None:
    """
    Store the documents of a table anew that are to be stored otherwise, as revisions of a commit; page by page.

    Args:
        connection: with the commit's transaction open.
        catalog: of before the commit.
        table: of that catalog.
        indexes: the table's, as far as mutations maintain them from now on.
        validator: of the new class, which all documents fit.
        ts: of the commit.
    """
    snapshot, maintained = Snapshot(connection, ts, catalog), list(indexes)
    lo: bytes | None = KEY_MIN
    while lo is not None:
        page = snapshot.page(table.indexes[BY_CREATION_TIME], lo, KEY_MAX, limit=BACKFILL_STEP_ROWS)
        renewed = [(stored, validator(stored.json)[1]) for stored in page]
        writes = [_write(table, maintained, stored, json) for stored, json in renewed if json != stored.json]
        apply(connection, CommitRecord(ts, tuple(writes)))
        lo = None if page.complete else successor(page[-1].key)


def _write(table: TableInfo, indexes: list[IndexInfo], stored: StoredDocument, json: bytes) -> Write:
    before, after = fields_of(stored), fields_of(stored._replace(json=json))
    old = [(index.id, index.key(before, stored.internal)) for index in indexes]
    new = [(index.id, index.key(after, stored.internal)) for index in indexes]
    return Write.between(table.tablet, stored.internal, json, stored.ts, old, new)
