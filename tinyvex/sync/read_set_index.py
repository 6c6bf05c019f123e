"""
An index of read sets: find the live queries that read a range with a given key. (pure)

Every live query registers the key ranges that it read, by database index; every commit asks for each key that it wrote.
The cost of an answer depends on the number of hits, and hardly on the number of ranges: single keys are in a dict, and
longer ranges in an interval tree that visits only the nodes that may contain a hit. A range that several live queries
read is stored once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from tinyvex.sync.interval_tree import IntervalTree, Range

__all__ = ["ReadSetIndex"]

Owner = TypeVar("Owner")
Key = TypeVar("Key", bytes, Range)


class ReadSetIndex(Generic[Owner]):
    """Owners by the ranges that they read."""

    def __init__(self) -> None:
        self._by_index: dict[int, _IndexRanges[Owner]] = {}
        # Tuples, which the garbage collector does not track if they contain numbers and keys only.
        self._ranges_of: dict[Owner, tuple[tuple[int, Range], ...]] = {}
        self._probes_before = 0  # of trees that were dropped

    def __len__(self) -> int:
        return len(self._ranges_of)

    @property
    def probes(self) -> int:
        """The number of tree nodes that `touched` has visited: its cost, independent of a clock."""
        return self._probes_before + sum([ranges.tree.probes for ranges in self._by_index.values()])

    def add(self, owner: Owner, reads: Mapping[int, Iterable[Range]]) -> None:
        """Register the half-open key ranges that `owner` read, by index id; it must not be registered yet."""
        assert owner not in self._ranges_of, "remove() comes first"
        owned = [(index_id, key_range) for index_id, key_ranges in reads.items() for key_range in key_ranges]
        for index_id, key_range in owned:
            ranges = self._by_index.get(index_id)
            if ranges is None:
                ranges = self._by_index[index_id] = _IndexRanges()
            ranges.add(key_range, owner)
        self._ranges_of[owner] = tuple(owned)

    def remove(self, owner: Owner) -> None:
        """Remove an owner; without effect if it is not registered."""
        for index_id, key_range in self._ranges_of.pop(owner, ()):
            ranges = self._by_index[index_id]
            ranges.remove(key_range, owner)
            if not ranges:
                self._probes_before += ranges.tree.probes
                del self._by_index[index_id]

    def touched(self, index_id: int, key: bytes) -> dict[Owner, None]:
        """Return the owners of ranges on this index that contain `key`, in a deterministic order."""
        ranges = self._by_index.get(index_id)
        return ranges.containing(key) if ranges is not None else {}

    def validate(self) -> None:
        """Assert the invariants."""
        for ranges in self._by_index.values():
            ranges.validate()


class _IndexRanges(Generic[Owner]):
    """The ranges on one index."""

    def __init__(self) -> None:
        self._points: dict[bytes, Owner | _Several[Owner]] = {}  # by their only key
        self._ranges: dict[Range, Owner | _Several[Owner]] = {}  # all others; the keys of `tree`
        self.tree = IntervalTree()

    def __bool__(self) -> bool:
        return bool(self._points or self._ranges)

    def add(self, key_range: Range, owner: Owner) -> None:
        if is_point(key_range):
            _add(self._points, key_range[0], owner)
        elif _add(self._ranges, key_range, owner):
            self.tree.add(key_range)

    def remove(self, key_range: Range, owner: Owner) -> None:
        if is_point(key_range):
            _remove(self._points, key_range[0], owner)
        elif _remove(self._ranges, key_range, owner):
            self.tree.remove(key_range)

    def containing(self, key: bytes) -> dict[Owner, None]:
        found: dict[Owner, None] = {}
        if key in self._points:
            _collect(self._points[key], found)
        if self._ranges:
            for key_range in self.tree.containing(key):
                _collect(self._ranges[key_range], found)
        return found

    def validate(self) -> None:
        assert set(self.tree.validate()) == self._ranges.keys(), "every range is in the tree, and nothing else"
        assert not any(map(is_point, self._ranges)), "points are not in the tree"
        for owners in (*self._points.values(), *self._ranges.values()):
            assert not isinstance(owners, _Several) or owners, "every range has an owner"


class _Several(dict[Owner, None]):
    """
    The owners of a range, in the order in which they were added, if there were several at once.

    Most ranges have one owner, which is stored itself: 100,000 dictionaries of one take 20 MB, and the garbage collector
    traverses them.
    """

    __slots__ = ()


def _add(owners: dict[Key, Owner | _Several[Owner]], key: Key, owner: Owner) -> bool:
    """Add an owner of a range; return whether it is the first."""
    present = owners.get(key)
    if present is None:
        owners[key] = owner
        return True
    if isinstance(present, _Several):
        present[owner] = None
    else:
        owners[key] = _Several({present: None, owner: None})
    return False


def _remove(owners: dict[Key, Owner | _Several[Owner]], key: Key, owner: Owner) -> bool:
    """Remove an owner of a range; return whether it was the last."""
    present = owners[key]
    if isinstance(present, _Several):
        present.pop(owner, None)
        if present:
            return False
    del owners[key]
    return True


def _collect(owners: Owner | _Several[Owner], into: dict[Owner, None]) -> None:
    if isinstance(owners, _Several):
        into.update(owners)
    else:
        into[owners] = None


def is_point(key_range: Range) -> bool:
    """Return whether a half-open range contains exactly one key: [k, k + 0x00)."""
    low, high = key_range
    return len(high) == len(low) + 1 and high[-1] == 0 and high.startswith(low)
