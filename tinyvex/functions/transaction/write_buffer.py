"""What a transaction has written so far, over what its snapshot has."""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import attrgetter
from typing import TYPE_CHECKING

from tinyvex.storage.log.commit_record import StoredDocument, Write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyvex.storage.log.catalog import IndexInfo, Key
    from tinyvex.values.types import Value

__all__ = ["Entry", "WriteBuffer"]

_by_key = attrgetter("key")


class Entry:
    """What the transaction has done to one document."""

    __slots__ = ("base", "creation_time", "fields", "internal", "keys", "now", "number", "old_keys")

    def __init__(
        self,
        number: int,
        internal: bytes,
        creation_time: float,
        base: StoredDocument | None = None,
        old_keys: Sequence[Key] = (),
        fields: Mapping[str, Value] | None = None,
    ) -> None:
        self.number = number  # how many documents of its table were written before it
        self.internal = internal
        self.creation_time = creation_time
        self.base = base  # as the snapshot has it
        self.old_keys = list(old_keys)  # of the base
        self.now: StoredDocument | None = base  # as the transaction has it
        self.fields = fields  # of that
        self.keys = self.old_keys  # of that

    def changed(self) -> bool:
        """Whether the document is other than the snapshot has it."""
        return (None if self.base is None else self.base.json) != (None if self.now is None else self.now.json)

    def write(self, tablet: int) -> Write:
        """What a commit does to the document."""
        prev_ts = None if self.base is None else self.base.ts
        data = None if self.now is None else self.now.json
        return Write.between(tablet, self.internal, data, prev_ts, self.old_keys, self.keys)


class WriteBuffer:
    """The written documents of one table."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        # The documents that are there now, by index and in its order; made when an index is first scanned.
        self._sorted: dict[int, list[StoredDocument]] = {}
        # The keys that they have in the snapshot, by index; made when an index is first counted.
        self._replaced: dict[int, list[bytes]] = {}

    def add(self, entry: Entry) -> None:
        """One more document is written; `set` says what it is."""
        self.entries[entry.internal] = entry
        if self._replaced:
            for index_id, key in entry.old_keys:
                if index_id in self._replaced:
                    insort(self._replaced[index_id], key)

    def set(
        self, entry: Entry, stored: StoredDocument | None, fields: Mapping[str, Value] | None, keys: list[Key]
    ) -> None:
        """A document is now this, or gone."""
        if self._sorted:
            self._place(entry, stored, keys)
        entry.now = stored
        entry.fields = fields
        entry.keys = keys

    def _place(self, entry: Entry, stored: StoredDocument | None, keys: list[Key]) -> None:
        for index_id, key in entry.keys:
            placed = self._sorted.get(index_id, [])
            place = bisect_left(placed, key, key=_by_key)
            if place < len(placed) and placed[place].key == key:
                del placed[place]
        if stored is None:
            return
        for index_id, key in keys:
            if index_id in self._sorted:
                insort(self._sorted[index_id], stored._replace(key=key), key=_by_key)

    def rows(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool = False, limit: int | None = None
    ) -> list[StoredDocument]:
        """The written documents in a range of an index, ascending; of more than `limit` the first, or last if `reverse`."""
        placed = self._placed(index)
        first, end = _span(placed, lo, hi)
        if limit is not None and end - first > limit:
            first, end = (end - limit, end) if reverse else (first, first + limit)
        return placed[first:end]

    def count(self, index: IndexInfo, lo: bytes, hi: bytes) -> int:
        """How many documents more a range of an index has than in the snapshot; negative where it has fewer."""
        replaced = self._replaced.get(index.id)
        if replaced is None:
            replaced = self._replaced[index.id] = sorted(
                [key for entry in self.entries.values() for index_id, key in entry.old_keys if index_id == index.id]
            )
        first, end = _span(self._placed(index), lo, hi)
        old_first = bisect_left(replaced, lo)
        return end - first - (bisect_left(replaced, hi, lo=old_first) - old_first)

    def _placed(self, index: IndexInfo) -> list[StoredDocument]:
        placed = self._sorted.get(index.id)
        if placed is None:
            placed = self._sorted[index.id] = sorted(
                (
                    entry.now._replace(key=key)
                    for entry in self.entries.values()
                    if entry.now is not None
                    for index_id, key in entry.keys
                    if index_id == index.id
                ),
                key=_by_key,
            )
        return placed


def _span(placed: list[StoredDocument], lo: bytes, hi: bytes) -> tuple[int, int]:
    first = bisect_left(placed, lo, key=_by_key)
    return first, bisect_left(placed, hi, lo=first, key=_by_key)
