"""
What an execution observed: ranges of index keys and document ids.

Together with the keys that commits touch, this is all that invalidation ever looks at.
"""

from __future__ import annotations

from collections.abc import Mapping

from tinyvex.storage.log.key_ranges import Range, contains, merge

__all__ = ["ReadSet"]

MERGED_AT = 8192
"""Ranges: less than a megabyte."""


class ReadSet:
    """
    A set of ranges per index, growing while a function runs, then frozen.

    Ids are read through the table's pseudo index, whose number is the tablet's, negated.
    """

    __slots__ = ("_frozen", "_ranges", "_room")

    def __init__(self) -> None:
        self._ranges: dict[int, list[Range]] = {}
        self._room = MERGED_AT  # so many more are added as they come
        self._frozen = False

    def add(self, index_id: int, lo: bytes, hi: bytes) -> None:
        """The keys lo <= key < hi of an index were observed, those that are there and those that are not."""
        assert not self._frozen, "the read set is frozen"
        ranges = self._ranges.get(index_id)
        if ranges is None:
            self._ranges[index_id] = [(lo, hi)]
        else:
            ranges.append((lo, hi))
        self._room -= 1
        if self._room == 0:
            self._merge()

    def _merge(self) -> None:
        """Who reads the same again and again needs no more memory for it; what it costs is shared by what was added."""
        for index_id, ranges in self._ranges.items():
            self._ranges[index_id] = merge(ranges)
        self._room = max(MERGED_AT, len(self))

    def add_point(self, index_id: int, key: bytes) -> None:
        """One key was observed."""
        self.add(index_id, key, key + b"\0")

    def ranges(self) -> Mapping[int, list[Range]]:
        """Sorted, merged ranges by index."""
        if self._frozen:
            return self._ranges
        return {index_id: merged for index_id, ranges in self._ranges.items() if (merged := merge(ranges))}

    def overlaps(self, index_id: int, key: bytes) -> bool:
        """Whether the key was observed."""
        ranges = self._ranges.get(index_id)
        return ranges is not None and contains(ranges if self._frozen else merge(ranges), key)

    def freeze(self) -> ReadSet:
        """Merge the ranges and accept no more; returns itself."""
        if not self._frozen:
            self._ranges = dict(self.ranges())
            self._frozen = True
        return self

    def copy(self) -> ReadSet:
        """What was observed so far, also while another thread goes on observing."""
        copied = ReadSet()
        copied._ranges = {index_id: list(ranges) for index_id, ranges in list(self._ranges.items())}
        return copied

    def __len__(self) -> int:
        return sum(len(ranges) for ranges in self._ranges.values())

    def __repr__(self) -> str:
        return f"ReadSet({dict(self.ranges())!r})"
