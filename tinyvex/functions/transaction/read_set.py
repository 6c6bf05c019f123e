"""
Read sets: the ranges of index keys and document ids that an execution observed. (pure)

A commit invalidates a live query if one of its keys lies in the query's read set; nothing else is ever compared.
"""

from __future__ import annotations

from collections.abc import Mapping

from tinyvex.storage.log.key_ranges import Range, contains, merge

__all__ = ["ReadSet"]

MERGED_AT = 8192
"""The number of ranges, less than a megabyte, at which they are merged."""


class ReadSet:
    """
    A set of key ranges for each index. It grows while a function runs, and is frozen afterwards.

    Reads by id belong to a pseudo index, whose number is the table's tablet, negated.
    """

    __slots__ = ("_frozen", "_ranges", "_room")

    def __init__(self) -> None:
        self._ranges: dict[int, list[Range]] = {}
        self._room = MERGED_AT  # the number of additions before the next merge
        self._frozen = False

    def add(self, index_id: int, lo: bytes, hi: bytes) -> None:
        """Record the keys lo <= key < hi of an index as read, existing keys and missing ones."""
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
        """Merge overlapping ranges, so that repeated reads do not grow the set; amortised over MERGED_AT additions."""
        for index_id, ranges in self._ranges.items():
            self._ranges[index_id] = merge(ranges)
        self._room = max(MERGED_AT, len(self))

    def add_point(self, index_id: int, key: bytes) -> None:
        """Record one key as read."""
        self.add(index_id, key, key + b"\0")

    def ranges(self) -> Mapping[int, list[Range]]:
        """Return the sorted, merged ranges by index."""
        if self._frozen:
            return self._ranges
        return {index_id: merged for index_id, ranges in self._ranges.items() if (merged := merge(ranges))}

    def overlaps(self, index_id: int, key: bytes) -> bool:
        """Return whether a key was read."""
        ranges = self._ranges.get(index_id)
        return ranges is not None and contains(ranges if self._frozen else merge(ranges), key)

    def freeze(self) -> ReadSet:
        """Merge the ranges, refuse further ones, and return the set."""
        if not self._frozen:
            self._ranges = dict(self.ranges())
            self._frozen = True
        return self

    def copy(self) -> ReadSet:
        """Return a copy of the current ranges; another thread may go on adding."""
        copied = ReadSet()
        copied._ranges = {index_id: list(ranges) for index_id, ranges in list(self._ranges.items())}
        return copied

    def __len__(self) -> int:
        return sum(len(ranges) for ranges in self._ranges.values())

    def __repr__(self) -> str:
        return f"ReadSet({dict(self.ranges())!r})"
