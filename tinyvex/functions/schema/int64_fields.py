"""
Coercion of plain integers to `Int64` by annotation.

Python's arithmetic does not preserve `Int64`: `count + 1` is a plain `int`. The annotation of the field decides which
of the two is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, inspect

from tinyvex.values.types import Int64

__all__ = ["as_annotated", "has_int64", "types_at", "types_of"]


def types_of(annotation: Any) -> list[inspect.Type]:
    """Return the types that a value with an annotation can have."""
    return _alternatives(inspect.type_info(annotation))


def types_at(cls: type, path: str) -> list[inspect.Type]:
    """Return the types that a field can have; none if the class does not have it."""
    types: list[inspect.Type] = [inspect.type_info(cls)]
    for step in path.split("."):
        types = [child for parent in types for child in _field_types(parent, step)]
    return types


def has_int64(types: Iterable[inspect.Type]) -> bool:
    """Return whether one of the types is `Int64` itself."""
    return any(isinstance(each, inspect.CustomType) and each.cls is Int64 for each in types)


def as_annotated(value: Any, types: Sequence[inspect.Type]) -> Any:
    """
    Coerce integers to `Int64` if that is annotated, and `Int64`s to plain integers if it is not.

    Lists, tuples, mappings and structs are coerced recursively; structs become mappings.
    Values that do not fit stay unchanged.
    """
    if type(value) is int:
        return _widened(value) if has_int64(types) else value
    if isinstance(value, Int64):
        return value if has_int64(types) or any(isinstance(each, inspect.AnyType) for each in types) else int(value)
    if isinstance(value, (list, tuple)):
        return [as_annotated(item, _item_types(types, position)) for position, item in enumerate(value)]
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        value = {encoded: child for name, encoded in names if (child := getattr(value, name)) is not UNSET}
    if isinstance(value, Mapping):
        return {
            name: as_annotated(child, [field for each in types for field in _field_types(each, name)])
            for name, child in value.items()
        }
    return value


def _widened(value: int) -> int:
    """Return an `Int64`; an integer beyond its range stays plain, and the encoder refuses it."""
    return Int64(value) if -(2**63) <= value < 2**63 else value


def _item_types(types: Sequence[inspect.Type], position: int) -> list[inspect.Type]:
    items: list[inspect.Type] = []
    for each in types:
        if isinstance(each, inspect.AnyType):
            items.append(each)
        elif isinstance(each, inspect.TupleType):
            items += [child for item in each.item_types[position : position + 1] for child in _alternatives(item)]
        elif isinstance(each, (inspect.ListType, inspect.VarTupleType)):
            items += _alternatives(each.item_type)
    return items


def _field_types(parent: inspect.Type, name: str) -> Iterable[inspect.Type]:
    if isinstance(parent, inspect.AnyType):
        return [parent]
    if isinstance(parent, inspect.DictType):
        return _alternatives(parent.value_type)
    if isinstance(parent, (inspect.StructType, inspect.TypedDictType, inspect.DataclassType)):
        return [child for field in parent.fields if field.encode_name == name for child in _alternatives(field.type)]
    return []


def _alternatives(annotated: inspect.Type) -> list[inspect.Type]:
    """Return the members of a union, flattened; any other type alone."""
    if isinstance(annotated, inspect.Metadata):
        return _alternatives(annotated.type)
    if isinstance(annotated, inspect.UnionType):
        return [child for member in annotated.types for child in _alternatives(member)]
    return [annotated]
