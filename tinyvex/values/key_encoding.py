"""
Order-preserving encoding of values into index keys.

An index stores each document under one byte string: the encodings of its indexed fields, concatenated. The database
compares keys as bytes (`memcmp`), so that order must be the order of the values::

    missing < null < Int64 < number < false < true < string (code points) < bytes < array < object

Numbers follow the IEEE total order, so -0 < 0 and NaN is last. An int equals the double with its value. Arrays
compare element by element, objects as their sorted (key, value) pairs; a prefix is less than a longer array or object.

Three properties make the concatenation work:

1.  *Order.* A tag byte orders the types. Flipping the sign bit orders integers and positive doubles; flipping all bits
    of negative doubles reverses their order.
2.  *Self-delimiting.* No encoding is a prefix of another, so the bytes of one field never influence the next one.
    Strings and bytes end with 00, which is escaped within them in a way that preserves their order.
3.  *Prefixes are ranges.* It follows that the keys with given leading fields are exactly the keys with that prefix,
    which are the keys from `prefix` to `prefix_end(prefix)`.

The format, in hexadecimal::

    missing 01 | null 02 | Int64 03, 8 bytes big-endian, sign bit flipped
    number  04, 8 bytes big-endian IEEE double, sign bit flipped, negative ones with all bits flipped
    false   05 | true 06 | string 07, UTF-8 | bytes 08
    array   09, elements, 00 | object 0A, (key as string, value)…, 00

Within strings and bytes, 00 is written as 01 01, and 01 as 01 02. The vectors of `protocol/vectors/order.json` fix it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import Any

from tinyvex.errors import InvalidValue, ValueTooLarge
from tinyvex.limits import NESTING_MAX, SAFE_INTEGER_MAX
from tinyvex.values.types import MISSING, Int64, Missing, Value

__all__ = ["encode_part", "prefix_end"]

_TAG_MISSING = b"\x01"
_TAG_NULL = b"\x02"
_TAG_INT64 = b"\x03"
_TAG_NUMBER = b"\x04"
_TAG_FALSE = b"\x05"
_TAG_TRUE = b"\x06"
_TAG_STRING = b"\x07"
_TAG_BYTES = b"\x08"
_TAG_ARRAY = b"\x09"
_TAG_OBJECT = b"\x0a"
_END = b"\x00"
_ABOVE_ALL = b"\xff" * 17  # greater than every key, and than the internal 16 bytes of every document id

_double = struct.Struct(">d").pack
_unsigned = struct.Struct(">Q").pack
_NAN = _TAG_NUMBER + b"\xff\xf8" + bytes(6)
# The first byte of a positive double with its tag, sign bit flipped.
_POSITIVE = [_TAG_NUMBER + bytes((first | 0x80,)) for first in range(128)]
_COMPLEMENT = bytes(255 - byte for byte in range(256))


def encode_part(value: Value | Missing) -> bytes:
    """
    Encode one field of a key; a key is the concatenation of its fields, the most significant first.

    Raises:
        InvalidValue: it is not a value.
        ValueTooLarge: it is nested too deep.
    """
    encoder = _ENCODERS.get(type(value))
    return encoder(value, 1) if encoder is not None else _any(value, 1)


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of keys that start with `prefix`: the least key greater than all of them."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return _ABOVE_ALL
    return stem[:-1] + bytes((stem[-1] + 1,))


def _int(value: int, depth: int) -> bytes:
    if not -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX:
        raise InvalidValue(f"{value} is too large for a plain number; use Int64", path="$")
    return _float(float(value), depth)


def _float(value: float, _depth: int) -> bytes:
    bits = _double(value)
    if bits[0] < 128:
        return _NAN if isnan(value) else _POSITIVE[bits[0]] + bits[1:]
    return _NAN if isnan(value) else _TAG_NUMBER + bits.translate(_COMPLEMENT)


def _int64(value: int, _depth: int) -> bytes:
    return _TAG_INT64 + _unsigned(value + 2**63)


def _string(value: str, _depth: int) -> bytes:
    try:
        content = value.encode()
    except UnicodeEncodeError:
        raise InvalidValue("a string has a lone surrogate, which is not a character", path="$") from None
    return _TAG_STRING + _escape(content) + _END


def _bytes(value: bytes, _depth: int) -> bytes:
    return _TAG_BYTES + _escape(value) + _END


def _escape(content: bytes) -> bytes:
    """Escape 00, which ends the content, without changing the order."""
    if 0 in content or 1 in content:
        return content.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")
    return content


def _array(value: Sequence[Value], depth: int) -> bytes:
    if depth > NESTING_MAX:
        raise ValueTooLarge(f"a value is nested deeper than {NESTING_MAX} levels", path="$")
    return _TAG_ARRAY + b"".join([_any(element, depth + 1) for element in value]) + _END


def _object(value: Mapping[str, Value], depth: int) -> bytes:
    if not all(isinstance(key, str) for key in value):
        raise InvalidValue("the keys of an object must be strings", path="$")
    if depth > NESTING_MAX:
        raise ValueTooLarge(f"a value is nested deeper than {NESTING_MAX} levels", path="$")
    pairs = [_string(key, depth) + _any(value[key], depth + 1) for key in sorted(value)]
    return _TAG_OBJECT + b"".join(pairs) + _END


_ENCODERS: dict[type, Callable[[Any, int], bytes]] = {
    Missing: lambda _value, _depth: _TAG_MISSING,
    type(None): lambda _value, _depth: _TAG_NULL,
    Int64: _int64,
    int: _int,
    float: _float,
    bool: lambda value, _depth: _TAG_TRUE if value else _TAG_FALSE,
    str: _string,
    bytes: _bytes,
    list: _array,
    tuple: _array,
    dict: _object,
}
_BASES = (Int64, int, float, str, bytes, list, tuple)


def _any(value: Any, depth: int) -> bytes:
    if value is MISSING and depth > 1:
        raise InvalidValue("only a field can be missing, not a part of it", path="$")
    encoder = _ENCODERS.get(type(value))
    if encoder is not None:
        return encoder(value, depth)
    for base in _BASES:
        if isinstance(value, base):
            return _ENCODERS[base](value, depth)
    if isinstance(value, Mapping):
        return _object(value, depth)
    raise InvalidValue(f"an object of type {type(value).__name__} is not a value", path="$")
