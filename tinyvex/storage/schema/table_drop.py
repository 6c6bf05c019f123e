"""
Drop a table: its documents, its indexes and its name.

Nothing is deleted at once. The table's tablet is left behind as *replaced*: at an older timestamp the table has its name
and its documents, until the floor has passed the drop (`tablets.py`). The name and the number are free from then on.
"""

from __future__ import annotations

from collections.abc import Collection

from tinyvex.storage.log.catalog import TableInfo
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.system_tablets import CODE_INTERNAL, CODE_TABLET
from tinyvex.storage.schema.system_tables import SystemChange, change_code, documents, system_tables
from tinyvex.storage.schema.tablets import UPGRADE, add_tablet, change_state, tablets

__all__ = ["abandon_imports", "drop", "remove_table"]


def drop(snapshot: Snapshot, ts: int, name: str) -> CommitRecord:
    """
    Return the commit that drops a table; live queries run again, because no list of keys could name all that it changes.

    Raises:
        UnknownTable: the database does not have it.
    """
    table = snapshot.catalog.table(name)
    change = SystemChange(snapshot, ts)
    remove_table(change, snapshot, table)
    abandon_imports(change, snapshot, {name})
    code = snapshot.get(CODE_TABLET, CODE_INTERNAL)
    assert code is not None, "a store that serves has its code"
    change_code(change, code)
    record = change.record()
    assert record is not None
    return record


def remove_table(change: SystemChange, snapshot: Snapshot, table: TableInfo) -> None:
    """Delete a table's document, drop its indexes, and leave its tablet behind."""
    tables, indexes = system_tables(snapshot.catalog)
    for document in documents(snapshot, indexes):
        if document.fields["tablet"] == table.tablet and document.fields["state"] != "dropping":
            change.update(indexes, document, state="dropping")
    for document in documents(snapshot, tables):
        if document.fields["tablet"] == table.tablet:
            change.delete(tables, document)
    left = TableInfo(table.name, table.number, table.tablet, {}, (), table.fingerprint)
    add_tablet(change, left, "replaced")


def abandon_imports(change: SystemChange, snapshot: Snapshot, names: Collection[str]) -> None:
    """Abandon the imports that fill one of these tables: they would bring it back."""
    filled = [tablet for tablet in tablets(snapshot) if tablet.state == "filling" and tablet.import_id != UPGRADE]
    imports = {tablet.import_id for tablet in filled if tablet.table.name in names}
    for tablet in filled:
        if tablet.import_id in imports:
            change_state(change, tablet, "abandoned")
