"""
Documents as users declare them: `Document`, `Id` and the `table` decorator.

A document is stored as JSON with its system fields `_id` and `_creationTime`.
In Python it is a frozen struct, where they read as `id` and `creation_time`.
Both are hidden from the constructor that type checkers see: the database sets them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, dataclass_transform

import msgspec
from msgspec import UNSET, UnsetType

from tinyvex.errors import AppInvalid
from tinyvex.limits import IDENTIFIER_LENGTH_MAX
from tinyvex.values import codec
from tinyvex.values.types import Int64

__all__ = [
    "SYSTEM_FIELDS",
    "Document",
    "DocumentMapping",
    "Id",
    "Location",
    "Table",
    "TableDeclaration",
    "declaration_of",
    "is_identifier",
    "stored_id",
    "table",
]

D = TypeVar("D", bound="Document")
D_co = TypeVar("D_co", bound="Document", covariant=True)

SYSTEM_FIELDS = ("_id", "_creationTime")
_SYSTEM_ATTRIBUTES = ("_id", "_creation_time")
_RESERVED = frozenset(("id", "creation_time"))
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PACKAGE = f"{Path(__file__).parents[2]}{os.sep}"


class Id(str, Generic[D_co]):
    """
    The id of a document of one table: `tv.Id[Message]`.

    At runtime a string; the class in brackets tells type checkers which documents it names,
    and makes arguments, results and fields with this annotation refuse ids of other tables.
    `tv.Id[Post | Comment]` takes ids of both.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Location:
    """Where something was declared."""

    file: str
    line: int

    def __str__(self) -> str:
        """`file:line`, from the working directory where the file is below it."""
        file = Path(self.file)
        with suppress(ValueError):
            file = file.relative_to(Path.cwd())
        return f"{file}:{self.line}"

    @classmethod
    def of_error(cls, error: BaseException) -> Location | None:
        """The app's own line that an exception came through, the last before Tinyvex's code; None when there is none."""
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            trace = trace.tb_next
        if trace is None:
            return None
        while trace.tb_next is not None and not trace.tb_next.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            trace = trace.tb_next
        return cls(trace.tb_frame.f_code.co_filename, trace.tb_lineno)

    def invalid(self, problem: str) -> AppInvalid:
        """The error that says what is wrong with what was declared here."""
        return AppInvalid(f"{self}: {problem}", file=self.file, line=self.line)


class _DocumentMeta(msgspec.StructMeta):
    """Makes every document class keyword-only (msgspec does not inherit that) and refuses the system's names."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        options.setdefault("kw_only", True)
        for field, default in namespace.items():
            if isinstance(default, Int64):
                # A factory, because msgspec cannot write an Int64 into the class's JSON schema as a default.
                namespace[field] = msgspec.field(default_factory=partial(Int64, default))
        cls = super().__new__(mcls, name, bases, namespace, **options)
        if bases != (msgspec.Struct,):
            own = {field for field in cls.__struct_fields__ if field not in _SYSTEM_ATTRIBUTES}
            for field in sorted(own.union(namespace.get("__annotations__", ()))):
                if field in own | set(_SYSTEM_ATTRIBUTES) and (field in _RESERVED or field.startswith("_")):
                    raise TypeError(f"{name}.{field}: this name is reserved for the database; choose another")
        return cls


if TYPE_CHECKING:

    @dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
    class Document(msgspec.Struct, frozen=True):
        """
        Base of the classes of typed tables.

        Instances are frozen, made with keyword arguments and compared by value;
        `msgspec.structs.replace(document, body="…")` makes a changed copy.
        """

        @property
        def id(self) -> Id[Self]:
            """
            The document's id.

            Raises:
                AttributeError: it was not inserted yet.
            """
            raise AttributeError

        @property
        def creation_time(self) -> float:
            """
            When it was inserted, in milliseconds since the epoch.

            Raises:
                AttributeError: it was not inserted yet.
            """
            raise AttributeError

else:

    class Document(
        msgspec.Struct, metaclass=_DocumentMeta, frozen=True, forbid_unknown_fields=True, repr_omit_defaults=True
    ):
        """
        Base of the classes of typed tables.

        Instances are frozen, made with keyword arguments and compared by value;
        `msgspec.structs.replace(document, body="…")` makes a changed copy.
        """

        _id: str | UnsetType = UNSET
        _creation_time: float | UnsetType = msgspec.field(name="_creationTime", default=UNSET)

        @property
        def id(self) -> Id[Self]:
            """The document's id."""
            if self._id is UNSET:
                raise AttributeError(f"this {type(self).__name__} was not inserted yet: `insert` returns its id")
            return Id(self._id)

        @property
        def creation_time(self) -> float:
            """When it was inserted, in milliseconds since the epoch."""
            if self._creation_time is UNSET:
                raise AttributeError(f"this {type(self).__name__} was not inserted yet: it has no creation time")
            return self._creation_time


class DocumentMapping(Mapping[str, Any]):
    """A document of a table without a class: a read-only mapping, with `_id` and `_creationTime` among its fields."""

    __slots__ = ("_fields", "_json")

    def __init__(self, json: bytes) -> None:
        self._json = json
        self._fields: Mapping[str, Any] | None = None

    def __tinyvex_json__(self) -> bytes:
        return self._json

    def _decoded(self) -> Mapping[str, Any]:
        if self._fields is None:
            fields = codec.decode_canonical(self._json)
            assert isinstance(fields, dict), fields
            self._fields = fields
        return self._fields

    def __getitem__(self, field: str) -> Any:
        return self._decoded()[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __repr__(self) -> str:
        return f"DocumentMapping({self._decoded()!r})"


@dataclass(frozen=True, slots=True)
class TableDeclaration:
    """What `table` was told, before anything of it is checked."""

    name: str
    indexes: Mapping[str, tuple[str, ...]]
    location: Location


class Table:
    """A declared table: decorates its class, or stands alone in a module for a table without one."""

    __slots__ = ("declaration", "has_class")

    def __init__(self, declaration: TableDeclaration) -> None:
        self.declaration = declaration
        self.has_class = False

    def __call__(self, cls: type[D], /) -> type[D]:
        """
        Make this class the table's.

        Raises:
            TypeError: it is no subclass of `Document`.
        """
        if not (isinstance(cls, type) and issubclass(cls, Document)):
            raise TypeError(f"the class of table {self.declaration.name!r} must be a subclass of tv.Document")
        self.has_class = True
        cls.__tinyvex_table__ = self.declaration  # type: ignore[attr-defined]  # ours alone, read by declaration_of
        return cls


def table(name: str, *, indexes: Mapping[str, Sequence[str]] | None = None) -> Table:
    """
    Declare a table.

    ::

        @tv.table("messages", indexes={"by_channel": ["channel"]})
        class Message(tv.Document):
            channel: str

        events = tv.table("events", indexes={"by_kind": ["kind"]})     # without a class: documents are mappings

    Args:
        name: the table's name in the database.
        indexes: fields of each index, most significant first; `a.b` reaches into nested objects.
            Documents that are equal in all of them are in the order of their creation.

    Raises:
        TypeError: something else was given, such as the class, where the name was left out.
    """
    if not isinstance(name, str):
        raise TypeError('a table needs a name: write `@tv.table("notes")` above the class')
    if not isinstance(indexes, Mapping | None):
        raise TypeError(f'the indexes of table {name!r} need names: write {{"by_author": ["author"]}}')
    frame = sys._getframe(1)  # noqa: SLF001  # the only way to say where a table was declared
    fields = {index: (path,) if isinstance(path, str) else tuple(path) for index, path in (indexes or {}).items()}
    return Table(TableDeclaration(name, fields, Location(frame.f_code.co_filename, frame.f_lineno)))


def declaration_of(cls: object) -> TableDeclaration | None:
    """What `table` attached to this very class; a subclass does not inherit it."""
    found = getattr(cls, "__dict__", {}).get("__tinyvex_table__")
    return found if isinstance(found, TableDeclaration) else None


def stored_id(document: Document) -> str | None:
    """The document's id; None when it was not inserted yet."""
    found = document._id  # type: ignore[attr-defined]  # noqa: SLF001  # hidden from type checkers on purpose
    return None if found is UNSET else cast("str", found)


def is_identifier(name: object) -> bool:
    """Whether tables and indexes may have this name; those that begin with `_` are the system's."""
    return isinstance(name, str) and len(name) <= IDENTIFIER_LENGTH_MAX and _IDENTIFIER.fullmatch(name) is not None
