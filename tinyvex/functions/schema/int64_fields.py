"""
Values as annotations mean them, where Python's own numbers do not say it: which of them are `Int64`s.

Whoever writes `count + 1` or `[1, 2]` means what the field holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, inspect

from tinyvex.values.types import Int64

__all__ = ["as_annotated", "has_int64", "types_at", "types_of"]


def types_of(annotation: Any) -> list[inspect.Type]:
    """The types that a value with an annotation can have."""
    return _alternatives(inspect.type_info(annotation))


def types_at(cls: type, path: str) -> list[inspect.Type]:
    """The types that a field can have; none when the class has no such field."""
    found: list[inspect.Type] = [inspect.type_info(cls)]
    for step in path.split("."):
        found = [child for kind in found for child in _field_types(kind, step)]
    return found


def has_int64(kinds: Iterable[inspect.Type]) -> bool:
    """Whether one of the types is `Int64` itself."""
    return any(isinstance(kind, inspect.CustomType) and kind.cls is Int64 for kind in kinds)


def as_annotated(value: Any, kinds: Sequence[inspect.Type]) -> Any:
    """
    The value with plain whole numbers as `Int64` where that is annotated, and `Int64`s as plain ones where it is not.

    Inside lists, tuples, mappings and structs too; structs become mappings. Whatever does not fit stays as it is.
    """
    if type(value) is int:
        return _wide(value) if has_int64(kinds) else value
    if isinstance(value, Int64):
        return value if has_int64(kinds) or any(isinstance(kind, inspect.AnyType) for kind in kinds) else int(value)
    if isinstance(value, (list, tuple)):
        return [as_annotated(item, _item_types(kinds, place)) for place, item in enumerate(value)]
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        value = {encoded: child for name, encoded in names if (child := getattr(value, name)) is not UNSET}
    if isinstance(value, Mapping):
        return {
            name: as_annotated(child, [found for kind in kinds for found in _field_types(kind, name)])
            for name, child in value.items()
        }
    return value


def _wide(value: int) -> int:
    """One that no `Int64` can hold stays plain, and is refused where the others are."""
    return Int64(value) if -(2**63) <= value < 2**63 else value


def _item_types(kinds: Sequence[inspect.Type], place: int) -> list[inspect.Type]:
    found: list[inspect.Type] = []
    for kind in kinds:
        if isinstance(kind, inspect.AnyType):
            found.append(kind)
        elif isinstance(kind, inspect.TupleType):
            found += [child for item in kind.item_types[place : place + 1] for child in _alternatives(item)]
        elif isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
            found += _alternatives(kind.item_type)
    return found


def _field_types(kind: inspect.Type, name: str) -> Iterable[inspect.Type]:
    if isinstance(kind, inspect.AnyType):
        return [kind]
    if isinstance(kind, inspect.DictType):
        return _alternatives(kind.value_type)
    if isinstance(kind, (inspect.StructType, inspect.TypedDictType, inspect.DataclassType)):
        return [child for field in kind.fields if field.encode_name == name for child in _alternatives(field.type)]
    return []


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _alternatives(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [child for member in kind.types for child in _alternatives(member)]
    return [kind]
