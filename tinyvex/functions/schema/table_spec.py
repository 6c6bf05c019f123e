"""A declared table, checked: its class, its indexes, and the validation of its documents."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec
from msgspec import UNSET, inspect
from msgspec.structs import force_setattr

from tinyvex.errors import InvalidValue, SchemaViolation, TinyvexError
from tinyvex.functions.schema.class_schema import class_schema
from tinyvex.functions.schema.converter import Converter, Mismatch
from tinyvex.functions.schema.declared_types import check_declared, containers, has_instants, unordered
from tinyvex.functions.schema.document import (
    SYSTEM_FIELDS,
    Document,
    DocumentMapping,
    TableDeclaration,
    declaration_of,
    is_identifier,
)
from tinyvex.functions.schema.index_values import IndexValues, annotations_at
from tinyvex.functions.schema.int64_fields import as_annotated, types_at, types_of
from tinyvex.functions.schema.json_schema import json_schema
from tinyvex.values import codec
from tinyvex.values.frozen import FrozenList, frozen
from tinyvex.values.suggestions import did_you_mean

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import Catalog, TableInfo
    from tinyvex.values.types import Value

__all__ = ["DeclaredTables", "TableSpec", "class_spec", "user_fields"]

_FORM_OF_INSTANTS = "UTC, microseconds"
"""A part of the fingerprint of classes with instants: documents with another form are rewritten."""
_RESERVED_INDEX_NAMES = ("by_id", "by_creation_time")


class TableSpec:
    """
    A declared table.

    Attributes:
        name: its name in the database.
        cls: its class; None if documents are mappings.
        indexes: the fields of each index, without the system's own indexes.
        renamed_from: the earlier names, the latest first.
        location: the line of its declaration.
        schema: of the class, as it is stored with the table (`values/stored_schema.py`); None without a class.
        fingerprint: changes with the class's schema and with the indexed fields; existing documents are then validated.

    Raises:
        AppInvalid: a name, an index field or an annotation is impossible.
    """

    def __init__(self, declaration: TableDeclaration, cls: type[Document] | None) -> None:
        self.name = declaration.name
        self.cls = cls
        self.indexes = declaration.indexes
        self.renamed_from = declaration.renamed_from
        self._declaration = declaration
        self.location = declaration.location
        self._check_names()
        self._converter: Converter[Any] | None = None
        self._fields: tuple[str, ...] = ()
        described: object = None
        self.schema: str | None = None
        if cls is not None:
            try:
                self._converter = Converter(cls)
                check_declared(cls, "field")
                described = json_schema(cls)
                self.schema = class_schema(cls)
            except (TypeError, NameError) as error:
                # Without the name of the package into which the app was loaded.
                reason = re.sub(r"_tinyvex_app_\d+\.", "", str(error))
                raise self.location.invalid(f"class `{cls.__name__}`: {reason}") from error
            self._fields = tuple(name for name in cls.__struct_fields__ if not name.startswith("_"))
        self._index_types = self._check_index_fields()
        self._index_values: dict[str, IndexValues] = {}
        self._indexed = {path.partition(".")[0] for path in self._index_types}
        instants = (
            set() if cls is None else {field.name for field in msgspec.structs.fields(cls) if has_instants(field.type)}
        )
        self._normalised = sorted(self._indexed | instants)
        kinds = {} if cls is None else {field.name: containers(field.type) for field in msgspec.structs.fields(cls)}
        self._freezers = [
            (name, FrozenList if kind == "flat" else frozen) for name, kind in kinds.items() if kind != "none"
        ]
        validated = [described, self.schema, sorted(self._index_types), *([_FORM_OF_INSTANTS] if instants else [])]
        self.fingerprint = hashlib.sha256(msgspec.json.encode(validated, order="deterministic")).hexdigest()

    def _check_names(self) -> None:
        if not is_identifier(self.name):
            raise self.location.invalid(
                f"`{self.name}` cannot be a table name: use letters, digits and `_`, beginning with a letter"
            )
        for earlier in self.renamed_from:
            if not is_identifier(earlier) or earlier == self.name:
                raise self.location.invalid(
                    f"table `{self.name}`: `{earlier}` cannot be its earlier name; write the former name of the table"
                )
        for index, paths in self.indexes.items():
            where = f"table `{self.name}`, index `{index}`"
            if index in _RESERVED_INDEX_NAMES:
                raise self.location.invalid(f"{where}: every table has this index already; choose another name")
            if not is_identifier(index):
                raise self.location.invalid(
                    f"{where}: use letters, digits and `_` for the name of an index, beginning with a letter"
                )
            if not paths or len(set(paths)) < len(paths):
                raise self.location.invalid(f"{where}: an index needs one or more different fields")
            for path in paths:
                if not path or path.startswith("_"):
                    raise self.location.invalid(
                        f"{where}: `{path}` cannot be indexed; `_creationTime` is the last field of every index anyway"
                    )

    def _check_index_fields(self) -> Mapping[str, list[inspect.Type]]:
        """Return the types of each indexed field; none without a class."""
        if self.cls is None:
            return {}
        renamed = set(self.cls.__struct_encode_fields__) - set(self._fields) - set(SYSTEM_FIELDS)
        if renamed:
            names = ", ".join(f"`{name}`" for name in sorted(renamed))
            raise self.location.invalid(f"class `{self.cls.__name__}`: document fields cannot be renamed: {names}")
        types = {}
        for index, paths in self.indexes.items():
            for path in paths:
                types[path] = types_at(self.cls, path)
                if not types[path]:
                    raise self.location.invalid(
                        f"table `{self.name}`, index `{index}`: class `{self.cls.__name__}` has no field `{path}`"
                        f"{did_you_mean(path, self._fields)}"
                    )
                if (name := unordered(types[path])) is not None:
                    raise self.location.invalid(
                        f"table `{self.name}`, index `{index}`: `{path}` is a `{name}`, which is stored as text in another"
                        " order; index a number instead, such as an `int` of the smallest unit"
                    )
        return types

    def info(self, catalog: Catalog) -> TableInfo:
        """
        Return the table at a snapshot, under the name that it has there.

        Raises:
            UnknownTable: it does not exist there.
        """
        return catalog.table(self._declaration.name_in(catalog))

    # Reading.

    def read(self, data: bytes) -> Any:
        """
        Decode a stored document to its class, or to a mapping; its lists and dicts cannot be changed.

        Raises:
            SchemaViolation: it does not fit the class.
        """
        if self._converter is None:
            return DocumentMapping(data)
        try:
            document = self._converter.read(data)
        except Mismatch as mismatch:
            raise self._violation(mismatch) from mismatch
        for name, freeze in self._freezers:
            value = getattr(document, name)
            if value is not None and value is not UNSET:
                force_setattr(document, name, freeze(value))
        return document

    def validate(self, data: bytes, catalog: Catalog | None = None) -> tuple[list[str], bytes]:
        """Return a stored document's problems, and its JSON with indexed fields and instants as they must be stored."""
        document = codec.decode_canonical(data)
        assert isinstance(document, dict), document
        problems, normalised = self.examine(document, catalog, is_stored=True)
        return problems, codec.encode(document | normalised) if normalised else data

    def problems(self, value: Any, catalog: Catalog | None = None) -> list[str]:
        """Return one sentence for each top-level field that does not fit."""
        return self.examine(value, catalog)[0]

    def examine(
        self, value: Any, catalog: Catalog | None = None, *, is_stored: bool = False
    ) -> tuple[list[str], dict[str, Value]]:
        """
        Validate and normalise a document in one pass.

        A document may be older than a field of its class, which then reads as the default, or than a number's type.
        An index must find the document by the value that is read, so these fields are stored as they read.
        An instant has one stored form, whatever form it was given in.

        Returns:
            The problems, as from `problems`; and, if there are none, indexed fields and instants as they must be stored.
            Given a catalog, ids are compared with its tables' numbers; see `Converter.check` for `is_stored`.
        """
        if self._converter is None:
            return [], {}
        try:
            checked = self._converter.check(value, catalog, is_stored=is_stored)
        except Mismatch as mismatch:
            return self._all_problems(value, catalog, is_stored=is_stored) or [str(mismatch)], {}
        fields = {
            name: field
            for name in self._normalised
            if (name in self._indexed or name in value) and (field := getattr(checked, name)) is not UNSET
        }
        try:
            return [], cast("dict[str, Value]", codec.decode_canonical(codec.encode(fields)))
        except InvalidValue as error:  # an instant without a time zone
            return [f"{error.data['path']}: {error.message.partition(' - at ')[0]}"], {}

    def takes(self, name: str, value: Any) -> bool:
        """Return whether the class has this field and a value fits it."""
        fields = msgspec.structs.fields(self.cls) if self.cls else ()
        annotation = next((field.type for field in fields if field.encode_name == name), None)
        if annotation is None:
            return False
        try:
            Converter[Any](annotation).check(value)
        except Mismatch:
            return False
        return True

    def _all_problems(self, value: Any, catalog: Catalog | None, *, is_stored: bool) -> list[str]:
        """Check field by field, because msgspec stops at the first problem; empty if each field alone is valid."""
        if not isinstance(value, dict) or self.cls is None:
            return []
        problems = []
        known = {field.encode_name: field for field in msgspec.structs.fields(self.cls)}
        for name in sorted(value.keys() | known.keys()):
            if name not in known:
                problems.append(f"$.{name}: unknown field{did_you_mean(str(name), self._fields)}")
            elif name not in value:
                problems += [f"$.{name}: missing"] if known[name].required else []
            else:
                try:
                    Converter[Any](known[name].type).check(value[name], catalog, is_stored=is_stored)
                except Mismatch as mismatch:
                    problems.append(f"$.{name}{mismatch.path[1:]}: {mismatch.reason}")
        return problems

    # Writing.

    def fields(self, document: Document | Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
        """
        Return a document's own fields as they are stored, validated against the class, ids against their tables.

        Raises:
            SchemaViolation: it does not fit the class.
            InvalidId: a field needs an id and has another value.
            WrongTable: a field has an id of another table than annotated.
            InvalidValue: a part of it is not a value, or a field name begins with `_`.
            ValueTooLarge: it is nested too deeply, or has too many elements or fields.
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
            # A sum of `Int64`s is a plain `int`, which may exceed the range of plain numbers.
            return codec.encode(as_annotated(given, types_of(self.cls)))

    def key_value(self, path: str, value: Any, catalog: Catalog, *, bound: bool) -> Any:
        """
        Return the value that a query compares an indexed field with in the form that the field stores.

        Raises:
            InvalidValue: the field cannot have it; see `IndexValues.convert`.
        """
        if self.cls is None:
            return value
        values = self._index_values.get(path)
        if values is None:
            annotations = [float] if path == "_creationTime" else annotations_at(self.cls, path)
            types = types_of(float) if path == "_creationTime" else self._index_types.get(path, ())
            values = self._index_values[path] = IndexValues(annotations, types)
        return values.convert(value, catalog, bound=bound)

    def _violation(self, mismatch: Mismatch) -> TinyvexError:
        cause = type(mismatch.error)
        error = cause if issubclass(cause, TinyvexError) and cause is not InvalidValue else SchemaViolation
        unknown = mismatch.reason == "unknown field" and mismatch.path.count(".") == 1
        hint = did_you_mean(mismatch.path[2:], self._fields) if unknown else ""
        return error(f"table `{self.name}`: {mismatch}{hint}", table=self.name, path=mismatch.path)


class DeclaredTables(Protocol):
    """The tables of an app."""

    @property
    def tables(self) -> Mapping[str, TableSpec]:
        """The declared tables by name."""
        ...

    def class_spec(self, cls: type[Document]) -> TableSpec:
        """Return the table of a class, declared by this app or not."""
        ...

    def spec_of(self, name: str) -> TableSpec | None:
        """Return the table with this name, or with this earlier name if no table has it now; None if there is none."""
        ...


def user_fields(document: object) -> dict[str, Any]:
    """
    Return a document without its system fields.

    Raises:
        InvalidValue: it is not a document, or another field name begins with `_`.
    """
    if isinstance(document, Document):
        names = type(document).__struct_fields__
        return {name: value for name in names if name[0] != "_" and (value := getattr(document, name)) is not UNSET}
    if not isinstance(document, Mapping):
        actual = type(document).__name__
        raise InvalidValue(f"a document must be a mapping or an instance of its table's class, not `{actual}`")
    fields = {name: value for name, value in document.items() if name not in SYSTEM_FIELDS}
    for name in fields:
        if isinstance(name, str) and name.startswith("_"):
            raise InvalidValue(f"$.{name}: names that begin with `_` are reserved", path=f"$.{name}")
    return fields


def class_spec(cls: type[Document]) -> TableSpec:
    """
    Return the table of a class that `table` decorated.

    Raises:
        TypeError: it was not decorated.
        AppInvalid: its declaration is impossible.
    """
    declaration = declaration_of(cls)
    if declaration is None:
        name = getattr(cls, "__name__", type(cls).__name__)
        raise TypeError(f"`{name}` is not a table; decorate its class with `@tv.table(...)`")
    return TableSpec(declaration, cls)
