"""Read sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.functions.transaction.read_set import MERGED_AT, ReadSet

keys = st.binary(max_size=3)
reads = st.lists(st.tuples(st.integers(-2, 2), keys, keys), max_size=8)


def filled(entries):
    read_set = ReadSet()
    for entry in entries:
        read_set.add(*entry)
    return read_set


@given(reads, st.integers(-2, 2), keys)
def test_a_key_overlaps_exactly_when_a_range_of_its_index_has_it(entries, index_id, key):
    """The added ranges decide, index by index, frozen or not."""
    expected = any(index == index_id and lo <= key < hi for index, lo, hi in entries)
    read_set = filled(entries)
    assert read_set.overlaps(index_id, key) == expected
    assert read_set.freeze().overlaps(index_id, key) == expected


@given(reads)
def test_freezing_keeps_the_ranges(entries):
    """The merged ranges are the same before and after."""
    read_set = filled(entries)
    before = dict(read_set.ranges())
    assert dict(read_set.freeze().ranges()) == before


@given(reads, st.integers(-2, 2), keys)
def test_merging_meanwhile_changes_nothing(entries, index_id, key):
    """Ranges may be merged any number of times while others are added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyvex.functions.transaction.read_set.MERGED_AT", 1)
        read_set = filled(entries)
    assert read_set.overlaps(index_id, key) == filled(entries).overlaps(index_id, key)
    assert dict(read_set.freeze().ranges()) == dict(filled(entries).freeze().ranges())


def test_repeated_reads_do_not_grow_the_set():
    """A query that looks up a few documents a million times observes a few documents."""
    read_set = ReadSet()
    for number in range(5 * MERGED_AT):
        read_set.add_point(-7, b"%d" % (number % 10))
    assert len(read_set) < 2 * MERGED_AT


def test_a_frozen_set_refuses_further_ranges():
    """Adding to a frozen set is a defect and fails."""
    read_set = ReadSet().freeze()
    with pytest.raises(AssertionError):
        read_set.add(1, b"a", b"b")


def test_a_point_is_one_key():
    """`add_point` records the key, and not keys that begin with it."""
    read_set = ReadSet()
    read_set.add_point(-7, b"id")
    assert read_set.overlaps(-7, b"id")
    assert not read_set.overlaps(-7, b"id0")


def test_an_empty_range_observes_nothing():
    """A range without keys leaves no trace."""
    read_set = filled([(1, b"b", b"a")])
    assert read_set.ranges() == {}
