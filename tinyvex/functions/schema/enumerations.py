"""Find the enumerations in an annotation."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from msgspec import inspect

__all__ = ["enumerations_in"]


def enumerations_in(annotation: Any) -> list[type[Enum]]:
    """Return the enumerations in an annotation, and in the classes that it names."""
    return list(dict.fromkeys(_walk(inspect.type_info(annotation), set())))


def _walk(info: object, seen: set[object]) -> Iterator[type[Enum]]:
    if isinstance(info, inspect.EnumType):
        yield info.cls
    elif isinstance(info, tuple):
        for each in info:
            yield from _walk(each, seen)
    elif isinstance(info, (inspect.Type, inspect.Field)):
        cls = getattr(info, "cls", None)
        if cls is not None and cls in seen:
            return  # a class that contains itself
        seen.add(cls)
        for name in info.__struct_fields__:
            yield from _walk(getattr(info, name), seen)
