"""For any bytes, the decoders return a value or raise a documented error."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec
import pytest

from tests.support.fuzz import (
    ERRORS,
    MESSAGES,
    REQUESTS,
    SEED,
    Fuzzer,
    Text,
    error_fault,
    example_messages,
    resident_bytes,
)
from tinyvex.errors import InvalidValue, ProtocolError, UpdateRejected, ValueTooLarge
from tinyvex.values import codec as values
from tinyvex.wire import codec, json_patch, messages
from tinyvex.wire.error_objects import to_object
from tinyvex.wire.transition_chunks import Assembler

ASSEMBLED_BYTES_MAX = 10_000
GROWTH_BYTES_MAX = 48 << 20

PATCHED: list[Any] = [
    {"rows": [{"_id": "a", "n": 1}, {"_id": "b", "n": 2}], "total": 3, "": [], "a/b": {"~": 1}},
    [1, 2.0, "three", None, [True, {"$integer": "AAAAAAAAAAA="}]],
    "a text",
]
TOO_DEEP = Text(b"[" * 700 + b"]" * 700)
"""Can be read, but not compared by a function that calls itself."""

PATCHES: list[Any] = [
    [{"op": "add", "path": "", "value": TOO_DEEP}, {"op": "test", "path": "", "value": TOO_DEEP}],
    [{"op": "add", "path": "/rows/-", "value": {"n": 3}}, {"op": "replace", "path": "/rows/0/n", "value": 9}],
    [{"op": "remove", "path": "/rows/1"}, {"op": "move", "from": "/rows/0", "path": "/rows/0/n"}],
    [{"op": "copy", "from": "/rows", "path": "/a~1b/~0"}, {"op": "test", "path": "/total", "value": 3.0}],
    [{"op": "replace", "path": "", "value": []}, {"op": "add", "path": "/0", "value": 1}],
    [{"op": "move", "from": "/4/0", "path": "/0"}, {"op": "remove", "path": "/4"}],
]


Rounds: TypeAlias = Callable[[list[Any]], Iterator[tuple[Fuzzer, int]]]


@pytest.fixture
def rounds() -> Rounds:
    """Run the requested number of rounds; memory must not grow with them, and a failure names the seed."""

    def play(examples: list[Any]) -> Iterator[tuple[Fuzzer, int]]:
        fuzzer = Fuzzer(SEED, examples)
        print(f"FUZZ_SEED={SEED}")
        before = 0
        for number in range(MESSAGES):
            if number == MESSAGES // 10:
                before = resident_bytes()
            yield fuzzer, number
        assert resident_bytes() - before < GROWTH_BYTES_MAX

    return play


def test_a_request_is_read_or_refused(rounds: Rounds) -> None:
    """
    `decode_request` returns a request or raises a listed ProtocolError; the answer to either can be encoded and
    decoded.
    """
    refusals: set[str] = set()
    for fuzzer, _ in rounds(example_messages(*REQUESTS)):
        text = fuzzer.message()
        try:
            request = codec.decode_request(text)
        except ProtocolError as error:
            refusals.add(error.name)
            answer = codec.encode_error_response(error.request_id, error)
            assert error_fault(json.loads(answer)["error"]) is None
        else:
            json.loads(codec.encode_response(request.id, b"{}"))
    assert refusals == {"ParseError", "InvalidRequest", "MethodNotFound", "InvalidParams"}


def test_a_request_given_as_text_is_read_or_refused(rounds: Rounds) -> None:
    """`decode_request` handles `str` in the same way, including lone surrogates."""
    for fuzzer, _ in rounds(example_messages(*REQUESTS)):
        text = fuzzer.message().decode("utf-8", "surrogateescape")
        with contextlib.suppress(ProtocolError):
            codec.decode_request(text)


def test_the_arguments_of_a_request_are_a_value_or_refused(rounds: Rounds) -> None:
    """A value that `values.codec.decode` accepts survives a round trip; anything else raises one of two errors."""
    accepted = 0
    for fuzzer, _ in rounds(example_messages()):
        text = fuzzer.message()
        try:
            value = values.decode(text)
        except (InvalidValue, ValueTooLarge) as error:
            assert error.name in ERRORS
            msgspec.json.encode(to_object(error))
            continue
        accepted += 1
        canonical = values.encode(value)
        assert values.encode(values.decode(canonical)) == canonical
    assert accepted > MESSAGES // 20


def test_a_message_of_a_server_is_read_or_refused(rounds: Rounds) -> None:
    """`decode_server_message` returns a message, None for one to ignore, or raises UpdateRejected."""
    for fuzzer, _ in rounds(example_messages()):
        with contextlib.suppress(UpdateRejected):
            codec.decode_server_message(fuzzer.message())


def test_a_patch_applies_or_is_refused_and_touches_nothing(rounds: Rounds) -> None:
    """`json_patch.apply` returns a document or raises PatchFailed, and never modifies its input."""
    originals = [msgspec.json.encode(document) for document in PATCHED]
    applied = 0
    for fuzzer, number in rounds(PATCHES):
        try:
            patch = msgspec.json.decode(fuzzer.message())
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            continue
        place = number % len(PATCHED)
        with contextlib.suppress(json_patch.PatchFailed):
            json_patch.apply(PATCHED[place], patch)
            applied += 1
        assert msgspec.json.encode(PATCHED[place]) == originals[place]
    assert applied > MESSAGES // 100


def part(chance: random.Random, transition_id: int, number: int, total: int) -> messages.TransitionChunkParams:
    """Return a fitting chunk, in nine of ten cases."""
    right = {"transition_id": transition_id, "part_number": number, "parts_total": total, "bytes_total": total * 4}
    chunk = chance.choice(("abcd", "\U0001f600"))
    if chance.random() < 0.1:
        wrong = chance.choice([*right, "chunk"])
        if wrong == "chunk":
            chunk = chance.choice(("", "x" * 5, "\ud800", "x" * 2 * ASSEMBLED_BYTES_MAX))
        else:
            right[wrong] = chance.choice((-1, 0, 1, number + 1, ASSEMBLED_BYTES_MAX + 1, 2**62))
    return messages.TransitionChunkParams(**right, chunk=chunk)


def test_chunks_of_a_transition_are_joined_or_refused(rounds: Rounds) -> None:
    """
    `Assembler.add` returns the announced number of bytes or None, or raises UpdateRejected; its memory is bounded.
    """
    joined = 0
    assembler, transition_id, number, total = Assembler(ASSEMBLED_BYTES_MAX), 0, 0, 2
    for fuzzer, _ in rounds([]):
        given = part(fuzzer.random, transition_id, number, total)
        number += 1
        try:
            whole = assembler.add(given)
        except UpdateRejected:
            assembler, transition_id, number = Assembler(ASSEMBLED_BYTES_MAX), 0, 0
            continue
        assert len(assembler._text) <= ASSEMBLED_BYTES_MAX
        if whole is not None:
            assert len(whole) == given.bytes_total
            joined += 1
            transition_id, number, total = transition_id + 1, 0, fuzzer.random.choice((2, 3, 5))
    assert joined > MESSAGES // 20
