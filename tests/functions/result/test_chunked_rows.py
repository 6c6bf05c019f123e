"""Chunked rows: the rows decide the cuts, versions share chunks, and changing equals building from scratch."""

from __future__ import annotations

import random
import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.functions.result.chunked_rows import CUT_MASK, DIGEST_BYTES, ROW_OVERHEAD_BYTES, Chunk, ChunkedRows
from tinyvex.storage.log.revisions import StoredDocument

COUNT = 10_000


def row(number: int, text: str = "", *, cut: bool | None = None) -> StoredDocument:
    """Return the row with this number as its key."""
    internal = random.Random(number).randbytes(16)
    if cut is not None:
        internal = internal[:-1] + bytes([CUT_MASK + 1 if cut else internal[-1] | 1])
    return StoredDocument(number.to_bytes(4, "big"), internal, 1, b'{"_id":"%d","text":"%b"}' % (number, text.encode()))


@pytest.fixture(scope="module")
def many() -> ChunkedRows:
    return ChunkedRows.of([row(10 * number) for number in range(COUNT)])


def new_chunks(after: ChunkedRows, before: ChunkedRows) -> list[Chunk]:
    """Return the chunks that `before` does not share, by identity: their digests are not computed yet."""
    known = set(map(id, before.chunks))
    return [chunk for chunk in after.chunks if id(chunk) not in known]


def gone(after: ChunkedRows, before: ChunkedRows) -> set[bytes]:
    return {chunk.digest for chunk in before.chunks} - {chunk.digest for chunk in after.chunks}


numbers = st.integers(0, 40)
texts = st.sampled_from(["", "a", "b"])
batches = st.lists(st.dictionaries(numbers, st.none() | texts, max_size=8), max_size=6)


@given(st.sets(numbers), st.sets(numbers), batches)
def test_changing_equals_building_from_scratch(
    at_first: set[int], cuts: set[int], batches: list[dict[int, str | None]]
) -> None:
    """In rows, cuts and digests, for any batches of insertions, updates and deletions."""
    held = {number: row(number, cut=number in cuts) for number in sorted(at_first)}
    rows = ChunkedRows.of(list(held.values()))
    for batch in batches:
        changes = {
            number: None if text is None else row(number, text, cut=number in cuts) for number, text in batch.items()
        }
        rows = rows.changed({row(number).key: change for number, change in changes.items()})
        held = {number: found for number, found in {**held, **changes}.items() if found is not None}
        expected = ChunkedRows.of([held[number] for number in sorted(held)])
        rows.validate()
        assert list(rows) == list(expected)
        assert [chunk.digest for chunk in rows.chunks] == [chunk.digest for chunk in expected.chunks]
        assert (rows.digest, rows.size, rows.weight, len(rows)) == (
            expected.digest, expected.size, expected.weight, len(expected),
        )  # fmt: skip


@given(st.sets(numbers), st.sets(numbers), st.dictionaries(numbers, st.none() | texts, max_size=8))
def test_a_version_does_not_change(at_first: set[int], cuts: set[int], batch: dict[int, str | None]) -> None:
    """A sent version stays the same; the next version shares its chunks."""
    rows = ChunkedRows.of([row(number, cut=number in cuts) for number in sorted(at_first)])
    before, digest = list(rows), rows.digest
    rows.changed(
        {row(n).key: None if text is None else row(n, text, cut=n in cuts) for n, text in batch.items()}
    )  # fmt: skip
    assert list(rows) == before
    assert ChunkedRows.of(before).digest == digest


class TestOneChange:
    def test_a_changed_row(self, many: ChunkedRows) -> None:
        """One chunk is new; all others are the same objects."""
        after = many.changed({row(50_000).key: row(50_000, "new")})
        assert len(new_chunks(after, many)) == 1
        assert len(gone(after, many)) == 1

    def test_an_added_row(self, many: ChunkedRows) -> None:
        """One chunk is new if the row is not a cut."""
        after = many.changed({row(50_005).key: row(50_005, cut=False)})
        assert (len(new_chunks(after, many)), len(gone(after, many))) == (1, 1)

    def test_an_added_cut(self, many: ChunkedRows) -> None:
        """One chunk becomes two."""
        after = many.changed({row(50_005).key: row(50_005, cut=True)})
        assert (len(new_chunks(after, many)), len(gone(after, many))) == (2, 1)

    def test_a_removed_cut(self, many: ChunkedRows) -> None:
        """Two chunks become one."""
        last = many.chunks[50].rows[-1]
        after = many.changed({last.key: None})
        assert (len(new_chunks(after, many)), len(gone(after, many))) == (1, 2)

    def test_the_first_and_the_last(self, many: ChunkedRows) -> None:
        """Rows before and after all others join the chunks at the ends."""
        after = many.changed({row(1).key: None, **{row(n).key: row(n) for n in (5, 10 * COUNT)}})
        assert len(new_chunks(after, many)) <= 3
        after.validate()

    def test_no_change(self, many: ChunkedRows) -> None:
        """The same sequence object is returned."""
        assert many.changed({}) is many

    def test_a_hundred_changed_rows(self, many: ChunkedRows) -> None:
        """No more chunks are new than rows changed."""
        after = many.changed({row(1_000 * n).key: row(1_000 * n, "new") for n in range(100)})
        assert len(new_chunks(after, many)) <= 100


def test_chunks_have_about_64_rows(many: ChunkedRows) -> None:
    """Random ids end a chunk every 64th time, so a long chunk is rare."""
    lengths = [len(chunk.rows) for chunk in many.chunks]
    assert 130 < len(lengths) < 185
    assert 48 < statistics.mean(lengths) < 80
    assert max(lengths) < 64 * 12  # exceeded less than once in 10,000 runs


def test_a_cut_follows_each_row_with_six_zero_bits() -> None:
    """A row whose id ends in six zero bits is the last of its chunk."""
    rows = ChunkedRows.of([row(number, cut=number in {3, 4, 9}) for number in range(12)])
    assert [len(chunk.rows) for chunk in rows.chunks] == [4, 1, 5, 2]


def test_digests_are_equal_exactly_if_the_rows_are() -> None:
    """A changed field, order or number of rows changes the digest; the time of a write does not."""
    rows = [row(number) for number in range(200)]
    digest = ChunkedRows.of(rows).digest
    assert len(digest) == DIGEST_BYTES
    assert ChunkedRows.of([msgspec.structs.replace(found, ts=99) for found in rows]).digest == digest
    others = [
        [*rows[:100], row(100, "new"), *rows[101:]], rows[1:], rows[:-1], [*rows, row(200)], [],
        [*rows[:5], rows[6], rows[5], *rows[7:]],
    ]  # fmt: skip
    digests = [ChunkedRows.of(other).digest for other in others]
    assert len({digest, *digests}) == len(others) + 1


def test_a_digest_is_computed_once(many: ChunkedRows) -> None:
    """A chunk that two versions share is not hashed for the second."""
    first = many.digest
    after = many.changed({row(50_000).key: row(50_000, "new")})
    assert many.chunks[0].digest is many.chunks[0].digest
    assert sum(chunk._digest is None for chunk in after.chunks) == 1
    assert after.digest != first == many.digest


def test_size_and_weight(many: ChunkedRows) -> None:
    """The size is that of the JSON between the brackets; the weight adds Python's overhead for each row."""
    text = b",".join([found.json for found in many])
    assert many.size == len(text)
    assert many.weight == len(text) + ROW_OVERHEAD_BYTES * COUNT
    chunk = many.chunks[0]
    assert chunk.weight == len(chunk.json(reverse=False)) + ROW_OVERHEAD_BYTES * len(chunk.rows)
    assert chunk.size == len(chunk.json(reverse=True))


def test_both_directions(many: ChunkedRows) -> None:
    """Reading from the end yields the same rows in reverse."""
    assert list(reversed(many)) == list(many)[::-1]
    chunk = many.chunks[0]
    assert chunk.json(reverse=True) == b",".join([found.json for found in chunk.rows[::-1]])


def test_no_rows() -> None:
    """An empty sequence has no chunks; rows can be added to it and removed again."""
    none = ChunkedRows.of([])
    assert (len(none), none.size, none.weight, none.chunks, list(none)) == (0, 0, 0, (), [])
    some = none.changed({row(1).key: row(1), row(2).key: None})
    assert list(some) == [row(1)]
    assert some.changed({row(1).key: None}).digest == none.digest


@pytest.mark.parametrize(
    "chunks",
    [
        [Chunk([row(2, cut=False)]), Chunk([row(1, cut=False)])],
        [Chunk([row(1, cut=False)]), Chunk([row(2, cut=False)])],
        [Chunk([row(1, cut=True), row(2, cut=False)])],
    ],
    ids=["not ascending", "cut too early", "not cut"],
)
def test_validate_detects_wrong_chunks(chunks: list[Chunk]) -> None:
    """The other tests rely on it."""
    with pytest.raises(AssertionError):
        ChunkedRows(chunks).validate()
