"""Building an index over documents that are older than it, and dropping one; in short units beside the mutations."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING

from tinyvex.limits import BACKFILL_STEP_ROWS
from tinyvex.storage.file import statements
from tinyvex.storage.log.catalog import BY_CREATION_TIME
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.key_ranges import KEY_MAX, successor
from tinyvex.storage.schema.system_tables import SystemChange, SystemDocument, documents, fields_of, system_tables

if TYPE_CHECKING:
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["backfill_step", "drop_unfinished"]


def backfill_step(name: str, lo: bytes, snapshot: Snapshot, _ts: int) -> Outcome[bytes | None]:
    """
    Enter some documents into the indexes being built; where to go on, None at the end.

    A document that was written since the index began has its entry already.
    An entry gets the `ts` of its document's revision: there is no older one that could be read through this index.
    """
    table = snapshot.catalog.table(name)
    building = [index for index in table.maintained if not index.ready]
    page = snapshot.page(table.indexes[BY_CREATION_TIME], lo, KEY_MAX, limit=BACKFILL_STEP_ROWS)
    entries = []
    for stored in page:
        document = fields_of(stored)
        for index in building:
            key = index.key(document, stored.internal)
            entries.append(
                {"index": index.id, "key": key, "ts": stored.ts, "tablet": table.tablet, "internal": stored.internal}
            )

    def enter(connection: sqlite3.Connection) -> None:
        connection.executemany(statements.BACKFILL_INDEX, entries)
        connection.executemany(statements.BACKFILL_CURRENT, entries)

    return Outcome(None if page.complete else successor(page[-1].key), None, enter)


async def drop_unfinished(store: Store, *, building: bool = True) -> None:
    """
    Drop the indexes whose time is over: those that are *dropping*, and with `building` those whose building was interrupted.

    Of a dropped index the log keeps its entries, so that reads at an older `ts` can use it;
    one that was never ready leaves nothing.
    """
    for found in await store.write(partial(_stop_building, building)):
        index_id = found.fields["indexId"]
        steps = [statements.DROP_CURRENT_STEP]
        if not found.fields["everReady"]:
            steps.append(statements.DROP_INDEX_STEP)
        for statement in steps:
            while await _delete_step(store, statement, index_id) == BACKFILL_STEP_ROWS:
                pass
        await store.write(partial(_forget_index, index_id))


def _stop_building(building: bool, snapshot: Snapshot, ts: int) -> Outcome[list[SystemDocument]]:
    change = SystemChange(snapshot, ts)
    _, indexes = system_tables(snapshot.catalog)
    states = ("dropping", "building") if building else ("dropping",)
    over = [found for found in documents(snapshot, indexes) if found.fields["state"] in states]
    for found in over:
        if found.fields["state"] == "building":
            change.update(indexes, found, state="dropping")
    return Outcome(over, change.record())


async def _delete_step(store: Store, statement: str, index_id: int) -> int:
    deleted = 0

    def delete(connection: sqlite3.Connection) -> None:
        nonlocal deleted
        deleted = connection.execute(statement, (index_id, BACKFILL_STEP_ROWS)).rowcount

    await store.write(lambda _snapshot, _ts: Outcome(None, None, delete))
    return deleted


def _forget_index(index_id: int, snapshot: Snapshot, ts: int) -> Outcome[None]:
    change = SystemChange(snapshot, ts)
    _, indexes = system_tables(snapshot.catalog)
    for found in documents(snapshot, indexes):
        if found.fields["indexId"] == index_id:
            change.delete(indexes, found)
    return Outcome(None, change.record())
