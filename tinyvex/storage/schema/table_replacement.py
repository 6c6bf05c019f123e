"""
Replacing what is in tables, all of them in one commit.

1.  `begin` makes an empty tablet for each table, with indexes like the table's.
2.  Documents are added to them (`write_of`), in as many commits as it takes. Nobody sees them yet.
3.  `finish` lets the tables lead to these tablets from its `ts` on. The tablets they had stay readable at older ones.
    `abandon` forgets the new ones instead.

Where documents are appended to a table, `finish` copies them into the tablet that it has.

Live queries find the new contents because the commit counts as a change of the code: all of them run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from tinyvex.errors import IdExists, ImportRefused
from tinyvex.storage.file.database_file import FIRST_TABLE_NUMBER
from tinyvex.storage.log.catalog import BY_CREATION_TIME, IndexInfo, TableInfo
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN
from tinyvex.storage.log.operations import MoveTablet, SetNumbers, Write
from tinyvex.storage.log.system_tablets import CODE_INTERNAL, CODE_TABLET
from tinyvex.storage.schema.schema_change import change_code
from tinyvex.storage.schema.system_tables import SystemChange, SystemDocument, documents, system_tables
from tinyvex.storage.schema.tablets import UPGRADE, Tablet, add_tablet, change_state, tablets
from tinyvex.values.codec import encode
from tinyvex.values.ids import TABLE_NUMBER_MAX, DocumentId
from tinyvex.values.types import Value

if TYPE_CHECKING:
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["Begun", "Mode", "abandon", "begin", "filling", "finish", "require_class", "write_of"]

Mode: TypeAlias = Literal["empty", "append", "replace", "replaceAll"]
"""`empty` needs tables without documents; `replaceAll` also empties the tables that are not named."""


CLAIMED_NUMBER_END = TABLE_NUMBER_MAX // 2
"""Later tables get numbers above those of any import; so many are left to them that there are always some."""


class Begun(NamedTuple):
    """An import under way: what to call it, and each table's tablet."""

    import_id: str
    tablets: dict[str, int]


def begin(snapshot: Snapshot, ts: int, mode: Mode, wanted: Mapping[str, int | None]) -> Outcome[Begun]:
    """
    Make tablets to be filled; an earlier import that has not finished is given up.

    Args:
        snapshot: the newest state.
        ts: of this commit.
        mode: what becomes of the documents that are there.
        wanted: the tables to be filled, with the number that their documents' ids have, where it is known.

    Raises:
        ImportRefused: a table has documents, or a number is another table's.
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


@dataclass(frozen=True, slots=True)
class _Target:
    """A table as it will be."""

    name: str
    number: int
    indexes: Mapping[str, tuple[str, ...]]
    fingerprint: str | None
    append: bool
    empty: bool


@dataclass(slots=True)
class _ReplacementPlan:
    targets: list[_Target]
    next_number: int


def _plan(snapshot: Snapshot, mode: Mode, wanted: Mapping[str, int | None]) -> _ReplacementPlan:
    there = {table.name: table for table in snapshot.catalog.tables() if table.number >= FIRST_TABLE_NUMBER}
    for name, table in there.items():
        if name in wanted or mode == "replaceAll":
            _require_ready(table)
        if name in wanted and mode == "empty" and not _is_empty(snapshot, table):
            raise ImportRefused(
                f"table {name!r} has documents: say whether to append to them or to replace them (--append, --replace)",
                table=name,
            )
    appended = {name for name in wanted if mode == "append" and name in there}
    emptied = there.keys() - wanted.keys() if mode == "replaceAll" else set()
    claimed = _claimed_numbers(wanted, there, appended)
    holders = [there[name] for name in there if name not in wanted and name not in emptied]
    in_the_way = _in_the_way(snapshot, claimed, holders)
    next_number = max([snapshot.globals()["next_table_number"], *(number + 1 for number in claimed)])
    names = {name: number for number, name in claimed.items()}
    targets = []
    for name in [*wanted, *sorted(emptied | in_the_way)]:
        found = there.get(name)
        own = None if found is None or found.number in claimed else found.number
        number = names.get(name, own)
        if number is None:
            number, next_number = next_number, next_number + 1
        indexes = {BY_CREATION_TIME: ("_creationTime",)} if found is None else _fields(found)
        fingerprint = None if found is None else found.fingerprint
        # Where there was nothing to append to, there must be nothing in the end: no documents are to go.
        empty = name in in_the_way or mode == "empty" or (mode == "append" and found is None)
        targets.append(_Target(name, number, indexes, fingerprint, name in appended, empty))
    return _ReplacementPlan(targets, next_number)


def _claimed_numbers(
    wanted: Mapping[str, int | None], there: Mapping[str, TableInfo], appended: set[str]
) -> dict[int, str]:
    """Which numbers the documents' ids have, each one table's."""
    claimed: dict[int, str] = {}
    for name, given in wanted.items():
        number = there[name].number if name in appended else given
        if number is None:
            continue
        if not FIRST_TABLE_NUMBER <= number < CLAIMED_NUMBER_END:
            raise ImportRefused(f"table {name!r} cannot have the number {number}", table=name)
        if number in claimed:
            raise ImportRefused(f"tables {claimed[number]!r} and {name!r} have one number, {number}", table=name)
        claimed[number] = name
    return claimed


def _in_the_way(snapshot: Snapshot, claimed: Mapping[int, str], holders: list[TableInfo]) -> set[str]:
    """The tables that must have another number. They can, where they are empty: no document has an id with it."""
    found = set()
    for holder in holders:
        name = claimed.get(holder.number)
        if name is None:
            continue
        _require_ready(holder)
        if not _is_empty(snapshot, holder):
            raise ImportRefused(
                f"the ids of table {name!r} have the number {holder.number}, which is table {holder.name!r}'s here:"
                " replace all tables, or import into an empty database",
                table=name,
            )
        found.add(holder.name)
    return found


def _require_ready(table: TableInfo) -> None:
    if len(table.indexes) < len(table.maintained):
        raise ImportRefused(f"an index of table {table.name!r} is still being built: try again later", table=table.name)


def _is_empty(snapshot: Snapshot, table: TableInfo) -> bool:
    return snapshot.count_page(table.indexes[BY_CREATION_TIME], KEY_MIN, KEY_MAX, limit=1).total == 0


def _fields(table: TableInfo) -> dict[str, tuple[str, ...]]:
    return {index.name: index.fields for index in table.maintained}


# Filling.


def filling(snapshot: Snapshot, import_id: str) -> list[Tablet]:
    """
    The tablets of an import.

    Raises:
        ImportRefused: there is no such import any more.
    """
    found = [tablet for tablet in tablets(snapshot) if tablet.state == "filling" and tablet.import_id == import_id]
    if not found or import_id == UPGRADE:
        raise ImportRefused(
            "this import was given up: another one began, the server was started anew, or a day has passed"
        )
    return found


def require_class(snapshot: Snapshot, tablet: Tablet) -> None:
    """
    Refuse to fill where documents would be compared with another class than the one that the table had.

    In the end it may have that one again.

    Raises:
        ImportRefused: the table has another class by now.
    """
    name = tablet.table.name
    known = name in snapshot.catalog.names()
    if (snapshot.catalog.table(name).fingerprint if known else None) != tablet.table.fingerprint:
        raise ImportRefused(f"table {name!r} got another class meanwhile: import again", table=name)


def write_of(table: TableInfo, internal: bytes, document: Mapping[str, Value]) -> Write:
    """A document that a tablet gets."""
    return Write(table.tablet, internal, encode(document), None, (), tuple(table.keys(document, internal)), ())


# The end.


def abandon(snapshot: Snapshot, ts: int, import_id: str) -> Outcome[None]:
    """Leave everything as it is; what was filled is deleted in time."""
    change = SystemChange(snapshot, ts)
    for tablet in filling(snapshot, import_id):
        change_state(change, tablet, "abandoned")
    return Outcome(None, change.record())


def finish(snapshot: Snapshot, ts: int, import_id: str) -> Outcome[None]:
    """
    Let the tables have what was filled.

    Raises:
        ImportRefused: a table got documents, another class or other indexes meanwhile, or the import was given up.
        IdExists: a table got a document with an id of the import meanwhile.
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
    """What `_tables` and `_indexes` say, by what it is about."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.tables, self.indexes = system_tables(snapshot.catalog)
        self.table: dict[str, SystemDocument] = {
            found.fields["name"]: found for found in documents(snapshot, self.tables)
        }
        self.indexes_of: dict[int, list[SystemDocument]] = {}
        for found in documents(snapshot, self.indexes):
            self.indexes_of.setdefault(found.fields["tablet"], []).append(found)


def _check_unchanged(snapshot: Snapshot, tablet: Tablet, table: TableInfo | None) -> None:
    name = tablet.table.name
    if table is None:
        return
    _require_ready(table)
    if table.fingerprint != tablet.table.fingerprint or _fields(table) != _fields(tablet.table):
        raise ImportRefused(f"table {name!r} got another class or other indexes meanwhile: import again", table=name)
    if tablet.empty and not _is_empty(snapshot, table):
        raise ImportRefused(f"table {name!r} got documents meanwhile", table=name)


def _check_ids(snapshot: Snapshot, tablet: Tablet, table: TableInfo) -> None:
    both = snapshot.common_document(tablet.table.tablet, table.tablet)
    if both is not None:
        text = DocumentId(table.number, both).text
        raise IdExists(f"the id {text!r} of table {table.name!r} exists already, or existed before", id=text)


def _change_over(change: SystemChange, system: _SystemDocuments, tablet: Tablet, table: TableInfo | None) -> None:
    """The table leads to the tablet, whose indexes are its indexes."""
    new = tablet.table
    change.delete(change.catalog.table("_tablets"), tablet.document)
    if table is None:
        fields: dict[str, Any] = {"name": new.name, "number": new.number, "tablet": new.tablet, "fingerprint": None}
        change.insert(system.tables, fields)
    else:
        change.update(system.tables, system.table[new.name], tablet=new.tablet, number=new.number)
        old = TableInfo(table.name, table.number, table.tablet, {}, (), table.fingerprint)
        add_tablet(change, old, "replaced")
        for found in system.indexes_of.get(table.tablet, []):
            if found.fields["state"] != "dropping":
                change.update(system.indexes, found, state="dropping")
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
