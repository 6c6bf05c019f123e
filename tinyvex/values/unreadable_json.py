r"""
Text that is JSON by its grammar but has a part that cannot be read: half of a surrogate pair, or a number out of range.

JavaScript writes both. `"😀".slice(0, 1)` is half of a pair, which `JSON.stringify` writes as `"\ud83d"`.
The parser stops there with an error that does not distinguish this from text that is not JSON.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

__all__ = ["Unreadable", "find_unreadable"]

SEARCHED_BYTES_MAX = 1 << 16
"""Longer text is not parsed a second time, because this may run on the event loop; the path is then unknown."""

HALF_PAIR = "a string has a lone surrogate, which is not a character; was text cut inside an emoji?"
OUT_OF_RANGE = "a number is out of range"

_HIGH_ALONE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")


class Unreadable(NamedTuple):
    """The part that cannot be read; `path` leads to it, None if the text is too long to search."""

    reason: str
    path: str | None


def find_unreadable(text: bytes, error: Exception) -> Unreadable | None:
    """
    Return the first part of `text` that cannot be read; None if the text is not JSON.

    Args:
        text: JSON that msgspec refused.
        error: the error that it raised.
    """
    if len(text) <= SEARCHED_BYTES_MAX:
        try:
            builtins = json.loads(text, parse_int=_integer, parse_float=_double, parse_constant=_refuse)
            return _search(builtins, "$")
        except (ValueError, RecursionError):
            return None
    if "out of range" in str(error):
        return Unreadable(OUT_OF_RANGE, None)
    # A half pair close to the end of the text is reported as if the text were truncated.
    if "surrogate" in str(error) or ("truncated" in str(error) and _HIGH_ALONE.search(text, len(text) - 64)):
        return Unreadable(HALF_PAIR, None)
    return None


class _OutOfRange:
    """A number that cannot be read."""


def _integer(digits: str) -> object:
    try:
        return int(digits)
    except ValueError:  # Python refuses to convert thousands of digits
        return _OutOfRange()


def _double(digits: str) -> object:
    number = float(digits)
    return number if math.isfinite(number) else _OutOfRange()


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _search(builtins: Any, path: str) -> Unreadable | None:
    if isinstance(builtins, dict):
        for key, child in builtins.items():
            if (unreadable := _search(key, path) or _search(child, f"{path}.{key}")) is not None:
                return unreadable
    elif isinstance(builtins, list):
        for index, child in enumerate(builtins):
            if (unreadable := _search(child, f"{path}[{index}]")) is not None:
                return unreadable
    elif isinstance(builtins, _OutOfRange):
        return Unreadable(OUT_OF_RANGE, path)
    elif isinstance(builtins, str):
        try:
            builtins.encode()
        except UnicodeEncodeError:
            return Unreadable(HALF_PAIR, path)
    return None
