"""Canonical arguments, which decide whether two subscriptions share a live query."""

from __future__ import annotations

import pytest

from tinyvex import limits
from tinyvex.sync.arguments import Arguments
from tinyvex.values import codec


def test_equal_arguments_are_equal_bytes() -> None:
    """White space, order and number formats do not matter."""
    one, other = b'{"a": 1, "b": [1.0]}', b'{"b":[1],"a":1}'
    assert Arguments().canonical(one) == Arguments().canonical(other)


def test_invalid_arguments_stay_as_they_are() -> None:
    """The function's call reports the error."""
    assert Arguments().canonical(b'{"$bytes": 1}') == b'{"$bytes": 1}'


def test_the_decoding_of_one_message_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments longer than the rest of CANONICAL_BYTES_MAX stay as they are, without being decoded."""
    monkeypatch.setattr(limits, "CANONICAL_BYTES_MAX", 20)
    read: list[bytes] = []
    decode = codec.decode

    def note(data: bytes) -> object:
        read.append(data)
        return decode(data)

    monkeypatch.setattr(codec, "decode", note)
    arguments = Arguments()
    encoded = [b'{"a": 1234567}', b'{"a": 12345678}', b'{"a":}', b'{"a":1}']
    assert [arguments.canonical(each) for each in encoded] == [
        b'{"a":1234567}',
        b'{"a": 12345678}',
        b'{"a":}',
        b'{"a":1}',
    ]
    assert read == [encoded[0], encoded[2]]
