"""A table as its app declares it, checked: its class, its indexes, and what its documents must look like."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec
from msgspec import UNSET, inspect

from tinyvex.errors import InvalidValue, SchemaViolation, TinyvexError
from tinyvex.functions.schema.converter import Converter, Mismatch, json_schema
from tinyvex.functions.schema.document import (
    SYSTEM_FIELDS,
    Document,
    DocumentMapping,
    TableDeclaration,
    declaration_of,
    is_identifier,
)
from tinyvex.functions.schema.int64_fields import as_annotated, types_at, types_of
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import Catalog
    from tinyvex.values.types import Value

__all__ = ["DeclaredTables", "TableSpec", "class_spec", "user_fields"]

_INDEX_NAMES_TAKEN = ("by_id", "by_creation_time")


class TableSpec:
    """
    A declared table.

    Attributes:
        name: its name in the database.
        cls: its class; None where documents are mappings.
        indexes: fields of each index, without the system's own.
        location: where it was declared.
        fingerprint: changes when the class's schema does, or what its indexes look at; existing documents are validated then.

    Raises:
        AppInvalid: a name, an index field or an annotation is impossible.
    """

    def __init__(self, declaration: TableDeclaration, cls: type[Document] | None) -> None:
        self.name = declaration.name
        self.cls = cls
        self.indexes = declaration.indexes
        self.location = declaration.location
        self._check_names()
        self._converter: Converter[Any] | None = None
        self._fields: tuple[str, ...] = ()
        schema: object = None
        if cls is not None:
            try:
                self._converter = Converter(cls)
                schema = json_schema(cls)
            except (TypeError, NameError) as error:
                raise self.location.invalid(f"class {cls.__name__}: {error}") from error
            self._fields = tuple(name for name in cls.__struct_fields__ if not name.startswith("_"))
        self._index_types = self._check_index_fields()
        self._indexed = sorted({path.partition(".")[0] for path in self._index_types})
        looked_at = [schema, sorted(self._index_types)]
        self.fingerprint = hashlib.sha256(msgspec.json.encode(looked_at, order="deterministic")).hexdigest()

    def _check_names(self) -> None:
        if not is_identifier(self.name):
            raise self.location.invalid(
                f"{self.name!r} cannot be a table's name: letters, digits and `_`, beginning with a letter"
            )
        for index, paths in self.indexes.items():
            where = f"table {self.name!r}, index {index!r}"
            if not is_identifier(index) or index in _INDEX_NAMES_TAKEN:
                raise self.location.invalid(f"{where}: this name is not possible or taken by the system")
            if not paths or len(set(paths)) < len(paths):
                raise self.location.invalid(f"{where}: needs one or more different fields")
            for path in paths:
                if not path or path.startswith("_"):
                    raise self.location.invalid(
                        f"{where}: {path!r} cannot be indexed; `_creationTime` is the last field of every index anyway"
                    )

    def _check_index_fields(self) -> Mapping[str, list[inspect.Type]]:
        """Of each indexed field, the types that it can have; none without a class."""
        if self.cls is None:
            return {}
        renamed = set(self.cls.__struct_encode_fields__) - set(self._fields) - set(SYSTEM_FIELDS)
        if renamed:
            raise self.location.invalid(f"class {self.cls.__name__}: a document's fields cannot be renamed: {renamed}")
        found = {}
        for index, paths in self.indexes.items():
            for path in paths:
                found[path] = types_at(self.cls, path)
                if not found[path]:
                    raise self.location.invalid(
                        f"table {self.name!r}, index {index!r}: class {self.cls.__name__} has no field {path!r}"
                    )
        return found

    # Reading.

    def read(self, data: bytes) -> Any:
        """
        A stored document as users get it.

        Raises:
            SchemaViolation: it does not fit the class.
        """
        if self._converter is None:
            return DocumentMapping(data)
        try:
            return self._converter.read(data)
        except Mismatch as mismatch:
            raise self._violation(mismatch) from mismatch

    def validate(self, data: bytes) -> tuple[list[str], bytes]:
        """What `examine` says of a stored document; of one that fits, with its indexed fields as to be stored."""
        document = codec.decode_canonical(data)
        assert isinstance(document, dict), document
        problems, indexed = self.examine(document)
        return problems, codec.encode(document | indexed) if indexed else data

    def problems(self, value: Any, catalog: Catalog | None = None) -> list[str]:
        """What is wrong with a document: one sentence for every top-level field that does not fit."""
        return self.examine(value, catalog)[0]

    def examine(self, value: Any, catalog: Catalog | None = None) -> tuple[list[str], dict[str, Value]]:
        """
        What is wrong with a document, as `problems` says it; where nothing is, its indexed fields as to be stored.

        Given a catalog, ids are compared with its tables' numbers.
        The document may be older than a field, which reads as its default then, or than the kind of a number:
        an index would find neither by the value that is read.
        """
        if self._converter is None:
            return [], {}
        try:
            checked = self._converter.check(value, catalog)
        except Mismatch as mismatch:
            return self._all_problems(value, catalog) or [str(mismatch)], {}
        fields = {name: found for name in self._indexed if (found := getattr(checked, name)) is not UNSET}
        return [], cast("dict[str, Value]", codec.decode_canonical(codec.encode(fields)))

    def takes(self, name: str, value: Any) -> bool:
        """Whether a value fits the field of this name; there may be no such field."""
        kinds = (
            [field.type for field in msgspec.structs.fields(self.cls) if field.encode_name == name] if self.cls else []
        )
        try:
            for kind in kinds:
                Converter[Any](kind).check(value)
        except Mismatch:
            return False
        return bool(kinds)

    def _all_problems(self, value: Any, catalog: Catalog | None) -> list[str]:
        """Field by field, because msgspec stops at the first; empty when only the whole is wrong."""
        if not isinstance(value, dict) or self.cls is None:
            return []
        problems = []
        known = {field.encode_name: field for field in msgspec.structs.fields(self.cls)}
        for name in sorted(value.keys() | known.keys()):
            if name not in known:
                problems.append(f"$.{name}: unknown field")
            elif name not in value:
                problems += [f"$.{name}: missing"] if known[name].required else []
            else:
                try:
                    Converter[Any](known[name].type).check(value[name], catalog)
                except Mismatch as mismatch:
                    problems.append(f"$.{name}{mismatch.path[1:]}: {mismatch.reason}")
        return problems

    # Writing.

    def fields(self, document: Document | Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
        """
        A document's own fields, as they are stored: checked against the class, ids against their tables.

        Raises:
            SchemaViolation: it does not fit the class.
            InvalidId: a field needs an id and has something else.
            WrongTable: a field has an id of another table than its annotation says.
            InvalidValue: something in it is no value, or a name begins with `_`.
            ValueTooLarge: it is nested too deep or has too many elements or fields.
        """
        given = user_fields(document)
        if self._converter is None:
            return given
        try:
            checked = self._converter.check(codec.decode_canonical(self._encode(given)), catalog)
        except Mismatch as mismatch:
            raise self._violation(mismatch) from mismatch
        return {name: value for name in self._fields if (value := getattr(checked, name)) is not UNSET}

    def _encode(self, given: dict[str, Any]) -> bytes:
        try:
            return codec.encode(given)
        except InvalidValue:
            # A sum of `Int64`s is a plain number, which may be too large for one.
            return codec.encode(as_annotated(given, types_of(self.cls)))

    def key_value(self, path: str, value: Any) -> Any:
        """A value that a query compares an indexed field with, as the field's annotation would store it."""
        if value is None or isinstance(value, (str, float, bytes)) or self.cls is None:
            return value
        kinds = self._index_types.get(path, ())  # none of `_creationTime`
        if isinstance(value, int):
            return as_annotated(value, kinds)
        plain = codec.to_builtins(as_annotated(value, kinds))  # dates, enums and the like
        return as_annotated(codec.unwrap(plain), kinds)

    def _violation(self, mismatch: Mismatch) -> TinyvexError:
        kind = SchemaViolation if mismatch.error is None else type(mismatch.error)
        if kind is InvalidValue:
            kind = SchemaViolation
        return kind(f"table {self.name!r}: {mismatch}", table=self.name, path=mismatch.path)


class DeclaredTables(Protocol):
    """The tables of an app."""

    @property
    def tables(self) -> Mapping[str, TableSpec]:
        """The declared tables by name."""
        ...

    def class_spec(self, cls: type[Document]) -> TableSpec:
        """Return the table of a class, declared by this app or not."""
        ...


def user_fields(document: object) -> dict[str, Any]:
    """
    A document without its system fields.

    Raises:
        InvalidValue: it is no document, or another name begins with `_`.
    """
    if isinstance(document, Document):
        names = type(document).__struct_fields__
        return {name: value for name in names if name[0] != "_" and (value := getattr(document, name)) is not UNSET}
    if not isinstance(document, Mapping):
        raise InvalidValue(f"a document is a mapping or an instance of its table's class, not {type(document)}")
    fields = {name: value for name, value in document.items() if name not in SYSTEM_FIELDS}
    for name in fields:
        if isinstance(name, str) and name.startswith("_"):
            raise InvalidValue(f"names that begin with `_` are the system's - at `$.{name}`", path=f"$.{name}")
    return fields


def class_spec(cls: type[Document]) -> TableSpec:
    """
    The table of a class that `table` decorated.

    Raises:
        TypeError: it was not decorated.
        AppInvalid: its declaration is impossible.
    """
    declaration = declaration_of(cls)
    if declaration is None:
        raise TypeError(f"{cls!r} is no table: decorate the class with @tv.table(...)")
    return TableSpec(declaration, cls)
