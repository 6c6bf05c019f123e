"""
An interval tree of half-open key ranges: find the ranges that contain a key. (pure)

A B-tree sorted by lower end, in which every entry also stores the largest upper end below it. A search visits a node only
if the node may contain a hit, so its cost depends on the number of hits, times the few levels of the tree, and not on the
number of ranges::

    lows   [a,c)    [f,g)          the first range of each child
    highs   z        l             the largest upper end in each child
            │        └── [f,g) [g,l) [h,k)
            └── [a,c) [a,d) [b,z)

A full node is split and an empty one is removed. Nodes are never merged, because a live query that is recomputed adds
about the ranges that it removed before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, compress

__all__ = ["IntervalTree", "Range"]

Range = tuple[bytes, bytes]
"""From the first key to just before the second."""

RANGES_MAX = 24
"""In a leaf; a search compares about half of them. Both bounds measured with `bench invalidate`, from 16 to 256."""
CHILDREN_MAX = 64
"""In an inner node; bisection skips most of them."""


class IntervalTree:
    """
    A set of ranges.

    Attributes:
        probes: the number of nodes that `containing` has visited.
    """

    def __init__(self) -> None:
        self.probes = 0
        self._root = _Node([], [], [])
        self._levels = 1

    def add(self, key_range: Range) -> None:
        """Add a range that is not in the set."""
        right = self._root.add(key_range)
        if right is not None:
            halves = [self._root, right]
            self._root = _Node([half.lows[0] for half in halves], [max(half.highs) for half in halves], halves)
            self._levels += 1

    def remove(self, key_range: Range) -> None:
        """Remove a range that is in the set."""
        self._root.remove(key_range)
        while len(self._root.children) == 1:
            self._root = self._root.children[0]
            self._levels -= 1

    def containing(self, key: bytes) -> list[Range]:
        """Return the ranges that contain `key`, in order."""
        # A one-tuple sorts before every range with the same lower end, so this sorts after all ranges that start at `key`.
        after = (key + b"\0",)
        # Bisection, comparison and selection run in C; every comparison costs a cache miss.
        ends_later = key.__lt__
        nodes = [self._root]
        visited = 1
        for _ in range(self._levels - 1):
            below: list[_Node] = []
            for node in nodes:
                begin, end = bisect_right(node.reach or node.compute_reach(), key), bisect_left(node.lows, after)
                below += compress(node.children[begin:end], map(ends_later, node.highs[begin:end]))
            nodes = below
            visited += len(nodes)
        self.probes += visited
        hits: list[Range] = []
        for node in nodes:
            hits += compress(node.lows[: bisect_left(node.lows, after)], map(ends_later, node.highs))
        return hits

    def validate(self) -> list[Range]:
        """Assert the invariants; return the ranges, in order."""
        pairs = self._root.validate(self._levels)
        assert pairs == sorted(set(pairs)), "ranges are sorted and unique"
        assert len(self._root.children) != 1, "the root has several children or none"
        return pairs


class _Node:
    """
    A leaf with ranges, or an inner node with children.

    Attributes:
        lows: the ranges; in an inner node, the first range of each child.
        highs: the upper end of each range; in an inner node, the largest upper end in each child.
        children: empty in a leaf.
        reach: in an inner node, the running maximum of `highs`, which is sorted; empty after a change, until a search
            needs it.
    """

    __slots__ = ("children", "highs", "lows", "reach")

    def __init__(self, lows: list[Range], highs: list[bytes], children: list[_Node]) -> None:
        self.lows = lows
        self.highs = highs
        self.children = children
        self.reach: list[bytes] = []

    def compute_reach(self) -> list[bytes]:
        """Recompute `reach`."""
        self.reach = list(accumulate(self.highs, max))
        return self.reach

    def add(self, key_range: Range) -> _Node | None:
        """Add a range; return the new right half if the node was split, else None."""
        if not self.children:
            position = bisect_left(self.lows, key_range)
            self.lows.insert(position, key_range)
            self.highs.insert(position, key_range[1])
            return self._split() if len(self.lows) > RANGES_MAX else None
        position = max(bisect_right(self.lows, key_range) - 1, 0)
        child = self.children[position]
        right = child.add(key_range)
        self.lows[position] = child.lows[0]
        if right is not None:
            self.children.insert(position + 1, right)
            self.lows.insert(position + 1, right.lows[0])
            self.highs[position : position + 1] = max(child.highs), max(right.highs)
            self.reach = []
        elif key_range[1] > self.highs[position]:
            self.highs[position] = key_range[1]
            self.reach = []
        return self._split() if len(self.children) > CHILDREN_MAX else None

    def _split(self) -> _Node:
        half = len(self.lows) // 2
        right = _Node(self.lows[half:], self.highs[half:], self.children[half:])
        del self.lows[half:], self.highs[half:], self.children[half:], self.reach[:]
        return right

    def remove(self, key_range: Range) -> None:
        """Remove a range."""
        if not self.children:
            position = bisect_left(self.lows, key_range)
            assert self.lows[position] == key_range, "the range is in the tree"
            del self.lows[position], self.highs[position]
            return
        position = bisect_right(self.lows, key_range) - 1
        child = self.children[position]
        child.remove(key_range)
        if not child.lows:
            del self.lows[position], self.highs[position], self.children[position]
            self.reach = []
            return
        self.lows[position] = child.lows[0]
        if self.highs[position] == key_range[1]:
            self.highs[position] = max(child.highs)
            self.reach = []

    def validate(self, levels: int) -> list[Range]:
        """Assert the invariants of a node on this level, 1 being the leaves; return its ranges, in order."""
        assert len(self.lows) == len(self.highs)
        if not self.children:
            assert levels == 1, "all leaves are on one level"
            assert len(self.lows) <= RANGES_MAX
            assert self.highs == [high for _, high in self.lows]
            return self.lows
        assert len(self.lows) == len(self.children) <= CHILDREN_MAX
        assert self.reach in ([], list(accumulate(self.highs, max))), "the reach is current"
        below = [child.validate(levels - 1) for child in self.children]
        assert self.lows == [pairs[0] for pairs in below], "first ranges are current"
        assert self.highs == [max(high for _, high in pairs) for pairs in below], "largest upper ends are current"
        return [pair for pairs in below for pair in pairs]
