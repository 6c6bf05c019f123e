"""
Rows of an index range as an immutable sequence that shares what did not change with the versions before it. (pure)

The rows are cut into chunks where the rows themselves say so: after each row whose id ends in six zero bits.
So the cuts depend on nothing but the rows, and two sequences with the same rows have the same chunks,
however each of them came about; a change of one row changes one chunk, or two where it was a cut.
Each chunk has a digest of its contents: equal digests, equal rows.
Comparing two versions, hashing one and applying a commit to it then cost what changed,
and one step for each chunk, of which there is one for about 64 rows.

Content-defined chunks are known from file synchronisation and from prolly trees.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvex.storage.log.commit_record import StoredDocument

__all__ = ["Chunk", "ChunkedRows"]

CUT_MASK = 0x3F
"""Of an id's last byte: one row in 64 ends a chunk, so 10,000 rows have about 156."""
DIGEST_BYTES = 16
ROW_OVERHEAD_BYTES = 320
"""What Python needs for a row beside its JSON: the tuple, the key, the id, three object headers."""

_by_key = attrgetter("key")


class Chunk:
    """
    Neighbouring rows, in key order.

    Attributes:
        rows: at least one.
        size: bytes of their JSON, with the commas between them.
    """

    __slots__ = ("_digest", "rows", "size")

    def __init__(self, rows: Sequence[StoredDocument]) -> None:
        self.rows = tuple(rows)
        self.size = sum([len(row.json) for row in rows]) + len(rows) - 1
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        """A hash of the rows' JSON."""
        if self._digest is None:
            self._digest = hashlib.blake2b(self.json(reverse=False), digest_size=DIGEST_BYTES).digest()
        return self._digest

    @property
    def weight(self) -> int:
        """About how much memory it takes."""
        return self.size + ROW_OVERHEAD_BYTES * len(self.rows)

    def json(self, *, reverse: bool) -> bytes:
        """The rows' JSON with commas between them."""
        rows = reversed(self.rows) if reverse else self.rows
        return b",".join([row.json for row in rows])


class ChunkedRows:
    """
    Rows of one index range, ascending by key.

    Attributes:
        chunks: ascending; none is empty.
    """

    def __init__(self, chunks: Iterable[Chunk] = ()) -> None:
        self.chunks = tuple(chunks)

    @classmethod
    def of(cls, rows: Sequence[StoredDocument]) -> ChunkedRows:
        """The sequence with these rows, which ascend by key."""
        chunks: list[Chunk] = []
        rest = _cut(rows, chunks)
        if rest:
            chunks.append(Chunk(rest))
        return cls(chunks)

    @cached_property
    def _first_keys(self) -> list[bytes]:
        return [chunk.rows[0].key for chunk in self.chunks]

    @cached_property
    def _count(self) -> int:
        return sum([len(chunk.rows) for chunk in self.chunks])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[StoredDocument]:
        for chunk in self.chunks:
            yield from chunk.rows

    def __reversed__(self) -> Iterator[StoredDocument]:
        for chunk in reversed(self.chunks):
            yield from reversed(chunk.rows)

    @cached_property
    def size(self) -> int:
        """Bytes of the rows' JSON, with the commas between them."""
        return sum([chunk.size for chunk in self.chunks]) + max(0, len(self.chunks) - 1)

    @property
    def weight(self) -> int:
        """About how much memory they take."""
        return self.size + ROW_OVERHEAD_BYTES * len(self)

    @cached_property
    def digest(self) -> bytes:
        """A hash of the rows' JSON, out of the chunks' digests."""
        return hashlib.blake2b(b"".join([chunk.digest for chunk in self.chunks]), digest_size=DIGEST_BYTES).digest()

    def changed(self, changes: Mapping[bytes, StoredDocument | None]) -> ChunkedRows:
        """
        The sequence after some changes, sharing every chunk that they do not touch.

        Args:
            changes: by key: the row that is there now, or None where there is none any more.
        """
        if not changes:
            return self
        if not self.chunks:
            return ChunkedRows.of(_merged((), changes))
        result: list[Chunk] = []
        rest: list[StoredDocument] = []  # rows behind the last cut: the next chunk's are added to them
        at = 0
        for place, keys in sorted(self._by_chunk(changes).items()):
            while rest and at < place:
                rest = _cut([*rest, *self.chunks[at].rows], result)
                at += 1
            result += self.chunks[at:place]
            rest = _cut([*rest, *_merged(self.chunks[place].rows, {key: changes[key] for key in keys})], result)
            at = place + 1
        while rest and at < len(self.chunks):
            rest = _cut([*rest, *self.chunks[at].rows], result)
            at += 1
        result += self.chunks[at:]
        if rest:
            result.append(Chunk(rest))
        return ChunkedRows(result)

    def _by_chunk(self, keys: Iterable[bytes]) -> dict[int, list[bytes]]:
        """Which chunk each key is in, or would be."""
        places: dict[int, list[bytes]] = {}
        for key in keys:
            places.setdefault(max(0, bisect_right(self._first_keys, key) - 1), []).append(key)
        return places

    def validate(self) -> None:
        """Assert what always holds."""
        rows = list(self)
        assert all(before.key < after.key for before, after in itertools.pairwise(rows)), "rows ascend"
        assert all(chunk.rows for chunk in self.chunks), "no chunk is empty"
        again = [chunk.rows for chunk in ChunkedRows.of(rows).chunks]
        assert [chunk.rows for chunk in self.chunks] == again, "the cuts depend on the rows alone"


def _cut(rows: Sequence[StoredDocument], chunks: list[Chunk]) -> list[StoredDocument]:
    """Append the rows to `chunks` as far as the last cut; returns those behind it."""
    start = 0
    for end in [place for place, row in enumerate(rows, 1) if not row.internal[-1] & CUT_MASK]:
        chunks.append(Chunk(rows[start:end]))
        start = end
    return list(rows[start:])


def _merged(rows: Sequence[StoredDocument], changes: Mapping[bytes, StoredDocument | None]) -> list[StoredDocument]:
    by_key: dict[bytes, StoredDocument | None] = {row.key: row for row in rows}
    by_key.update(changes)
    return sorted([row for row in by_key.values() if row is not None], key=_by_key)
