"""
Build an index over existing documents, and drop one, in short units between mutations.

A new index begins as *building*: mutations maintain it for the documents that they write, and `backfill_step` enters the
documents that are older, the newest first. A dropped index is *dropping*: mutations no longer maintain it, and its entries
are deleted in steps before its document in `_indexes` is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tinyvex.limits import BACKFILL_STEP_BYTES, BACKFILL_STEP_ROWS
from tinyvex.storage.log.catalog import BY_CREATION_TIME
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.key_ranges import KEY_MIN
from tinyvex.storage.log.operations import BackfillIndex
from tinyvex.storage.schema.system_tables import SystemChange, documents, system_tables

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
    dropped = await store.write(partial(_stop_building, building))
    left = dropped
    while left:
        left = await store.write(partial(_drop_step, left))
    if dropped:
        await store.write(partial(_delete_indexes, {index.id for index in dropped}))


class _DroppedIndex(NamedTuple):
    """An index to delete, and whether its entries in the log are deleted too."""

    id: int
    history: bool


def _stop_building(building: bool, snapshot: Snapshot, ts: int) -> Outcome[list[_DroppedIndex]]:
    change = SystemChange(snapshot, ts)
    _, indexes = system_tables(snapshot.catalog)
    states = ("dropping", "building") if building else ("dropping",)
    dropped = [document for document in documents(snapshot, indexes) if document.fields["state"] in states]
    for document in dropped:
        if document.fields["state"] == "building":
            change.update(indexes, document, state="dropping")
    return Outcome(
        [_DroppedIndex(document.fields["indexId"], not document.fields["everReady"]) for document in dropped],
        change.record(),
    )


def _drop_step(left: list[_DroppedIndex], snapshot: Snapshot, ts: int) -> Outcome[list[_DroppedIndex]]:
    """Delete entries of some indexes; the value is the indexes that may have more."""
    steps = []
    rows = 0
    while left and rows < BACKFILL_STEP_ROWS:
        step = snapshot.drop_step(left[0].id, history=left[0].history, limit=BACKFILL_STEP_ROWS - rows)
        if step is not None:
            steps.append(step)
            if left[0].history:
                break  # the step does not count the log's entries
            rows += step.rows
        if rows < BACKFILL_STEP_ROWS:
            left = left[1:]
    return Outcome(left, CommitRecord(ts, tuple(steps)) if steps else None)


def _delete_indexes(ids: set[int], snapshot: Snapshot, ts: int) -> Outcome[None]:
    change = SystemChange(snapshot, ts)
    _, indexes = system_tables(snapshot.catalog)
    for document in documents(snapshot, indexes):
        if document.fields["indexId"] in ids:
            change.delete(indexes, document)
    return Outcome(None, change.record())
