"""
Which read sets does a written key touch? (pure)

Every live query registers the ranges it read, by index.
A commit asks for each key it wrote.
The answer's cost depends on the hits, and hardly on the number of ranges:
points are in a dict, and ranges in a tree that opens only what may contain a hit.
Ranges that several owners share are stored once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from tinyvex.sync.interval_tree import IntervalTree, Range

__all__ = ["ReadSetIndex"]

Owner = TypeVar("Owner")


class ReadSetIndex(Generic[Owner]):
    """An index of read sets: owners by the ranges they read."""

    def __init__(self) -> None:
        self._by_index: dict[int, _IndexRanges[Owner]] = {}
        self._held: dict[Owner, list[tuple[int, Range]]] = {}
        self._probes_gone = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def probes(self) -> int:
        """How many nodes `touched` has opened so far: what it costs, without a clock."""
        return self._probes_gone + sum([ranges.tree.probes for ranges in self._by_index.values()])

    def add(self, owner: Owner, reads: Mapping[int, Iterable[Range]]) -> None:
        """Register the half-open key ranges `owner` read, by index id; it must not be registered yet."""
        assert owner not in self._held, "remove() comes first"
        held = [(index_id, pair) for index_id, pairs in reads.items() for pair in pairs]
        for index_id, pair in held:
            ranges = self._by_index.get(index_id)
            if ranges is None:
                ranges = self._by_index[index_id] = _IndexRanges()
            ranges.add(pair, owner)
        self._held[owner] = held

    def remove(self, owner: Owner) -> None:
        """Forget an owner; nothing when it is not registered."""
        for index_id, pair in self._held.pop(owner, ()):
            ranges = self._by_index[index_id]
            ranges.remove(pair, owner)
            if not ranges:
                self._probes_gone += ranges.tree.probes
                del self._by_index[index_id]

    def touched(self, index_id: int, key: bytes) -> dict[Owner, None]:
        """The owners one of whose ranges on this index contains `key`, in an order that a repeated run repeats."""
        ranges = self._by_index.get(index_id)
        return ranges.containing(key) if ranges is not None else {}

    def validate(self) -> None:
        """Assert the structure's invariants."""
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

    def add(self, pair: Range, owner: Owner) -> None:
        owners = self._owners.get(pair)
        if owners is not None:
            owners[owner] = None
            return
        self._owners[pair] = owners = {owner: None}
        if is_point(pair):
            self._points[pair[0]] = owners
        else:
            self.tree.add(pair)

    def remove(self, pair: Range, owner: Owner) -> None:
        owners = self._owners[pair]
        owners.pop(owner, None)
        if owners:
            return
        del self._owners[pair]
        if is_point(pair):
            del self._points[pair[0]]
        else:
            self.tree.remove(pair)

    def containing(self, key: bytes) -> dict[Owner, None]:
        found = self._points[key].copy() if key in self._points else {}
        for pair in self.tree.containing(key):
            found |= self._owners[pair]
        return found

    def validate(self) -> None:
        pairs = set(self.tree.validate())
        assert not any(map(is_point, pairs)), "points are not in the tree"
        points = {pair for pair in self._owners if is_point(pair)}
        assert pairs | points == set(self._owners), "every range is kept, and nothing else"
        assert all(self._owners.values()), "no range without an owner"
        assert self._points.keys() == {low for low, _ in points}
        assert all(self._points[pair[0]] is self._owners[pair] for pair in points), "a point has one set of owners"


def is_point(pair: Range) -> bool:
    """Whether a half-open range holds exactly one key: [k, k + 0x00)."""
    low, high = pair
    return len(high) == len(low) + 1 and high[-1] == 0 and high.startswith(low)
