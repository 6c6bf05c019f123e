"""
One document's past: every revision of it that can still be read.

A document keeps its id when its table gets another tablet, so its past is that of its id over the tablets in turn.
Which tablet a table had when is in the revisions of its document in `_tables`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tinyvex.storage.catalog import TABLES_TABLET
from tinyvex.storage.records import Revision
from tinyvex.storage.system import documents, system_tables
from tinyvex.values.codec import decode_canonical

if TYPE_CHECKING:
    from tinyvex.storage.catalog import TableInfo
    from tinyvex.storage.log import Snapshot

__all__ = ["document_history"]


def document_history(snapshot: Snapshot, table: TableInfo, internal: bytes, after: int = 0) -> Iterator[Revision]:
    """
    A document's revisions up to the snapshot's `ts`, oldest first.

    The first is the one that was current at the floor of what is kept, if there was one.
    Where it has a `prev_ts`, older ones are forgotten.

    Args:
        snapshot: read as revisions are asked for.
        table: the document's, now.
        internal: the document's own part of its id.
        after: only revisions with a later `ts`.
    """
    floor = snapshot.globals()["floor_ts"]
    last: Revision | None = None
    for tablet, since, until in _periods(snapshot, table):
        if until < floor:
            continue
        if until <= after:
            last = snapshot.revision_at(tablet, internal, until)
            continue
        begin = max(since, floor)
        entered = _entered(last, snapshot.revision_at(tablet, internal, begin), since)
        if entered is not None:
            last = entered
            if entered.ts > after:
                yield entered
        for last in snapshot.revisions(tablet, internal, max(begin, after), until):
            yield last


def _entered(before: Revision | None, found: Revision | None, since: int) -> Revision | None:
    """What becomes of a document where a tablet begins to be its table's; None where it stays as it is."""
    json = None if found is None else found.json
    if json == (None if before is None else before.json):
        return None
    if before is None:
        assert found is not None
        return found._replace(ts=max(found.ts, since))
    return Revision(since, before.ts, json)


def _periods(snapshot: Snapshot, table: TableInfo) -> list[tuple[int, int, int]]:
    """Which tablet the table had, from when to when, both inclusive; oldest first."""
    found: list[tuple[int, int]] = []
    for revision in _table_revisions(snapshot, table):
        assert revision.json is not None, "a table that exists was deleted"
        fields = decode_canonical(revision.json)
        assert isinstance(fields, dict)
        tablet = fields["tablet"]
        assert isinstance(tablet, int)
        if not found or found[-1][0] != tablet:
            found.append((tablet, revision.ts))
    if not found:  # a table of the database's own
        return [(table.tablet, 0, snapshot.ts)]
    ends = [since - 1 for _, since in found[1:]] + [snapshot.ts]
    # Nothing is in a tablet before its table, and what is left of the table's own past may begin later.
    begins = [0, *(since for _, since in found[1:])]
    return [(tablet, begin, end) for (tablet, _), begin, end in zip(found, begins, ends, strict=True)]


def _table_revisions(snapshot: Snapshot, table: TableInfo) -> list[Revision]:
    tables, _ = system_tables(snapshot.catalog)
    for document in documents(snapshot, tables):
        if document.fields["number"] == table.number:
            return list(snapshot.revisions(TABLES_TABLET, document.stored.internal, 0, snapshot.ts))
    return []
