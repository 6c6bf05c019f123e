"""
Half-open ranges of keys: which of them contain a key? (pure)

A B-tree sorted by low end, in which every entry knows the largest upper end in it.
A node is opened only when it may hold a range that contains the key,
so the cost follows the ranges found, times the tree's few levels, and not the ranges kept::

    lows   [a,c)    [f,g)          what each child begins with
    highs   z        l             the largest upper end in each
            │        └── [f,g) [g,l) [h,k)
            └── [a,c) [a,d) [b,z)

Nodes split when they are full and go when they are empty; they are never merged,
for the ranges of live queries come back as fast as they go.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, compress

__all__ = ["IntervalTree", "Range"]

Range = tuple[bytes, bytes]
"""From the first key up to before the second."""

RANGES_MAX = 24
"""In a leaf: about half of them are compared. Both measured with `bench invalidate`, 16 to 256."""
CHILDREN_MAX = 64
"""Of an inner node: most are skipped by bisection."""


class IntervalTree:
    """
    A set of ranges.

    Attributes:
        probes: how many nodes `containing` has opened.
    """

    def __init__(self) -> None:
        self.probes = 0
        self._root = _Node([], [], [])
        self._levels = 1

    def add(self, pair: Range) -> None:
        """Put in a range that is not in it."""
        right = self._root.add(pair)
        if right is not None:
            halves = [self._root, right]
            self._root = _Node([half.lows[0] for half in halves], [max(half.highs) for half in halves], halves)
            self._levels += 1

    def remove(self, pair: Range) -> None:
        """Take out a range that is in it."""
        self._root.remove(pair)
        while len(self._root.children) == 1:
            self._root = self._root.children[0]
            self._levels -= 1

    def containing(self, key: bytes) -> list[Range]:
        """The ranges that contain `key`, in order."""
        # A one-tuple sorts before every range that begins with the same bytes: this is after all that begin at `key`.
        after = (key + b"\0",)
        # Bisection, comparison and choice run in C; of what is compared, each costs a cache miss.
        ends_later = key.__lt__
        nodes = [self._root]
        opened = 1
        for _ in range(self._levels - 1):
            below: list[_Node] = []
            for node in nodes:
                begin, end = bisect_right(node.reach or node.compute_reach(), key), bisect_left(node.lows, after)
                below += compress(node.children[begin:end], map(ends_later, node.highs[begin:end]))
            nodes = below
            opened += len(nodes)
        self.probes += opened
        found: list[Range] = []
        for node in nodes:
            found += compress(node.lows[: bisect_left(node.lows, after)], map(ends_later, node.highs))
        return found

    def validate(self) -> list[Range]:
        """Assert the structure's invariants; the ranges, in order."""
        pairs = self._root.validate(self._levels)
        assert pairs == sorted(set(pairs)), "ranges are in order, and each is there once"
        assert len(self._root.children) != 1, "no level without need"
        return pairs


class _Node:
    """
    A run of ranges, or of children that hold them.

    Attributes:
        lows: the ranges; of an inner node the first range of each child.
        highs: the upper end of each; of an inner node the largest in each child.
        children: empty in a leaf.
        reach: of an inner node the largest of `highs` up to each child, so it is sorted;
            empty after a change, until somebody looks.
    """

    __slots__ = ("children", "highs", "lows", "reach")

    def __init__(self, lows: list[Range], highs: list[bytes], children: list[_Node]) -> None:
        self.lows = lows
        self.highs = highs
        self.children = children
        self.reach: list[bytes] = []

    def compute_reach(self) -> list[bytes]:
        """Make `reach` anew."""
        self.reach = list(accumulate(self.highs, max))
        return self.reach

    def add(self, pair: Range) -> _Node | None:
        """Put in a range; returns the right half when this was too much."""
        if not self.children:
            at = bisect_left(self.lows, pair)
            self.lows.insert(at, pair)
            self.highs.insert(at, pair[1])
            return self._split() if len(self.lows) > RANGES_MAX else None
        at = max(bisect_right(self.lows, pair) - 1, 0)
        child = self.children[at]
        right = child.add(pair)
        self.lows[at] = child.lows[0]
        if right is not None:
            self.children.insert(at + 1, right)
            self.lows.insert(at + 1, right.lows[0])
            self.highs[at : at + 1] = max(child.highs), max(right.highs)
            self.reach = []
        elif pair[1] > self.highs[at]:
            self.highs[at] = pair[1]
            self.reach = []
        return self._split() if len(self.children) > CHILDREN_MAX else None

    def _split(self) -> _Node:
        half = len(self.lows) // 2
        right = _Node(self.lows[half:], self.highs[half:], self.children[half:])
        del self.lows[half:], self.highs[half:], self.children[half:], self.reach[:]
        return right

    def remove(self, pair: Range) -> None:
        """Take out a range."""
        if not self.children:
            at = bisect_left(self.lows, pair)
            assert self.lows[at] == pair, "the range is in the tree"
            del self.lows[at], self.highs[at]
            return
        at = bisect_right(self.lows, pair) - 1
        child = self.children[at]
        child.remove(pair)
        if not child.lows:
            del self.lows[at], self.highs[at], self.children[at]
            self.reach = []
            return
        self.lows[at] = child.lows[0]
        if self.highs[at] == pair[1]:
            self.highs[at] = max(child.highs)
            self.reach = []

    def validate(self, levels: int) -> list[Range]:
        """Assert what holds of a node this many levels above the bottom; its ranges, in order."""
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
