"""Encode values as index keys: single values, and a compound key of three fields."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.harness import Bench
from tinyvex.values.key_encoding import encode_part
from tinyvex.values.types import Int64


def run(bench: Bench) -> None:
    keys: tuple[tuple[str, list[Any]], ...] = (
        ("number", [1_767_225_600_000.5]),
        ("string of 30", ["a channel with a name of some."]),
        ("string, number, Int64", ["general", 17, Int64(2**60)]),
        ("array of 10 strings", [["tag"] * 10]),
    )
    for label, values in keys:
        bench.hash([key(values)])
        bench.time(label, partial(key, values))


def key(values: list[Any]) -> bytes:
    return b"".join(map(encode_part, values))
