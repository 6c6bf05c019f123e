"""
The catalog: the tables and indexes at a timestamp.

Tables and indexes are documents of the system tables `_tables` and `_indexes`, versioned like any others, so a read at
an older `ts` finds the tables of that time.

The ids of a table's documents contain its *number*. Its rows contain its *tablet*, which is never reused: replacing the
contents of a table gives it another tablet under the same number.

An index goes through these states::

    building ──► ready ──► dropping ──► (deleted)
        └──────────────────────┘            if the schema change did not finish

Mutations maintain a building or ready index. Queries read only ready ones.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, cast

from msgspec import Struct
from msgspec.structs import force_setattr

from tinyvex.errors import UnknownIndex, UnknownTable
from tinyvex.storage.file import statements
from tinyvex.storage.file.checksums import checked_revision
from tinyvex.storage.log.operations import IndexFields, IndexKey
from tinyvex.storage.log.system_tablets import CODE_TABLET, INDEXES_TABLET, TABLES_TABLET, TABLETS_TABLET
from tinyvex.values.codec import decode_canonical
from tinyvex.values.key_encoding import encode_part
from tinyvex.values.suggestions import did_you_mean
from tinyvex.values.types import MISSING, Int64, Missing, Value

__all__ = [
    "BY_CREATION_TIME",
    "BY_ID",
    "Catalog",
    "IndexInfo",
    "IndexState",
    "TableInfo",
    "load_catalog",
]

LISTED_TABLES_MAX = 10
"""Tables that the error for an unknown one lists."""

BY_ID = "by_id"
BY_CREATION_TIME = "by_creation_time"

_COMPARABLE = frozenset((str, int, bool, bytes, type(None), Int64, Missing))
"""Types whose equal values have equal keys. Not floats, because -0.0 == 0.0."""

IndexState = Literal["building", "ready", "dropping"]


class IndexInfo(Struct, frozen=True):
    """
    An index of a table.

    Attributes:
        fields: the sort order, most significant first; dots reach into nested objects.
        ready: whether it contains every document.
    """

    id: int
    name: str
    fields: tuple[str, ...]
    ready: bool = True
    _paths: tuple[tuple[str, ...], ...] = ()  # derived

    def __post_init__(self) -> None:
        names = self.fields[:-1] if self.fields[-1:] == ("_creationTime",) else self.fields
        force_setattr(self, "_paths", tuple(tuple(name.split(".")) for name in names))

    @property
    def as_fields(self) -> IndexFields:
        """Return what an operation needs to compute keys of this index."""
        return self.id, self.fields

    def key(self, document: Mapping[str, Value], internal: bytes) -> bytes:
        """Return the document's key: its fields, its creation time, and its document key, which makes it unique."""
        return self.key_before(document, encode_part(document["_creationTime"]) + internal)

    def same_key(self, document: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
        """Return whether two revisions certainly have the same key, without encoding it; may be False although they do."""
        for name, *inner in self._paths:
            value = document.get(name, MISSING)
            value_type = type(value)
            if value_type not in _COMPARABLE or inner:
                return False
            compared = other.get(name, MISSING)
            if type(compared) is not value_type or compared != value:
                return False
        return True

    def key_before(self, document: Mapping[str, Value], ending: bytes) -> bytes:
        """Return the key, given its ending (creation time and document key), which all indexes of a document share."""
        key = b""
        for path in self._paths:
            key += encode_part(document.get(path[0], MISSING) if len(path) == 1 else _reach(document, path))
        return key + ending


def _reach(document: Mapping[str, Value], path: tuple[str, ...]) -> Value | Missing:
    value: Any = document
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return MISSING
        value = value[name]
    return cast("Value", value)


class TableInfo(Struct, frozen=True):
    """
    A table at a timestamp.

    Attributes:
        number: in the ids of its documents.
        tablet: in its rows.
        indexes: by name, the ready ones; `by_creation_time` is always among them.
        maintained: the indexes that mutations update: ready and building ones.
        fingerprint: of the class against which its documents were last validated.
        indexed: the top-level fields that any maintained index reads.
    """

    name: str
    number: int
    tablet: int
    indexes: Mapping[str, IndexInfo]
    maintained: tuple[IndexInfo, ...]
    fingerprint: str | None = None
    indexed: tuple[str, ...] = ()  # derived

    def __post_init__(self) -> None:
        roots = {name.split(".")[0] for index in self.maintained for name in index.fields}
        force_setattr(self, "indexed", tuple(sorted(roots)))

    @property
    def building(self) -> tuple[IndexInfo, ...]:
        """Return the indexes that mutations maintain and that do not yet have all documents."""
        return tuple(index for index in self.maintained if not index.ready)

    @property
    def by_id(self) -> int:
        """The pseudo-index of document ids: it has no rows, but read sets and touched keys use it."""
        return -self.tablet

    def index(self, name: str) -> IndexInfo:
        """
        Return the index with this name.

        Raises:
            UnknownIndex: the table does not have it, or it is not ready at this snapshot.
        """
        index = self.indexes.get(name)
        if index is not None:
            return index
        if any(index.name == name for index in self.building):
            problem = f"the index `{name}` of table `{self.name}` is still being built; try again later"
        else:
            names = ", ".join(f"`{known}`" for known in self.indexes)
            hint = did_you_mean(name, self.indexes)
            problem = f"`{name}` is not an index of table `{self.name}`; its indexes are {names}{hint}"
        raise UnknownIndex(problem, table=self.name, index=name)

    def keys(self, document: Mapping[str, Value], internal: bytes) -> list[IndexKey]:
        """Return the document's key in every maintained index."""
        ending = encode_part(document["_creationTime"]) + internal
        return [(index.id, index.key_before(document, ending)) for index in self.maintained]

    def keys_after(
        self, before: Mapping[str, Value], keys: list[IndexKey], document: Mapping[str, Value], internal: bytes
    ) -> list[IndexKey]:
        """Return the keys of a new revision, given the previous revision and its keys; most stay the same."""
        return [
            old_key if index.same_key(before, document) else (index.id, index.key(document, internal))
            for index, old_key in zip(self.maintained, keys, strict=True)
        ]


class Catalog:
    """
    The tables at a timestamp.

    Attributes:
        ts: of the last change of any table or index, at or before the snapshot.
    """

    def __init__(self, ts: int, tables: Iterable[TableInfo]) -> None:
        self.ts = ts
        self._by_name = {table.name: table for table in _SYSTEM_TABLES}
        self._by_name.update((table.name, table) for table in tables)
        self._by_number = {table.number: table for table in self._by_name.values()}
        self._by_tablet = {table.tablet: table for table in self._by_name.values()}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def table(self, name: str) -> TableInfo:
        """
        Return the table with this name; names of system tables begin with an underscore.

        Raises:
            UnknownTable: the database does not have it.
        """
        table = self._by_name.get(name)
        if table is None:
            raise UnknownTable(
                f"there is no table `{name}`{self._hint()}{did_you_mean(name, self._by_name)}", table=name
            )
        return table

    def _hint(self) -> str:
        names = sorted(name for name in self._by_name if not name.startswith("_"))
        if not names:
            return "; the database has no tables"
        listed = ", ".join(f"`{name}`" for name in names[:LISTED_TABLES_MAX])
        return f"; the tables are {listed}{', …' if len(names) > LISTED_TABLES_MAX else ''}"

    def table_numbered(self, number: int) -> TableInfo | None:
        """Return the table with this number, or None."""
        return self._by_number.get(number)

    def wrong_table(self, number: int, names: Collection[str]) -> str | None:
        """
        Return the problem of an id with this table number; None if it has none.

        Args:
            number: of the id's table.
            names: of the tables whose ids are expected; empty if ids of any table are.
        """
        table = self._by_number.get(number)
        if not names or (table is not None and table.name in names):
            return None
        expected = " or ".join(f"`{name}`" for name in names)
        other = "an unknown table" if table is None else f"table `{table.name}`"
        return f"expected an id of table {expected}, got one of {other}"

    def tablet(self, tablet: int) -> TableInfo | None:
        """Return the table with this tablet, or None."""
        return self._by_tablet.get(tablet)

    def names(self) -> list[str]:
        """Return the names of the user's tables, sorted."""
        return sorted(name for name in self._by_name if not name.startswith("_"))

    def tables(self) -> list[TableInfo]:
        """Return all tables, system tables first."""
        return sorted(self._by_name.values(), key=lambda table: table.number)


def _system_table(name: str, number: int) -> TableInfo:
    index = IndexInfo(number, BY_CREATION_TIME, ("_creationTime",))
    return TableInfo(name, number, number, {BY_CREATION_TIME: index}, (index,))


_SYSTEM_TABLES = (
    _system_table("_tables", TABLES_TABLET),
    _system_table("_indexes", INDEXES_TABLET),
    _system_table("_code", CODE_TABLET),
    _system_table("_tablets", TABLETS_TABLET),
)


def load_catalog(connection: sqlite3.Connection, ts: int) -> Catalog:
    """
    Read the catalog as it was at `ts`, in the caller's transaction.

    Raises:
        FileDamaged: a row of the system tables has a wrong checksum.
        sqlite3.Error: as raised by SQLite.
    """
    indexes: dict[int, list[tuple[IndexInfo, IndexState]]] = {}
    for document in _documents(connection, INDEXES_TABLET, ts):
        state: IndexState = document["state"]
        index = IndexInfo(document["indexId"], document["name"], tuple(document["fields"]), state == "ready")
        indexes.setdefault(document["tablet"], []).append((index, state))
    tables = []
    for document in _documents(connection, TABLES_TABLET, ts):
        declared = sorted(indexes.get(document["tablet"], []), key=lambda entry: entry[0].id)
        tables.append(
            TableInfo(
                name=document["name"],
                number=document["number"],
                tablet=document["tablet"],
                indexes={index.name: index for index, state in declared if state == "ready"},
                maintained=tuple(index for index, state in declared if state != "dropping"),
                fingerprint=document["fingerprint"],
            )
        )
    return Catalog(ts, tables)


def _documents(connection: sqlite3.Connection, tablet: int, ts: int) -> Iterable[dict[str, Any]]:
    for row in connection.execute(statements.TABLET_AT, (tablet, ts)):
        _, _, _, _, json_value, _, _ = checked_revision(row)
        if json_value is not None:
            yield cast("dict[str, Any]", decode_canonical(json_value))
