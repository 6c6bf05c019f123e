"""The index of read sets agrees with a linear scan of all ranges, at a cost that does not depend on their number."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.sync import interval_tree
from tinyvex.sync.read_set_index import ReadSetIndex, is_point

keys = st.binary(max_size=3)
ranges = st.tuples(keys, keys).filter(lambda pair: pair[0] < pair[1])
points = keys.map(lambda key: (key, key + b"\x00"))
reads = st.dictionaries(st.integers(0, 2), st.lists(ranges | points, max_size=4), max_size=3)


@pytest.fixture(autouse=True)
def _small_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of four, so that nodes are split and emptied often."""
    monkeypatch.setattr(interval_tree, "RANGES_MAX", 4)
    monkeypatch.setattr(interval_tree, "CHILDREN_MAX", 4)


def overlapping(registered: dict[int, dict[int, list[tuple[bytes, bytes]]]], index_id: int, key: bytes) -> set[int]:
    """The oracle: a linear scan."""
    return {
        owner for owner, reads in registered.items() if any(low <= key < high for low, high in reads.get(index_id, ()))
    }


@given(st.lists(st.tuples(st.integers(0, 9), reads)), st.lists(st.tuples(st.integers(0, 2), keys)))
def test_touched_finds_exactly_the_owners_whose_ranges_contain_the_key(
    steps: list[tuple[int, dict[int, list[tuple[bytes, bytes]]]]], probes: list[tuple[int, bytes]]
) -> None:
    """After any additions and removals, `touched` agrees with a linear scan."""
    index: ReadSetIndex[int] = ReadSetIndex()
    registered: dict[int, dict[int, list[tuple[bytes, bytes]]]] = {}
    for owner, reads in steps:
        if owner in registered:
            index.remove(owner)
            del registered[owner]
        else:
            index.add(owner, {index_id: sorted(set(pairs)) for index_id, pairs in reads.items()})
            registered[owner] = reads
        index.validate()
    for index_id, key in probes:
        assert set(index.touched(index_id, key)) == overlapping(registered, index_id, key)


def test_an_emptied_index_is_empty() -> None:
    """Removing the last owner frees every structure."""
    index: ReadSetIndex[str] = ReadSetIndex()
    index.add("a", {1: [(b"a", b"b"), (b"k", b"k\x00")], 2: [(b"", b"\xff")]})
    index.remove("a")
    assert len(index) == 0
    assert not index._by_index


def test_removing_an_unregistered_owner_does_nothing() -> None:
    """`remove` accepts an owner that is not registered: an invalidated query has no ranges."""
    index: ReadSetIndex[str] = ReadSetIndex()
    index.remove("unregistered")
    assert len(index) == 0


def disjoint(count: int) -> ReadSetIndex[int]:
    """One range for each owner, disjoint from the others."""
    index: ReadSetIndex[int] = ReadSetIndex()
    numbers = list(range(count))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        low = number.to_bytes(4, "big")
        index.add(number, {1: [(low + b"a", low + b"b")]})
    return index


@pytest.mark.parametrize("wide", [0, 1, 10])
def test_visited_nodes_depend_on_hits_and_levels(wide: int) -> None:
    """A hundred times as many ranges cost a few more levels, also below ranges that contain them all."""
    costs = []
    for count in (100, 10_000):
        index = disjoint(count)
        for number in range(wide):
            index.add(-1 - number, {1: [(b"", b"\xff" + bytes([number]))]})
        before = index.probes
        assert len(index.touched(1, (50).to_bytes(4, "big") + b"a")) == 1 + wide
        costs.append(index.probes - before)
    assert costs[1] <= (costs[0] + 8) * (1 + wide), costs


def test_probes_include_dropped_trees() -> None:
    """The count includes trees that were dropped."""
    index = disjoint(10)
    index.touched(1, b"x")
    before = index.probes
    for number in range(10):
        index.remove(number)
    assert index.probes == before > 0


@pytest.mark.parametrize(
    ("pair", "expected"),
    [((b"k", b"k\x00"), True), ((b"", b"\x00"), True), ((b"k", b"l"), False), ((b"k", b"k\x00\x00"), False)],
)
def test_a_point_is_a_range_of_one_key(pair: tuple[bytes, bytes], expected: bool) -> None:
    """[k, k + 0x00) holds exactly the key k."""
    assert is_point(pair) is expected
