"""Result bodies: the JSON does not depend on the pieces, and the token tells whether two results are the same."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.functions.result.chunked_rows import ChunkedRows
from tinyvex.functions.result.result_body import Body, RowsPart
from tinyvex.storage.log.revisions import StoredDocument

INDEX = 7


def row(number: int, text: str = "") -> StoredDocument:
    internal = random.Random(number).randbytes(16)
    return StoredDocument(number.to_bytes(4, "big"), internal, 1, b'{"_id":"%d","text":"%b"}' % (number, text.encode()))


def part(*numbers: int, reverse: bool = False, text: str = "") -> RowsPart:
    """Return the rows of a scan, in reading order."""
    found = [row(number, text) for number in sorted(numbers, reverse=reverse)]
    return RowsPart(found, INDEX, reverse=reverse)


def chunked(*numbers: int, reverse: bool = False) -> RowsPart:
    """Return the same rows as an earlier execution left them."""
    rows = ChunkedRows()
    for number in numbers:
        rows = rows.changed({row(number).key: row(number)})
    return RowsPart(rows, INDEX, reverse=reverse)


numbers = st.sets(st.integers(0, 300), max_size=100)


@pytest.mark.parametrize("reverse", [False, True], ids=["ascending", "descending"])
class TestRowsPart:
    @given(numbers=numbers)
    def test_scanned_and_cached_rows_are_the_same(self, reverse: bool, numbers: set[int]) -> None:
        """In text, pieces, size and order."""
        read, kept = part(*numbers, reverse=reverse), chunked(*numbers, reverse=reverse)
        expected = [row(number) for number in sorted(numbers, reverse=reverse)]
        for some in (read, kept):
            assert list(some.documents) == expected
            assert list(some.rows) == sorted(expected, key=lambda row: row.key)
            assert some.json() == b"[" + b",".join([found.json for found in expected]) + b"]"
            assert b"".join(map(bytes, some.pieces())) == some.json()
            assert some.size == len(some.json())
            assert len(some) == len(numbers)
        assert read.rows.digest == kept.rows.digest

    def test_pieces_are_small(self, reverse: bool) -> None:
        """No piece is longer than a chunk."""
        some = part(*range(1_000), reverse=reverse)
        assert max(map(len, some.pieces())) == max(chunk.size for chunk in some.rows.chunks)
        assert len(some.pieces()) == 2 * len(some.rows.chunks) + 1

    def test_chunks_are_shared(self, reverse: bool) -> None:
        """A body shares its chunks with the cached range."""
        rows = ChunkedRows.of([row(number) for number in range(100)])
        assert RowsPart(rows, INDEX, reverse=reverse).rows is rows


def test_a_body_of_several_pieces() -> None:
    """Text, rows, text, rows, text: the same JSON at once or in flat pieces, and sizes without encoding it."""
    first, second = part(1, 2, 3), part(*range(100, 300), reverse=True)
    body = Body([b'{"a":', first, b',"b":', second, b',"n":1}'])
    value = msgspec.json.decode(body.json())
    assert [found["_id"] for found in value["a"]] == ["1", "2", "3"]
    assert [found["_id"] for found in value["b"]] == [str(number) for number in range(299, 99, -1)]
    assert b"".join(map(bytes, body.flat())) == body.json()
    assert [len(piece) for piece in body.flat()] == [len(bytes(piece)) for piece in body.flat()]
    assert body.size == len(body.json())
    assert body.literal_size == len(b'{"a":,"b":,"n":1}')
    assert body.parts == [first, second]


def test_a_body_of_text() -> None:
    """A function may have inspected all its rows."""
    body = Body([b'{"n":1}'])
    assert (body.json(), body.flat(), body.parts) == (b'{"n":1}', [b'{"n":1}'], [])
    assert body.size == body.literal_size == 7


pieces = st.lists(
    st.one_of(
        st.text("ad1:t[]{}", max_size=4).map(str.encode),
        st.builds(lambda numbers, reverse: (tuple(sorted(numbers)), reverse), st.sets(st.integers(0, 3)), st.booleans()),
    ),
    max_size=4,
)  # fmt: skip


def body(*made: bytes | tuple[tuple[int, ...], bool], kept: bool = False) -> Body:
    build = chunked if kept else part
    return Body([piece if isinstance(piece, bytes) else build(*piece[0], reverse=piece[1]) for piece in made])


@given(pieces, pieces)
def test_a_token_belongs_to_one_series_of_pieces(first: list[object], second: list[object]) -> None:
    """Tokens are equal exactly if the pieces are: text cannot imitate rows, or the border of two pieces."""
    assert (body(*first).token == body(*second).token) == (first == second)  # type: ignore[arg-type]


@given(pieces)
def test_a_token_does_not_depend_on_the_origin_of_the_rows(made: list[object]) -> None:
    """Rows read by one scan and rows changed one by one have the same token."""
    assert body(*made).token == body(*made, kept=True).token  # type: ignore[arg-type]


@given(pieces, pieces)
def test_equal_tokens_are_equal_results(first: list[object], second: list[object]) -> None:
    """Results with other JSON have other tokens; a client with the same token needs no update."""
    if body(*first).json() != body(*second).json():  # type: ignore[arg-type]
        assert body(*first).token != body(*second).token  # type: ignore[arg-type]


def test_a_token_changes_with_the_rows() -> None:
    """With a field, the order, or a missing row."""
    bodies = [
        Body([part(1, 2)]), Body([part(1, 2, text="new")]), Body([part(1, 2, reverse=True)]), Body([part(1)]),
        Body([part()]), Body([b"[]"]), Body([b"null"]),
    ]  # fmt: skip
    assert len({some.token for some in bodies}) == len(bodies)


def test_unshared_rows() -> None:
    """
    Rows in chunks that the other body lacks: none compared with itself, one chunk after one change, all of another
    scan.
    """
    rows = ChunkedRows.of([row(number) for number in range(1_000)])
    changed = rows.changed({row(500).key: row(500, "new")})
    before = Body([b"[", RowsPart(rows, INDEX, reverse=False), b"]"])
    after = Body([RowsPart(changed, INDEX, reverse=True)])
    [chunk] = [chunk for chunk in changed.chunks if row(500, "new") in chunk.rows]
    assert before.unshared_rows(before) == (0, 0)
    assert after.unshared_rows(before) == (len(chunk.rows), chunk.size)
    assert len(chunk.rows) < 1_000
    assert after.unshared_rows(Body([b"[]"]))[0] == 1_000
    assert Body([b"[]"]).unshared_rows(after) == (0, 0)


def test_unshared_rows_count_every_part() -> None:
    """Rows of all parts of both bodies are compared."""
    one, two = part(*range(10)), part(*range(20, 40))
    both = Body([b"[", one, b",", two, b"]"])
    assert both.unshared_rows(Body([]))[0] == 30
    assert both.unshared_rows(Body([one]))[0] == 20
    assert Body([two]).unshared_rows(both) == (0, 0)
