"""
Checks of the values that a query compares an indexed field with: the same as for a write of that field. (pure)

An index contains only values that fit their field, so a value of another type would find nothing, without an error.
A value of an exact type, such as a string for a field annotated `str`, needs one lookup; any other value is converted.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)  # fmt: skip

import msgspec
from msgspec import UnsetType, inspect

from tinyvex.errors import InvalidId, InvalidValue
from tinyvex.functions.schema.converter import Converter, Mismatch
from tinyvex.functions.schema.document import Id, table_declarations
from tinyvex.functions.schema.int64_fields import as_annotated
from tinyvex.values import codec
from tinyvex.values.ids import parse_id

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import Catalog

__all__ = ["IndexValues", "annotations_at"]

_EXACT: dict[type[inspect.Type], type] = {
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.BoolType: bool,
    inspect.NoneType: type(None),
    inspect.BytesType: bytes,
}


_OF_ANY = frozenset((str, float, bytes, type(None)))


class IndexValues:
    """
    The values that an indexed field is compared with.

    Args:
        annotations: the annotations of the field; several if its parent is a union, none if any value fits.
        types: the types that the field can have.
    """

    def __init__(self, annotations: Sequence[Any], types: Sequence[inspect.Type]) -> None:
        self._types = types
        alternatives = [each for annotation in annotations for each in _alternatives(annotation)]
        self._is_any = not alternatives or Any in alternatives
        self._ids = [each for each in alternatives if (get_origin(each) or each) is Id]
        arguments = [(get_args(each) or (Any,))[0] for each in self._ids]
        self._tables = [declaration for argument in arguments for declaration in table_declarations(argument)]
        self._exact = _OF_ANY if self._is_any else _exact_types(types)
        self._equal: Converter[Any] | None = None
        self._bound: Converter[Any] | None = None
        if not self._is_any:
            self._equal = _converter(alternatives)
            self._bound = _converter([*(loose for each in alternatives for loose in _loose(each)), type(None)])

    def convert(self, value: Any, catalog: Catalog, *, bound: bool) -> Any:
        """
        Return a value in the form that the field stores.

        Args:
            value: to be compared with.
            catalog: ids are compared with its tables' numbers.
            bound: whether it is a bound, which may be outside of the field's own range, or None.

        Raises:
            InvalidValue: the field cannot have it.
        """
        if type(value) in self._exact or (self._ids and self._is_id(value, catalog)):
            return value
        # Not before this: arithmetic with an `Int64` returns a plain `int`, which is coerced as in a write.
        plain = codec.unwrap(codec.to_builtins(as_annotated(value, self._types)))
        converter = self._bound if bound else self._equal
        if converter is None:
            return as_annotated(plain, self._types)
        try:
            checked = converter.check(plain, catalog)
        except Mismatch as mismatch:
            raise InvalidValue(f"{mismatch.path[1:]} {mismatch.reason}".lstrip(), path=mismatch.path) from mismatch
        return as_annotated(codec.unwrap(codec.to_builtins(checked)), self._types)

    def _is_id(self, value: Any, catalog: Catalog) -> bool:
        """Return whether it is an id of an annotated table; if not, the converter has the message."""
        if not isinstance(value, str):
            return False
        try:
            table = catalog.table_numbered(parse_id(value).table)
        except InvalidId:
            return False
        names = [declaration.name_in(catalog) for declaration in self._tables]
        return not names or (table is not None and table.name in names)


def _exact_types(types: Sequence[inspect.Type]) -> frozenset[type]:
    """Return the types whose values are stored as they are; a type with a constraint, or coerced to `Int64`, is not."""
    exact = {
        _EXACT[type(each)]
        for each in types
        if type(each) in _EXACT and all(getattr(each, name) is None for name in each.__struct_fields__)
    }
    if float in exact:
        exact.add(int)
    return frozenset(exact - {int} if any(isinstance(each, inspect.CustomType) for each in types) else exact)


def _converter(alternatives: Sequence[Any]) -> Converter[Any] | None:
    """Return the converter of a union; None if msgspec cannot tell its members apart."""
    try:
        return Converter(Union[tuple(alternatives)])  # noqa: UP007  # as many as there are
    except TypeError:
        return None


def _loose(annotation: Any) -> Iterator[Any]:
    """Yield the types of bounds: a number may have a fraction, and lengths, ranges and members are not checked."""
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        values: Sequence[Any] = [member.value for member in annotation]
    elif get_origin(annotation) is Literal:
        values = get_args(annotation)
    elif get_origin(annotation) is Annotated:
        for each in _alternatives(get_args(annotation)[0]):
            yield from _loose(each)
        return
    else:
        yield annotation
        if annotation is int:
            yield float
        return
    for cls in {type(value) for value in values}:
        yield from _loose(cls)


def annotations_at(cls: Any, path: str) -> list[Any]:
    """Return the annotations of a field; several if a parent is a union, none if it is unknown."""
    annotations = [cls]
    for step in path.split("."):
        annotations = [
            child for each in annotations for parent in _alternatives(each) for child in _field(parent, step)
        ]
    return annotations


def _field(parent: Any, name: str) -> list[Any]:
    origin = get_origin(parent) or parent
    if parent is Any:
        return [Any]
    if origin is dict or origin is Mapping:
        return [get_args(parent)[1] if get_args(parent) else Any]
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return [field.type for field in msgspec.structs.fields(parent) if field.encode_name == name]
    if dataclasses.is_dataclass(origin) or is_typeddict(origin) or hasattr(origin, "_fields"):
        hints = get_type_hints(origin, include_extras=True)
        return [hints[name]] if name in hints else []
    return []


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union without `UNSET`, flattened; any other annotation alone."""
    origin = get_origin(annotation)
    if origin in (Required, NotRequired):
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [each for member in get_args(annotation) for each in _alternatives(member) if each is not UnsetType]
    return [annotation]
