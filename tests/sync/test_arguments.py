"""How arguments become the key of a live query."""

from __future__ import annotations

import pytest

from tinyvex import limits
from tinyvex.sync.arguments import Arguments
from tinyvex.values import codec


def test_equal_arguments_are_equal_bytes() -> None:
    """However a client writes them."""
    one, other = b'{"a": 1, "b": [1.0]}', b'{"b":[1],"a":1}'
    assert Arguments().canonical(one) == Arguments().canonical(other)


def test_what_is_no_value_stays_as_it_is() -> None:
    """The function's own check says what is wrong with it."""
    assert Arguments().canonical(b'{"$bytes": 1}') == b'{"$bytes": 1}'


def test_only_so_much_of_a_message_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than what is left of CANONICAL_BYTES_MAX is taken as it is, unread; shorter ones are not."""
    monkeypatch.setattr(limits, "CANONICAL_BYTES_MAX", 20)
    read: list[bytes] = []
    decode = codec.decode

    def note(data: bytes) -> object:
        read.append(data)
        return decode(data)

    monkeypatch.setattr(codec, "decode", note)
    arguments = Arguments()
    said = [b'{"a": 1234567}', b'{"a": 12345678}', b'{"a":}', b'{"a":1}']
    assert [arguments.canonical(each) for each in said] == [b'{"a":1234567}', b'{"a": 12345678}', b'{"a":}', b'{"a":1}']
    assert read == [said[0], said[2]]
