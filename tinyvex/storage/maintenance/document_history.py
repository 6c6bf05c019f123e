"""
One document's past: every revision of it that can still be read.

A document keeps its id when its table gets another tablet, so its past is that of its id over the tablets in turn.
Which tablet a table had when is in the revisions of its document in `_tables`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from tinyvex.storage.log.revisions import Revision
from tinyvex.storage.log.system_tablets import TABLES_TABLET
from tinyvex.storage.schema.system_tables import documents, system_tables
from tinyvex.values.codec import decode_canonical

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import TableInfo
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["document_history"]


def document_history(snapshot: Snapshot, table: TableInfo, internal: bytes, after: int = 0) -> Iterator[Revision]:
    """
    A document's revisions up to the snapshot's `ts`, oldest first.

    The first is the one that was current at the floor of what is kept, if there was one.
    Where it has a `prev_ts`, older ones are forgotten; where the table was replaced below the floor,
    its `ts` may be of the moment when the replacement was written, a little before all saw it.

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
        if after > begin:
            last = snapshot.revision_at(tablet, internal, after)
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


class _Period(NamedTuple):
    """From when to when, both inclusive, the table's documents were in a tablet."""

    tablet: int
    since: int
    until: int


def _periods(snapshot: Snapshot, table: TableInfo) -> list[_Period]:
    """All of them, oldest first; none of a time when the table's ids had another number."""
    found: list[_Period] = []
    for revision in _table_revisions(snapshot, table):
        assert revision.json is not None, "a table that exists was deleted"
        fields = cast("dict[str, int]", decode_canonical(revision.json))
        if found and found[-1].until == snapshot.ts:
            if found[-1].tablet == fields["tablet"]:
                continue
            found[-1] = found[-1]._replace(until=revision.ts - 1)
        if fields["number"] == table.number:
            # Nothing is in a tablet before its table, and what is left of the table's own past may begin later.
            since = revision.ts if found else 0
            found.append(_Period(fields["tablet"], since, snapshot.ts))
    return found or [_Period(table.tablet, 0, snapshot.ts)]  # a table of the database's own


def _table_revisions(snapshot: Snapshot, table: TableInfo) -> list[Revision]:
    tables, _ = system_tables(snapshot.catalog)
    for document in documents(snapshot, tables):
        if document.fields["number"] == table.number:
            return list(snapshot.revisions(TABLES_TABLET, document.stored.internal, 0, snapshot.ts))
    return []
