"""
JSON schemas of annotations, for `function-spec`, the dashboard and the fingerprint of a table's class.

msgspec generates them. This module describes the types that msgspec does not know: ids, `Int64`, rows, pages and bytes.
"""

from __future__ import annotations

import re
from functools import reduce
from operator import or_
from types import GenericAlias, UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from tinyvex.functions.result.rows import Page, Rows
from tinyvex.functions.schema.document import DocumentMapping, Id, table_names
from tinyvex.values.types import Int64

__all__ = ["json_schema"]

T = TypeVar("T")

_UNSUPPORTED_DEFAULT = r"Encoding objects of type (\w+) is unsupported"


class _PageSchema(msgspec.Struct, Generic[T], rename="camel", forbid_unknown_fields=True):
    """A page of a query; pass its cursor to the next call."""

    items: list[T]
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
        default = re.match(_UNSUPPORTED_DEFAULT, str(error))
        if default is None:
            raise
        raise TypeError(
            f"an `{default[1]}` cannot be a default inside a nested class; "
            "write it as `msgspec.field(default_factory=lambda: …)`"
        ) from error
    wrapped: dict[str, Any] = _with_wrappers(schema)
    _name_members(wrapped, annotation)
    return wrapped


def _name_members(schema: dict[str, Any], annotation: Any) -> None:
    """Add the names of an enumeration's members to its schema, as `x-enum-varnames`, if its values do not show them."""
    described = [each for each in [schema, *schema.get("$defs", {}).values()] if "enum" in each and "title" in each]
    if not described:
        return
    from tinyvex.functions.schema.enumerations import enumerations_in

    by_title = {cls.__name__: cls for cls in enumerations_in(_described(annotation))}
    for each in described:
        cls = by_title.get(each["title"])
        if cls is None or {member.value for member in cls} != set(each["enum"]):
            continue
        names = [cls(value).name for value in each["enum"]]
        if [name.casefold() for name in names] != [str(value).casefold() for value in each["enum"]]:
            each["x-enum-varnames"] = names


def _described(annotation: Any) -> Any:
    """Replace Tinyvex's types in an annotation by types that msgspec describes, such as ids by strings."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Rows:
        return list[_described(arguments[0]) if arguments else Any]  # type: ignore[misc]
    if origin is Page:
        return _PageSchema[_described(arguments[0]) if arguments else Any]  # type: ignore[misc]
    if origin is Id:
        return Annotated[str, msgspec.Meta(extra_json_schema=_id_schema(arguments))]
    if origin is object:
        return Any
    if origin is DocumentMapping:
        return dict[str, Any]
    if origin in (Union, UnionType):
        return reduce(or_, map(_described, arguments))
    if origin in (list, tuple, dict) and arguments:
        return GenericAlias(origin, tuple(part if part is ... else _described(part) for part in arguments))
    return annotation


def _id_schema(arguments: tuple[Any, ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "format": "tinyvex-id"}
    names = table_names(arguments[0]) if arguments else ()
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
    if isinstance(cls, type) and issubclass(cls, dict):
        return {"type": "object"}
    raise NotImplementedError
