"""
Declarations of documents: `Document`, `Id` and the `table` decorator.

A document is stored as JSON with its system fields `_id` and `_creationTime`.
In Python it is a frozen struct with the properties `id` and `creation_time`.
The constructor does not take them, because the database assigns them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Never,
    Self,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
)

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tinyvex.functions.schema.location import Location
from tinyvex.limits import IDENTIFIER_LENGTH_MAX
from tinyvex.values import codec
from tinyvex.values.frozen import frozen
from tinyvex.values.suggestions import did_you_mean
from tinyvex.values.types import Int64

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import Catalog

__all__ = [
    "SYSTEM_FIELDS",
    "Document",
    "DocumentMapping",
    "Id",
    "TableDeclaration",
    "TableDecorator",
    "declaration_of",
    "is_identifier",
    "stored_id",
    "table",
    "table_declarations",
    "table_names",
]

D = TypeVar("D", bound="Document")
D_co = TypeVar("D_co", bound="Document", covariant=True)

SYSTEM_FIELDS = ("_id", "_creationTime")
_SYSTEM_ATTRIBUTES = ("_id", "_creation_time")
_RESERVED = frozenset(("id", "creation_time"))
_CACHED_ANNOTATIONS = 1024
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Id(str, Generic[D_co]):
    """
    The id of a document of one table: `tv.Id[Message]`.

    At runtime it is a string. The class in brackets is for type checkers and for validation:
    arguments, results and fields with this annotation refuse ids of other tables.
    `tv.Id[Post | Comment]` accepts ids of both tables.
    """

    __slots__ = ()


class _DocumentMeta(msgspec.StructMeta):
    """Make each document class keyword-only, which msgspec does not inherit, and refuse reserved field names."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        options.setdefault("kw_only", True)
        for field, default in namespace.items():
            if isinstance(default, Int64):
                # A factory: msgspec cannot encode an Int64 default in the class's JSON schema.
                namespace[field] = msgspec.field(default_factory=partial(Int64, default))
        cls = super().__new__(mcls, name, bases, namespace, **options)
        if bases != (msgspec.Struct,):
            own = {field for field in cls.__struct_fields__ if field not in _SYSTEM_ATTRIBUTES}
            for field in sorted(own.union(namespace.get("__annotations__", ()))):
                if field in own | set(_SYSTEM_ATTRIBUTES) and (field in _RESERVED or field.startswith("_")):
                    raise TypeError(f"`{name}.{field}`: this name is reserved for the database; choose another one")
        return cls


if TYPE_CHECKING:

    @dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
    class Document(msgspec.Struct, frozen=True):
        """
        The base class of typed documents.

        Instances are frozen, constructed with keyword arguments and compared by value;
        `msgspec.structs.replace(document, body="…")` returns a changed copy.
        """

        @property
        def id(self) -> Id[Self]:
            """
            The document's id.

            Raises:
                AttributeError: it has not been inserted.
            """
            raise AttributeError

        @property
        def creation_time(self) -> float:
            """
            The time of its insertion, in milliseconds since the epoch.

            Raises:
                AttributeError: it has not been inserted.
            """
            raise AttributeError

else:

    class Document(
        msgspec.Struct, metaclass=_DocumentMeta, frozen=True, forbid_unknown_fields=True, repr_omit_defaults=True
    ):
        """
        The base class of typed documents.

        Instances are frozen, constructed with keyword arguments and compared by value;
        `msgspec.structs.replace(document, body="…")` returns a changed copy.
        """

        _id: str | UnsetType = UNSET
        _creation_time: float | UnsetType = msgspec.field(name="_creationTime", default=UNSET)

        @property
        def id(self) -> Id[Self]:
            """The document's id."""
            if self._id is UNSET:
                raise AttributeError(
                    f"this `{type(self).__name__}` has no id before it is inserted; `insert` returns the id"
                )
            return Id(self._id)

        @property
        def creation_time(self) -> float:
            """The time of its insertion, in milliseconds since the epoch."""
            if self._creation_time is UNSET:
                raise AttributeError(f"this `{type(self).__name__}` has no creation time before it is inserted")
            return self._creation_time


class DocumentMapping(Mapping[str, Any]):
    """A document of a table without a class: read-only, also in its lists and dicts; with `_id` and `_creationTime`."""

    __slots__ = ("_fields", "_json")

    def __init__(self, json: bytes) -> None:
        self._json = json
        self._fields: dict[str, Any] | None = None

    def __tinyvex_json__(self) -> bytes:
        return self._json

    def _decoded(self) -> dict[str, Any]:
        if self._fields is None:
            fields = codec.decode_canonical(self._json)
            assert isinstance(fields, dict), fields
            self._fields = fields
        return self._fields

    def __getitem__(self, field: str) -> Any:
        fields = self._decoded()
        value = fields[field]
        if type(value) is list or type(value) is dict:
            value = fields[field] = frozen(value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __repr__(self) -> str:
        return f"DocumentMapping({self._decoded()!r})"


class TableDeclaration(Struct, frozen=True):
    """The arguments of `table`, unchecked."""

    name: str
    indexes: Mapping[str, tuple[str, ...]]
    location: Location
    renamed_from: tuple[str, ...] = ()

    def name_in(self, catalog: Catalog) -> str:
        """Return the table's name at a snapshot, which may be older than its last change of name."""
        if not self.renamed_from:  # nearly always; each write and each check of an id comes here
            return self.name
        return next((name for name in (self.name, *self.renamed_from) if name in catalog), self.name)


class TableDecorator:
    """A declared table: decorates its class, or is assigned to a module's variable for a table without a class."""

    __slots__ = ("declaration", "has_class")

    def __init__(self, declaration: TableDeclaration) -> None:
        self.declaration = declaration
        self.has_class = False

    def __call__(self, cls: type[D], /) -> type[D]:
        """
        Declare a class as the table's.

        Raises:
            TypeError: it is not a subclass of `Document`.
        """
        if not (isinstance(cls, type) and issubclass(cls, Document)):
            raise TypeError(f"the class of table `{self.declaration.name}` must be a subclass of `tv.Document`")
        self.has_class = True
        cls.__tinyvex_table__ = self.declaration  # type: ignore[attr-defined]  # read by declaration_of
        return cls


def table(
    name: str,
    *,
    indexes: Mapping[str, Sequence[str]] | None = None,
    renamed_from: str | Sequence[str] = (),
    **unknown: Never,
) -> TableDecorator:
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
            Documents with equal fields are sorted by creation time.
        renamed_from: the table's earlier name, or several, the latest first. A database that has a table of that name
            renames it, with its documents and their ids, in the commit that makes this code current.
        unknown: nothing; an option that does not exist is refused.

    Raises:
        TypeError: the name was omitted, or an argument has another type.
    """
    if not isinstance(name, str):
        raise TypeError('a table needs a name: write `@tv.table("notes")` above the class')
    for option in unknown:
        raise TypeError(f"`tv.table` has no option `{option}`{did_you_mean(option, ('indexes', 'renamed_from'))}")
    if not isinstance(indexes, Mapping | None):
        raise TypeError(f'the indexes of table `{name}` need names: write {{"by_author": ["author"]}}')
    earlier = (renamed_from,) if isinstance(renamed_from, str) else tuple(renamed_from)
    frame = sys._getframe(1)  # noqa: SLF001  # the only way to find the line of the declaration
    fields = {index: (path,) if isinstance(path, str) else tuple(path) for index, path in (indexes or {}).items()}
    return TableDecorator(TableDeclaration(name, fields, Location(frame.f_code.co_filename, frame.f_lineno), earlier))


def declaration_of(cls: object) -> TableDeclaration | None:
    """Return the declaration that `table` attached to this class; a subclass does not inherit it."""
    declaration = getattr(cls, "__dict__", {}).get("__tinyvex_table__")
    return declaration if isinstance(declaration, TableDeclaration) else None


@lru_cache(maxsize=_CACHED_ANNOTATIONS)
def table_declarations(cls: Any) -> tuple[TableDeclaration, ...]:
    """Return the tables of a class, or of a union of classes; none if ids of any table are allowed."""
    classes = get_args(cls) if get_origin(cls) in (Union, UnionType) else (cls,)
    declared = [declaration_of(each) for each in classes]
    return tuple(declaration for declaration in declared if declaration is not None)


def table_names(cls: Any) -> tuple[str, ...]:
    """Return the names of the tables of a class, or of a union of classes; see `table_declarations`."""
    return tuple(declaration.name for declaration in table_declarations(cls))


def stored_id(document: Document) -> str | None:
    """Return the document's id; None before it is inserted."""
    document_id = getattr(document, "_id", UNSET)  # hidden from type checkers
    return None if document_id is UNSET else cast("str", document_id)


def is_identifier(name: object) -> bool:
    """Return whether tables and indexes may have this name; names that begin with `_` are reserved."""
    return isinstance(name, str) and len(name) <= IDENTIFIER_LENGTH_MAX and _IDENTIFIER.fullmatch(name) is not None
