"""
A query's result as it goes to clients: JSON in pieces, of which rows nobody looked at are not yet text. (pure)

::

    {"items": Rows, "total": 3}   ──►   b'{"items":'   RowsPart   b',"total":3}'

So two versions of a large result share their rows, and are compared and hashed by what changed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tinyvex.functions.result.chunked_rows import DIGEST_BYTES, Chunk, ChunkedRows

if TYPE_CHECKING:
    from tinyvex.storage.log.commit_record import StoredDocument

__all__ = ["Body", "ChunkText", "RowsPart"]


class ChunkText:
    """
    The JSON of a chunk's rows, made each time it is asked for.

    Who waits with a large result holds this, and not a copy of it.
    """

    __slots__ = ("_chunk", "_reverse")

    def __init__(self, chunk: Chunk, *, reverse: bool) -> None:
        self._chunk = chunk
        self._reverse = reverse

    def __len__(self) -> int:
        return self._chunk.size

    def __bytes__(self) -> bytes:
        return self._chunk.json(reverse=self._reverse)


class RowsPart:
    """
    What one scan of an index found, in the order it was read.

    Attributes:
        index_id: the index; rows of the same index are in the order of their keys.
        reverse: whether the greatest key comes first.
    """

    def __init__(self, found: Sequence[StoredDocument] | ChunkedRows, index_id: int, *, reverse: bool) -> None:
        """
        Args:
            found: rows in the order they were read, or ascending in chunks.
            index_id: which index.
            reverse: which order.
        """
        self.index_id = index_id
        self.reverse = reverse
        self._found = found

    @cached_property
    def rows(self) -> ChunkedRows:
        """Ascending by key, in chunks."""
        if isinstance(self._found, ChunkedRows):
            return self._found
        return ChunkedRows.of(self._found[::-1] if self.reverse else self._found)

    @cached_property
    def documents(self) -> Sequence[StoredDocument]:
        """In the order they were read."""
        if isinstance(self._found, ChunkedRows):
            return tuple(reversed(self._found)) if self.reverse else tuple(self._found)
        return self._found

    def __len__(self) -> int:
        return len(self._found)

    @property
    def size(self) -> int:
        """Bytes as a JSON array."""
        return self.rows.size + 2

    def json(self) -> bytes:
        """The JSON array."""
        return b"[" + b",".join([row.json for row in self.documents]) + b"]"

    def pieces(self) -> list[bytes | ChunkText]:
        """The JSON array in pieces, one for each chunk and each comma between them."""
        pieces: list[bytes | ChunkText] = [b"["]
        for chunk in reversed(self.rows.chunks) if self.reverse else self.rows.chunks:
            pieces += (ChunkText(chunk, reverse=self.reverse), b",")
        if len(pieces) > 1:
            pieces.pop()
        return [*pieces, b"]"]


class Body:
    """
    A result.

    Attributes:
        pieces: joined they are its canonical JSON.
    """

    def __init__(self, pieces: Sequence[bytes | RowsPart]) -> None:
        self.pieces = tuple(pieces)

    @cached_property
    def size(self) -> int:
        """Bytes as JSON."""
        return sum([len(piece) if isinstance(piece, bytes) else piece.size for piece in self.pieces])

    @property
    def literal_size(self) -> int:
        """Bytes of the pieces that are text already."""
        return sum([len(piece) for piece in self.pieces if isinstance(piece, bytes)])

    @property
    def parts(self) -> list[RowsPart]:
        """The pieces that are rows."""
        return [piece for piece in self.pieces if isinstance(piece, RowsPart)]

    @cached_property
    def token(self) -> str:
        """A hash of the contents: a function that returns the same rows and text again has the same."""
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for piece in self.pieces:
            # Lengths and letters in front keep one series of pieces from being read as another.
            if isinstance(piece, bytes):
                digest.update(b"t%d:" % len(piece))
                digest.update(piece)
            else:
                digest.update(b"d" if piece.reverse else b"a")
                digest.update(piece.rows.digest)
        return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()

    def rows_beside(self, other: Body) -> tuple[int, int]:
        """How many rows are in chunks that the other does not have, and how many bytes they have."""
        known = {chunk.digest for part in other.parts for chunk in part.rows.chunks}
        chunks = [chunk for part in self.parts for chunk in part.rows.chunks]
        beside = [chunk for chunk in chunks if chunk.digest not in known]
        return sum([len(chunk.rows) for chunk in beside]), sum([chunk.size for chunk in beside])

    def json(self) -> bytes:
        """The whole."""
        return b"".join([piece if isinstance(piece, bytes) else piece.json() for piece in self.pieces])

    def flat(self) -> list[bytes | ChunkText]:
        """The whole in pieces, none of which is much longer than a chunk or what the function made itself."""
        flat: list[bytes | ChunkText] = []
        for piece in self.pieces:
            flat += (piece,) if isinstance(piece, bytes) else piece.pieces()
        return flat
