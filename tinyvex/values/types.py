"""
The types of values: JSON, 64-bit integers, bytes.

A plain number is an IEEE double, as usual in JSON: an `int` within ±(2^53 - 1), or a `float`. An integral float and
the equal int are the same value.
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
    A 64-bit signed integer, sent and stored as `{"$integer": …}` without loss of precision.

    Arithmetic returns plain `int`s; assigned to a field annotated as `Int64`, they become `Int64` again.

    If a field changes from a plain number to `Int64`, or back, documents read as the new type immediately. If the field
    is indexed, the schema change rewrites the stored documents; otherwise each is converted when it is next written.

    Raises:
        InvalidValue: the number does not fit in 64 bits.
    """

    __slots__ = ()

    def __new__(cls, value: int | str = 0) -> Self:
        """Create the integer, checking its range."""
        number = super().__new__(cls, value)
        if not INT64_MIN <= number <= INT64_MAX:
            raise InvalidValue(f"{int(number)} does not fit in an Int64", path="$")
        return number

    def __repr__(self) -> str:
        return f"Int64({int(self)})"


Value: TypeAlias = bool | int | float | str | bytes | Sequence["Value"] | Mapping[str, "Value"] | None
"""Data that can be stored and sent. Decoded sequences are lists and decoded mappings are dicts."""


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Literal[Missing.MISSING]] = Missing.MISSING
"""An absent field in an index key; less than every value. Never stored or sent."""
