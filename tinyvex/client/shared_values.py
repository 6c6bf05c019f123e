"""
Values that the results before and after an optimistic update share (pure).

An update that appends one row to a thousand should cost one row. So the lists and dicts of a result are frozen: an
update cannot change the result that it reads, and what it sets may contain parts of that result, which are neither
copied, validated nor encoded again.
"""

from __future__ import annotations

from typing import Any, NoReturn

from tinyvex.errors import TinyvexError, ValueTooLarge
from tinyvex.limits import ARRAY_ELEMENTS_MAX, NESTING_MAX, OBJECT_FIELDS_MAX, SAFE_INTEGER_MAX
from tinyvex.values import codec
from tinyvex.values.frozen import FrozenDict, FrozenList

__all__ = ["SharedDict", "SharedList", "adopt", "is_same", "share", "writable"]


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    kind, changed = ("list", "[*rows, row]") if isinstance(self, list) else ("dict", "{**row, key: new}")
    raise TypeError(f"this {kind} belongs to a query's result, which nothing can change; set a copy: `{changed}`")


class SharedList(FrozenList):
    """A list of a result."""

    __slots__ = ()

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse


class SharedDict(FrozenDict):
    """A dict of a result."""

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = _refuse
    pop = popitem = clear = update = setdefault = _refuse


def share(value: Any) -> Any:
    """Return a decoded value with shared lists and dicts, at every depth; parts that are shared already stay."""
    cls = type(value)
    if cls is list:
        return SharedList([child if type(child) is SharedDict else share(child) for child in value])
    if cls is dict:
        return SharedDict({key: share(child) for key, child in value.items()})
    return value


def writable(value: Any) -> Any:
    """Return a value whose outermost list or dict is a copy that may be changed."""
    if type(value) is SharedList:
        return list(value)
    return dict(value) if type(value) is SharedDict else value


def adopt(value: object) -> Any:
    """
    Return a program's value as its readers will decode it, with shared lists and dicts.

    Parts that are shared already stay the same objects.

    Raises:
        InvalidValue: a part of it is not a value; the message names the path.
        ValueTooLarge: it is nested too deep, or has too many elements or fields.
    """
    try:
        return _adopted(value, 1)
    except (TinyvexError, UnicodeEncodeError):
        codec.encode(value)  # raises the same error with the path from the root
        raise


def _adopted(value: Any, depth: int) -> Any:
    cls = type(value)
    if cls is SharedDict or cls is SharedList or value is None or cls is bool:
        return value
    if cls is str:
        if not value.isascii():
            value.encode()  # raises if it has a lone surrogate
        return value
    if cls is int and -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX:
        return value
    if depth > NESTING_MAX:
        raise ValueTooLarge(f"the value is nested deeper than {NESTING_MAX} levels")
    if (cls is list or cls is tuple) and len(value) <= ARRAY_ELEMENTS_MAX:
        # The check here makes a thousand shared rows three times as fast (`python -m bench optimistic`).
        return SharedList([child if type(child) is SharedDict else _adopted(child, depth + 1) for child in value])
    if cls is dict and len(value) <= OBJECT_FIELDS_MAX and all(map(_is_plain_key, value)):
        return SharedDict({key: _adopted(child, depth + 1) for key, child in value.items()})
    return share(codec.decode_canonical(codec.encode(value)))


def _is_plain_key(key: object) -> bool:
    return type(key) is str and key.isascii() and key[:1] != "$"


def is_same(one: Any, other: Any) -> bool:
    """Return whether two shared values are the same value, in time that depends on the parts they do not share."""
    if one is other:
        return True
    cls = type(one)
    if cls is not type(other):
        return False  # 1, 1.5, True and Int64(1) are different values, although Python compares some as equal
    if cls is SharedList:
        return len(one) == len(other) and all(is_same(a, b) for a, b in zip(one, other, strict=True) if a is not b)
    if cls is SharedDict:
        return len(one) == len(other) and all(key in other and is_same(child, other[key]) for key, child in one.items())
    return bool(one == other) or (cls is float and one != one and other != other)  # noqa: PLR0124 - NaN
