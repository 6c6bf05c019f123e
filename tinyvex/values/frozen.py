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

    Structs are frozen in place as to their lists and dicts. Their own fields can be set unless their class is frozen.
    """
    cls = type(value)
    if cls in _SCALARS:
        return value
    if cls is list:
        return FrozenList(map(frozen, value))
    if cls is dict:
        return FrozenDict({key: frozen(child) for key, child in value.items()})
    if cls is tuple:
        return tuple(map(frozen, value))
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            child = getattr(value, name)
            if type(child) not in _SCALARS and (changed := frozen(child)) is not child:
                msgspec.structs.force_setattr(value, name, changed)
    return value
