"""
Replace the contents of tables, all of them in one commit.

1.  `begin` creates an empty tablet for each table, with indexes like the table's.
2.  Documents are added to these tablets (`write_of`), in any number of commits. No table leads to them, so no reader sees
    them.
3.  `finish` makes the tables lead to these tablets from its `ts` on. The tablets that they had before stay readable at
    older timestamps. `abandon` discards the new tablets instead.

If documents are appended to a table, `finish` copies them into the table's own tablet (`MoveTablet`), because the documents
that are there already must keep their history.

A commit with so many changes has no list of touched keys. It writes the code document instead, which every query reads, so
all live queries run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

from msgspec import Struct

from tinyvex.errors import IdExists, ImportRefused
from tinyvex.storage.file.database_file import FIRST_TABLE_NUMBER
from tinyvex.storage.log.catalog import BY_CREATION_TIME, IndexInfo, TableInfo
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.operations import MoveTablet, SetNumbers, Write
from tinyvex.storage.log.system_tablets import CODE_INTERNAL, CODE_TABLET
from tinyvex.storage.schema.system_tables import (
    SystemChange,
    SystemDocument,
    change_code,
    documents,
    is_empty,
    system_tables,
    table_fields,
)
from tinyvex.storage.schema.tablets import UPGRADE, Tablet, add_tablet, change_state, tablets
from tinyvex.values.codec import decode_canonical, encode
from tinyvex.values.ids import TABLE_NUMBER_MAX, DocumentId
from tinyvex.values.types import Value

if TYPE_CHECKING:
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["Begun", "Mode", "abandon", "begin", "filling", "finish", "require_class", "write_of"]

Mode: TypeAlias = Literal["empty", "append", "replace", "replaceAll"]
"""`empty` requires tables without documents; `replaceAll` also empties the tables that are not named."""


CLAIMED_NUMBER_END = TABLE_NUMBER_MAX // 2
"""Imported tables keep their numbers below this; new tables get higher ones, so that some are always left."""


class Begun(NamedTuple):
    """An open import: its id, and the tablet of each table."""

    import_id: str
    tablets: dict[str, int]


def begin(snapshot: Snapshot, ts: int, mode: Mode, wanted: Mapping[str, int | None]) -> Outcome[Begun]:
    """
    Create tablets to be filled, and abandon an earlier import that has not finished.

    Args:
        snapshot: the newest state.
        ts: of this commit.
        mode: what happens to existing documents.
        wanted: the tables to be filled, each with the table number in its documents' ids if that is known.

    Raises:
        ImportRefused: a table has documents, or its number belongs to another table.
    """
    change = SystemChange(snapshot, ts)
    for tablet in tablets(snapshot):
        if tablet.state == "filling" and tablet.import_id != UPGRADE:
            change_state(change, tablet, "abandoned")
    plan = _plan(snapshot, mode, wanted)
    stored = snapshot.globals()
    tablet_number, index_id = stored["next_tablet"], stored["next_index_id"]
    begun = Begun(str(ts), {})
    for target in plan.targets:
        indexes = []
        for name, fields in target.indexes.items():
            indexes.append(IndexInfo(index_id, name, fields))
            index_id += 1
        table = TableInfo(
            name=target.name,
            number=target.number,
            tablet=tablet_number,
            indexes={},
            maintained=tuple(indexes),
            fingerprint=target.fingerprint,
        )
        add_tablet(change, table, "filling", begun.import_id, append=target.append, empty=target.empty)
        begun.tablets[target.name] = tablet_number
        tablet_number += 1

    return Outcome(begun, change.record(SetNumbers(plan.next_number, tablet_number, index_id)))


class _Target(Struct, frozen=True):
    """
    A table as it will be after the import.

    Attributes:
        append: whether documents are added to those that it has.
        empty: whether it must have no documents until then, because none may be deleted.
    """

    name: str
    number: int
    indexes: Mapping[str, tuple[str, ...]]
    fingerprint: str | None
    append: bool
    empty: bool


class _ReplacementPlan(Struct):
    """The tables that an import changes, and the number of the next new table."""

    targets: list[_Target]
    next_number: int


def _plan(snapshot: Snapshot, mode: Mode, wanted: Mapping[str, int | None]) -> _ReplacementPlan:
    existing = {table.name: table for table in snapshot.catalog.tables() if table.number >= FIRST_TABLE_NUMBER}
    for name, table in existing.items():
        if name in wanted or mode == "replaceAll":
            _require_ready(table)
        if name in wanted and mode == "empty" and not is_empty(snapshot, table):
            raise ImportRefused(
                f"table `{name}` has documents; append to them (--append) or replace them (--replace)",
                table=name,
            )
    appended = {name for name in wanted if mode == "append" and name in existing}
    emptied = existing.keys() - wanted.keys() if mode == "replaceAll" else set()
    claimed = _claimed_numbers(wanted, existing, appended)
    others = [table for name, table in existing.items() if name not in wanted and name not in emptied]
    renumbered = _renumbered(snapshot, claimed, others)
    next_number = max([snapshot.globals()["next_table_number"], *(number + 1 for number in claimed)])
    names = {name: number for number, name in claimed.items()}
    targets = []
    for name in [*wanted, *sorted(emptied | renumbered)]:
        current = existing.get(name)
        own = None if current is None or current.number in claimed else current.number
        number = names.get(name, own)
        if number is None:
            number, next_number = next_number, next_number + 1
        indexes = {BY_CREATION_TIME: ("_creationTime",)} if current is None else _fields(current)
        fingerprint = None if current is None else current.fingerprint
        # A table that did not exist has nothing to append to. If it exists by the end, none of its documents may be lost.
        empty = name in renumbered or mode == "empty" or (mode == "append" and current is None)
        targets.append(_Target(name, number, indexes, fingerprint, name in appended, empty))
    return _ReplacementPlan(targets, next_number)


def _claimed_numbers(
    wanted: Mapping[str, int | None], existing: Mapping[str, TableInfo], appended: set[str]
) -> dict[int, str]:
    """Return the table numbers in the documents' ids, each with its table's name."""
    claimed: dict[int, str] = {}
    for name, given in wanted.items():
        number = existing[name].number if name in appended else given
        if number is None:
            continue
        if not FIRST_TABLE_NUMBER <= number < CLAIMED_NUMBER_END:
            raise ImportRefused(
                f"table `{name}` cannot have the number {number}: the numbers of imported tables are"
                f" {FIRST_TABLE_NUMBER} to {CLAIMED_NUMBER_END - 1}",
                table=name,
            )
        if number in claimed:
            raise ImportRefused(
                f"the ids of tables `{claimed[number]}` and `{name}` have the same table number, {number};"
                " import tables of one database only",
                table=name,
            )
        claimed[number] = name
    return claimed


def _renumbered(snapshot: Snapshot, claimed: Mapping[int, str], others: list[TableInfo]) -> set[str]:
    """Return the tables whose number an import claims; an empty table can get another one, because no id contains it."""
    renumbered = set()
    for table in others:
        name = claimed.get(table.number)
        if name is None:
            continue
        _require_ready(table)
        if not is_empty(snapshot, table):
            raise ImportRefused(
                f"the ids of table `{name}` have the table number {table.number}, which belongs to table `{table.name}`"
                " here; replace all tables, import into an empty database, or remove `_id` from the documents",
                table=name,
            )
        renumbered.add(table.name)
    return renumbered


def _require_ready(table: TableInfo) -> None:
    if len(table.indexes) < len(table.maintained):
        raise ImportRefused(f"an index of table `{table.name}` is still being built; try again later", table=table.name)


def _fields(table: TableInfo) -> dict[str, tuple[str, ...]]:
    return {index.name: index.fields for index in table.maintained}


# Filling.


def filling(snapshot: Snapshot, import_id: str) -> list[Tablet]:
    """
    Return the tablets of an import.

    Raises:
        ImportRefused: the import has finished or was abandoned.
    """
    filled = [tablet for tablet in tablets(snapshot) if tablet.state == "filling" and tablet.import_id == import_id]
    if not filled or import_id == UPGRADE:
        raise ImportRefused(
            "this import was abandoned because another one began, a table was dropped or renamed, the server restarted,"
            " or a day has passed; import again"
        )
    return filled


def require_class(snapshot: Snapshot, tablet: Tablet) -> None:
    """
    Refuse to fill if the table's class is not the one with which the import began.

    `finish` cannot find this out: by then the table may have its first class again.

    Raises:
        ImportRefused: the table has another class.
    """
    name = tablet.table.name
    exists = name in snapshot.catalog.names()
    if (snapshot.catalog.table(name).fingerprint if exists else None) != tablet.table.fingerprint:
        raise ImportRefused(f"the class of table `{name}` changed during the import; import again", table=name)


def write_of(table: TableInfo, internal: bytes, document: Mapping[str, Any]) -> Write:
    """
    Return the write that adds a document to a tablet.

    Args:
        table: the table, with the tablet.
        internal: the document key.
        document: its fields, which may be instances of classes. Index keys are computed from what is stored of them.

    Raises:
        InvalidValue: a part of it is not a value.
        ValueTooLarge: it is nested too deep, or has too many elements or fields.
    """
    data = encode(document)
    stored = cast("dict[str, Value]", decode_canonical(data))
    return Write(table.tablet, internal, data, None, (), tuple(table.keys(stored, internal)), ())


# Finishing.


def abandon(snapshot: Snapshot, ts: int, import_id: str) -> Outcome[None]:
    """Discard an import; its tablets are cleared later."""
    change = SystemChange(snapshot, ts)
    for tablet in filling(snapshot, import_id):
        change_state(change, tablet, "abandoned")
    return Outcome(None, change.record())


def finish(snapshot: Snapshot, ts: int, import_id: str) -> Outcome[None]:
    """
    Publish the contents of the import's tablets.

    Raises:
        ImportRefused: a table received documents, another class or other indexes during the import, or the import was
            abandoned.
        IdExists: a table received a document with an id of the import.
    """
    change = SystemChange(snapshot, ts)
    moves: list[MoveTablet] = []
    by_name = {name: snapshot.catalog.table(name) for name in snapshot.catalog.names()}
    system = _SystemDocuments(snapshot)
    for tablet in filling(snapshot, import_id):
        table = by_name.get(tablet.table.name)
        _check_unchanged(snapshot, tablet, table)
        if tablet.append:
            assert table is not None, tablet
            _check_ids(snapshot, tablet, table)
            moves.append(_move(snapshot, tablet, table))
            change_state(change, tablet, "abandoned")
        else:
            _change_over(change, system, tablet, table)
    code = snapshot.get(CODE_TABLET, CODE_INTERNAL)
    assert code is not None, "a store that serves has its code"
    change_code(change, code)
    return Outcome(None, change.record(*moves))


class _SystemDocuments:
    """The documents of `_tables` by table name, and those of `_indexes` by tablet."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.tables, self.indexes = system_tables(snapshot.catalog)
        self.table: dict[str, SystemDocument] = {
            document.fields["name"]: document for document in documents(snapshot, self.tables)
        }
        self.indexes_of: dict[int, list[SystemDocument]] = {}
        for document in documents(snapshot, self.indexes):
            self.indexes_of.setdefault(document.fields["tablet"], []).append(document)


def _check_unchanged(snapshot: Snapshot, tablet: Tablet, table: TableInfo | None) -> None:
    name = tablet.table.name
    if table is None:
        return
    _require_ready(table)
    if table.fingerprint != tablet.table.fingerprint or _fields(table) != _fields(tablet.table):
        raise ImportRefused(
            f"the class or the indexes of table `{name}` changed during the import; import again", table=name
        )
    if tablet.empty and not is_empty(snapshot, table):
        raise ImportRefused(f"table `{name}` received documents during the import; import again", table=name)


def _check_ids(snapshot: Snapshot, tablet: Tablet, table: TableInfo) -> None:
    document_key = snapshot.common_document(tablet.table.tablet, table.tablet)
    if document_key is not None:
        text = DocumentId(table.number, document_key).text
        raise IdExists(f"the id `{text}` of table `{table.name}` exists already, or existed before", id=text)


def _change_over(change: SystemChange, system: _SystemDocuments, tablet: Tablet, table: TableInfo | None) -> None:
    """Make the table lead to the tablet, with the tablet's indexes."""
    new = tablet.table
    change.delete(change.catalog.table("_tablets"), tablet.document)
    if table is None:
        change.insert(system.tables, table_fields(new.name, new.number, new.tablet))
    else:
        change.update(system.tables, system.table[new.name], tablet=new.tablet, number=new.number)
        old = TableInfo(table.name, table.number, table.tablet, {}, (), table.fingerprint)
        add_tablet(change, old, "replaced")
        for document in system.indexes_of.get(table.tablet, []):
            if document.fields["state"] != "dropping":
                change.update(system.indexes, document, state="dropping")
    for index in new.maintained:
        change.insert(
            system.indexes,
            {
                "tablet": new.tablet, "indexId": index.id, "name": index.name, "fields": list(index.fields),
                "state": "ready", "everReady": True,
            },
        )  # fmt: skip


def _move(snapshot: Snapshot, tablet: Tablet, table: TableInfo) -> MoveTablet:
    """Return the operation that copies a tablet's documents into a table's tablet."""
    own = {index.name: index.id for index in tablet.table.maintained}
    indexes = tuple((own[index.name], index.id) for index in table.maintained)
    source = tablet.table.tablet
    return MoveTablet(source, table.tablet, indexes, snapshot.count_revisions(source))
