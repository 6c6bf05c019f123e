"""
A query's result as fragments of JSON, in which rows stay references until they are sent. (pure)

::

    {"items": Rows, "total": 3}   ──►   b'{"items":'   RowsPart   b',"total":3}'

A function that returns rows without inspecting them costs neither decoding nor encoding. Two versions of a large result
share their rows, so that comparing and hashing them costs what changed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from tinyvex.functions.result.chunked_rows import DIGEST_BYTES, Chunk, ChunkedRows

if TYPE_CHECKING:
    from tinyvex.storage.log.revisions import StoredDocument

__all__ = ["Body", "ChunkText", "RowsPart", "json_array"]


FEW_ELEMENTS = 8
"""Fewer documents than this are short enough to be copied in a few milliseconds."""


class ChunkText(Struct, eq=False, gc=False):
    """
    The JSON of a chunk's rows, encoded on each use.

    A connection that waits to send a large result holds references to chunks, not a copy of the result.
    """

    chunk: Chunk
    reverse: bool

    def __len__(self) -> int:
        return self.chunk.size

    def __bytes__(self) -> bytes:
        return self.chunk.json(reverse=self.reverse)


def json_array(elements: Sequence[bytes]) -> bytes:
    """Return the JSON array of encoded elements."""
    if len(elements) < FEW_ELEMENTS:
        return b"[" + b",".join(elements) + b"]"
    # `join` releases the interpreter lock if the result is long; `+` would copy it once more, and holds the lock.
    return b",".join([b"[" + elements[0], *elements[1:-1], elements[-1] + b"]"])


class RowsPart(Struct, eq=False, gc=False):
    """
    The rows of one index scan.

    Attributes:
        index_id: the index; the rows are sorted by its keys.
        reverse: whether the scan read from the greatest key down.
    """

    _rows: Sequence[StoredDocument] | ChunkedRows
    """In reading order; or ascending in chunks, as soon as `rows` was read."""
    index_id: int
    reverse: bool

    @property
    def rows(self) -> ChunkedRows:
        """The rows ascending by key, in chunks."""
        rows = self._rows
        if not isinstance(rows, ChunkedRows):
            rows = self._rows = ChunkedRows.of(rows[::-1] if self.reverse else rows)
        return rows

    @property
    def documents(self) -> Sequence[StoredDocument]:
        """The rows in reading order."""
        if isinstance(self._rows, ChunkedRows):
            return tuple(reversed(self._rows)) if self.reverse else tuple(self._rows)
        return self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        """The bytes as a JSON array."""
        return self.rows.size + 2

    def json(self) -> bytes:
        """Return the JSON array."""
        return json_array([row.json for row in self.documents])

    def pieces(self) -> list[bytes | ChunkText]:
        """Return the JSON array in pieces, one for each chunk and each comma between chunks."""
        pieces: list[bytes | ChunkText] = [b"["]
        for chunk in reversed(self.rows.chunks) if self.reverse else self.rows.chunks:
            pieces += (ChunkText(chunk, reverse=self.reverse), b",")
        if len(pieces) > 1:
            pieces.pop()
        return [*pieces, b"]"]


class Body(Struct, eq=False, gc=False):
    """
    A query's result.

    Attributes:
        pieces: text and rows; joined, they are the canonical JSON.
    """

    pieces: Sequence[bytes | RowsPart]
    _size: int = -1
    _token: str = ""

    def __post_init__(self) -> None:
        self.pieces = tuple(self.pieces)

    @property
    def size(self) -> int:
        """The bytes as JSON."""
        if self._size < 0:
            self._size = sum([len(piece) if isinstance(piece, bytes) else piece.size for piece in self.pieces])
        return self._size

    @property
    def literal_size(self) -> int:
        """The bytes of the pieces that are text."""
        return sum([len(piece) for piece in self.pieces if isinstance(piece, bytes)])

    @property
    def parts(self) -> list[RowsPart]:
        """The pieces that are rows."""
        return [piece for piece in self.pieces if isinstance(piece, RowsPart)]

    @property
    def token(self) -> str:
        """A hash of the contents; a result with the same text and rows has the same."""
        if not self._token:
            self._token = self._compute_token()
        return self._token

    def _compute_token(self) -> str:
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for piece in self.pieces:
            # Tags and lengths keep two different series of pieces from having the same encoding.
            if isinstance(piece, bytes):
                digest.update(b"t%d:" % len(piece))
                digest.update(piece)
            else:
                digest.update(b"d" if piece.reverse else b"a")
                digest.update(piece.rows.digest)
        return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()

    def unshared_rows(self, other: Body) -> tuple[int, int]:
        """Count the rows, and their bytes, in chunks that the other body does not have."""
        shared = {chunk.digest for part in other.parts for chunk in part.rows.chunks}
        chunks = [chunk for part in self.parts for chunk in part.rows.chunks]
        unshared = [chunk for chunk in chunks if chunk.digest not in shared]
        return sum([len(chunk.rows) for chunk in unshared]), sum([chunk.size for chunk in unshared])

    def json(self) -> bytes:
        """Return the canonical JSON."""
        return b"".join([piece if isinstance(piece, bytes) else piece.json() for piece in self.pieces])

    def flat(self) -> list[bytes | ChunkText]:
        """Return the canonical JSON in pieces: one for each chunk, and the text between rows as it is."""
        flat: list[bytes | ChunkText] = []
        for piece in self.pieces:
            flat += (piece,) if isinstance(piece, bytes) else piece.pieces()
        return flat
