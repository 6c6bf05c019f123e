"""
A long transition in parts: cut up by the server, put together again by the client.

A WebSocket message cannot be interrupted by another one,
so a transition of 50 MB as one message would hold up every response behind it.
In parts, each a message of its own, other messages go in between::

    transition, N bytes ──Splitter──► part 0, part 1, … part ceil(N / part_bytes) - 1 ──Assembler──► transition

Parts are cut at multiples of `part_bytes`, moved back to where a character begins,
so that each is a text on its own and their number is known before the first is made.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from tinyvex.errors import UpdateRejected
from tinyvex.wire.messages import TransitionChunkParams

__all__ = ["Assembler", "Piece", "Splitter"]


class Piece(Protocol):
    """Some bytes of a message, which may be made when they are asked for; `bytes` are one."""

    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...


PART_BYTES_MIN = 4
"""The longest character in UTF-8: with fewer, a part could be empty."""

_encode = msgspec.json.encode


class Splitter(Iterator[bytes]):
    """
    The `tinyvex/transitionChunk` messages of one transition, each made when it is asked for.

    The pieces are never joined and belong to whoever gave them: many splitters may share them.

    Attributes:
        bytes_total: length of the transition.
        parts_total: how many messages there are; at least two.
    """

    def __init__(self, pieces: Sequence[Piece], part_bytes: int, transition_id: int) -> None:
        assert part_bytes >= PART_BYTES_MIN, part_bytes
        self.bytes_total = sum(map(len, pieces))
        self.parts_total = -(-self.bytes_total // part_bytes)
        assert self.parts_total >= 2, "what fits into one part goes as it is"
        self._part_bytes = part_bytes
        self._transition_id = transition_id
        self._part_number = 0
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        # Gives out whole characters; the start of one that a cut has divided stays in it for the next part.
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def is_exhausted(self) -> bool:
        """Whether the last part was made."""
        return self._part_number == self.parts_total

    def __next__(self) -> bytes:
        if self.is_exhausted():
            raise StopIteration
        text = self._decode(self._take(self._part_bytes), self._part_number == self.parts_total - 1)
        message = (
            b'{"jsonrpc":"2.0","method":"tinyvex/transitionChunk","params":{"transitionId":%d,'
            b'"partNumber":%d,"partsTotal":%d,"bytesTotal":%d,"chunk":%b}}'
        ) % (self._transition_id, self._part_number, self.parts_total, self.bytes_total, _encode(text))
        self._part_number += 1
        return message

    def _take(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end."""
        taken = []
        while size > 0:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(bytes(piece))
            taken.append(self._rest[:size])
            size -= len(taken[-1])
            self._rest = self._rest[len(taken[-1]) :]
        return b"".join(taken)


class Assembler:
    """
    Puts the parts of one socket's transitions together again.

    It holds at most `bytes_max` bytes, and only what has come: a total that is announced costs nothing.
    After a refusal the socket is of no more use, and this object neither.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._transition_id = 0  # of the transition under way, else of the next one
        self._first: TransitionChunkParams | None = None  # while a transition is under way
        self._parts = 0
        self._text = bytearray()

    @property
    def idle(self) -> bool:
        """Whether no transition is under way: only then may one come that is not in parts."""
        return self._first is None

    def add(self, part: TransitionChunkParams) -> bytes | None:
        """
        Take the next part.

        Returns:
            The whole message with the last part, before that None.

        Raises:
            UpdateRejected: the part does not continue what came, or does not end as was announced.
        """
        if self._first is None:
            if part.parts_total < 2 or not part.parts_total <= part.bytes_total <= self._bytes_max:
                raise UpdateRejected(
                    f"a transition of {part.bytes_total} bytes in {part.parts_total} parts; the limit is {self._bytes_max}"
                )
            self._first = part
        first = self._first
        self._expect("transitionId", part.transition_id, self._transition_id)
        self._expect("partNumber", part.part_number, self._parts)
        self._expect("partsTotal", part.parts_total, first.parts_total)
        self._expect("bytesTotal", part.bytes_total, first.bytes_total)
        self._append(part.chunk, first)
        if self._parts < first.parts_total:
            return None
        self._expect("the number of bytes", len(self._text), first.bytes_total)
        message = bytes(self._text)
        self._transition_id += 1
        self._first, self._parts, self._text = None, 0, bytearray()
        return message

    def _append(self, chunk: str, first: TransitionChunkParams) -> None:
        try:
            data = chunk.encode()
        except UnicodeEncodeError:
            raise UpdateRejected("a part of a transition holds half a character") from None
        if not data or len(self._text) + len(data) > first.bytes_total:
            raise UpdateRejected(
                f"a part of {len(data)} bytes after {len(self._text)} of a transition of {first.bytes_total} bytes"
            )
        self._text += data
        self._parts += 1

    def _expect(self, name: str, got: int, wanted: int) -> None:
        if got != wanted:
            raise UpdateRejected(f"part {self._parts} of a transition: {name} is {got}, not {wanted}")
