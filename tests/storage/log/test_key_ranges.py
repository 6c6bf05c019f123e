"""Ranges of keys."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tinyvex.storage.log.key_ranges import KEY_MAX, contains, merge, successor

keys = st.binary(max_size=3)
ranges = st.lists(st.tuples(keys, keys), max_size=6)


def inside(pairs, key):
    return any(lo <= key < hi for lo, hi in pairs)


@given(ranges, keys)
def test_merged_ranges_hold_the_same_keys(pairs, key):
    """A key is in one of the merged ranges exactly when it was in one of the given ones."""
    assert contains(merge(pairs), key) == inside(pairs, key)


@given(ranges)
def test_merged_ranges_are_sorted_and_apart(pairs):
    """Merged ranges are not empty, and a gap lies between one and the next."""
    merged = merge(pairs)
    assert all(lo < hi for lo, hi in merged)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(merged))


def test_touching_ranges_become_one():
    """Two ranges without a key between them are one."""
    assert merge([(b"b", b"c"), (b"a", b"b")]) == [(b"a", b"c")]


@given(keys, keys)
def test_a_point_holds_one_key(key, other):
    """A point holds its key and no other."""
    assert contains([(key, successor(key))], other) == (other == key)


@given(keys, keys)
def test_nothing_lies_between_a_key_and_its_successor(key, other):
    """A key above another is at least its successor."""
    assert (other > key) == (other >= successor(key))


@given(st.binary(min_size=16, max_size=16))
def test_every_id_is_below_the_greatest_key(internal):
    """Ids may be any 16 bytes, so the end of all keys must be above them."""
    assert internal < KEY_MAX
