"""
Tablets that no table leads to: those that are being filled, and those that tables left behind.

::

             begin               finish
    (none) ─────────► filling ────────────► a table's; the tablet that it had before: replaced ──► cleared,
                         │                                             when the floor has passed the change
                         └────► abandoned ──► cleared, immediately
                     on request; another import begins; a server starts; after IMPORT_SECONDS

A tablet is filled by an import (`table_replacement.py`) or with upgraded documents (`document_upgrade.py`).
Each of them has a document in `_tablets`. Its rows are revisions and index entries like any others, but at no readable
timestamp does a table lead to a filling or abandoned tablet, so no reader sees them.

Clearing is local housekeeping. Which tablets to clear is read from the history of `_tablets`, not from its newest state:
a replica learns that a tablet was cleared elsewhere when its document disappears, and must still clear its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from tinyvex.limits import BACKFILL_STEP_ROWS
from tinyvex.storage.log.catalog import IndexInfo, TableInfo
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.storage.log.system_tablets import TABLETS_TABLET
from tinyvex.storage.schema.system_tables import SystemChange, SystemDocument, documents
from tinyvex.values.ids import INTERNAL_BYTES

if TYPE_CHECKING:
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.document_log import Snapshot
    from tinyvex.storage.log.housekeeping import Housekeeping

__all__ = [
    "UPGRADE",
    "Tablet",
    "TabletState",
    "abandon_all",
    "add_tablet",
    "change_state",
    "clear_tablets",
    "past_tablets",
    "tablets",
    "unreadable_tablets",
]

UPGRADE = "upgrade"
"""In the place of an import's id: the tablet is filled with upgraded documents by a schema change."""

TabletState: TypeAlias = Literal["filling", "abandoned", "replaced"]
Pause: TypeAlias = Callable[[], Awaitable[None]]


class Tablet(NamedTuple):
    """
    A tablet without a table.

    Attributes:
        document: in `_tablets`.
        table: the table that it is for, or was of.
        state: see above.
        import_id: of the import that fills it.
        append: whether its rows are copied into the table's own tablet in the end.
        empty: whether the table must have no documents until then.
    """

    document: SystemDocument
    table: TableInfo
    state: TabletState
    import_id: str
    append: bool
    empty: bool

    @property
    def index_ids(self) -> list[int]:
        """Return the indexes that belong to it; those of a replaced tablet are in `_indexes`."""
        return [index.id for index in self.table.maintained]


def tablets(snapshot: Snapshot) -> Iterator[Tablet]:
    """Yield all of them."""
    for document in documents(snapshot, snapshot.catalog.table("_tablets")):
        yield _tablet(document)


def past_tablets(snapshot: Snapshot) -> Iterator[Tablet]:
    """Yield all of them, including those whose documents were deleted but are still in the log, as they last were."""
    last: dict[bytes, StoredDocument] = {}
    for stored in snapshot.stored_revisions(TABLETS_TABLET):
        last[stored.internal] = stored
    for stored in last.values():
        yield _tablet(SystemDocument.of(stored))


def _tablet(document: SystemDocument) -> Tablet:
    fields = document.fields
    indexes = [IndexInfo(index["id"], index["name"], tuple(index["fields"])) for index in fields["indexes"]]
    table = TableInfo(
        name=fields["table"],
        number=fields["number"],
        tablet=fields["tablet"],
        indexes={index.name: index for index in indexes},
        maintained=tuple(indexes),
        fingerprint=fields["fingerprint"],
    )
    return Tablet(document, table, fields["state"], fields["import"], fields["append"], fields["empty"])


def add_tablet(
    change: SystemChange,
    table: TableInfo,
    state: TabletState,
    import_id: str = "",
    *,
    append: bool = False,
    empty: bool = False,
) -> None:
    """Add a tablet; `table` has the indexes that belong to it."""
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
    """Change the state of a tablet."""
    change.update(change.catalog.table("_tablets"), tablet.document, state=state)


def _internal(tablet: int, state: TabletState) -> bytes:
    """Return a document id: one tablet may need two, because it can be filled and later replaced."""
    return tablet.to_bytes(INTERNAL_BYTES - 1, "big") + (b"\1" if state == "replaced" else b"\0")


async def abandon_all(store: Store, begun_before: int | None = None) -> None:
    """Abandon everything that is being filled, because its server is gone; or the imports that began before a `ts`."""
    await store.write(partial(_abandon_all, begun_before))


def _abandon_all(before: int | None, snapshot: Snapshot, ts: int) -> Outcome[None]:
    change = SystemChange(snapshot, ts)
    for tablet in tablets(snapshot):
        is_old = before is None or (tablet.document.stored.ts < before and tablet.import_id != UPGRADE)
        if tablet.state == "filling" and is_old:
            change_state(change, tablet, "abandoned")
    return Outcome(None, change.record())


async def clear_tablets(store: Store, floor: int, pause: Pause) -> int:
    """
    Delete the contents of tablets that no readable timestamp sees, and then their documents in `_tablets`.

    Index entries of a replaced tablet are not deleted here, but by the walk that deletes unreadable entries.

    Returns:
        The number of revisions deleted.
    """
    deleted = 0
    for tablet in await store.housekeep(lambda house: unreadable_tablets(house.snapshot, floor)):
        if tablet.state == "abandoned":
            for index_id in tablet.index_ids:
                await _repeat(store, partial(_clear_index, index_id), pause)
        deleted += await _repeat(store, partial(_clear_tablet, tablet.table.tablet), pause)
        await store.write(partial(_remove, tablet.document.stored.internal))
    return deleted


def unreadable_tablets(snapshot: Snapshot, floor: int) -> list[Tablet]:
    """Return the tablets to clear, without those that are cleared already and only have a history."""
    present = {tablet.document.stored.internal for tablet in tablets(snapshot)}
    return [
        tablet
        for tablet in past_tablets(snapshot)
        if (tablet.state == "abandoned" or (tablet.state == "replaced" and tablet.document.stored.ts <= floor))
        and (tablet.document.stored.internal in present or snapshot.has_revisions(tablet.table.tablet))
    ]


def _clear_index(index_id: int, house: Housekeeping) -> int:
    return house.clear_index(index_id, BACKFILL_STEP_ROWS)


def _clear_tablet(tablet: int, house: Housekeeping) -> int:
    return house.clear_tablet(tablet, BACKFILL_STEP_ROWS)


async def _repeat(store: Store, chore: Callable[[Housekeeping], int], pause: Pause) -> int:
    """Repeat a chore that deletes some rows, until there are none left; return how many there were."""
    total = 0
    while (deleted := await store.housekeep(chore)) > 0:
        total += deleted
        await pause()
    return total


def _remove(internal: bytes, snapshot: Snapshot, ts: int) -> Outcome[None]:
    change = SystemChange(snapshot, ts)
    stored = snapshot.get(TABLETS_TABLET, internal)
    if stored is not None:
        change.delete(change.catalog.table("_tablets"), SystemDocument.of(stored))
    return Outcome(None, change.record())
