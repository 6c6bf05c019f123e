"""
What tables and indexes there are at a timestamp.

Tables and indexes are documents of the system tables `_tables` and `_indexes`, versioned like any others,
so a read at an older `ts` finds the tables of that time.

A table's number is in its documents' ids; its tablet, which is never used again, is in its rows.

An index goes through these states::

    building ──► ready ──► dropping ──► gone
        └──────────────────────┘            (the change of schema did not finish)

Mutations maintain it while it is building or ready; only a ready one can be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from tinyvex.errors import UnknownIndex, UnknownTable
from tinyvex.storage.file import statements
from tinyvex.storage.log.operations import IndexFields, IndexKey
from tinyvex.storage.log.system_tablets import CODE_TABLET, INDEXES_TABLET, TABLES_TABLET, TABLETS_TABLET
from tinyvex.values.codec import decode_canonical
from tinyvex.values.key_encoding import encode_part
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

BY_ID = "by_id"
BY_CREATION_TIME = "by_creation_time"

_COMPARABLE = frozenset((str, int, bool, bytes, type(None), Int64, Missing))
"""Types whose equal values have equal keys; floats are not among them, because -0.0 == 0.0."""

IndexState = Literal["building", "ready", "dropping"]


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """
    One index of one table.

    Attributes:
        fields: what it sorts by, most significant first; dots reach into nested objects.
        ready: whether every document is in it.
    """

    id: int
    name: str
    fields: tuple[str, ...]
    ready: bool = True
    _paths: tuple[tuple[str, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = self.fields[:-1] if self.fields[-1:] == ("_creationTime",) else self.fields
        object.__setattr__(self, "_paths", tuple(tuple(name.split(".")) for name in names))

    @property
    def as_fields(self) -> IndexFields:
        """Return what an operation needs to compute keys of this index."""
        return self.id, self.fields

    def key(self, document: Mapping[str, Value], internal: bytes) -> bytes:
        """The document's key: its fields, its creation time, and its own 16 bytes, which make it unique."""
        return self.key_before(document, encode_part(document["_creationTime"]) + internal)

    def same_key(self, document: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
        """Whether two revisions certainly have the same key; a quick look, which may say no where they have."""
        for name, *inner in self._paths:
            value = document.get(name, MISSING)
            kind = type(value)
            if kind not in _COMPARABLE or inner:
                return False
            compared = other.get(name, MISSING)
            if type(compared) is not kind or compared != value:
                return False
        return True

    def key_before(self, document: Mapping[str, Value], ending: bytes) -> bytes:
        """The key, given its end (creation time and internal id), which all indexes of a document share."""
        parts = [
            encode_part(document.get(path[0], MISSING) if len(path) == 1 else _reach(document, path))
            for path in self._paths
        ]
        parts.append(ending)
        return b"".join(parts)


def _reach(document: Mapping[str, Value], path: tuple[str, ...]) -> Value | Missing:
    value: Any = document
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return MISSING
        value = value[name]
    return cast("Value", value)


@dataclass(frozen=True, slots=True)
class TableInfo:
    """
    One table.

    Attributes:
        indexes: by name, those that can be read; `by_creation_time` is always there.
        maintained: those that mutations keep up: the ready ones and the ones being built.
        fingerprint: of the class its documents were last validated against.
        indexed: the top-level fields that any maintained index looks at.
    """

    name: str
    number: int
    tablet: int
    indexes: Mapping[str, IndexInfo]
    maintained: tuple[IndexInfo, ...]
    fingerprint: str | None = None
    indexed: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        roots = {name.split(".")[0] for index in self.maintained for name in index.fields}
        object.__setattr__(self, "indexed", tuple(sorted(roots)))

    @property
    def building(self) -> tuple[IndexInfo, ...]:
        """Return the indexes that mutations maintain and that do not yet have all documents."""
        return tuple(index for index in self.maintained if not index.ready)

    @property
    def by_id(self) -> int:
        """The pseudo index of ids: it has no rows, but read sets and touched keys use it."""
        return -self.tablet

    def index(self, name: str) -> IndexInfo:
        """
        The index of this name.

        Raises:
            UnknownIndex: there is none, or it is not ready yet at this snapshot.
        """
        found = self.indexes.get(name)
        if found is None:
            building = any(index.name == name for index in self.maintained)
            reason = "is still being built" if building else f"is not declared; there are: {', '.join(self.indexes)}"
            raise UnknownIndex(f"the index `{name}` of table `{self.name}` {reason}", table=self.name, index=name)
        return found

    def keys(self, document: Mapping[str, Value], internal: bytes) -> list[IndexKey]:
        """The document's key in every maintained index."""
        ending = encode_part(document["_creationTime"]) + internal
        return [(index.id, index.key_before(document, ending)) for index in self.maintained]

    def keys_after(
        self, before: Mapping[str, Value], keys: list[IndexKey], document: Mapping[str, Value], internal: bytes
    ) -> list[IndexKey]:
        """The keys of a document's new revision, given the revision before it and its keys; most stay the same."""
        return [
            known if index.same_key(before, document) else (index.id, index.key(document, internal))
            for index, known in zip(self.maintained, keys, strict=True)
        ]


class Catalog:
    """
    The tables at a timestamp.

    Attributes:
        ts: of the last change of any table or index at or before the snapshot.
    """

    def __init__(self, ts: int, tables: Iterable[TableInfo]) -> None:
        self.ts = ts
        self._by_name = {table.name: table for table in _SYSTEM_TABLES}
        self._by_name.update((table.name, table) for table in tables)
        self._by_number = {table.number: table for table in self._by_name.values()}
        self._by_tablet = {table.tablet: table for table in self._by_name.values()}

    def table(self, name: str) -> TableInfo:
        """
        The table of this name; system tables have theirs with an underscore.

        Raises:
            UnknownTable: there is none.
        """
        found = self._by_name.get(name)
        if found is None:
            raise UnknownTable(f"there is no table `{name}`", table=name)
        return found

    def table_numbered(self, number: int) -> TableInfo | None:
        """The table with this number, which is in its documents' ids."""
        return self._by_number.get(number)

    def tablet(self, tablet: int) -> TableInfo | None:
        """The table whose rows have this tablet."""
        return self._by_tablet.get(tablet)

    def names(self) -> list[str]:
        """The user's tables, sorted."""
        return sorted(name for name in self._by_name if not name.startswith("_"))

    def tables(self) -> list[TableInfo]:
        """All tables, system tables first."""
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
    """Read the catalog as it was at `ts`, in the caller's transaction."""
    indexes: dict[int, list[tuple[IndexInfo, IndexState]]] = {}
    for document in _documents(connection, INDEXES_TABLET, ts):
        state: IndexState = document["state"]
        index = IndexInfo(document["indexId"], document["name"], tuple(document["fields"]), state == "ready")
        indexes.setdefault(document["tablet"], []).append((index, state))
    tables = []
    for document in _documents(connection, TABLES_TABLET, ts):
        known = sorted(indexes.get(document["tablet"], []), key=lambda entry: entry[0].id)
        tables.append(
            TableInfo(
                name=document["name"],
                number=document["number"],
                tablet=document["tablet"],
                indexes={index.name: index for index, state in known if state == "ready"},
                maintained=tuple(index for index, state in known if state != "dropping"),
                fingerprint=document["fingerprint"],
            )
        )
    return Catalog(ts, tables)


def _documents(connection: sqlite3.Connection, tablet: int, ts: int) -> Iterable[dict[str, Any]]:
    for (json_value,) in connection.execute(statements.TABLET_AT, (tablet, ts)):
        yield cast("dict[str, Any]", decode_canonical(json_value))
