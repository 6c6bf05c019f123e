"""
Checks of declared types, made when an app is loaded: a type that cannot survive storage or JSON is refused there. (pure)

msgspec accepts more than JSON can express: sets, dicts with integer keys, classes that it does not know. Without these
checks such a declaration loads, and then each insert or each call fails.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin

import msgspec
from msgspec import inspect

from tinyvex.functions.result.rows import Rows
from tinyvex.functions.schema.document import Document, DocumentMapping, Id, declaration_of
from tinyvex.values.types import Int64

__all__ = ["check_declared", "containers", "has_instants", "is_mutable", "unordered"]

Use: TypeAlias = Literal["field", "argument", "result"]
"""The use of an annotation. Sets are possible as arguments, because a client sends a list."""

_OWN = (Id, Int64, Rows, DocumentMapping, object)
_IMMUTABLE = (
    str, int, float, bool, bytes, type(None), enum.Enum, dt.date, dt.time, dt.timedelta, dt.tzinfo, uuid.UUID,
    decimal.Decimal, msgspec.UnsetType,
)  # fmt: skip
_OBJECTS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType, inspect.NamedTupleType)
_INSTEAD: dict[type[inspect.Type], str] = {
    inspect.SetType: "a set has no form in JSON; use a list",
    inspect.FrozenSetType: "a set has no form in JSON; use a list",
    inspect.ByteArrayType: "a `bytearray` can be changed; use `bytes`",
    inspect.MemoryViewType: "a `memoryview` is not a value; use `bytes`",
    inspect.ExtType: "a MessagePack extension has no form in JSON",
    inspect.RawType: "raw JSON is not validated; use the type of its value, or `typing.Any`",
}


class _Part(NamedTuple):
    """A type inside an annotation, with its path: `places[].city`."""

    path: str
    type: inspect.Type


def check_declared(annotation: Any, use: Use) -> None:
    """
    Refuse an annotation with a part that cannot survive storage or JSON.

    Raises:
        TypeError: there is such a part; the message begins with its path if it is not the annotation itself.
    """
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        for field in msgspec.structs.fields(annotation):
            _check_ids(field.type, field.name)
    else:
        _check_ids(annotation)
    for part in _parts(inspect.type_info(annotation)):
        problem = _problem(part.type, use)
        if problem is not None:
            raise TypeError(f"`{part.path}`: {problem}" if part.path else problem)


def has_instants(annotation: Any) -> bool:
    """Return whether a part of an annotation is a `datetime` or a `time`, which have one canonical form."""
    return any(isinstance(part.type, (inspect.DateTimeType, inspect.TimeType)) for part in _parts(_info(annotation)))


def unordered(types: Iterable[inspect.Type]) -> str | None:
    """Return the name of a type among these, or inside them, whose stored form has another order; None if there is none."""
    for each in types:
        for part in _parts(each):
            if isinstance(part.type, inspect.DecimalType):
                return "Decimal"
            if isinstance(part.type, inspect.TimeDeltaType):
                return "timedelta"
    return None


def containers(annotation: Any) -> Literal["none", "flat", "deep"]:
    """Return whether values have lists or dicts: none, one list of scalars, or others."""
    info = _info(annotation)
    if any(isinstance(part.type, _CONTAINERS) for part in _parts(info)):
        is_flat = isinstance(info, inspect.ListType) and isinstance(info.item_type, _SCALARS)
        return "flat" if is_flat else "deep"
    return "none"


def is_mutable(value: object) -> bool:
    """Return whether a default can be changed: every document and every call would share it."""
    if isinstance(value, (*_IMMUTABLE, type)) or type(value) is object:  # the latter marks an omitted argument
        return False
    if isinstance(value, (tuple, frozenset)):
        return any(map(is_mutable, value))
    if isinstance(value, msgspec.Struct):
        fields = (getattr(value, name) for name in value.__struct_fields__)
        return not value.__struct_config__.frozen or any(map(is_mutable, fields))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        is_frozen: bool = type(value).__dataclass_params__.frozen  # type: ignore[attr-defined]  # not in typeshed
        return not is_frozen or any(is_mutable(getattr(value, field.name)) for field in dataclasses.fields(value))
    return True


def _info(annotation: Any) -> inspect.Type:
    return annotation if isinstance(annotation, inspect.Type) else inspect.type_info(annotation)


def _parts(declared: inspect.Type) -> Iterator[_Part]:
    """Yield a type and all types inside it; a class that contains itself once."""
    waiting = [_Part("", declared)]
    seen = set()
    while waiting:
        part = waiting.pop()
        if isinstance(part.type, _OBJECTS):
            if part.type.cls in seen:
                continue
            seen.add(part.type.cls)
        yield part
        waiting += reversed(list(_children(part)))


def _children(part: _Part) -> Iterator[_Part]:
    path, declared = part
    if isinstance(declared, inspect.Metadata):
        yield _Part(path, declared.type)
    elif isinstance(declared, inspect.UnionType):
        for member in declared.types:
            yield _Part(path, member)
    elif isinstance(declared, inspect.CollectionType):
        yield _Part(f"{path}[]", declared.item_type)
    elif isinstance(declared, inspect.TupleType):
        for position, item in enumerate(declared.item_types):
            yield _Part(f"{path}[{position}]", item)
    elif isinstance(declared, inspect.DictType):
        yield _Part(f"{path}{{}}", declared.value_type)
    elif isinstance(declared, _OBJECTS):
        for field in declared.fields:
            yield _Part(f"{path}.{field.name}" if path else field.name, field.type)


def _problem(declared: inspect.Type, use: Use) -> str | None:
    if type(declared) in _INSTEAD and not (use == "argument" and isinstance(declared, _SETS)):
        return _INSTEAD[type(declared)]
    if isinstance(declared, inspect.DictType) and not _is_key(declared.key_type):
        return "the keys of a dict must be strings, because JSON has no others; use `dict[str, …]`, or a list of pairs"
    if isinstance(declared, inspect.StructType) and declared.array_like:
        return f"`{declared.cls.__name__}` is declared with `array_like=True`; documents store its fields by name"
    if (
        use == "field"
        and isinstance(declared, inspect.StructType | inspect.DataclassType)
        and not _is_frozen(declared.cls)
    ):
        return (
            f"`{declared.cls.__name__}` can be changed, and a change in a document that was read would be lost;"
            f" declare it with `frozen=True`"
        )
    if isinstance(declared, inspect.DateTimeType) and declared.tz is False and use != "argument":
        return (
            "a `datetime` without a time zone is not an instant; use a `date` and a `time`, or a `datetime` with a zone"
        )
    if isinstance(declared, inspect.TimeType) and declared.tz is True and use != "argument":
        return "a `time` with a time zone has no order without its date; use a `datetime`"
    if isinstance(declared, inspect.CustomType):
        return _problem_of_class(declared.cls, use)
    return _wrong_default(declared)


_CONTAINERS = (inspect.ListType, inspect.DictType, inspect.AnyType, inspect.TypedDictType)
_SCALARS = (inspect.StrType, inspect.IntType, inspect.FloatType, inspect.BoolType, inspect.BytesType, inspect.EnumType)
_SETS = (inspect.SetType, inspect.FrozenSetType)


def _is_key(declared: inspect.Type) -> bool:
    """Return whether values of a type are strings."""
    if isinstance(declared, inspect.Metadata):
        return _is_key(declared.type)
    if isinstance(declared, inspect.UnionType):
        return all(map(_is_key, declared.types))
    if isinstance(declared, inspect.LiteralType):
        return all(isinstance(value, str) for value in declared.values)
    if isinstance(declared, inspect.EnumType):
        return issubclass(declared.cls, str)
    if isinstance(declared, inspect.CustomType):
        return (get_origin(declared.cls) or declared.cls) is Id
    return isinstance(declared, (inspect.StrType, inspect.AnyType))


def _is_frozen(cls: Any) -> bool:
    """Return whether the fields of instances cannot be set: of a struct, a dataclass or an attrs class."""
    config = getattr(cls, "__struct_config__", None) or getattr(cls, "__dataclass_params__", None)
    return bool(config.frozen) if config is not None else cls.__setattr__ is not object.__setattr__


def _problem_of_class(cls: Any, use: Use) -> str | None:
    """Return the problem of a class that msgspec does not know; a result may have any class that can be encoded."""
    origin = get_origin(cls) or cls
    if origin is object and use == "field":
        return "`object` has no schema; use `typing.Any`"
    if origin in _OWN:
        return None
    if use == "result" and (
        hasattr(origin, "__tinyvex_json__") or (isinstance(origin, type) and issubclass(origin, dict))
    ):
        return None
    name = getattr(origin, "__name__", str(origin))
    return (
        f"`{name}` is a plain class, whose fields are unknown; make it a `msgspec.Struct`, a dataclass or a `TypedDict`"
    )


def _check_ids(annotation: Any, path: str = "") -> None:
    """
    Refuse the id of a class that is not a table: it would accept ids of any table.

    Raises:
        TypeError: there is such an id.
    """
    for argument in get_args(annotation):
        if get_origin(annotation) is not Id:
            if not isinstance(argument, type):
                _check_ids(argument, path)
            continue
        for each in get_args(argument) or (argument,):
            is_document = isinstance(each, type) and issubclass(each, Document) and each is not Document
            if is_document and declaration_of(each) is None:
                name = each.__name__
                problem = f"`tv.Id[{name}]`: `{name}` is not a table; decorate its class with `@tv.table(...)`"
                raise TypeError(f"`{path}`: {problem}" if path else problem)


def _wrong_default(declared: inspect.Type) -> str | None:
    if not isinstance(declared, _OBJECTS):
        return None
    for field in declared.fields:
        if isinstance(field.default, dt.datetime) and field.default.tzinfo is None:
            return f"the default of `{declared.cls.__name__}.{field.name}` is a datetime without a time zone"
        if field.default is not msgspec.NODEFAULT and is_mutable(field.default):
            return (
                f"the default of `{declared.cls.__name__}.{field.name}` can be changed, and all would share it;"
                " write `msgspec.field(default_factory=…)`"
            )
    return None
