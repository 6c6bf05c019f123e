"""
Conversion between values and annotations: stored JSON to typed objects, and validation of arguments, results, documents.

msgspec does the work. This module adds what it does not know: `Id`, `Int64`, `Rows`, the `$` wrappers of JSON,
and errors with a path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from tinyvex.errors import InvalidId, TinyvexError, WrongTable
from tinyvex.functions.result.rows import Rows
from tinyvex.functions.schema.document import Document, DocumentMapping, Id, table_declarations
from tinyvex.values import codec
from tinyvex.values.conversion import NATIVE_TYPES, as_int64, path_and_reason, unexpected
from tinyvex.values.ids import parse_id
from tinyvex.values.types import Int64

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import Catalog

__all__ = ["Converter", "Mismatch", "RowList"]

T = TypeVar("T")

_LISTS = (list, Sequence, Collection, Iterable)
_MAPPINGS = (dict, Mapping, DocumentMapping)


class Mismatch(Exception):
    """
    A value does not fit an annotation.

    Attributes:
        path: the path of the offending part, from `$`.
        reason: the expected and the actual type.
        error: the Tinyvex error that stopped the conversion (`WrongTable`, `InvalidId`); None for msgspec's own.
    """

    def __init__(self, path: str, reason: str, error: TinyvexError | None = None) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.error = error


class Converter(Generic[T]):
    """
    Converts values to one annotation.

    Args:
        annotation: a class or any other annotation that msgspec supports.

    Raises:
        TypeError: msgspec does not support the annotation.
        NameError: a name in quotes is not defined in the class's module.
    """

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        # msgspec caches its analysis of structs only, so any other annotation becomes the field of one.
        self._boxed = not (isinstance(annotation, type) and issubclass(annotation, msgspec.Struct))
        self._struct: Any = msgspec.defstruct("Box", [("value", annotation)]) if self._boxed else annotation
        try:
            self._decode = msgspec.json.Decoder(self._struct, dec_hook=_convert_trusted).decode
        except TypeError as error:
            if "custom type" not in str(error):
                raise
            raise TypeError(
                "a union can have only one of `tv.Id`, `tv.Int64` and `tv.Rows`; "
                "write ids of several tables as `tv.Id[A | B]`"
            ) from error

    def read(self, data: bytes) -> T:
        """
        Decode stored JSON, in one pass if it has no `$` wrappers; ids are trusted.

        Raises:
            Mismatch: it does not fit.
        """
        try:
            if codec.may_have_wrappers(data):
                return self._convert(codec.decode_canonical(data), _convert_trusted)
            if self._boxed:
                return self._decode(b'{"value":' + data + b"}").value  # type: ignore[no-any-return]
            return self._decode(data)  # type: ignore[no-any-return]
        except msgspec.ValidationError as error:
            raise self._mismatch(error) from error

    def check(self, value: Any, catalog: Catalog | None = None, *, is_stored: bool = False) -> T:
        """
        Convert an untrusted value; ids are parsed and, given a catalog, compared with their table's number.

        Args:
            value: decoded.
            catalog: has the tables.
            is_stored: whether the value is stored already. The table of an id may then have been dropped since, or still
                have an earlier name.

        Raises:
            Mismatch: it does not fit.
        """
        try:
            return self._convert(value, partial(_convert_untrusted, catalog, is_stored))
        except msgspec.ValidationError as error:
            raise self._mismatch(error) from error

    def _convert(self, value: Any, hook: Any) -> T:
        if self._boxed:
            box = msgspec.convert({"value": value}, self._struct, dec_hook=hook, builtin_types=NATIVE_TYPES)
            return box.value  # type: ignore[no-any-return]
        return msgspec.convert(value, self._struct, dec_hook=hook, builtin_types=NATIVE_TYPES)  # type: ignore[no-any-return]

    def _mismatch(self, error: msgspec.ValidationError) -> Mismatch:
        path, reason = path_and_reason(error)
        if self._boxed:
            path = "$" + path.removeprefix("$.value")
        cause = error.__cause__.__cause__ if error.__cause__ is not None else None
        return Mismatch(path, reason, cause if isinstance(cause, TinyvexError) else None)


class RowList:
    """
    The lists in a result's annotation, which rows can be returned as: `list[Message]`, `Sequence[Message] | None`.

    Rows of the declared class need no conversion: a list of documents and rows have the same JSON.

    Attributes:
        declared: whether the annotation has a list.
    """

    def __init__(self, annotation: Any) -> None:
        lists = [each for each in _alternatives(annotation) if (get_origin(each) or each) in _LISTS]
        self.declared = bool(lists)
        self._elements = [element for each in lists for element in _alternatives(_argument(each))]

    def check(self, rows: Rows[Any]) -> bool:
        """
        Return whether a list of exactly these rows is declared; False also if there is no list.

        Raises:
            Mismatch: the lists have documents of another class.
        """
        if Any in self._elements:
            return True
        if rows.row_class is None:
            return any((get_origin(element) or element) in _MAPPINGS for element in self._elements)
        if rows.row_class in self._elements:
            return True
        if declared := [each for each in self._elements if isinstance(each, type) and issubclass(each, Document)]:
            names = " or ".join(cls.__name__ for cls in declared)
            raise Mismatch("$", f"expected rows of {names}, got rows of {rows.row_class.__name__}")
        return False


def _convert_trusted(annotation: Any, value: Any) -> Any:
    """Convert to a type that msgspec does not know; it turns a ValueError into a ValidationError with the path."""
    origin = getattr(annotation, "__origin__", annotation)
    if origin is Id and isinstance(value, str):
        return Id(value)
    return _convert_other(origin, annotation, value)


def _convert_untrusted(catalog: Catalog | None, is_stored: bool, annotation: Any, value: Any) -> Any:
    """Convert as `_convert_trusted` does; an id must be one of a table that is annotated."""
    origin = getattr(annotation, "__origin__", annotation)
    if origin is Id and isinstance(value, str):
        _check_id(str(value), annotation, catalog, is_stored=is_stored)
        return Id(value)
    return _convert_other(origin, annotation, value)


def _convert_other(origin: Any, annotation: Any, value: Any) -> Any:
    if origin is Id:
        raise unexpected("id", value)
    if origin is Int64:
        return as_int64(value)
    if origin is Rows:
        return _rows(value, _argument(annotation))
    if origin is DocumentMapping and isinstance(value, dict):
        return DocumentMapping(codec.encode(value))
    if isinstance(value, origin):
        return value
    if isinstance(value, dict) and issubclass(origin, dict):
        mapping = origin()  # `defaultdict` takes no mapping
        mapping.update(value)
        return mapping
    raise unexpected(getattr(origin, "__name__", str(origin)), value)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union; any other annotation alone."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _argument(annotation: Any) -> Any:
    """Return the type in brackets: `Message` for `Id[Message]`."""
    return (get_args(annotation) or (Any,))[0]


def _check_id(text: str, annotation: Any, catalog: Catalog | None, *, is_stored: bool) -> None:
    try:
        number = parse_id(text).table
    except InvalidId as error:
        raise ValueError(str(error)) from error
    declarations = table_declarations(getattr(annotation, "__args__", (Any,))[0])
    if catalog is None or not declarations:
        return
    if is_stored:
        table = catalog.table_numbered(number)
        if table is None or any(table.name in (each.name, *each.renamed_from) for each in declarations):
            return
    names = [declaration.name_in(catalog) for declaration in declarations]
    problem = catalog.wrong_table(number, names)
    if problem is not None:
        raise ValueError(problem) from WrongTable(problem, expected=names)


def _rows(value: Any, argument: Any) -> Any:
    if isinstance(value, Rows):
        declared = argument if isinstance(argument, type) and issubclass(argument, Document) else None
        if declared is not None and value.row_class is not declared:
            actual = "mappings" if value.row_class is None else value.row_class.__name__
            raise ValueError(f"Expected rows of `{declared.__name__}`, got rows of `{actual}`")
        return value
    if not isinstance(value, list):
        raise unexpected("rows", value)
    return Rows([codec.encode(row) for row in value], *_row_reader(argument))


def _row_reader(annotation: Any) -> tuple[Any, type | None]:
    """Return the function that decodes a row's JSON, and the row's class if it is a document class."""
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return Converter[Any](annotation).read, annotation
    return DocumentMapping, None
