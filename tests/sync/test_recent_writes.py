"""The recent commits that a running computation may not have seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.sync import recent_writes
from tinyvex.sync.recent_writes import RecentWrites

keys = st.binary(min_size=1, max_size=2)
commits = st.lists(st.lists(st.tuples(st.integers(0, 2), keys), min_size=1, max_size=4), max_size=12)
ranges = st.lists(st.tuples(st.integers(0, 2), keys, keys), max_size=4)


def read_set(pairs: list[tuple[int, bytes, bytes]]) -> ReadSet:
    """A read set of the drawn ranges, with their ends in order."""
    reads = ReadSet()
    for index_id, one, other in pairs:
        reads.add(index_id, min(one, other), max(one, other))
    return reads.freeze()


@given(commits, ranges, st.integers(0, 12), st.integers(0, 12))
def test_the_first_touching_commit_is_that_of_a_linear_scan(
    history: list[list[tuple[int, bytes]]], pairs: list[tuple[int, bytes, bytes]], forgotten: int, after: int
) -> None:
    """Whatever was discarded up to `after`, the answer is the first later commit with a key in a range."""
    recent, reads = RecentWrites(0), read_set(pairs)
    for ts, touched in enumerate(history, start=1):
        recent.add(ts, touched)
    recent.discard(min(forgotten, after))
    recent.validate()
    expected = [
        ts for ts, touched in enumerate(history, start=1) if ts > after and any(reads.overlaps(*key) for key in touched)
    ]
    assert recent.first_touching(reads, after) == min(expected, default=None)


def test_the_bound_discards_the_older_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above KEYS_MAX, `since` moves forward, and the rest is complete."""
    monkeypatch.setattr(recent_writes, "KEYS_MAX", 10)
    recent = RecentWrites(0)
    for ts in range(1, 12):
        recent.add(ts, [(1, b"k")])
    assert len(recent) <= 10
    assert 0 < recent.since < 11
    recent.validate()


def test_asking_for_discarded_commits_is_a_defect() -> None:
    """The answer could be wrong, so an assertion fails."""
    recent = RecentWrites(5)
    with pytest.raises(AssertionError):
        recent.first_touching(ReadSet(), 4)


def test_discarding_everything_leaves_nothing() -> None:
    """No memory is used while no computation runs."""
    recent = RecentWrites(0)
    recent.add(3, [(1, b"a"), (2, b"b")])
    recent.discard(3)
    assert len(recent) == 0
    assert recent._writes == {}
