"""
Lists and dicts that cannot be changed: those of a document that was read. (pure)

A change of such a list would be lost, because a document is changed only by a write. They compare, encode and copy as
the plain ones do; a copy can be changed.
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

__all__ = ["FrozenDict", "FrozenList", "frozen"]

_SCALARS = frozenset((str, int, float, bool, bytes, type(None)))


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    kind, changed = (
        ("list", "[*document.tags, new]") if isinstance(self, list) else ("dict", "{**document.map, key: new}")
    )
    raise TypeError(
        f"this {kind} belongs to a document that was read, so a change would be lost;"
        f" write a changed copy with `ctx.db.patch(id, …)`, such as `{changed}`"
    )


class FrozenList(list[Any]):
    """A list that cannot be changed."""

    __slots__ = ()

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def __reduce_ex__(self, _protocol: object, /) -> Any:
        return list, (list(self),)


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed."""

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = _refuse
    pop = popitem = clear = update = setdefault = _refuse

    def __reduce_ex__(self, _protocol: object, /) -> Any:
        return dict, (dict(self),)


def frozen(value: Any) -> Any:
    """
    Return a decoded value with frozen lists and dicts, at every depth.

    Instances are frozen in place as to their lists and dicts; their classes must be frozen themselves.
    """
    cls = type(value)
    if cls in _SCALARS:
        return value
    if cls is list:
        return FrozenList(map(frozen, value))
    if cls is dict:
        return FrozenDict({key: frozen(child) for key, child in value.items()})
    if isinstance(value, tuple):
        return tuple(map(frozen, value)) if cls is tuple else cls(*map(frozen, value))  # a named tuple
    set_field = msgspec.structs.force_setattr if isinstance(value, msgspec.Struct) else object.__setattr__
    for name in _field_names(cls):
        child = getattr(value, name)
        if type(child) not in _SCALARS and (changed := frozen(child)) is not child:
            set_field(value, name, changed)
    return value


def _field_names(cls: type[Any]) -> tuple[str, ...]:
    """Return the fields of a struct, a dataclass or an attrs class; none of another class."""
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    attributes = getattr(cls, "__attrs_attrs__", ())
    return tuple(getattr(cls, "__dataclass_fields__", None) or (attribute.name for attribute in attributes))
