"""
What data is: JSON values, 64-bit integers, bytes.

A plain number is an IEEE double, as everywhere in JSON: an `int` within ±(2^53 - 1) or a `float`.
An integral float and an int are one value.
See `protocol/SPEC.md`, *Values*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Literal, Self, TypeAlias

from tinyvex.errors import InvalidValue

__all__ = ["INT64_MAX", "INT64_MIN", "MISSING", "Int64", "Missing", "Value"]

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1


class Int64(int):
    """
    A 64-bit signed integer, which travels as `{"$integer": …}` and never loses a bit.

    Arithmetic gives plain `int`s; in typed classes the annotation makes them `Int64` again.

    Where a field was a plain number and becomes an `Int64`, or the other way round, documents read as the new kind at once;
    where it is indexed they are stored anew as that when the change is made, elsewhere when they are written next.

    Raises:
        InvalidValue: the number does not fit into 64 bits.
    """

    __slots__ = ()

    def __new__(cls, value: int | str = 0) -> Self:
        """The number, checked."""
        number = super().__new__(cls, value)
        if not INT64_MIN <= number <= INT64_MAX:
            raise InvalidValue(f"{int(number)} does not fit into an Int64", path="$")
        return number

    def __repr__(self) -> str:
        return f"Int64({int(self)})"


Value: TypeAlias = bool | int | float | str | bytes | Sequence["Value"] | Mapping[str, "Value"] | None
"""Anything that can be stored or sent. Decoded, sequences are `list` and mappings are `dict`."""


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Literal[Missing.MISSING]] = Missing.MISSING
"""The field is not there; it sorts before everything else. Known to index keys only, never stored or sent."""
