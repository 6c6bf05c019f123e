"""Lazy rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.functions.result.rows import Page, Rows
from tinyvex.values import codec

STORED = [b'{"n":0}', b'{"n":1}', b'{"n":2}', b'{"n":3}']


class Reader:
    """Decodes rows and records which."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def __call__(self, stored: bytes) -> object:
        self.seen.append(stored)
        return codec.decode(stored)


def test_nothing_is_decoded_at_first() -> None:
    """Creating, measuring and encoding rows decodes none of them."""
    reader = Reader()
    rows = Rows(STORED, reader)
    assert len(rows) == 4
    codec.encode(rows)
    assert reader.seen == []


def test_a_row_is_decoded_once() -> None:
    """Accessing a row twice decodes it once."""
    reader = Reader()
    rows = Rows(STORED, reader)
    assert rows[2] is rows[2]
    assert reader.seen == [STORED[2]]


def test_a_slice_keeps_what_was_decoded() -> None:
    """A slice is rows again, lazy, with the same decoded rows."""
    reader = Reader()
    rows = Rows(STORED, reader)
    row = rows[2]
    assert rows[1:3][1] is row
    assert reader.seen == [STORED[2]]


@given(st.integers(-6, 6) | st.slices(4))
def test_indexed_like_a_list(place: int | slice) -> None:
    """Indexes and slices behave as on a list."""
    rows, plain = Rows(STORED, codec.decode), [codec.decode(stored) for stored in STORED]
    if isinstance(place, int) and not -4 <= place < 4:
        with pytest.raises(IndexError):
            rows[place]
    else:
        assert rows[place] == plain[place]


def test_equal_to_lists() -> None:
    """Rows equal a list or tuple of the same elements, and rows of the same JSON."""
    rows = Rows(STORED[:2], codec.decode)
    assert rows == [{"n": 0}, {"n": 1}] == rows
    assert rows == ({"n": 0}, {"n": 1})
    assert rows == Rows(STORED[:2], codec.decode)
    assert rows != Rows(STORED, codec.decode)
    assert rows != "rows"


def test_stored_json_is_spliced() -> None:
    """Encoding copies the stored JSON unchanged, even if it is not canonical."""
    assert codec.encode({"rows": Rows([b"1e2", b"[ ]"], codec.decode)}) == b'{"rows":[1e2,[ ]]}'


def test_sequence_methods() -> None:
    """Rows have all methods of a sequence."""
    rows = Rows(STORED, codec.decode)
    assert {"n": 2} in rows
    assert rows.index({"n": 2}) == 2
    assert next(reversed(rows)) == {"n": 3}


def test_rows_print_as_lists() -> None:
    """The representation shows the rows."""
    assert repr(Rows(STORED[:1], codec.decode)) == "Rows([{'n': 0}])"


def test_rows_cannot_be_keys() -> None:
    """Like lists, rows are not hashable."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(Rows(STORED, codec.decode))


def test_pages_use_the_names_of_json() -> None:
    """A page is encoded with camel-case names."""
    page = Page(Rows(STORED[:1], codec.decode), "abc", is_done=True)
    assert codec.encode(page) == b'{"cursor":"abc","isDone":true,"items":[{"n":0}]}'
