"""Conversion of values with msgspec: what it does not know about them, and its errors."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tinyvex.errors import InvalidValue
from tinyvex.values.types import Int64

__all__ = ["NATIVE_TYPES", "as_int64", "path_and_reason", "unexpected"]

NATIVE_TYPES = (bytes,)
"""Types that arrive as they are. Bytes are unwrapped, so a string is never decoded as base64."""

_MESSAGE = re.compile(r"(?s)(.*?)(?: - at (`key` in )?`(.*)`)?")
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`")


def path_and_reason(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return the path and the reason in an error of msgspec; a reason that a hook has given stays as it is."""
    message = _MESSAGE.fullmatch(str(error))
    assert message is not None
    reason, key, path = message[1], message[2], message[3] or "$"
    if field := _FIELD.fullmatch(reason):
        return f"{path}.{field[2]}", "missing" if field[1].startswith("missing") else "unknown field"
    if error.__cause__ is None or error.__cause__.__cause__ is None:
        reason = reason[:1].lower() + reason[1:].replace("`", "")
    return path, f"{reason} as a key" if key else reason


def as_int64(value: Any) -> Int64:
    """
    Convert a number to `Int64`.

    Raises:
        ValueError: it is not an integer, or does not fit.
    """
    if isinstance(value, Int64):
        return value
    if type(value) is not int:
        raise unexpected("Int64", value)
    try:
        return Int64(value)
    except InvalidValue as error:
        raise ValueError(str(error)) from error


def unexpected(expected: str, value: object) -> ValueError:
    """Return the error in msgspec's form; msgspec adds the path."""
    return ValueError(f"Expected `{expected}`, got `{'null' if value is None else type(value).__name__}`")
