"""
Build an index over existing documents, and drop one, in short units between mutations.

A new index begins as *building*: mutations maintain it for the documents that they write, and `backfill_step` enters the
documents that are older, the newest first. A dropped index is *dropping*: mutations no longer maintain it, and its entries are deleted in
steps before its document in `_indexes` is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tinyvex.limits import BACKFILL_STEP_BYTES, BACKFILL_STEP_ROWS
from tinyvex.storage.log.catalog import BY_CREATION_TIME
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.key_ranges import KEY_MIN
from tinyvex.storage.log.operations import BackfillIndex
from tinyvex.storage.schema.system_tables import SystemChange, SystemDocument, documents, system_tables

if TYPE_CHECKING:
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["backfill_step", "drop_unfinished"]


def backfill_step(name: str, hi: bytes, snapshot: Snapshot, ts: int) -> Outcome[bytes | None]:
    """
    Enter some documents into the indexes being built; a unit.

    Args:
        name: the table.
        hi: the first key, in `by_creation_time`, that is not entered any more.
        snapshot: the newest state.
        ts: of this commit.

    Returns:
        The `hi` of the next step; None at the end.
    """
    if name not in snapshot.catalog:  # it was dropped
        return Outcome(None)
    table = snapshot.catalog.table(name)
    by_creation_time = table.indexes[BY_CREATION_TIME]
    indexes = tuple(index.as_fields for index in table.building)
    # The step takes as long as its entries: with thirty indexes at once, one of BACKFILL_STEP_ROWS documents took 352 ms.
    limit = max(1, BACKFILL_STEP_ROWS // max(1, len(indexes)))
    page = snapshot.page(by_creation_time, KEY_MIN, hi, reverse=True, limit=limit, limit_bytes=BACKFILL_STEP_BYTES)
    if not page:
        return Outcome(None)
    lo = page[-1].key
    step = BackfillIndex(table.tablet, by_creation_time.id, lo, hi, indexes, len(page))
    return Outcome(None if page.complete else lo, CommitRecord(ts, (step,)))


async def drop_unfinished(store: Store, *, building: bool = True) -> None:
    """
    Drop the indexes that are *dropping*, and with `building` those whose building was interrupted.

    The log keeps the entries of an index that was once ready, for reads at older timestamps.
    An index that was never ready leaves no entries.
    """
    for document in await store.write(partial(_stop_building, building)):
        index_id = document.fields["indexId"]
        history = not document.fields["everReady"]
        while await store.write(partial(_drop_step, index_id, history)):
            pass
        await store.write(partial(_delete_index, index_id))


def _stop_building(building: bool, snapshot: Snapshot, ts: int) -> Outcome[list[SystemDocument]]:
    change = SystemChange(snapshot, ts)
    _, indexes = system_tables(snapshot.catalog)
    states = ("dropping", "building") if building else ("dropping",)
    dropped = [document for document in documents(snapshot, indexes) if document.fields["state"] in states]
    for document in dropped:
        if document.fields["state"] == "building":
            change.update(indexes, document, state="dropping")
    return Outcome(dropped, change.record())


def _drop_step(index_id: int, history: bool, snapshot: Snapshot, ts: int) -> Outcome[bool]:
    step = snapshot.drop_step(index_id, history=history, limit=BACKFILL_STEP_ROWS)
    return Outcome(False) if step is None else Outcome(True, CommitRecord(ts, (step,)))


def _delete_index(index_id: int, snapshot: Snapshot, ts: int) -> Outcome[None]:
    change = SystemChange(snapshot, ts)
    _, indexes = system_tables(snapshot.catalog)
    for document in documents(snapshot, indexes):
        if document.fields["indexId"] == index_id:
            change.delete(indexes, document)
    return Outcome(None, change.record())
