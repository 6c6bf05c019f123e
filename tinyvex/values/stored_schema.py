"""
Validate stored documents against the schema that is stored with their table, without the app's class.

A stored schema is canonical JSON: a list of objects, the document first. It is as in this example of a document with an
optional list of ids::

    [{"closed": true, "fields": [
        {"name": "title", "required": true, "type": "str", "max_length": 80},
        {"name": "links", "required": false, "type": "union", "types": [
            {"type": "list", "item": {"type": "id", "tables": ["notes"]}}, {"type": "null"}]}]}]

1.  *Scalars*: `any`, `null`, `bool`, `int`, `float`, `str`, `bytes`, `datetime`, `date`, `time`, `timedelta`, `uuid`,
    `decimal`, `int64`; `literal` with its `values`; `id` with the names of its `tables`, none for ids of any table.
2.  *Containers*: `list` of `item`, `tuple` of `items`, `dict` of `key` and `value`, `union` of `types`, and `object` with
    the position of an object in the list.
3.  *Constraints* have msgspec's names. A `closed` object has no other fields. `tagField` has the value `tag`.
    An object that is an `array` is stored as the list of its fields.

The schema becomes msgspec types, because msgspec validates documents when they are written: both accept the same ones.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ForwardRef, Literal, TypeAlias, Union

import msgspec
from msgspec import UNSET, Meta

from tinyvex.errors import InvalidId, InvalidValue, WrongTable
from tinyvex.values import codec
from tinyvex.values.conversion import NATIVE_TYPES, as_int64, path_and_reason, unexpected
from tinyvex.values.ids import parse_id
from tinyvex.values.types import Int64, Value

__all__ = ["IdProblem", "StoredSchema", "types_at"]

IdProblem: TypeAlias = Callable[[int, tuple[str, ...]], str | None]
"""Given the table number in an id and the tables that are allowed, return what is wrong with it; None if nothing is."""

_SCALARS: dict[str, Any] = {
    "any": Any, "null": None, "bool": bool, "int": int, "float": float, "str": str, "bytes": bytes,
    "datetime": dt.datetime, "date": dt.date, "time": dt.time, "timedelta": dt.timedelta, "uuid": uuid.UUID,
    "decimal": decimal.Decimal, "int64": Int64,
}  # fmt: skip
_CONSTRAINTS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")


class _StoredId(str):
    """An id. A subclass has the names of the tables that are allowed; none if all are."""

    __slots__ = ()
    tables: tuple[str, ...] = ()


class StoredSchema:
    """
    The validator of a stored schema.

    Raises:
        InvalidValue: the text is not a stored schema.
    """

    def __init__(self, text: str) -> None:
        try:
            objects = msgspec.json.decode(text)
            self._document: Any = _Types(objects).document
            self._instants = [
                (field["name"], f"f{number}")
                for number, field in enumerate(objects[0]["fields"])
                if _has_instants(field, objects, set())
            ]
            msgspec.json.Decoder(self._document, dec_hook=_reject)  # finds types that msgspec does not support
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise InvalidValue(f"this is not a stored schema: {error}", path="$") from error

    def problem(self, document: Mapping[str, Value], id_problem: IdProblem) -> str | None:
        """Return the path and the reason of the first problem of a document that is decoded; None if it has none."""

        def convert(cls: Any, value: Any) -> Any:
            return as_int64(value) if cls is Int64 else _id(cls, value, id_problem)

        try:
            fields = msgspec.convert(document, self._document, dec_hook=convert, builtin_types=NATIVE_TYPES)
            if self._instants:  # one without a time zone cannot be encoded
                codec.encode(
                    {name: value for name, field in self._instants if (value := getattr(fields, field)) is not UNSET}
                )
        except msgspec.ValidationError as error:
            path, reason = path_and_reason(error)
            return f"{path}: {reason}"
        except InvalidValue as error:
            return f"{error.data['path']}: {error.message.partition(' - at ')[0]}"
        return None


class _Types:
    """
    The msgspec types of a stored schema.

    Attributes:
        document: the type of the document.
    """

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        structs = [self._struct(position, described) for position, described in enumerate(objects)]
        # Annotations name the structs, which may contain themselves; msgspec looks names up in the class.
        for struct in structs:
            for other in structs:
                setattr(struct, other.__name__, other)
        self.document = structs[0]

    def _struct(self, position: int, described: dict[str, Any]) -> Any:
        fields: list[Any] = []
        names = {}
        for number, field in enumerate(described["fields"]):
            name = f"f{number}"
            names[name] = field["name"]
            fields.append((name, self._type(field)) if field["required"] else (name, self._type(field), UNSET))
        return msgspec.defstruct(
            f"Object{position}",
            fields,
            kw_only=not described.get("array"),
            rename=names,
            tag_field=described.get("tagField"),
            tag=described.get("tag"),
            array_like=bool(described.get("array")),
            forbid_unknown_fields=described["closed"],
        )

    def _type(self, described: dict[str, Any]) -> Any:
        constraints = {name: described[name] for name in _CONSTRAINTS if name in described}
        plain = self._plain(described)
        return Annotated[plain, Meta(**constraints)] if constraints else plain

    def _plain(self, described: dict[str, Any]) -> Any:
        kind = described["type"]
        if kind in _SCALARS:
            return _SCALARS[kind]
        if kind == "literal":
            return Literal[tuple(described["values"])]
        if kind == "id":
            return type("Id", (_StoredId,), {"tables": tuple(described["tables"])})
        if kind == "union":
            return Union[tuple(map(self._type, described["types"]))]  # noqa: UP007  # as many as there are
        if kind == "list":
            return list[self._type(described["item"])]  # type: ignore[misc]  # a type that is made here
        if kind == "tuple":
            return tuple[tuple(map(self._type, described["items"]))]  # type: ignore[misc]  # as above
        if kind == "dict":
            return dict[self._type(described["key"]), self._type(described["value"])]  # type: ignore[misc]  # as above
        if kind == "object":
            return ForwardRef(f"Object{described['object']}")
        raise ValueError(f"`{kind}` is not a type")


def _id(cls: type[_StoredId], value: Any, id_problem: IdProblem) -> _StoredId:
    if not isinstance(value, str):
        raise unexpected("id", value)
    try:
        problem = id_problem(parse_id(value).table, cls.tables)
    except InvalidId as error:
        raise ValueError(str(error)) from error
    if problem is not None:
        raise ValueError(problem) from WrongTable(problem)
    return cls(value)


def types_at(text: str, path: str) -> set[str]:
    """Return the names of the types that a stored schema permits for a field, or a field inside others; none if it is unknown."""
    objects = msgspec.json.decode(text)
    found: list[dict[str, Any]] = [{"type": "object", "object": 0}]
    for name in path.split("."):
        found = [inner for each in found for inner in _fields_named(each, name, objects)]
    return {each["type"] for each in found}


def _fields_named(described: dict[str, Any], name: str, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if described["type"] == "object":
        fields = [field for field in objects[described["object"]]["fields"] if field["name"] == name]
    elif described["type"] == "dict":
        fields = [described["value"]]
    else:
        fields = [described] if described["type"] == "any" else []
    return [each for field in fields for each in _members(field)]


def _members(described: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the members of a union, flattened; another type alone."""
    if described["type"] != "union":
        return [described]
    return [each for member in described["types"] for each in _members(member)]


def _has_instants(described: Any, objects: list[dict[str, Any]], seen: set[int]) -> bool:
    if isinstance(described, list):
        return any(_has_instants(each, objects, seen) for each in described)
    if not isinstance(described, dict):
        return False
    if described.get("type") == "object" and (position := described["object"]) not in seen:
        seen.add(position)
        return _has_instants(objects[position]["fields"], objects, seen)
    return described.get("type") in ("datetime", "time") or _has_instants(list(described.values()), objects, seen)


def _reject(cls: Any, _value: Any) -> Any:
    raise ValueError(cls)
