"""
Values to JSON and back.

JSON has no 64-bit integers, special floats or bytes. They are wrapped in an object with one key:
`{"$integer": base64 of 8 little-endian bytes}`; `{"$float": base64 of a little-endian double}` for NaN, the infinities
and -0; `{"$bytes": base64}`. No other key may begin with `$`, so a wrapper is never ambiguous.

The *canonical form* of a value is unique, so equal values have equal bytes: storage stores it, hashes are computed from
it, and equal query arguments are found by it. Keys are sorted by code point, there is no white space, an integral
number within ±(2^53 - 1) has no fraction, and there is one NaN. See `protocol/SPEC.md`, *Values*.

Python's `datetime` becomes a string in UTC with six digits of the second, so the order of the strings is the order of the
instants, and one instant has one string in whatever zone it was written. Without a zone it is not an instant, and is refused.

Encoding has two steps: `_plain` converts a value to builtins with wrappers, and msgspec encodes those. `_plain` returns
the same object if nothing in it needs a wrapper, so most documents are not copied. Decoding reverses the steps, in place.
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
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import msgspec

from tinyvex.errors import InvalidValue, TinyvexError, ValueTooLarge
from tinyvex.limits import ARRAY_ELEMENTS_MAX, NESTING_MAX, OBJECT_FIELDS_MAX, SAFE_INTEGER_MAX
from tinyvex.values.frozen import FrozenDict, FrozenList
from tinyvex.values.long_json import STEP_BYTES, GiveWay, encode_in_steps
from tinyvex.values.types import MISSING, Int64, Value

__all__ = [
    "decode",
    "decode_canonical",
    "decode_exact",
    "encode",
    "encode_long",
    "may_have_wrappers",
    "parse",
    "to_builtins",
    "unwrap",
]

_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode_json = msgspec.json.Decoder().decode
_DOLLAR = ord("$")
_SHOWN_BITS_MAX = 256
_INT64_BITS = 64
_NAN = struct.pack("<Q", 0x7FF8_0000_0000_0000)
_HINTS = {
    "coroutine": "; is an `await` missing?",
    "Query": "; end the query with .collect(), .take(n), .first(), .unique() or .count()",
    "generator": "; convert it to a list",
    "set": "; convert it to a list",
    "frozenset": "; convert it to a list",
    "type": "; this is a class, create an instance",
}
_ENCODED_AS_TEXT = (dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal)


class _Fault(Exception):
    """An invalid part of a value. Each level of the recursion adds a step of the path, innermost first."""

    def __init__(self, error_type: type[TinyvexError], message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.steps: list[str] = []

    def error(self) -> TinyvexError:
        path = "$" + "".join(reversed(self.steps))
        return self.error_type(f"{self} - at `{path}`", path=path)


def encode(value: object) -> bytes:
    """
    Encode a value as canonical JSON.

    Args:
        value: a `Value`. Also accepted: structs (by their encoded field names, without `UNSET` fields), dataclasses,
            enums, instants (`datetime` with a zone) and times in one fixed form each, dates, UUIDs and decimals (as
            msgspec encodes them), and any object with `__tinyvex_json__() -> bytes`, whose bytes are inserted unchanged.

    Raises:
        InvalidValue: a part of it is not a value; the message names the path.
        ValueTooLarge: it is nested too deep, or has too many elements or fields.
    """
    try:
        return _encode_sorted(_plain(value, 1))
    except _Fault as fault:
        raise fault.error() from None
    except UnicodeEncodeError:
        raise _surrogate(value) from None


def encode_long(value: object, give_way: GiveWay | None = None) -> bytes:
    """
    Encode a value that may be long, as `encode` does, in steps.

    Args:
        value: the value.
        give_way: called between steps, to let other threads run.

    Raises:
        InvalidValue: a part of it is not a value; the message names the path.
        ValueTooLarge: it is nested too deep, or has too many elements or fields.
    """
    # Ids and None, the most frequent results, are not asked for the attribute: its absence is slow to find.
    to_json = None if value is None or isinstance(value, str) else getattr(type(value), "__tinyvex_json__", None)
    try:
        return encode_in_steps(_plain(value, 1), give_way) if to_json is None else to_json(value)
    except _Fault as fault:
        raise fault.error() from None
    except UnicodeEncodeError:
        raise _surrogate(value) from None


def to_builtins(value: object) -> object:
    """
    Convert a value to builtins with wrappers, for any JSON encoder; inserted bytes appear as `msgspec.Raw`.

    Raises:
        InvalidValue: a part of it is not a value.
        ValueTooLarge: it is nested too deep, or has too many elements or fields.
    """
    try:
        return _plain(value, 1)
    except _Fault as fault:
        raise fault.error() from None


def decode(data: bytes | str) -> Value:
    """
    Decode and validate JSON from an untrusted source.

    Raises:
        InvalidValue: it is not JSON, or not a value.
        ValueTooLarge: it is nested too deep, or has too many elements or fields.
    """
    return unwrap(parse(data))


def parse(data: bytes | str) -> object:
    """
    Parse JSON from an untrusted source to builtins, for `unwrap`; integers of any size stay integers.

    Raises:
        InvalidValue: it is not JSON.
        ValueTooLarge: it is nested too deep for the parser.
    """
    try:
        return _decode_json(data)
    except RecursionError:
        raise ValueTooLarge(f"the JSON is nested deeper than {NESTING_MAX} levels", path="$") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _unreadable(data, error) from None


def _unreadable(data: bytes | str, error: Exception) -> InvalidValue:
    """Return the error of text that the parser refused."""
    from tinyvex.values.unreadable_json import find_unreadable

    text = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    unreadable = find_unreadable(text, error)
    if unreadable is None:
        return InvalidValue(f"this is not JSON: {str(error).removeprefix('JSON is malformed: ')}", path="$")
    path = (unreadable.path or "$").encode("utf-8", "replace").decode()
    return InvalidValue(f"{unreadable.reason} - at `{path}`", path=path)


def decode_canonical(data: bytes) -> Value:
    """Decode JSON that `encode` wrote, without validating it again."""
    value: Value = _decode_json(data)
    return unwrap(value) if may_have_wrappers(data) else value


def decode_exact(data: bytes) -> Value:
    """
    Decode and validate JSON that must be in canonical form.

    Raises:
        InvalidValue: it is not JSON, not a value, or not in canonical form.
        ValueTooLarge: it is nested too deep, or has too many elements or fields.
    """
    value = decode(data)
    # Without wrappers the value consists of the builtins that `_plain` would return.
    if (encode(value) if may_have_wrappers(data) else _encode_sorted(value)) != data:
        raise InvalidValue("it is not in canonical form", path="$")
    return value


def may_have_wrappers(data: bytes) -> bool:
    """Return whether JSON may contain a wrapper, or another key that begins with `$`; False is certain."""
    return _DOLLAR in data and b'"$' in data  # the search for one byte takes a tenth of the time


def unwrap(builtins: object) -> Value:
    """
    Convert decoded JSON to a value, in place if possible: resolve wrappers, make integral floats ints, check limits.

    An `Int64` that the caller has put in the place of an integer stays.

    Raises:
        InvalidValue: a key begins with `$` and is not a wrapper, or an integer is too large for a plain number.
        ValueTooLarge: it is nested too deep, or has too many elements or fields.
    """
    try:
        return cast("Value", _value(builtins, 1))
    except _Fault as fault:
        raise fault.error() from None


def as_instant(text: str) -> str | None:
    """Return the canonical form of an instant that is written in any form of RFC 3339; None for any other text."""
    try:
        instant = msgspec.convert(text, dt.datetime)
        return None if instant.tzinfo is None else _instant(instant)
    except (msgspec.ValidationError, _Fault):
        return None


# Value to builtins.


def _plain(value: Any, depth: int) -> Any:
    convert = _PLAIN.get(type(value), _plain_other)
    return value if convert is None else convert(value, depth)


def _plain_int(value: int, _depth: int) -> int:
    if -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX:
        return value
    raise _too_large(value)


def _plain_float(value: float, _depth: int) -> Any:
    if value.is_integer():
        if value == 0:
            return 0 if math.copysign(1.0, value) > 0 else {"$float": _base64(struct.pack("<d", value))}
        return int(value) if -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX else value
    if math.isfinite(value):
        return value
    return {"$float": _base64(struct.pack("<d", value) if math.isinf(value) else _NAN)}


def _plain_int64(value: Int64, _depth: int) -> Any:
    return {"$integer": _base64(value.to_bytes(8, "little", signed=True))}


def _plain_bytes(value: bytes, _depth: int) -> Any:
    return {"$bytes": _base64(value)}


def _plain_object(value: Mapping[str, Any], depth: int) -> Any:
    """Return the object with its wrappers; the same object if nothing in it needs one."""
    _check_object(value, depth)
    changed: dict[str, Any] | None = None
    key = ""
    try:
        for key, child in value.items():
            if type(key) is not str:
                return _plain_object(_text_keys(value), depth)
            if key < "%" and key[:1] == "$":  # the first comparison rules out nearly all keys, without a slice
                raise _Fault(InvalidValue, "a key may not begin with `$`")
            convert = _PLAIN.get(type(child), _plain_other)
            if convert is None:
                continue
            plain = convert(child, depth + 1)
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
    """Return the same fields with keys of type `str`, not of a subclass."""
    for key in value:
        if not isinstance(key, str):
            raise _Fault(InvalidValue, f"a key must be a string, not of type {type(key).__name__}")
    return {str.__str__(key): child for key, child in value.items()}


def _plain_array(value: Sequence[Any], depth: int) -> Any:
    _check_array(value, depth)
    plain = []
    try:
        for child in value:
            convert = _PLAIN.get(type(child), _plain_other)
            # Not a comprehension: the length of `plain` is the index of a fault.
            plain.append(child if convert is None else convert(child, depth + 1))
    except _Fault as fault:
        fault.steps.append(f"[{len(plain)}]")
        raise
    return plain


def _plain_other(value: Any, depth: int) -> Any:
    """Convert the rarer types: subclasses, structs, documents, other mappings."""
    cls = type(value)
    if isinstance(value, enum.Enum) and value is not MISSING:
        return _plain(value.value, depth)
    if isinstance(value, str):  # before the attribute below, because ids are frequent and its absence is slow to find
        return str.__str__(value)
    to_json = getattr(cls, "__tinyvex_json__", None)
    if to_json is not None:
        return msgspec.Raw(to_json(value))
    if isinstance(value, int):
        return _plain(Int64(value) if isinstance(value, Int64) else int.__index__(value), depth)
    if isinstance(value, float):
        return _plain_float(float.__float__(value), depth)
    if isinstance(value, bytes):
        return _plain_bytes(value, depth)
    if isinstance(value, msgspec.Struct):
        return _plain_object(_struct_fields(value), depth)
    if isinstance(value, Mapping):
        return _plain_object(dict(value), depth)
    if isinstance(value, (list, tuple)):
        return _plain_array(value, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain_object({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, depth)
    if isinstance(value, _ENCODED_AS_TEXT):
        return _text(value)
    raise _Fault(InvalidValue, f"an object of type {cls.__name__} is not a value{_HINTS.get(cls.__name__, '')}")


_PLAIN: dict[type, Callable[[Any, int], Any] | None] = {
    str: None,
    bool: None,
    type(None): None,
    msgspec.Raw: None,
    int: _plain_int,
    float: _plain_float,
    dict: _plain_object,
    FrozenDict: _plain_object,
    list: _plain_array,
    tuple: _plain_array,
    FrozenList: _plain_array,
    Int64: _plain_int64,
    bytes: _plain_bytes,
}
"""The conversion of each type to builtins; None if its values are builtins that need no wrapper."""


def _text(value: Any) -> object:
    if isinstance(value, dt.datetime):
        return _instant(value)
    return _time(value) if isinstance(value, dt.time) else msgspec.to_builtins(value)


def _instant(value: dt.datetime) -> str:
    """Return the canonical form of an instant: `2026-01-02T12:00:00.500000Z`."""
    if value.utcoffset() is None:
        raise _Fault(
            InvalidValue,
            f"`{value.isoformat(' ')}` is a datetime without a time zone, which is not an instant;"
            " write `datetime.now(UTC)`, or `.replace(tzinfo=UTC)`",
        )
    try:
        utc = value.astimezone(dt.UTC)
    except OverflowError:
        raise _Fault(InvalidValue, f"`{value.isoformat(' ')}` is not in the years 1 to 9999 in UTC") from None
    return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _time(value: dt.time) -> str:
    """Return the canonical form of a time of day: `12:00:00.500000`."""
    if value.tzinfo is not None:
        raise _Fault(
            InvalidValue, f"`{value.isoformat()}` is a time with a time zone but without its date; use a datetime"
        )
    return value.isoformat(timespec="microseconds")


def _struct_fields(value: msgspec.Struct) -> dict[str, Any]:
    names, tag = _struct_layout(type(value))
    fields = {}
    for attribute, name in names:
        child = getattr(value, attribute)
        if child is not msgspec.UNSET:
            fields[name] = child
    return fields | tag


@cache
def _struct_layout(cls: type[msgspec.Struct]) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return the attribute and encoded name of every field, and the tag if the struct has one."""
    config = cls.__struct_config__
    tag = {} if config.tag_field is None else {config.tag_field: config.tag}
    return list(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)), tag


def _base64(data: bytes) -> str:
    if len(data) <= STEP_BYTES:
        return b2a_base64(data, newline=False).decode("ascii")
    step = STEP_BYTES // 3 * 3  # so that only the last one ends in padding
    text = [b2a_base64(data[start : start + step], newline=False) for start in range(0, len(data), step)]
    return b"".join(text).decode("ascii")


def _surrogate(value: object) -> InvalidValue:
    """Find the string that cannot be encoded, in a second pass: checking every string in the first would be slow."""

    def search(builtins: Any, path: str) -> str | None:
        if isinstance(builtins, dict):
            for key, child in builtins.items():
                if (surrogate := search(key, path) or search(child, f"{path}.{key}")) is not None:
                    return surrogate
        elif isinstance(builtins, list):
            for index, child in enumerate(builtins):
                if (surrogate := search(child, f"{path}[{index}]")) is not None:
                    return surrogate
        elif isinstance(builtins, str):
            try:
                builtins.encode()
            except UnicodeEncodeError:
                return path
        return None

    path = (search(to_builtins(value), "$") or "$").encode("utf-8", "replace").decode()
    from tinyvex.values.unreadable_json import HALF_PAIR

    return InvalidValue(f"{HALF_PAIR} - at `{path}`", path=path)


# Builtins to value.


def _value(builtins: Any, depth: int) -> Any:
    cls = type(builtins)
    if cls is str or cls is bool or builtins is None:
        return builtins
    if cls is dict:
        return _object(builtins, depth)
    if cls is list:
        return _array(builtins, depth)
    if cls is float:
        if builtins.is_integer() and -SAFE_INTEGER_MAX <= builtins <= SAFE_INTEGER_MAX:
            return int(builtins)
        return builtins
    if cls is int:
        return builtins if -SAFE_INTEGER_MAX <= builtins <= SAFE_INTEGER_MAX else _large(builtins)
    if cls is Int64:
        return builtins
    raise _Fault(InvalidValue, f"an object of type {cls.__name__} is not a value")


def _object(builtins: dict[str, Any], depth: int) -> Any:
    _check_object(builtins, depth)
    key = ""
    try:
        for key, child in builtins.items():
            if key < "%" and key[:1] == "$":
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
    index = 0
    try:
        for index, child in enumerate(builtins):
            if type(child) is not str:
                builtins[index] = _value(child, depth + 1)
    except _Fault as fault:
        fault.steps.append(f"[{index}]")
        raise
    return builtins


def _large(number: int) -> float:
    """
    Convert an integer literal outside ±(2^53 - 1) to a double, if the sender certainly meant a double.

    JavaScript writes the double 2^64 as 18446744073709552000: its shortest digits, padded with zeros.
    """
    try:
        double = float(number)
    except OverflowError:
        raise _too_large(number) from None
    if int(double) == number or int(decimal.Decimal(repr(double))) == number:
        return double
    raise _too_large(number)


def _too_large(number: int) -> _Fault:
    # Python refuses to convert thousands of digits to text.
    text = str(number) if number.bit_length() <= _SHOWN_BITS_MAX else f"an integer of {number.bit_length():,} bits"
    hint = "; use Int64" if number.bit_length() <= _INT64_BITS else ""
    return _Fault(InvalidValue, f"{text} is too large for a plain number{hint}")


def _wrapped(builtins: dict[str, Any]) -> Any:
    """Resolve a wrapper."""
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
        raise _Fault(InvalidValue, f"`{key}` must be base64 with padding")
    if key == "$bytes":
        return data
    if len(data) != 8:
        raise _Fault(InvalidValue, f"`{key}` must be 8 bytes, not {len(data)}")
    if key == "$integer":
        return Int64(int.from_bytes(data, "little", signed=True))
    (number,) = struct.unpack("<d", data)
    if math.isfinite(number) and data != b"\0\0\0\0\0\0\0\x80":
        raise _Fault(InvalidValue, "`$float` is only for NaN, the infinities and -0; write this number as plain JSON")
    return number


# Limits.


def _check_object(fields: Mapping[str, Any], depth: int) -> None:
    if depth > NESTING_MAX:
        raise _Fault(ValueTooLarge, f"the value is nested deeper than {NESTING_MAX} levels")
    if len(fields) > OBJECT_FIELDS_MAX:
        raise _Fault(ValueTooLarge, f"an object has {len(fields):,} fields; the limit is {OBJECT_FIELDS_MAX:,}")


def _check_array(elements: Sequence[Any], depth: int) -> None:
    if depth > NESTING_MAX:
        raise _Fault(ValueTooLarge, f"the value is nested deeper than {NESTING_MAX} levels")
    if len(elements) > ARRAY_ELEMENTS_MAX:
        raise _Fault(ValueTooLarge, f"an array has {len(elements):,} elements; the limit is {ARRAY_ELEMENTS_MAX:,}")
