"""
Tablets that are no table's: those an import fills, and those that tables left behind.

::

             begin               finish
    (none) ─────────► filling ────────────► a table's; the tablet it had before: replaced ──► cleared,
                         │                                             when the floor has passed the change
                         └────► abandoned ──► cleared, at once
                     on request; another import begins; a server starts; after IMPORT_SECONDS

Each has a document in `_tablets`. Its rows are revisions and index entries like any others,
but no table of any moment leads to an abandoned or filling one, so nobody sees them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from tinyvex.limits import BACKFILL_STEP_ROWS
from tinyvex.storage.file import statements
from tinyvex.storage.log.catalog import TABLETS_TABLET, IndexInfo, TableInfo
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.schema.system_tables import SystemChange, SystemDocument, documents
from tinyvex.values.ids import INTERNAL_BYTES

if TYPE_CHECKING:
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["Tablet", "TabletState", "abandon_all", "add_tablet", "change_state", "clear_tablets", "tablets"]

TabletState: TypeAlias = Literal["filling", "abandoned", "replaced"]
Pause: TypeAlias = Callable[[], Awaitable[None]]


class Tablet(NamedTuple):
    """
    One of them.

    Attributes:
        found: its document.
        table: the table it is for, or was.
        state: see above.
        import_id: of the import that fills it.
        append: whether its rows go into the table's own tablet in the end.
        empty: whether the table must have no documents until then.
    """

    found: SystemDocument
    table: TableInfo
    state: TabletState
    import_id: str
    append: bool
    empty: bool

    @property
    def index_ids(self) -> list[int]:
        """Of the indexes that are its own; those of a replaced one are in `_indexes`."""
        return [index.id for index in self.table.maintained]


def tablets(snapshot: Snapshot) -> Iterator[Tablet]:
    """All of them."""
    for found in documents(snapshot, snapshot.catalog.table("_tablets")):
        yield _read(found)


def _read(found: SystemDocument) -> Tablet:
    fields = found.fields
    indexes = [IndexInfo(index["id"], index["name"], tuple(index["fields"])) for index in fields["indexes"]]
    table = TableInfo(
        name=fields["table"],
        number=fields["number"],
        tablet=fields["tablet"],
        indexes={index.name: index for index in indexes},
        maintained=tuple(indexes),
        fingerprint=fields["fingerprint"],
    )
    return Tablet(found, table, fields["state"], fields["import"], fields["append"], fields["empty"])


def add_tablet(
    change: SystemChange,
    table: TableInfo,
    state: TabletState,
    import_id: str = "",
    *,
    append: bool = False,
    empty: bool = False,
) -> None:
    """Note a tablet; `table` has its indexes, where they are its own."""
    fields: dict[str, Any] = {
        "tablet": table.tablet,
        "table": table.name,
        "number": table.number,
        "fingerprint": table.fingerprint,
        "state": state,
        "import": import_id,
        "append": append,
        "empty": empty,
        "indexes": [{"id": index.id, "name": index.name, "fields": list(index.fields)} for index in table.maintained],
    }
    change.insert(change.catalog.table("_tablets"), fields, _internal(table.tablet, state))


def change_state(change: SystemChange, tablet: Tablet, state: TabletState) -> None:
    """From now on it is something else."""
    change.update(change.catalog.table("_tablets"), tablet.found, state=state)


def _internal(tablet: int, state: TabletState) -> bytes:
    """A tablet may come here twice, filled and later replaced; a document's id only once."""
    return tablet.to_bytes(INTERNAL_BYTES - 1, "big") + (b"\1" if state == "replaced" else b"\0")


async def abandon_all(store: Store, begun_before: int | None = None) -> None:
    """Give up every import, because the server that took them is gone; or those that began before a `ts`."""
    await store.write(partial(_abandon_all, begun_before))


def _abandon_all(before: int | None, snapshot: Snapshot, ts: int) -> Outcome[None]:
    change = SystemChange(snapshot, ts)
    for tablet in tablets(snapshot):
        if tablet.state == "filling" and (before is None or tablet.found.stored.ts < before):
            change_state(change, tablet, "abandoned")
    return Outcome(None, change.record())


async def clear_tablets(store: Store, floor: int, pause: Pause) -> int:
    """
    Delete what is in tablets that can be read no more; the number of revisions deleted.

    The entries of a replaced one's indexes are not deleted here, but with all others that no moment can see.
    """
    deleted = 0
    for tablet in await store.write(partial(_over, floor)):
        if tablet.state == "abandoned":
            for index_id in tablet.index_ids:
                await _delete(store, statements.DROP_CURRENT_STEP, index_id, pause)
                await _delete(store, statements.DROP_INDEX_STEP, index_id, pause)
        deleted += await _delete(store, statements.CLEAR_TABLET_STEP, tablet.table.tablet, pause)
        await store.write(partial(_forget, tablet.found.stored.internal))
    return deleted


def _over(floor: int, snapshot: Snapshot, _ts: int) -> Outcome[list[Tablet]]:
    return Outcome(
        [
            tablet
            for tablet in tablets(snapshot)
            if tablet.state == "abandoned" or (tablet.state == "replaced" and tablet.found.stored.ts <= floor)
        ]
    )


async def _delete(store: Store, statement: str, number: int, pause: Pause) -> int:
    """Repeat a statement that deletes some rows of an index or a tablet, until there are no more."""
    total = step = 0

    def run(connection: sqlite3.Connection) -> None:
        nonlocal step
        step = connection.execute(statement, (number, BACKFILL_STEP_ROWS)).rowcount

    while True:
        await store.write(lambda _snapshot, _ts: Outcome(None, None, run))
        total += step
        if step < BACKFILL_STEP_ROWS:
            return total
        await pause()


def _forget(internal: bytes, snapshot: Snapshot, ts: int) -> Outcome[None]:
    change = SystemChange(snapshot, ts)
    stored = snapshot.get(TABLETS_TABLET, internal)
    if stored is not None:
        change.delete(change.catalog.table("_tablets"), SystemDocument.of(stored))
    return Outcome(None, change.record())
