"""
Upgrade documents: store them as a changed class stores them, in the commit that makes the class current.

A query reads an old document through the new class, which supplies defaults for new fields and coerces numbers. An index
finds what is stored. For an indexed field both must be equal, so documents that the class stores otherwise are rewritten.

There may be any number of them, readers must see all of them change in one commit, and their new contents come from the
class, which only this process has. So the contents are *staged*:

1.  Between mutations, a page at a time, each outdated document's new contents go into a tablet that no table leads to
    (`FillTablet`). If the schema change is refused or interrupted, that tablet is abandoned and later cleared.
2.  Documents that mutations write in the meantime are found by walking the log, and staged (again) if they need to be.
3.  The commit that switches the code contains one `UpgradeDocuments` per table. It gives each document its staged contents,
    unless the document was written after they were staged. The last few documents of the walk are written directly.

The record of that commit is small whatever the number of documents, and a replica that replays it needs no class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from tinyvex.storage.log.catalog import Catalog, IndexInfo, TableInfo
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.operations import FillTablet, Operation, SetNumbers, UpgradeDocuments, Write, WriteDocuments
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.storage.schema.system_tables import SystemChange, fields_of
from tinyvex.storage.schema.tablets import UPGRADE, Tablet, add_tablet, change_state, tablets

__all__ = ["Upgrade", "Validator", "abandon_staged", "is_staged", "stage", "upgrade_operations"]

Validator: TypeAlias = Callable[[bytes, Catalog], tuple[list[str], bytes]]
"""Return the problems of a stored document, and the JSON to store if it has none: most often the same."""


class Upgrade(NamedTuple):
    """A document and the contents that it is to have."""

    table: TableInfo
    stored: StoredDocument
    json: bytes

    def write(self, indexes: list[IndexInfo]) -> Write:
        """Return the write that makes the change directly."""
        stored = self.stored
        before, after = fields_of(stored), fields_of(replace(stored, json=self.json))
        old = [(index.id, index.key(before, stored.internal)) for index in indexes]
        new = [(index.id, index.key(after, stored.internal)) for index in indexes]
        return Write.between(self.table.tablet, stored.internal, self.json, stored.ts, old, new)


def stage(snapshot: Snapshot, ts: int, staged: dict[int, int], upgrades: list[Upgrade]) -> CommitRecord | None:
    """
    Return the record that stages some upgrades.

    Args:
        snapshot: the newest state.
        ts: of the record.
        staged: for each table's tablet the one with its staged contents; new ones are added.
        upgrades: documents as they are in the snapshot.
    """
    change = SystemChange(snapshot, ts)
    operations: list[Operation] = []
    numbers = snapshot.globals()
    next_tablet = numbers["next_tablet"]
    # A group that is rolled back runs this again: tablets added the first time do not exist.
    known = {tablet.table.tablet for tablet in _staging(snapshot)}
    for table in {upgrade.table.tablet: upgrade.table for upgrade in upgrades}.values():
        if staged.get(table.tablet) not in known:
            staged[table.tablet] = next_tablet
            source = TableInfo(table.name, table.number, next_tablet, {}, (), table.fingerprint)
            add_tablet(change, source, "filling", UPGRADE)
            next_tablet += 1
    if next_tablet != numbers["next_tablet"]:
        operations.append(SetNumbers(numbers["next_table_number"], next_tablet, numbers["next_index_id"]))
    if upgrades:
        operations.append(FillTablet(tuple(_staging_write(snapshot, staged, upgrade) for upgrade in upgrades)))
    return change.record(*operations)


def _staging_write(snapshot: Snapshot, staged: dict[int, int], upgrade: Upgrade) -> Write:
    source, internal = staged[upgrade.table.tablet], upgrade.stored.internal
    before = snapshot.get(source, internal)
    return Write(source, internal, upgrade.json, None if before is None else before.ts, (), (), ())


def is_staged(snapshot: Snapshot, staged: dict[int, int], table: TableInfo, stored: StoredDocument) -> bool:
    """Return whether the contents of a document's newest revision are staged already."""
    source = staged.get(table.tablet)
    contents = None if source is None else snapshot.get(source, stored.internal)
    return contents is not None and contents.ts > stored.ts


def upgrade_operations(
    snapshot: Snapshot,
    ts: int,
    staged: dict[int, int],
    rest: list[Upgrade],
    indexes_of: Callable[[TableInfo], list[IndexInfo]],
) -> list[Operation]:
    """
    Return the operations with which the upgrade becomes visible.

    Args:
        snapshot: the newest state.
        ts: of the record that they belong to.
        staged: see `stage`.
        rest: documents that changed too late to be staged.
        indexes_of: the indexes of a table that mutations maintain from now on.
    """
    operations: list[Operation] = []
    for target, source in staged.items():
        table = snapshot.catalog.tablet(target)
        if table is None:
            continue  # an import has replaced the table's contents
        rows = snapshot.count_staged(source, target, ts)
        if rows:
            indexes = tuple(index.as_fields for index in indexes_of(table))
            operations.append(UpgradeDocuments(source, target, indexes, rows))
    if rest:
        operations.append(WriteDocuments(tuple(upgrade.write(indexes_of(upgrade.table)) for upgrade in rest)))
    return operations


def abandon_staged(change: SystemChange, snapshot: Snapshot) -> None:
    """Abandon all staged contents, because they were copied or are no longer wanted."""
    for tablet in _staging(snapshot):
        change_state(change, tablet, "abandoned")


def _staging(snapshot: Snapshot) -> list[Tablet]:
    return [tablet for tablet in tablets(snapshot) if tablet.state == "filling" and tablet.import_id == UPGRADE]
