"""
Document ids: which table, which document, and a check.

::

    bytes = VInt(table number) ‖ 16 bytes ‖ Fletcher-16 check, little-endian
    text  = lower-case Crockford base32 of the bytes, no padding; 32 characters for user tables

The 16 bytes begin with 48 bits of milliseconds, so that inserts land at the end of the tree;
any 16 bytes are a valid id.
This is the published Convex id format, so that data moves between the two with its references whole.
"""

from __future__ import annotations

import random as random_module
import re
from functools import lru_cache
from operator import mul
from typing import NamedTuple

from tinyvex.errors import InvalidId

__all__ = ["INTERNAL_BYTES", "TABLE_NUMBER_MAX", "DocumentId", "new_internal", "parse_id"]

INTERNAL_BYTES = 16
TABLE_NUMBER_MAX = 2**32 - 1

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]
_TO_PYTHON_DIGITS = str.maketrans(_CROCKFORD, "0123456789abcdefghijklmnopqrstuv")
_TEXT = re.compile("[0-9a-hjkmnp-tv-z]{31,37}")
_CACHED_IDS = 1 << 15


class DocumentId(NamedTuple):
    """A document's identity: its table's number and 16 bytes of its own."""

    table: int
    internal: bytes

    @property
    def text(self) -> str:
        """The id as users and clients see it."""
        return _format(self.table, self.internal)


def new_internal(now_us: int, random: random_module.Random) -> bytes:
    """The 16 bytes of a new id: 48 bits of milliseconds, then 80 random bits."""
    return (now_us // 1000 % 2**48).to_bytes(6, "big") + random.getrandbits(80).to_bytes(10, "big")


@lru_cache(maxsize=_CACHED_IDS)
def parse_id(text: str) -> DocumentId:
    """
    Read an id.

    Strict: only the text that `DocumentId.text` writes is accepted.

    Raises:
        InvalidId: the text is no id; its check or its length is wrong, or it has characters that ids do not have.
    """
    if not isinstance(text, str) or not _TEXT.fullmatch(text):
        raise InvalidId(f"{_quoted(text)} is not a document id: it has the wrong length or characters", id=str(text))
    size = len(text) * 5 // 8
    unused_bits = len(text) * 5 - size * 8
    number = int(text.translate(_TO_PYTHON_DIGITS), 32)
    data = (number >> unused_bits).to_bytes(size, "big")
    body, check = data[:-2], data[-2:]
    if _fletcher16(body) != check:
        raise InvalidId(f"{_quoted(text)} is not a document id: its check does not match", id=text)
    head = body[:-INTERNAL_BYTES]
    found = DocumentId(_read_vint(head), body[-INTERNAL_BYTES:])
    # What `text` would write is not made for it: that takes as long as all the rest.
    is_shortest = len(text) == -(-size * 8 // 5) and not number & ((1 << unused_bits) - 1)
    if not 1 <= found.table <= TABLE_NUMBER_MAX or not is_shortest or _write_vint(found.table) != head:
        raise InvalidId(f"{_quoted(text)} is not a document id: it is not in its shortest form", id=text)
    return found


@lru_cache(maxsize=_CACHED_IDS)
def _format(table: int, internal: bytes) -> str:
    assert 1 <= table <= TABLE_NUMBER_MAX, table
    assert len(internal) == INTERNAL_BYTES, internal
    body = _write_vint(table) + internal
    data = body + _fletcher16(body)
    # Ten bits at a time through a table: half of what base64.b32encode and a translation take.
    bits = len(data) * 8
    padded = -(-bits // 10) * 10
    number = int.from_bytes(data, "big") << (padded - bits)
    pairs = [_PAIRS[number >> shift & 0x3FF] for shift in range(padded - 10, -1, -10)]
    return "".join(pairs)[: -(-bits // 5)]


def _write_vint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _read_vint(data: bytes) -> int:
    """The number; a form that is too long reads as something that is not written back the same."""
    return sum((group & 0x7F) << 7 * place for place, group in enumerate(data))


def _fletcher16(data: bytes) -> bytes:
    # The sum of the running sums has the first byte len(data) times and the last one once.
    return bytes((sum(data) & 0xFF, sum(map(mul, data, range(len(data), 0, -1))) & 0xFF))


def _quoted(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
