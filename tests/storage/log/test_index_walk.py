"""The stored progress of the walk through the index entries."""

from __future__ import annotations

import pytest

from tinyvex.storage.log.index_walk import FIRST, INDEX_WALK, IndexWalk

WALKS = [
    IndexWalk(),
    IndexWalk(3, 4),
    IndexWalk(after=FIRST),
    IndexWalk(3, 4, (7, b"")),
    IndexWalk(3, 4, (7, b"\x00\xff")),
]


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_is_stored_and_read(walk: IndexWalk) -> None:
    """The next process continues it."""
    assert IndexWalk.stored({INDEX_WALK: walk.text}) == walk


@pytest.mark.parametrize(
    "value", ["", "1", "1 2 3", "1 2 x 00", "1 2 3 0", "1 2 3 00 4", f"1 2 {1 << 63} 00", f"{1 << 63} 2", 5, [1]]
)
def test_a_malformed_walk_begins_again(value: object) -> None:
    """Every sweep would otherwise fail."""
    assert IndexWalk.stored({INDEX_WALK: value}) == IndexWalk(after=FIRST)


def test_without_a_value_no_walk_is_in_progress() -> None:
    """As before the first purge."""
    assert IndexWalk.stored({}) == IndexWalk()
