"""Cursors: the positions between pages."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.errors import InvalidCursor
from tinyvex.functions.transaction.cursors import Cursors


def cursors(
    table: str = "points", index: str = "by_x", lo: bytes = b"a", hi: bytes = b"z", *, reverse: bool = False
) -> Cursors:
    """Return the cursors of a query."""
    return Cursors(table, index, lo, hi, reverse=reverse)


@given(st.binary(max_size=40))
def test_a_cursor_carries_its_key(key: bytes) -> None:
    """An empty key too, which means the end."""
    assert cursors().key(cursors().cursor(key)) == key


def test_no_cursor_is_the_beginning() -> None:
    """The first page has no key before it."""
    assert cursors().key(None) is None


@pytest.mark.parametrize(
    "other",
    [{"table": "lines"}, {"index": "by_y"}, {"lo": b"b"}, {"hi": b"y"}, {"reverse": True}],
    ids=["table", "index", "lo", "hi", "direction"],
)
def test_a_cursor_belongs_to_one_query(other: dict[str, Any]) -> None:
    """Every part of the query counts."""
    with pytest.raises(InvalidCursor, match="start from the first page"):
        cursors().key(cursors(**other).cursor(b"k"))


@pytest.mark.parametrize("text", ["", "x", "not base64!", "ä", "AAAA"])
def test_other_text_is_refused(text: str) -> None:
    """Clients may send anything."""
    with pytest.raises(InvalidCursor):
        cursors().key(text)
