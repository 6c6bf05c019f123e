"""Coercion of numbers by annotation."""

from typing import Any

import msgspec
import pytest

from tinyvex.functions.schema.int64_fields import as_annotated, types_at, types_of
from tinyvex.values.types import Int64


class Pair(msgspec.Struct, rename="camel"):
    big_one: Int64
    small: int = 0


class Outer(msgspec.Struct):
    pair: Pair | None = None
    by_name: dict[str, list[Int64]] = {}


def kinds(value: Any) -> Any:
    """Return a value with the type of each number in it."""
    if isinstance(value, dict):
        return {name: kinds(child) for name, child in value.items()}
    if isinstance(value, list):
        return [kinds(child) for child in value]
    return (type(value), value)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Int64, 5, (Int64, 5)),
        (Int64, 2**62, (Int64, 2**62)),
        (Int64, 2**64, (int, 2**64)),
        (Int64, True, (bool, True)),
        (Int64 | None, 5, (Int64, 5)),
        (int, Int64(5), (int, 5)),
        (Any, Int64(5), (Int64, 5)),
        (Any, 5, (int, 5)),
        (list[Int64], (1, 2), [(Int64, 1), (Int64, 2)]),
        (tuple[Int64, int], [1, 2], [(Int64, 1), (int, 2)]),
        (tuple[Int64, ...], [1, 2], [(Int64, 1), (Int64, 2)]),
        (list[Any], [Int64(1), 2], [(Int64, 1), (int, 2)]),
        (Pair, Pair(1, 2), {"bigOne": (Int64, 1), "small": (int, 2)}),
        (Pair, {"bigOne": 1, "other": 2}, {"bigOne": (Int64, 1), "other": (int, 2)}),
        (Outer, {"pair": Pair(1)}, {"pair": {"bigOne": (Int64, 1), "small": (int, 0)}}),
        (Outer, {"by_name": {"a": [1]}}, {"by_name": {"a": [(Int64, 1)]}}),
        (str, [1], [(int, 1)]),
    ],
)
def test_a_number_has_the_annotated_type(annotation: Any, value: Any, expected: Any) -> None:
    """Deep inside too; a value that does not fit stays unchanged and is refused later."""
    assert kinds(as_annotated(value, types_of(annotation))) == expected


def test_a_path_leads_through_alternatives() -> None:
    """Through a field that may be missing, of a struct that may be null."""
    assert kinds(as_annotated(5, types_at(Outer, "pair.bigOne"))) == (Int64, 5)
    assert types_at(Outer, "pair.nothing") == []
