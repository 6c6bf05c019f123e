"""
The total order of values, written as bytes: `memcmp` of two encodings is the order of the values.

::

    missing < null < Int64 < number < false < true < string (code points) < bytes < array < object

Numbers follow IEEE total order, so -0 < 0 and NaN is last; an int is the double it equals.
Arrays compare element by element, objects as their sorted (key, value) pairs, shorter first.

Every encoding is self-delimiting and none is the beginning of another,
so the encodings of some leading fields are a prefix of exactly the keys with these fields, and a prefix is a range.

::

    missing 01 | null 02 | Int64 03, 8 bytes big-endian, sign bit flipped
    number  04, 8 bytes big-endian IEEE double, sign bit flipped, negative ones with all bits flipped
    false   05 | true 06 | string 07, UTF-8 | bytes 08
    array   09, elements, 00 | object 0A, (key as string, value)…, 00

String and byte contents end with 00; within them 00 is written 01 01, and 01 is written 01 02.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import Any

from tinyvex.errors import InvalidValue, ValueTooLarge
from tinyvex.limits import NESTING_MAX, SAFE_INTEGER_MAX
from tinyvex.values.types import MISSING, Int64, Missing, Value

__all__ = ["encode_key", "encode_part", "prefix_end"]

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
_ABOVE_ALL = b"\xff" * 17  # above every key, and above the 16 bytes of any document id

_double = struct.Struct(">d").pack
_unsigned = struct.Struct(">Q").pack
_NAN = _TAG_NUMBER + b"\xff\xf8" + bytes(6)
# The first byte of a positive double with its tag, sign bit flipped.
_POSITIVE = [_TAG_NUMBER + bytes((first | 0x80,)) for first in range(128)]
_COMPLEMENT = bytes(255 - byte for byte in range(256))


def encode_key(values: Sequence[Value | Missing]) -> bytes:
    """
    The key of several values, most significant first.

    Raises:
        InvalidValue: one of them is no value.
        ValueTooLarge: one of them is nested too deep.
    """
    return b"".join([encode_part(value) for value in values])


def encode_part(value: Value | Missing) -> bytes:
    """
    The encoding of one value.

    Raises:
        InvalidValue: it is no value.
        ValueTooLarge: it is nested too deep.
    """
    encoder = _ENCODERS.get(type(value))
    return encoder(value, 1) if encoder is not None else _any(value, 1)


def prefix_end(prefix: bytes) -> bytes:
    """The least key above all that start with `prefix`; those are exactly the keys from `prefix` up to before it."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return _ABOVE_ALL
    return stem[:-1] + bytes((stem[-1] + 1,))


def _int(value: int, depth: int) -> bytes:
    if not -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX:
        raise InvalidValue(f"{value} is too large for a plain number: use Int64", path="$")
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
        raise InvalidValue("a string has a lone surrogate, which is no character", path="$") from None
    return _TAG_STRING + _escape(content) + _END


def _bytes(value: bytes, _depth: int) -> bytes:
    return _TAG_BYTES + _escape(value) + _END


def _escape(content: bytes) -> bytes:
    """Without 00, which ends it, and in the same order."""
    if 0 in content or 1 in content:
        return content.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")
    return content


def _array(value: Sequence[Value], depth: int) -> bytes:
    if depth > NESTING_MAX:
        raise ValueTooLarge(f"a value is nested deeper than {NESTING_MAX}", path="$")
    return _TAG_ARRAY + b"".join([_any(element, depth + 1) for element in value]) + _END


def _object(value: Mapping[str, Value], depth: int) -> bytes:
    if not all(isinstance(key, str) for key in value):
        raise InvalidValue("the keys of an object are strings", path="$")
    if depth > NESTING_MAX:
        raise ValueTooLarge(f"a value is nested deeper than {NESTING_MAX}", path="$")
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
        raise InvalidValue("only a whole field can be missing", path="$")
    encoder = _ENCODERS.get(type(value))
    if encoder is not None:
        return encoder(value, depth)
    for base in _BASES:
        if isinstance(value, base):
            return _ENCODERS[base](value, depth)
    if isinstance(value, Mapping):
        return _object(value, depth)
    raise InvalidValue(f"something of type {type(value).__name__} is not a value", path="$")
