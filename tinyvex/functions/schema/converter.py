"""
Conversion between values and annotations: stored JSON to typed objects, and validation of arguments, results, documents.

msgspec does the work. This module adds what it does not know: `Id`, `Int64`, `Rows`, the `$` wrappers of JSON,
and errors with a path.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from functools import lru_cache, partial, reduce
from operator import or_
from types import GenericAlias, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from tinyvex.errors import InvalidId, InvalidValue, TinyvexError, WrongTable
from tinyvex.functions.result.rows import Page, Rows
from tinyvex.functions.schema.document import Document, DocumentMapping, Id, declaration_of
from tinyvex.values import codec
from tinyvex.values.ids import parse_id
from tinyvex.values.types import Int64

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import Catalog

__all__ = ["Converter", "Mismatch", "json_schema"]

T = TypeVar("T")

# Bytes arrive unwrapped, so a string is never decoded as base64.
_NATIVE = (bytes,)
_MESSAGE = re.compile(r"(?s)(.*?)(?: - at `(.*)`)?")
_CACHED_ANNOTATIONS = 1024
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`")

_catalog: ContextVar[Catalog | None] = ContextVar("_catalog", default=None)
"""The catalog that the current check compares ids with; msgspec's hooks take no further argument."""


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
        self._trusting = partial(self._hook, trusted=True)
        self._checking = partial(self._hook, trusted=False)
        try:
            self._decode = msgspec.json.Decoder(self._struct, dec_hook=self._trusting).decode
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
            if b'"$' in data:
                return self._convert(codec.decode_canonical(data), self._trusting)
            if self._boxed:
                return self._decode(b'{"value":' + data + b"}").value  # type: ignore[no-any-return]
            return self._decode(data)  # type: ignore[no-any-return]
        except msgspec.ValidationError as error:
            raise self._mismatch(error) from error

    def check(self, value: Any, catalog: Catalog | None = None) -> T:
        """
        Convert an untrusted value; ids are parsed and, given a catalog, compared with their table's number.

        Raises:
            Mismatch: it does not fit.
        """
        token = _catalog.set(catalog)
        try:
            return self._convert(value, self._checking)
        except msgspec.ValidationError as error:
            raise self._mismatch(error) from error
        finally:
            _catalog.reset(token)

    def _convert(self, value: Any, hook: Any) -> T:
        if self._boxed:
            box = msgspec.convert({"value": value}, self._struct, dec_hook=hook, builtin_types=_NATIVE)
            return box.value  # type: ignore[no-any-return]
        return msgspec.convert(value, self._struct, dec_hook=hook, builtin_types=_NATIVE)  # type: ignore[no-any-return]

    def _mismatch(self, error: msgspec.ValidationError) -> Mismatch:
        message = _MESSAGE.fullmatch(str(error))
        assert message is not None
        reason, path = message[1], message[2] or "$"
        if self._boxed:
            path = "$" + path.removeprefix("$.value")
        if field := _FIELD.fullmatch(reason):
            path, reason = f"{path}.{field[2]}", "missing" if field[1].startswith("missing") else "unknown field"
        cause = error.__cause__.__cause__ if error.__cause__ is not None else None
        if isinstance(cause, TinyvexError):
            return Mismatch(path, reason, cause)
        return Mismatch(path, reason[:1].lower() + reason[1:].replace("`", ""))

    def _hook(self, annotation: Any, value: Any, *, trusted: bool) -> Any:
        """Convert to a type that msgspec does not know; it turns a ValueError into a ValidationError with the path."""
        origin = get_origin(annotation) or annotation
        if origin is Id:
            if not isinstance(value, str):
                raise _unexpected("id", value)
            if not trusted:
                _check_id(value, _argument(annotation))
            return Id(value)
        if origin is Int64:
            return _int64(value)
        if origin is Rows:
            return _rows(value, _argument(annotation))
        if origin is DocumentMapping and isinstance(value, dict):
            return DocumentMapping(codec.encode(value))
        if isinstance(value, origin):
            return value
        raise _unexpected(getattr(origin, "__name__", str(origin)), value)


def _argument(annotation: Any) -> Any:
    """Return the type in brackets: `Message` for `Id[Message]`."""
    return (get_args(annotation) or (Any,))[0]


def _check_id(text: str, cls: Any) -> None:
    try:
        number = parse_id(str(text)).table
    except InvalidId as error:
        raise ValueError(str(error)) from error
    catalog, names = _catalog.get(), _table_names(cls)
    if catalog is None or not names:
        return
    table = catalog.table_numbered(number)
    if table is None or table.name not in names:
        expected = " or ".join(f"`{name}`" for name in names)
        other = "an unknown table" if table is None else f"table `{table.name}`"
        message = f"expected an id of table {expected}, got one of {other}"
        raise ValueError(message) from WrongTable(message, expected=list(names))


@lru_cache(maxsize=_CACHED_ANNOTATIONS)
def _table_names(cls: Any) -> tuple[str, ...]:
    """Return the tables of a class, or of a union of classes; none if ids of any table are allowed."""
    classes = get_args(cls) if get_origin(cls) in (Union, UnionType) else (cls,)
    declared = [declaration_of(each) for each in classes]
    return tuple(declaration.name for declaration in declared if declaration is not None)


def _rows(value: Any, argument: Any) -> Any:
    if isinstance(value, Rows):
        declared = argument if isinstance(argument, type) and issubclass(argument, Document) else None
        if declared is not None and value.row_class is not declared:
            actual = "mappings" if value.row_class is None else value.row_class.__name__
            raise ValueError(f"Expected rows of `{declared.__name__}`, got rows of `{actual}`")
        return value
    if not isinstance(value, list):
        raise _unexpected("rows", value)
    return Rows([codec.encode(row) for row in value], *_row_reader(argument))


def _row_reader(annotation: Any) -> tuple[Any, type | None]:
    """Return the function that decodes a row's JSON, and the row's class if it is a document class."""
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return Converter[Any](annotation).read, annotation
    return DocumentMapping, None


def _int64(value: Any) -> Int64:
    if isinstance(value, Int64):
        return value
    if type(value) is not int:
        raise _unexpected("Int64", value)
    try:
        return Int64(value)
    except InvalidValue as error:
        raise ValueError(str(error)) from error


def _unexpected(expected: str, value: object) -> ValueError:
    """Return the error in msgspec's form; msgspec adds the path."""
    return ValueError(f"Expected `{expected}`, got `{'null' if value is None else type(value).__name__}`")


# JSON schemas.

T_item = TypeVar("T_item")


class _PageSchema(msgspec.Struct, Generic[T_item], rename="camel", forbid_unknown_fields=True):
    """A page of a query; pass its cursor to the next call."""

    items: list[T_item]
    cursor: str
    is_done: bool


_PageSchema.__name__ = Page.__name__  # the name in the schema


def json_schema(annotation: Any) -> dict[str, Any]:
    """
    Return the JSON schema of an annotation; ids are strings with `format: tinyvex-id` and the table's name.

    Raises:
        TypeError: msgspec cannot describe the annotation.
    """
    try:
        schema = msgspec.json.schema(_described(annotation), schema_hook=_schema_of)
    except TypeError as error:
        if "Encoding objects" not in str(error):
            raise
        hint = "as a default inside a nested class; write it as `msgspec.field(default_factory=lambda: …)`"
        raise TypeError(f"{error} {hint}") from error
    wrapped: dict[str, Any] = _with_wrappers(schema)
    return wrapped


def _described(annotation: Any) -> Any:
    """Replace Tinyvex's types in an annotation by types that msgspec describes: rows by lists, ids by strings."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Rows:
        return list[_described(arguments[0]) if arguments else Any]  # type: ignore[misc]
    if origin is Page:
        return _PageSchema[_described(arguments[0]) if arguments else Any]  # type: ignore[misc]
    if origin is Id:
        return Annotated[str, msgspec.Meta(extra_json_schema=_id_schema(arguments))]
    if origin is DocumentMapping:
        return dict[str, Any]
    if origin in (Union, UnionType):
        return reduce(or_, map(_described, arguments))
    if origin in (list, tuple, dict) and arguments:
        return GenericAlias(origin, tuple(part if part is ... else _described(part) for part in arguments))
    return annotation


def _id_schema(arguments: tuple[Any, ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "format": "tinyvex-id"}
    names = _table_names(arguments[0]) if arguments else ()
    return schema | {"tables": list(names)} if names else schema


def _with_wrappers(schema: Any) -> Any:
    """Describe bytes by their `$bytes` wrapper; msgspec describes them as a bare string."""
    if isinstance(schema, list):
        return [_with_wrappers(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("contentEncoding") == "base64" and "format" not in schema:
        return {"type": "object", "properties": {"$bytes": schema}, "required": ["$bytes"]}
    return {name: item if name == "default" else _with_wrappers(item) for name, item in schema.items()}


def _schema_of(cls: Any) -> dict[str, Any]:
    """Return the schema of one of Tinyvex's types inside a class; msgspec does not pass the type in its brackets."""
    if cls is Id:
        return _id_schema(())
    if cls is Int64:
        return {
            "type": "object",
            "properties": {"$integer": {"type": "string", "contentEncoding": "base64", "format": "int64"}},
            "required": ["$integer"],
        }
    if cls is Rows:
        return {"type": "array"}
    raise NotImplementedError
