"""
Values to JSON bytes and back.

What JSON has no word for is wrapped in an object with one key: `{"$integer": base64 of 8 little-endian bytes}`,
`{"$float": …}` for NaN, the infinities and -0, `{"$bytes": base64}`.
No other key may begin with `$`.

Canonical form, which is what storage keeps and hashes are taken of:
keys sorted by code point, no white space, integral numbers within ±(2^53 - 1) without a fraction, one NaN.
See `protocol/SPEC.md`, *Values*.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import struct
import uuid
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import msgspec

from tinyvex.errors import InvalidValue, TinyvexError, ValueTooLarge
from tinyvex.limits import ARRAY_ELEMENTS_MAX, NESTING_MAX, OBJECT_FIELDS_MAX, SAFE_INTEGER_MAX
from tinyvex.values.types import MISSING, Int64, Value

__all__ = ["decode", "decode_canonical", "encode", "to_builtins", "unwrap"]

_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode_json = msgspec.json.Decoder().decode
_NAN = struct.pack("<Q", 0x7FF8_0000_0000_0000)
_AS_IT_IS = frozenset((str, bool, type(None), msgspec.Raw))
_HINTS = {
    "coroutine": ": is an `await` missing?",
    "Query": ": end it with .collect(), .take(n), .first(), .unique() or .count()",
    "generator": ": make it a list",
    "set": ": make it a list",
    "frozenset": ": make it a list",
    "type": ": it is a class; make an instance",
}
_WRITTEN_AS_TEXT = (dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal)


class _Fault(Exception):
    """Something is no value; the path grows, innermost step first, while the walk unwinds."""

    def __init__(self, kind: type[TinyvexError], message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.steps: list[str] = []

    def error(self) -> TinyvexError:
        path = "$" + "".join(reversed(self.steps))
        return self.kind(f"{self} - at `{path}`", path=path)


def encode(value: object) -> bytes:
    """
    Canonical JSON.

    Args:
        value: a `Value`; also structs (by their encoded field names, `UNSET` left out), dataclasses, enums,
            dates and times, UUIDs and decimals (as msgspec writes them),
            and any object with `__tinyvex_json__() -> bytes`, whose bytes are spliced as they are.

    Raises:
        InvalidValue: something in it is no value; the message names the path.
        ValueTooLarge: it is nested too deep or has too many elements or fields.
    """
    try:
        return _encode_sorted(_plain(value, 1))
    except _Fault as fault:
        raise fault.error() from None
    except UnicodeEncodeError:
        raise _surrogate(value) from None


def to_builtins(value: object) -> object:
    """
    The value with its wrappers, ready for any JSON encoder; spliced bytes appear as `msgspec.Raw`.

    Raises:
        InvalidValue: something in it is no value.
        ValueTooLarge: it is nested too deep or has too many elements or fields.
    """
    try:
        return _plain(value, 1)
    except _Fault as fault:
        raise fault.error() from None


def decode(data: bytes | str) -> Value:
    """
    Read JSON from anybody.

    Raises:
        InvalidValue: it is no JSON or no value.
        ValueTooLarge: it is nested too deep or has too many elements or fields.
    """
    try:
        builtins = _decode_json(data)
    except RecursionError:
        raise ValueTooLarge(f"the JSON is nested deeper than {NESTING_MAX}", path="$") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidValue(f"this is not JSON: {error}", path="$") from None
    return unwrap(builtins)


def decode_canonical(data: bytes) -> Value:
    """Read what `encode` wrote, without checking it again."""
    builtins = _decode_json(data)
    return unwrap(builtins) if b'"$' in data else cast("Value", builtins)


def unwrap(builtins: object) -> Value:
    """
    Turn decoded JSON into a value, in place where it can: wrappers resolved, integral floats as ints, limits checked.

    Raises:
        InvalidValue: a key begins with `$` and is no wrapper, or an integer is too large for a plain number.
        ValueTooLarge: it is nested too deep or has too many elements or fields.
    """
    try:
        return cast("Value", _value(builtins, 1))
    except _Fault as fault:
        raise fault.error() from None


# Value to builtins.


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is int:
        if -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX:
            return value
        raise _Fault(InvalidValue, f"{value} is too large for a plain number, use Int64")
    if kind is float:
        return _plain_float(value)
    if kind is dict:
        return _plain_object(value, depth)
    if kind is list or kind is tuple:
        return _plain_array(value, depth)
    if kind is Int64:
        return {"$integer": _base64(value.to_bytes(8, "little", signed=True))}
    if kind is bytes:
        return {"$bytes": _base64(value)}
    return _plain_other(value, depth)


def _plain_float(value: float) -> Any:
    if value.is_integer():
        if value == 0:
            return 0 if math.copysign(1.0, value) > 0 else {"$float": _base64(struct.pack("<d", value))}
        return int(value) if -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX else value
    if math.isfinite(value):
        return value
    return {"$float": _base64(struct.pack("<d", value) if math.isinf(value) else _NAN)}


def _plain_object(value: Mapping[str, Any], depth: int) -> Any:
    """The same object where nothing in it needs a wrapper: most documents are not copied."""
    _check_object(value, depth)
    changed: dict[str, Any] | None = None
    key = ""
    try:
        for key, child in value.items():
            if type(key) is not str:
                return _plain_object(_text_keys(value), depth)
            if key[:1] == "$":
                raise _Fault(InvalidValue, "a key may not begin with `$`")
            if type(child) in _AS_IT_IS:
                continue
            plain = _plain(child, depth + 1)
            if plain is not child:
                if changed is None:
                    changed = dict(value)
                changed[key] = plain
    except _Fault as fault:
        if type(key) is str:
            fault.steps.append(f".{key}")
        raise
    return value if changed is None else changed


def _text_keys(value: Mapping[Any, Any]) -> dict[str, Any]:
    """The same fields with exact strings as keys."""
    for key in value:
        if not isinstance(key, str):
            raise _Fault(InvalidValue, f"a key is of type {type(key).__name__}, not a string")
    return {str.__str__(key): child for key, child in value.items()}


def _plain_array(value: Sequence[Any], depth: int) -> Any:
    _check_array(value, depth)
    plain = []
    try:
        for child in value:
            # No comprehension: the place of a fault is how far `plain` got.
            plain.append(child if type(child) in _AS_IT_IS else _plain(child, depth + 1))  # noqa: PERF401
    except _Fault as fault:
        fault.steps.append(f"[{len(plain)}]")
        raise
    return plain


def _plain_other(value: Any, depth: int) -> Any:
    """What is rarer: subclasses, structs, documents, other mappings."""
    kind = type(value)
    spliced = getattr(kind, "__tinyvex_json__", None)
    if spliced is not None:
        return msgspec.Raw(spliced(value))
    if isinstance(value, enum.Enum) and value is not MISSING:
        return _plain(value.value, depth)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _plain(Int64(value) if isinstance(value, Int64) else int.__index__(value), depth)
    if isinstance(value, float):
        return _plain_float(float.__float__(value))
    if isinstance(value, bytes):
        return {"$bytes": _base64(value)}
    if isinstance(value, msgspec.Struct):
        return _plain_object(_struct_fields(value), depth)
    if isinstance(value, Mapping):
        return _plain_object(dict(value), depth)
    if isinstance(value, (list, tuple)):
        return _plain_array(value, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain_object({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, depth)
    if isinstance(value, _WRITTEN_AS_TEXT):
        return msgspec.to_builtins(value)
    raise _Fault(InvalidValue, f"something of type {kind.__name__} is not a value{_HINTS.get(kind.__name__, '')}")


def _struct_fields(value: msgspec.Struct) -> dict[str, Any]:
    names, tag = _struct_layout(type(value))
    fields = {}
    for attribute, name in names:
        child = getattr(value, attribute)
        if child is not msgspec.UNSET:
            fields[name] = child
    return fields | tag


@cache
def _struct_layout(kind: type[msgspec.Struct]) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Attribute and encoded name of every field, and the tag if the struct has one."""
    config = kind.__struct_config__
    tag = {} if config.tag_field is None else {config.tag_field: config.tag}
    return list(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)), tag


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def _surrogate(value: object) -> InvalidValue:
    """Which string cannot be encoded: the walk is repeated, because looking at every string every time costs."""

    def search(builtins: Any, path: str) -> str | None:
        if isinstance(builtins, dict):
            for key, child in builtins.items():
                if (found := search(key, path) or search(child, f"{path}.{key}")) is not None:
                    return found
        elif isinstance(builtins, list):
            for place, child in enumerate(builtins):
                if (found := search(child, f"{path}[{place}]")) is not None:
                    return found
        elif isinstance(builtins, str):
            try:
                builtins.encode()
            except UnicodeEncodeError:
                return path
        return None

    path = (search(to_builtins(value), "$") or "$").encode("utf-8", "replace").decode()
    return InvalidValue(f"a string has a lone surrogate, which is no character - at `{path}`", path=path)


# Builtins to value.


def _value(builtins: Any, depth: int) -> Any:
    kind = type(builtins)
    if kind is str or kind is bool or builtins is None:
        return builtins
    if kind is dict:
        return _object(builtins, depth)
    if kind is list:
        return _array(builtins, depth)
    if kind is float:
        if builtins.is_integer() and -SAFE_INTEGER_MAX <= builtins <= SAFE_INTEGER_MAX:
            return int(builtins)
        return builtins
    if kind is int:
        return builtins if -SAFE_INTEGER_MAX <= builtins <= SAFE_INTEGER_MAX else _large(builtins)
    raise _Fault(InvalidValue, f"something of type {kind.__name__} is not a value")


def _object(builtins: dict[str, Any], depth: int) -> Any:
    _check_object(builtins, depth)
    key = ""
    try:
        for key, child in builtins.items():
            if key[:1] == "$":
                return _wrapped(builtins)
            if type(child) is not str:
                value = _value(child, depth + 1)
                if value is not child:
                    builtins[key] = value
    except _Fault as fault:
        fault.steps.append(f".{key}")
        raise
    return builtins


def _array(builtins: list[Any], depth: int) -> Any:
    _check_array(builtins, depth)
    place = 0
    try:
        for place, child in enumerate(builtins):
            if type(child) is not str:
                builtins[place] = _value(child, depth + 1)
    except _Fault as fault:
        fault.steps.append(f"[{place}]")
        raise
    return builtins


def _large(number: int) -> float:
    """
    An integer literal outside ±(2^53 - 1): a double, if that is certainly what was meant.

    JavaScript writes the double 2^64 as 18446744073709552000: its shortest digits, filled up with zeros.
    """
    try:
        double = float(number)
    except OverflowError:
        raise _Fault(InvalidValue, "an integer is too large for a plain number, use Int64") from None
    if int(double) == number or int(decimal.Decimal(repr(double))) == number:
        return double
    raise _Fault(InvalidValue, f"{number} is too large for a plain number, use Int64")


def _wrapped(builtins: dict[str, Any]) -> Any:
    """The value of a wrapper."""
    (key, content), *others = builtins.items()
    if others:
        raise _Fault(InvalidValue, "a key may not begin with `$`")
    if key not in ("$integer", "$float", "$bytes"):
        raise _Fault(InvalidValue, "a key may not begin with `$`")
    try:
        data = a2b_base64(content, strict_mode=True)
    except (Base64Error, TypeError, ValueError):
        data = None
    if data is None or _base64(data) != content:
        raise _Fault(InvalidValue, f"`{key}` needs base64 with padding")
    if key == "$bytes":
        return data
    if len(data) != 8:
        raise _Fault(InvalidValue, f"`{key}` needs 8 bytes, not {len(data)}")
    if key == "$integer":
        return Int64(int.from_bytes(data, "little", signed=True))
    (number,) = struct.unpack("<d", data)
    if math.isfinite(number) and data != b"\0\0\0\0\0\0\0\x80":
        raise _Fault(InvalidValue, "`$float` is for NaN, the infinities and -0 only")
    return number


# Limits.


def _check_object(fields: Mapping[str, Any], depth: int) -> None:
    if depth > NESTING_MAX:
        raise _Fault(ValueTooLarge, f"the value is nested deeper than {NESTING_MAX}")
    if len(fields) > OBJECT_FIELDS_MAX:
        raise _Fault(ValueTooLarge, f"an object has {len(fields)} fields, more than {OBJECT_FIELDS_MAX}")


def _check_array(elements: Sequence[Any], depth: int) -> None:
    if depth > NESTING_MAX:
        raise _Fault(ValueTooLarge, f"the value is nested deeper than {NESTING_MAX}")
    if len(elements) > ARRAY_ELEMENTS_MAX:
        raise _Fault(ValueTooLarge, f"an array has {len(elements)} elements, more than {ARRAY_ELEMENTS_MAX}")
