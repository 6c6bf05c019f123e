"""
Encode long values in short steps. (pure)

msgspec holds the interpreter lock until it has encoded the whole value: some 30 ms for a text of 60 MB, more for many small
parts. Meanwhile no other thread of the process can run. So a long value is encoded in steps of about STEP_BYTES, and the
caller's `give_way` is called between two steps::

    {"a": text of 3 MB, "b": [10,000 rows]}   ──►   {"a":"…   …   …   ,"b":[…   …   ]}
                                                    one step between any two of these marks

A mutation takes the lock some 30 times, once after each statement. If the encoding thread took it back after each step, the
mutation would wait for a step, or for the interpreter's switch interval, 30 times.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

__all__ = ["GiveWay", "encode_in_steps"]

STEP_BYTES = 1 << 20
"""About the JSON that one step encodes, in a millisecond or a few."""
PART_BYTES = 8
"""Counted for a number, and for the key and the punctuation of any part."""

_encode = msgspec.json.Encoder(order="sorted").encode
_Write = Callable[[bytes | memoryview], object]
GiveWay: TypeAlias = Callable[[], object]
"""Lets other threads run; see `Runtime.give_way`."""


def encode_in_steps(plain: Any, give_way: GiveWay | None = None) -> bytes:
    """
    Encode builtins as JSON with sorted keys.

    Args:
        plain: the value.
        give_way: called between steps.

    Raises:
        UnicodeEncodeError: a string has a lone surrogate.
    """
    if _weight(plain, STEP_BYTES) < STEP_BYTES:
        return _encode(plain)
    text = io.BytesIO()  # grows without a copy where the allocator can remap, and returns its buffer without one
    _write(plain, text.write if give_way is None else _giving_way(text.write, give_way))
    return text.getvalue()


def _giving_way(write: _Write, give_way: GiveWay) -> _Write:
    """Return a function that writes, and gives way when a step's worth of JSON was written since it did so last."""
    written = 0

    def write_and_give_way(text: bytes | memoryview) -> None:
        nonlocal written
        write(text)
        written += len(text)
        if written >= STEP_BYTES // 2:
            written = 0
            give_way()

    return write_and_give_way


def _weight(plain: Any, bound: int) -> int:
    """Return about how many bytes of JSON a value has; any number from `bound` on if it has at least so many."""
    if isinstance(plain, str):
        return len(plain)
    if isinstance(plain, dict):
        children: Any = plain.values()
    elif isinstance(plain, list):
        children = plain
    else:
        return memoryview(plain).nbytes if isinstance(plain, msgspec.Raw) else PART_BYTES
    weight = PART_BYTES * len(plain)
    for child in children:
        cls = type(child)
        if cls is str:
            weight += len(child)
        elif cls is not int and cls is not float and cls is not bool and child is not None:
            weight += _weight(child, bound - weight)
        if weight >= bound:
            break
    return weight


def _write(plain: Any, write: _Write) -> None:
    if _weight(plain, STEP_BYTES) < STEP_BYTES:
        write(_encode(plain))
    elif isinstance(plain, str):
        write(b'"')
        for start in range(0, len(plain), STEP_BYTES):
            write(memoryview(_encode(plain[start : start + STEP_BYTES]))[1:-1])
        write(b'"')
    elif isinstance(plain, dict):
        write(b"{")
        _write_object(plain, write)
        write(b"}")
    elif isinstance(plain, list):
        write(b"[")
        _write_array(plain, write)
        write(b"]")
    else:
        text = memoryview(plain)
        for start in range(0, len(text), STEP_BYTES):
            write(text[start : start + STEP_BYTES])


def _write_array(elements: list[Any], write: _Write) -> None:
    comma = b""
    group: list[Any] = []
    room = STEP_BYTES
    for element in elements:
        weight = PART_BYTES + _weight(element, STEP_BYTES)
        if group and weight > room:
            _write_inside(comma, group, write)
            comma, group, room = b",", [], STEP_BYTES
        if weight > STEP_BYTES:
            write(comma)
            _write(element, write)
            comma = b","
        else:
            group.append(element)
            room -= weight
    if group:
        _write_inside(comma, group, write)


def _write_object(fields: dict[str, Any], write: _Write) -> None:
    comma = b""
    group: dict[str, Any] = {}
    room = STEP_BYTES
    for key in sorted(fields):
        field = fields[key]
        weight = PART_BYTES + len(key) + _weight(field, STEP_BYTES)
        if group and weight > room:
            _write_inside(comma, group, write)
            comma, group, room = b",", {}, STEP_BYTES
        if weight > STEP_BYTES:
            write(b"%b%b:" % (comma, _encode(key)))
            _write(field, write)
            comma = b","
        else:
            group[key] = field
            room -= weight
    if group:
        _write_inside(comma, group, write)


def _write_inside(comma: bytes, group: list[Any] | dict[str, Any], write: _Write) -> None:
    """Write the elements or fields of a group, without its brackets."""
    write(comma)
    write(memoryview(_encode(group))[1:-1])
