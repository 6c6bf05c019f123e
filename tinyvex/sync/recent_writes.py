"""
The commits that computations under way may not have seen: which is the first that touches what one of them read? (pure)

Keys are kept by index, so a computation is held only against the indexes that it read.
What is kept is bounded: above the bound the older half goes,
and a computation that began before what is left counts as overtaken.
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
        since: everything committed after this `ts` is here.
    """

    def __init__(self, since: int) -> None:
        self.since = since
        self._keys: dict[int, tuple[list[int], list[bytes]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, ts: int, touched: Iterable[tuple[int, bytes]]) -> None:
        """Keep the keys of a commit that is later than all before it."""
        for index_id, key in touched:
            held = self._keys.get(index_id)
            if held is None:
                held = self._keys[index_id] = ([], [])
            held[0].append(ts)
            held[1].append(key)
            self._count += 1
        if self._count > KEYS_MAX:
            self.forget(self._middle())

    def first_touching(self, reads: ReadSet, after: int) -> int | None:
        """
        The first commit after `after` that touches what was read; None when there is none.

        `after` must not be before `since`.
        """
        assert after >= self.since, "what is asked for was forgotten"
        found: int | None = None
        for index_id in reads.ranges():
            held = self._keys.get(index_id)
            if held is None:
                continue
            stamps, keys = held
            for at in range(bisect_right(stamps, after), len(stamps)):
                if found is not None and stamps[at] >= found:
                    break
                if reads.overlaps(index_id, keys[at]):
                    found = stamps[at]
                    break
        return found

    def forget(self, ts: int) -> None:
        """Drop the commits up to and with `ts`."""
        self.since = max(self.since, ts)
        for index_id in list(self._keys):
            stamps, keys = self._keys[index_id]
            gone = bisect_right(stamps, ts)
            self._count -= gone
            if gone == len(stamps):
                del self._keys[index_id]
            elif gone:
                del stamps[:gone], keys[:gone]

    def _middle(self) -> int:
        """A `ts` with about half of the keys at or before it."""
        longest = max((stamps for stamps, _ in self._keys.values()), key=len)
        return longest[len(longest) // 2]

    def validate(self) -> None:
        """Assert what always holds."""
        assert self._count == sum(len(stamps) for stamps, _ in self._keys.values())
        for stamps, keys in self._keys.values():
            assert len(stamps) == len(keys)
            assert stamps == sorted(stamps)
            assert bisect_left(stamps, self.since + 1) == 0, "nothing up to `since` is kept"
