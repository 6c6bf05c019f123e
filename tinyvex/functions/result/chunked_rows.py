"""
Rows of an index range as an immutable sequence that shares its unchanged chunks with earlier versions. (pure)

A live query over 10,000 rows changes by one row. Comparing two versions, hashing one, and applying a commit to it should
cost what changed. So the rows are cut into chunks, and the cuts are content-defined: a chunk ends after each row whose id
ends in six zero bits, on average one row in 64::

    rows    a  b  c │ d  e │ f  g  h  i          cuts after c and e, because of their ids
    insert x:       │ d  x  e │                  one new chunk; the other two are shared

1.  The cuts depend on the rows alone. Two sequences with the same rows have the same chunks, however each was made.
2.  A changed row changes one chunk; two if a cut appears or disappears.
3.  Each chunk has a digest of its contents: equal digests mean equal rows.

Each operation costs one step for each chunk, and work on the rows of the changed chunks only. Content-defined chunks are
known from file synchronisation (rsync, casync) and from prolly trees.

Rows and chunks are part of no reference cycle, so the garbage collector does not track them (`gc=False`): cached results
hold most of a server's objects.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from tinyvex.storage.log.revisions import StoredDocument

__all__ = ["Chunk", "ChunkedRows"]

CUT_MASK = 0x3F
"""The bits of an id's last byte that are zero at a cut: one row in 64 ends a chunk, so 10,000 rows have about 156."""
DIGEST_BYTES = 16
ROW_OVERHEAD_BYTES = 320
"""The memory of a row besides its JSON: the document, the key, the id, three object headers."""

_by_key = attrgetter("key")


class Chunk(Struct, eq=False, gc=False):
    """
    Neighbouring rows, in key order.

    Attributes:
        rows: at least one.
        size: bytes of their JSON, with the commas between them.
    """

    rows: tuple[StoredDocument, ...]
    size: int = 0
    _digest: bytes | None = None

    def __post_init__(self) -> None:
        self.size = sum([len(row.json) for row in self.rows]) + len(self.rows) - 1

    @property
    def digest(self) -> bytes:
        """A hash of the rows' JSON."""
        if self._digest is None:
            self._digest = hashlib.blake2b(self.json(reverse=False), digest_size=DIGEST_BYTES).digest()
        return self._digest

    @property
    def weight(self) -> int:
        """The approximate memory in bytes."""
        return self.size + ROW_OVERHEAD_BYTES * len(self.rows)

    def json(self, *, reverse: bool) -> bytes:
        """Return the rows' JSON, with the commas between them."""
        rows = reversed(self.rows) if reverse else self.rows
        return b",".join([row.json for row in rows])


class ChunkedRows(Struct, eq=False, gc=False):
    """
    Rows of one index range, ascending by key.

    Attributes:
        chunks: ascending; none is empty.
        size: bytes of the rows' JSON, with the commas between them.
    """

    chunks: tuple[Chunk, ...] = ()
    size: int = 0
    _count: int = 0
    _digest: bytes | None = None

    def __post_init__(self) -> None:
        self.size = sum([chunk.size for chunk in self.chunks]) + max(0, len(self.chunks) - 1)
        self._count = sum([len(chunk.rows) for chunk in self.chunks])

    @classmethod
    def of(cls, rows: Sequence[StoredDocument]) -> ChunkedRows:
        """Return the sequence of these rows, which ascend by key."""
        chunks: list[Chunk] = []
        rest = _cut(rows, chunks)
        if rest:
            chunks.append(Chunk(tuple(rest)))
        return cls(tuple(chunks))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[StoredDocument]:
        for chunk in self.chunks:
            yield from chunk.rows

    def __reversed__(self) -> Iterator[StoredDocument]:
        for chunk in reversed(self.chunks):
            yield from reversed(chunk.rows)

    @property
    def weight(self) -> int:
        """The approximate memory in bytes."""
        return self.size + ROW_OVERHEAD_BYTES * len(self)

    @property
    def digest(self) -> bytes:
        """A hash of the rows' JSON, computed from the chunks' digests."""
        if self._digest is None:
            digests = b"".join([chunk.digest for chunk in self.chunks])
            self._digest = hashlib.blake2b(digests, digest_size=DIGEST_BYTES).digest()
        return self._digest

    def changed(self, changes: Mapping[bytes, StoredDocument | None]) -> ChunkedRows:
        """
        Return the sequence after some changes; it shares every chunk that they do not touch.

        Args:
            changes: for each changed key its row now, or None if it has none any longer.
        """
        if not changes:
            return self
        if not self.chunks:
            return ChunkedRows.of(_merged((), changes))
        result: list[Chunk] = []
        rest: list[StoredDocument] = []  # rows after the last cut; the next chunk's rows join them
        following = 0  # the first chunk that is not yet in the result
        for changed, keys in sorted(self._by_chunk(changes).items()):
            while rest and following < changed:
                rest = _cut([*rest, *self.chunks[following].rows], result)
                following += 1
            result += self.chunks[following:changed]
            rest = _cut([*rest, *_merged(self.chunks[changed].rows, {key: changes[key] for key in keys})], result)
            following = changed + 1
        while rest and following < len(self.chunks):
            rest = _cut([*rest, *self.chunks[following].rows], result)
            following += 1
        result += self.chunks[following:]
        if rest:
            result.append(Chunk(tuple(rest)))
        return ChunkedRows(tuple(result))

    def _by_chunk(self, keys: Iterable[bytes]) -> dict[int, list[bytes]]:
        """Group keys by the position of the chunk that has, or would have, them."""
        by_chunk: dict[int, list[bytes]] = {}
        first_keys = [chunk.rows[0].key for chunk in self.chunks]
        for key in keys:
            by_chunk.setdefault(max(0, bisect_right(first_keys, key) - 1), []).append(key)
        return by_chunk

    def validate(self) -> None:
        """Assert the invariants."""
        rows = list(self)
        assert all(before.key < after.key for before, after in itertools.pairwise(rows)), "rows ascend"
        assert all(chunk.rows for chunk in self.chunks), "no chunk is empty"
        recut = [chunk.rows for chunk in ChunkedRows.of(rows).chunks]
        assert [chunk.rows for chunk in self.chunks] == recut, "the cuts depend on the rows alone"


def _cut(rows: Sequence[StoredDocument], chunks: list[Chunk]) -> list[StoredDocument]:
    """Append the rows up to the last cut to `chunks`, and return the rows after it."""
    start = 0
    for end in [count for count, row in enumerate(rows, 1) if not row.internal[-1] & CUT_MASK]:
        chunks.append(Chunk(tuple(rows[start:end])))
        start = end
    return list(rows[start:])


def _merged(rows: Sequence[StoredDocument], changes: Mapping[bytes, StoredDocument | None]) -> list[StoredDocument]:
    by_key: dict[bytes, StoredDocument | None] = {row.key: row for row in rows}
    by_key.update(changes)
    return sorted([row for row in by_key.values() if row is not None], key=_by_key)
