"""
The progress of the walk that purges index entries, as the file stores it.

Unlike revisions, unreadable index entries are not found along the log, but by a walk through all entries. A walk is due
when enough revisions were purged since the last one began. Both the count and the place of an unfinished walk are stored
with what they count: otherwise a process that runs for a few minutes each time would never begin a walk, or never end it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tinyvex import limits

__all__ = ["FIRST", "INDEX_WALK", "EntryKey", "IndexWalk"]

INDEX_WALK = "index_walk"
"""The global value; it exists only after the first purge."""

EntryKey = tuple[int, bytes]
"""An index and a key."""

FIRST: EntryKey = (-1, b"")
"""Less than that of any entry."""


_TEXT = re.compile("([0-9]{1,18}) ([0-9]{1,18})(?: (-1|[0-9]{1,18}) ((?:[0-9a-f]{2})*))?")
"""The global value, with numbers that fit SQLite's."""


class IndexWalk(NamedTuple):
    """
    The walk that is in progress, or the last one.

    Attributes:
        purged: revisions purged since it began.
        entries: entries that it has inspected.
        after: the last of them; None if it is complete.
    """

    purged: int = 0
    entries: int = 0
    after: EntryKey | None = None

    @classmethod
    def stored(cls, stored_globals: Mapping[str, Any]) -> IndexWalk:
        """
        Return the walk that the global values of a file describe.

        If the value is not one of a walk, a walk begins: otherwise every sweep would fail.
        """
        text = stored_globals.get(INDEX_WALK)
        if text is None:
            return cls()
        match = _TEXT.fullmatch(str(text))
        if match is None:
            return cls(after=FIRST)
        purged, entries, index_id, key = match.groups()
        return cls(int(purged), int(entries), None if index_id is None else (int(index_id), bytes.fromhex(key)))

    @property
    def text(self) -> str:
        """The global value."""
        after = "" if self.after is None else f" {self.after[0]} {self.after[1].hex()}"
        return f"{self.purged} {self.entries}{after}"

    def purging(self, revisions: int, *, dropped_index: bool) -> IndexWalk:
        """Count purged revisions; begin a walk if one is due, and begin again if the entries of an index can go."""
        purged = self.purged + revisions
        is_due = self.after is None and purged >= max(limits.RETENTION_STEP_ROWS, self.entries // 4)
        return IndexWalk(after=FIRST) if dropped_index or is_due else self._replace(purged=purged)

    def continued(self, entries: int, after: EntryKey | None) -> IndexWalk:
        """Record a step."""
        return self._replace(entries=self.entries + entries, after=after)
