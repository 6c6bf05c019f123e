"""
Read the retained revisions of one document.

A document keeps its id when its table moves to another tablet. Its history is therefore the history of its id in each of
the table's tablets in turn. The revisions of the table's document in `_tables` record when the table had which tablet.
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


def document_history(snapshot: Snapshot, table: TableInfo, document_key: bytes, after: int = 0) -> Iterator[Revision]:
    """
    Yield a document's revisions up to the snapshot's `ts`, oldest first.

    The first is the revision that was current at the floor, if there was one. If it has a `prev_ts`, older revisions were
    purged. If the table's contents were replaced below the floor, its `ts` may be the time at which the replacement was
    written, shortly before it was published.

    Args:
        snapshot: read while revisions are consumed.
        table: the document's table as of the snapshot.
        document_key: the document key.
        after: yield only revisions with a later `ts`.
    """
    floor = snapshot.globals()["floor_ts"]
    last: Revision | None = None
    for tablet, since, until in _periods(snapshot, table):
        if until < floor:
            continue
        if until <= after:
            last = snapshot.revision_at(tablet, document_key, until)
            continue
        begin = max(since, floor)
        entered = _entered(last, snapshot.revision_at(tablet, document_key, begin), since)
        if entered is not None:
            last = entered
            if entered.ts > after:
                yield entered
        if after > begin:
            last = snapshot.revision_at(tablet, document_key, after)
        for last in snapshot.revisions(tablet, document_key, max(begin, after), until):
            yield last


def _entered(before: Revision | None, after: Revision | None, since: int) -> Revision | None:
    """Return the revision that a move of the table to another tablet makes of a document; None if it does not change."""
    json = None if after is None else after.json
    if json == (None if before is None else before.json):
        return None
    if before is None:
        assert after is not None
        return after._replace(ts=max(after.ts, since))
    return Revision(since, before.ts, json)


class _Period(NamedTuple):
    """The timestamps, both inclusive, at which a tablet held the table's documents."""

    tablet: int
    since: int
    until: int


def _periods(snapshot: Snapshot, table: TableInfo) -> list[_Period]:
    """Return the periods of the table's tablets, oldest first, without those in which its ids had another number."""
    periods: list[_Period] = []
    for revision in _table_revisions(snapshot, table):
        assert revision.json is not None, "a table that exists was deleted"
        fields = cast("dict[str, int]", decode_canonical(revision.json))
        if periods and periods[-1].until == snapshot.ts:
            if periods[-1].tablet == fields["tablet"]:
                continue
            periods[-1] = periods[-1]._replace(until=revision.ts - 1)
        if fields["number"] == table.number:
            # A tablet is empty before its table exists. The retained history of the table's document may begin later.
            since = revision.ts if periods else 0
            periods.append(_Period(fields["tablet"], since, snapshot.ts))
    return periods or [_Period(table.tablet, 0, snapshot.ts)]  # a system table


def _table_revisions(snapshot: Snapshot, table: TableInfo) -> list[Revision]:
    tables, _ = system_tables(snapshot.catalog)
    for document in documents(snapshot, tables):
        if document.fields["number"] == table.number:
            return list(snapshot.revisions(TABLES_TABLET, document.stored.internal, 0, snapshot.ts))
    return []
