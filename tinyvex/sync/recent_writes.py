"""
The keys of recent commits: find the first commit that touches what a running computation has read. (pure)

Keys are grouped by index, so that a read set is compared only with writes to the indexes that it contains. Memory is
bounded: above KEYS_MAX the older half is discarded, and a computation that started before the rest counts as overtaken.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvex.functions.transaction.read_set import ReadSet

__all__ = ["KEYS_MAX", "RecentWrites"]

KEYS_MAX = 262_144
"""About 40 MB, and tens of thousands of commits: seconds of writing at full speed."""


class RecentWrites:
    """
    Touched keys by index, each with the `ts` of its commit.

    Attributes:
        since: contains every commit after this `ts`.
    """

    def __init__(self, since: int) -> None:
        self.since = since
        self._writes: dict[int, tuple[list[int], list[bytes]]] = {}  # by index: timestamps and keys, in parallel
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, ts: int, touched: Iterable[tuple[int, bytes]]) -> None:
        """Add the keys of a commit that is newer than all before it."""
        for index_id, key in touched:
            writes = self._writes.get(index_id)
            if writes is None:
                writes = self._writes[index_id] = ([], [])
            writes[0].append(ts)
            writes[1].append(key)
            self._count += 1
        if self._count > KEYS_MAX:
            self.discard(self._middle())

    def first_touching(self, reads: ReadSet, after: int) -> int | None:
        """
        Return the `ts` of the first commit after `after` that touches the read set; None if there is none.

        `after` must not be less than `since`.
        """
        assert after >= self.since, "the commits asked for were discarded"
        first: int | None = None
        for index_id in reads.ranges():
            writes = self._writes.get(index_id)
            if writes is None:
                continue
            timestamps, keys = writes
            for position in range(bisect_right(timestamps, after), len(timestamps)):
                if first is not None and timestamps[position] >= first:
                    break
                if reads.overlaps(index_id, keys[position]):
                    first = timestamps[position]
                    break
        return first

    def discard(self, ts: int) -> None:
        """Discard the commits up to and including `ts`."""
        self.since = max(self.since, ts)
        for index_id in list(self._writes):
            timestamps, keys = self._writes[index_id]
            count = bisect_right(timestamps, ts)
            self._count -= count
            if count == len(timestamps):
                del self._writes[index_id]
            elif count:
                del timestamps[:count], keys[:count]

    def _middle(self) -> int:
        """Return a `ts` with about half of the keys at or before it."""
        longest = max((timestamps for timestamps, _ in self._writes.values()), key=len)
        return longest[len(longest) // 2]

    def validate(self) -> None:
        """Assert the invariants."""
        assert self._count == sum(len(timestamps) for timestamps, _ in self._writes.values())
        for timestamps, keys in self._writes.values():
            assert len(timestamps) == len(keys)
            assert timestamps == sorted(timestamps)
            assert bisect_left(timestamps, self.since + 1) == 0, "no commit up to `since` remains"
