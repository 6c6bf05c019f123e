"""
The differences between the file and the app.

Most starts find none. They then need only this file, and not the code that changes a schema (`schema_change.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from tinyvex.storage.log.catalog import BY_CREATION_TIME
from tinyvex.storage.log.system_tablets import CODE_INTERNAL, CODE_TABLET
from tinyvex.storage.schema.system_tables import documents, fields_of, is_empty, system_tables
from tinyvex.storage.schema.tablets import UPGRADE, tablets

if TYPE_CHECKING:
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["Declaration", "SchemaPlan", "fits", "has_code", "plan_change", "table_tablets"]


class Declaration(Struct, frozen=True):
    """
    The tables that an app declares.

    Attributes:
        tables: the indexes of each table, and the fields of each index.
        renamed_from: the earlier names of tables, the latest first; none of them is a declared name.
        schemas: the stored schema of each table with a class; see `values/stored_schema.py`.
    """

    tables: Mapping[str, Mapping[str, tuple[str, ...]]]
    renamed_from: Mapping[str, tuple[str, ...]] = {}
    schemas: Mapping[str, str] = {}


class SchemaPlan(Struct):
    """The differences between the file and the app; tables are called by the names that they have in the file."""

    renames: dict[str, str] = field(default_factory=dict)
    """The new names of tables. A table that has the new name already is empty, and is dropped."""
    declared: dict[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """The indexes of each declared table."""
    new_tables: list[str] = field(default_factory=list)
    new_indexes: list[tuple[str, str]] = field(default_factory=list)
    dropped_indexes: list[tuple[str, str]] = field(default_factory=list)
    fingerprints: dict[str, str | None] = field(default_factory=dict)
    outdated: set[str] = field(default_factory=set)
    """Tables that have documents in a form that their new class would not store."""
    staged: dict[int, int] = field(default_factory=dict)
    """For the tablet of a table, the one with the staged contents of its documents."""
    code: bool = False
    newest_row: int = 0
    tablets: Mapping[str, int] = field(default_factory=dict)
    """The tablet of each table when the plan was made."""

    def empty(self) -> bool:
        """Return whether the file fits the app already."""
        return not (
            self.renames
            or self.new_tables
            or self.new_indexes
            or self.dropped_indexes
            or self.fingerprints
            or self.code
        )


def fits(declaration: Declaration, fingerprint: str, table_fingerprints: Mapping[str, str], snapshot: Snapshot) -> bool:
    """
    Return whether the file fits an app, and no earlier change was interrupted.

    A change of the schema would then commit nothing; see `change_schema` for the arguments.
    """
    _, indexes = system_tables(snapshot.catalog)
    return (
        all(document.fields["state"] == "ready" for document in documents(snapshot, indexes))
        and not any(tablet.state == "filling" and tablet.import_id == UPGRADE for tablet in tablets(snapshot))
        and plan_change(declaration, fingerprint, table_fingerprints, snapshot).empty()
    )


def has_code(snapshot: Snapshot) -> bool:
    """Return whether an app was ever served: a process that created the file may have been killed before."""
    return snapshot.get(CODE_TABLET, CODE_INTERNAL) is not None


def plan_change(
    declaration: Declaration, fingerprint: str, table_fingerprints: Mapping[str, str], snapshot: Snapshot
) -> SchemaPlan:
    """Compare the file with an app; see `change_schema` for the arguments."""
    plan = SchemaPlan(newest_row=snapshot.newest_row(), tablets=table_tablets(snapshot))
    code = snapshot.get(CODE_TABLET, CODE_INTERNAL)
    plan.code = code is None or fields_of(code)["fingerprint"] != fingerprint
    existing = set(snapshot.catalog.names())
    plan.renames = _renames(declaration, snapshot)
    current = {new: old for old, new in plan.renames.items()}
    for declared, indexes in declaration.tables.items():
        name = current.get(declared, declared)
        plan.declared[name] = indexes
        table_fingerprint = table_fingerprints.get(declared)
        if name not in existing:
            plan.new_tables.append(name)
            plan.fingerprints[name] = table_fingerprint
            continue
        table = snapshot.catalog.table(name)
        if table.fingerprint != table_fingerprint:
            plan.fingerprints[name] = table_fingerprint
        for index_name, index in table.indexes.items():
            if index_name != BY_CREATION_TIME and indexes.get(index_name) != index.fields:
                plan.dropped_indexes.append((name, index_name))
        for index_name, fields in indexes.items():
            if index_name not in table.indexes or table.indexes[index_name].fields != fields:
                plan.new_indexes.append((name, index_name))
    # Writes to a table without a class are not validated, so the next class must validate the whole table.
    for name in existing - plan.declared.keys() - current.keys():
        if snapshot.catalog.table(name).fingerprint is not None:
            plan.fingerprints[name] = None
    return plan


def _renames(declaration: Declaration, snapshot: Snapshot) -> dict[str, str]:
    """Return the new name of each table that is to be renamed."""
    catalog = snapshot.catalog
    renames = {}
    for new, earlier in declaration.renamed_from.items():
        old = next((name for name in earlier if name in catalog), None)
        if old is not None and (new not in catalog or is_empty(snapshot, catalog.table(new))):
            renames[old] = new
    return renames


def table_tablets(snapshot: Snapshot) -> Mapping[str, int]:
    """Return the tablet of each of the app's tables."""
    return {name: snapshot.catalog.table(name).tablet for name in snapshot.catalog.names()}
