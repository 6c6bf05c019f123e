"""
Document ids: table number, 16 bytes that identify the document, and a checksum.

::

    bytes = VInt(table number) ‖ 16 bytes ‖ Fletcher-16 check, little-endian
    text  = lower-case Crockford base32 of the bytes, no padding; 32 characters for user tables

The *internal* 16 bytes of a new id are 48 bits of milliseconds and 80 random bits, so that inserts land at the end of
an index. Other 16 bytes are valid as well, because clients may choose ids. The checksum detects typing errors, and the
table number lets `db.get(id)` work without a table name.

This is the published Convex id format: data can be moved between both databases without rewriting references.
Each id has exactly one text: upper-case letters, padding bits that are set, and overlong integers are refused.
"""

from __future__ import annotations

import random as random_module
import re
from functools import lru_cache
from operator import mul
from typing import NamedTuple

from tinyvex.errors import InvalidId

__all__ = ["INTERNAL_BYTES", "TABLE_NUMBER_MAX", "DocumentId", "format_id", "new_internal", "parse_id"]

INTERNAL_BYTES = 16
TABLE_NUMBER_MAX = 2**32 - 1

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]
_TO_PYTHON_DIGITS = str.maketrans(_CROCKFORD, "0123456789abcdefghijklmnopqrstuv")
_TEXT = re.compile("[0-9a-hjkmnp-tv-z]{31,37}")
_CACHED_IDS = 1 << 15
_NEW_IDS = 1 << 10

_formatted: dict[str, DocumentId] = {}
"""The last ids whose text was made here. Most new ids are parsed soon: the result of a mutation is checked."""


class DocumentId(NamedTuple):
    """The identity of a document: its table's number and its internal 16 bytes."""

    table: int
    internal: bytes

    @property
    def text(self) -> str:
        """The text form, which users and clients see."""
        return format_id(self.table, self.internal)


def new_internal(now_us: int, random: random_module.Random) -> bytes:
    """Generate the internal 16 bytes of a new id."""
    return (now_us // 1000 % 2**48).to_bytes(6, "big") + random.getrandbits(80).to_bytes(10, "big")


@lru_cache(maxsize=_CACHED_IDS)
def parse_id(text: str) -> DocumentId:
    """
    Parse the text of an id.

    Raises:
        InvalidId: the text is not an id: its length, a character or the checksum is wrong, or it is not the text that
            `DocumentId.text` returns.
    """
    formatted = _formatted.get(text)
    if formatted is not None:
        return formatted
    if not isinstance(text, str) or not _TEXT.fullmatch(text):
        raise InvalidId(f"{_quoted(text)} is not a document id: it has the wrong length or characters", id=str(text))
    size = len(text) * 5 // 8
    unused_bits = len(text) * 5 - size * 8
    number = int(text.translate(_TO_PYTHON_DIGITS), 32)
    data = (number >> unused_bits).to_bytes(size, "big")
    body, check = data[:-2], data[-2:]
    if _fletcher16(body) != check:
        raise InvalidId(f"{_quoted(text)} is not a document id: its checksum does not match", id=text)
    head = body[:-INTERNAL_BYTES]
    parsed = DocumentId(_read_vint(head), body[-INTERNAL_BYTES:])
    # Comparing with `parsed.text` would be simpler, but takes as long as the rest of this function.
    is_shortest = len(text) == -(-size * 8 // 5) and not number & ((1 << unused_bits) - 1)
    if not 1 <= parsed.table <= TABLE_NUMBER_MAX or not is_shortest or _write_vint(parsed.table) != head:
        raise InvalidId(f"{_quoted(text)} is not a document id: it is not the shortest form", id=text)
    return parsed


@lru_cache(maxsize=_CACHED_IDS)
def format_id(table: int, internal: bytes) -> str:
    """Return the text of an id; see `DocumentId.text`."""
    assert 1 <= table <= TABLE_NUMBER_MAX, table
    assert len(internal) == INTERNAL_BYTES, internal
    body = _write_vint(table) + internal
    data = body + _fletcher16(body)
    # Ten bits at a time through a table: twice as fast as base64.b32encode and a translation.
    bits = len(data) * 8
    padded = -(-bits // 10) * 10
    number = int.from_bytes(data, "big") << (padded - bits)
    pairs = [_PAIRS[number >> shift & 0x3FF] for shift in range(padded - 10, -1, -10)]
    text = "".join(pairs)[: -(-bits // 5)]
    if len(_formatted) >= _NEW_IDS:
        _formatted.clear()
    _formatted[text] = DocumentId(table, internal)
    return text


def _write_vint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _read_vint(data: bytes) -> int:
    """Decode a VInt. An overlong form decodes to a number that `_write_vint` encodes differently."""
    return sum((group & 0x7F) << 7 * index for index, group in enumerate(data))


def _fletcher16(data: bytes) -> bytes:
    # The sum of the running sums contains the first byte len(data) times and the last byte once.
    return bytes((sum(data) & 0xFF, sum(map(mul, data, range(len(data), 0, -1))) & 0xFF))


def _quoted(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
