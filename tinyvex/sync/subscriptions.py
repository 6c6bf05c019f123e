"""
Which read sets does a written key touch? (pure)

Every live query registers the ranges it read, by index.
A commit asks for each key it wrote.
The answer's cost depends on the hits, and hardly on the number of ranges:
points are in a dict, and ranges in blocks sorted by their lower end,
each with the largest upper end in it, so that a block is opened only when it may contain a hit.
Ranges that several owners share are stored once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Generic, TypeVar

__all__ = ["Subscriptions"]

Owner = TypeVar("Owner")
Range = tuple[bytes, bytes]

_LOW = itemgetter(0)

BLOCK_RANGES_MAX = 256
"""Measured with `bench invalidate`: at 100,000 ranges 64 and 1024 take two and six times as long for a key."""


class Subscriptions(Generic[Owner]):
    """An index of read sets: owners by the ranges they read."""

    def __init__(self) -> None:
        self._by_index: dict[int, _IndexRanges[Owner]] = {}
        self._held: dict[Owner, list[tuple[int, Range]]] = {}

    def __len__(self) -> int:
        return len(self._held)

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
        self._blocks: list[_Block] = []
        self._firsts: list[Range] = []  # each block's first range, for bisection

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
            self._insert(pair)

    def remove(self, pair: Range, owner: Owner) -> None:
        owners = self._owners[pair]
        owners.pop(owner, None)
        if owners:
            return
        del self._owners[pair]
        if is_point(pair):
            del self._points[pair[0]]
        else:
            self._delete(pair)

    def containing(self, key: bytes) -> dict[Owner, None]:
        found = dict(self._points.get(key, {}))
        # Blocks whose first lower end is above the key hold no range that contains it.
        for at in range(bisect_right(self._firsts, key, key=_LOW)):
            block = self._blocks[at]
            if block.highest > key:
                for pair in block.pairs:
                    if pair[0] > key:
                        break
                    if pair[1] > key:
                        found |= self._owners[pair]
        return found

    def _insert(self, pair: Range) -> None:
        if not self._blocks:
            self._blocks.append(_Block([pair]))
            self._firsts.append(pair)
            return
        at = max(bisect_right(self._firsts, pair) - 1, 0)
        block = self._blocks[at]
        block.insert(pair)
        if len(block.pairs) > BLOCK_RANGES_MAX:
            half = len(block.pairs) // 2
            self._blocks[at : at + 1] = parts = [_Block(block.pairs[:half]), _Block(block.pairs[half:])]
            self._firsts[at : at + 1] = [part.pairs[0] for part in parts]
        else:
            self._firsts[at] = block.pairs[0]

    def _delete(self, pair: Range) -> None:
        at = bisect_right(self._firsts, pair) - 1
        block = self._blocks[at]
        block.delete(pair)
        if block.pairs:
            self._firsts[at] = block.pairs[0]
        else:
            del self._blocks[at], self._firsts[at]

    def validate(self) -> None:
        pairs = [pair for block in self._blocks for pair in block.pairs]
        assert pairs == sorted(pairs), "blocks are in order"
        assert set(pairs) | {p for p in self._owners if is_point(p)} == set(self._owners), "every range is kept once"
        assert all(self._owners.values()), "no range without an owner"
        for block, first in zip(self._blocks, self._firsts, strict=True):
            assert block.pairs[0] == first, "first ranges are current"
            assert block.highest == max(pair[1] for pair in block.pairs), "highest ends are current"


class _Block:
    """A run of ranges sorted by lower end, and the largest upper end among them."""

    __slots__ = ("highest", "pairs")

    def __init__(self, pairs: list[Range]) -> None:
        self.pairs = pairs
        self.highest = max(pair[1] for pair in pairs)

    def insert(self, pair: Range) -> None:
        insort(self.pairs, pair)
        self.highest = max(self.highest, pair[1])

    def delete(self, pair: Range) -> None:
        at = bisect_left(self.pairs, pair)
        assert self.pairs[at] == pair, "the range is in its block"
        del self.pairs[at]
        if pair[1] == self.highest and self.pairs:
            self.highest = max(kept[1] for kept in self.pairs)


def is_point(pair: Range) -> bool:
    """Whether a half-open range holds exactly one key: [k, k + 0x00)."""
    low, high = pair
    return len(high) == len(low) + 1 and high[-1] == 0 and high.startswith(low)
