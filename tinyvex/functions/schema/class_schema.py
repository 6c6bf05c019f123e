"""
Describe a document class as a stored schema, which `values/stored_schema.py` turns into a validator without the class.

msgspec's description of a class has all of its types, except the tables of ids, which are in the annotations only.
The rules that a class has as code cannot be stored: `__post_init__`, and `_missing_` of an enumeration.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from tinyvex.functions.result.rows import Rows
from tinyvex.functions.schema.document import Document, Id, table_names
from tinyvex.values.types import Int64

__all__ = ["class_schema"]

_CONSTRAINTS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")
_LISTS = (inspect.ListType, inspect.VarTupleType)
_NAMES: dict[type[inspect.Type], str] = {
    inspect.AnyType: "any", inspect.NoneType: "null", inspect.BoolType: "bool", inspect.IntType: "int",
    inspect.FloatType: "float", inspect.StrType: "str", inspect.BytesType: "bytes", inspect.DateTimeType: "datetime",
    inspect.DateType: "date", inspect.TimeType: "time", inspect.TimeDeltaType: "timedelta", inspect.UUIDType: "uuid",
    inspect.DecimalType: "decimal",
}  # fmt: skip


def class_schema(cls: type[Document]) -> str:
    """Return the stored schema of a class whose annotations have been checked: canonical JSON."""
    description = _Description()
    description.object(inspect.type_info(cls), cls)
    return msgspec.json.encode(description.objects, order="deterministic").decode()


class _Description:
    """
    The classes that are described so far.

    Attributes:
        objects: one for each class; types refer to them by position, because a class may contain itself.
    """

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self._positions: dict[Any, int] = {}

    def type(self, info: inspect.Type, annotation: Any) -> dict[str, Any]:
        """Describe a type; its annotation may be a union that has it as a member, or Any if it is not known."""
        if isinstance(info, inspect.Metadata):
            return self.type(info.type, annotation)
        if isinstance(info, inspect.UnionType):
            return {"type": "union", "types": [self.type(member, annotation) for member in info.types]}
        if isinstance(info, inspect.CustomType):
            return self._custom(get_origin(info.cls) or info.cls, annotation)
        if isinstance(info, inspect.LiteralType):
            return {"type": "literal", "values": list(info.values)}
        if isinstance(info, inspect.EnumType):
            return _enumeration(info.cls)
        described: dict[str, Any] = {
            name: value for name in _CONSTRAINTS if (value := getattr(info, name, None)) is not None
        }
        if type(info) in _NAMES:
            return {"type": _NAMES[type(info)]} | described
        arguments = _arguments(info, annotation)
        if isinstance(info, _LISTS):
            return {"type": "list", "item": self.type(info.item_type, arguments[0])} | described
        if isinstance(info, inspect.TupleType):
            items = zip(info.item_types, arguments, strict=True)
            return {"type": "tuple", "items": [self.type(*item) for item in items]}
        if isinstance(info, inspect.DictType):
            key, value = self.type(info.key_type, arguments[0]), self.type(info.value_type, arguments[1])
            return {"type": "dict", "key": key, "value": value} | described
        return {"type": "object", "object": self.object(info, info.cls)}  # type: ignore[attr-defined]  # the others have a class

    def object(self, info: Any, cls: Any) -> int:
        """Describe a class with fields; return its position."""
        if cls in self._positions:
            return self._positions[cls]
        position = self._positions[cls] = len(self.objects)
        is_struct, is_tuple = isinstance(info, inspect.StructType), isinstance(info, inspect.NamedTupleType)
        described: dict[str, Any] = {"closed": is_tuple or (is_struct and info.forbid_unknown_fields)}
        if is_tuple:
            described["array"] = True
        if is_struct and info.tag_field is not None:
            described |= {"tagField": info.tag_field, "tag": info.tag}
        self.objects.append(described)
        annotations = _field_annotations(cls)
        described["fields"] = [
            {"name": field.encode_name, "required": field.required}
            | self.type(field.type, annotations.get(field.name, Any))
            for field in info.fields
        ]
        return position

    def _custom(self, cls: Any, annotation: Any) -> dict[str, Any]:
        if cls is Int64:
            return {"type": "int64"}
        if cls is Rows:
            return {"type": "list", "item": {"type": "any"}}
        if cls is not Id:
            return {"type": "dict", "key": {"type": "str"}, "value": {"type": "any"}}
        ids = [each for each in _alternatives(annotation) if get_origin(each) is Id]
        return {"type": "id", "tables": sorted({name for each in ids for name in table_names(get_args(each)[0])})}


def _enumeration(cls: Any) -> dict[str, Any]:
    """Describe an enumeration by its values; one that accepts other values by their types."""
    values = [member.value for member in cls]
    if cls._missing_.__func__ is vars(enum.Enum)["_missing_"].__func__:
        return {"type": "literal", "values": values}
    return {"type": "str" if isinstance(values[0], str) else "int"}


def _arguments(info: inspect.Type, annotation: Any) -> Sequence[Any]:
    """Return the annotations inside a collection; Any for each that is not known."""
    for each in _alternatives(annotation):
        arguments = get_args(each)
        if arguments and type(inspect.type_info(each)) is type(info):
            return arguments
    return [Any] * (len(info.item_types) if isinstance(info, inspect.TupleType) else 2)


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, flattened and without metadata; any other annotation alone."""
    origin = get_origin(annotation)
    if origin in (Annotated, Required, NotRequired):
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [each for member in get_args(annotation) for each in _alternatives(member)]
    if hasattr(annotation, "__value__"):  # `type Name = ...`
        return _alternatives(annotation.__value__)
    return [annotation]


def _field_annotations(cls: Any) -> dict[str, Any]:
    origin = get_origin(cls) or cls
    if issubclass(origin, msgspec.Struct):
        return {field.name: field.type for field in msgspec.structs.fields(cls)}
    return get_type_hints(origin, include_extras=True)
