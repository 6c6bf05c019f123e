"""
Chunks of long transitions: split by the server, joined by the client.

A WebSocket message cannot be interrupted, so a transition of 50 MB in one message would delay every response behind
it. As chunks, each a message of its own, other messages can be sent in between::

    transition, N bytes ──Splitter──► chunk 0, 1, … ceil(N / chunk_bytes) - 1 ──Assembler──► transition

A cut lies at a multiple of `chunk_bytes`, moved back to the start of a character. So each chunk is valid text, and
the number of chunks is known before the first one is produced.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from tinyvex.errors import UpdateRejected
from tinyvex.wire.messages import TransitionChunkParams

__all__ = ["Assembler", "Piece", "PieceReader", "Splitter"]


class Piece(Protocol):
    """A fragment of a message. `bytes` are one; others may produce their bytes lazily."""

    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...


class PieceReader:
    """Reads the concatenation of pieces in slices, without joining them."""

    __slots__ = ("_pieces", "_rest")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer at the end."""
        slices = []
        while size > 0:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(bytes(piece))
            slices.append(self._rest[:size])
            size -= len(slices[-1])
            self._rest = self._rest[len(slices[-1]) :]
        return b"".join(slices)


CHUNK_BYTES_MIN = 4
"""The length of the longest character in UTF-8; with fewer bytes a chunk could be empty."""

_encode = msgspec.json.encode


class Splitter(Iterator[bytes]):
    """
    An iterator over the `tinyvex/transitionChunk` messages of one transition, each encoded when it is requested.

    The pieces are neither joined nor changed, so several splitters may share them.

    Attributes:
        bytes_total: the length of the transition.
        chunks_total: the number of messages; at least two.
    """

    def __init__(self, pieces: Sequence[Piece], chunk_bytes: int, transition_id: int) -> None:
        assert chunk_bytes >= CHUNK_BYTES_MIN, chunk_bytes
        self.bytes_total = sum(map(len, pieces))
        self.chunks_total = -(-self.bytes_total // chunk_bytes)
        assert self.chunks_total >= 2, "a transition that fits into one chunk is sent unsplit"
        self._chunk_bytes = chunk_bytes
        self._transition_id = transition_id
        self._chunk_number = 0
        self._take = PieceReader(pieces).take
        # Returns complete characters only; the start of a character that a cut divides stays in it for the next chunk.
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def is_exhausted(self) -> bool:
        """Return whether the last chunk was produced."""
        return self._chunk_number == self.chunks_total

    def __next__(self) -> bytes:
        if self.is_exhausted():
            raise StopIteration
        text = self._decode(self._take(self._chunk_bytes), self._chunk_number == self.chunks_total - 1)
        message = (
            b'{"jsonrpc":"2.0","method":"tinyvex/transitionChunk","params":{"transitionId":%d,'
            b'"partNumber":%d,"partsTotal":%d,"bytesTotal":%d,"chunk":%b}}'
        ) % (self._transition_id, self._chunk_number, self.chunks_total, self.bytes_total, _encode(text))
        self._chunk_number += 1
        return message


class Assembler:
    """
    Joins the chunks of one socket's transitions.

    It buffers at most `bytes_max` bytes, and only bytes received: an announced total allocates nothing.
    After an error, discard the object and close the socket.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._transition_id = 0  # of the current transition, else of the next one
        self._first: TransitionChunkParams | None = None  # set while a transition is incomplete
        self._chunk_count = 0
        self._text = bytearray()

    @property
    def idle(self) -> bool:
        """Return whether no transition is incomplete; only then may an unsplit transition arrive."""
        return self._first is None

    def add(self, chunk: TransitionChunkParams) -> bytes | None:
        """
        Append the next chunk.

        Returns:
            The joined message after its last chunk, None before.

        Raises:
            UpdateRejected: the chunk is out of sequence, or contradicts the announced totals.
        """
        if self._first is None:
            if chunk.parts_total < 2 or not chunk.parts_total <= chunk.bytes_total <= self._bytes_max:
                raise UpdateRejected(
                    f"a transition of {chunk.bytes_total} bytes in {chunk.parts_total} chunks; "
                    f"the limit is {self._bytes_max} bytes in at least 2 chunks"
                )
            self._first = chunk
        first = self._first
        self._expect("transitionId", chunk.transition_id, self._transition_id)
        self._expect("partNumber", chunk.part_number, self._chunk_count)
        self._expect("partsTotal", chunk.parts_total, first.parts_total)
        self._expect("bytesTotal", chunk.bytes_total, first.bytes_total)
        self._append(chunk.chunk, first)
        if self._chunk_count < first.parts_total:
            return None
        self._expect("the number of bytes", len(self._text), first.bytes_total)
        message = bytes(self._text)
        self._transition_id += 1
        self._first, self._chunk_count, self._text = None, 0, bytearray()
        return message

    def _append(self, text: str, first: TransitionChunkParams) -> None:
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise UpdateRejected("a chunk of a transition has a lone surrogate") from None
        if not data or len(self._text) + len(data) > first.bytes_total:
            raise UpdateRejected(
                f"a chunk of {len(data)} bytes after {len(self._text)} bytes of a transition of {first.bytes_total} bytes"
            )
        self._text += data
        self._chunk_count += 1

    def _expect(self, name: str, actual: int, expected: int) -> None:
        if actual != expected:
            raise UpdateRejected(f"chunk {self._chunk_count} of a transition: {name} is {actual}, not {expected}")
