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


class ReadSetIndex(Generic[Owner]):
    """Owners by the ranges that they read."""

    def __init__(self) -> None:
        self._by_index: dict[int, _IndexRanges[Owner]] = {}
        self._ranges_of: dict[Owner, list[tuple[int, Range]]] = {}
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
        self._ranges_of[owner] = owned

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
        self._owners: dict[Range, dict[Owner, None]] = {}
        self._points: dict[bytes, dict[Owner, None]] = {}
        self.tree = IntervalTree()

    def __bool__(self) -> bool:
        return bool(self._owners)

    def add(self, key_range: Range, owner: Owner) -> None:
        owners = self._owners.get(key_range)
        if owners is not None:
            owners[owner] = None
            return
        self._owners[key_range] = owners = {owner: None}
        if is_point(key_range):
            self._points[key_range[0]] = owners
        else:
            self.tree.add(key_range)

    def remove(self, key_range: Range, owner: Owner) -> None:
        owners = self._owners[key_range]
        owners.pop(owner, None)
        if owners:
            return
        del self._owners[key_range]
        if is_point(key_range):
            del self._points[key_range[0]]
        else:
            self.tree.remove(key_range)

    def containing(self, key: bytes) -> dict[Owner, None]:
        owners = self._points[key].copy() if key in self._points else {}
        for key_range in self.tree.containing(key):
            owners |= self._owners[key_range]
        return owners

    def validate(self) -> None:
        in_tree = set(self.tree.validate())
        assert not any(map(is_point, in_tree)), "points are not in the tree"
        points = {key_range for key_range in self._owners if is_point(key_range)}
        assert in_tree | points == set(self._owners), "every range is stored, and nothing else"
        assert all(self._owners.values()), "every range has an owner"
        assert self._points.keys() == {low for low, _ in points}
        assert all(self._points[point[0]] is self._owners[point] for point in points), "a point has one set of owners"


def is_point(key_range: Range) -> bool:
    """Return whether a half-open range contains exactly one key: [k, k + 0x00)."""
    low, high = key_range
    return len(high) == len(low) + 1 and high[-1] == 0 and high.startswith(low)
