"""What a transaction has written so far, over what its snapshot has."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from tinyvex.storage.records import StoredDocument, Write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyvex.storage.catalog import IndexInfo, Key
    from tinyvex.values.types import Value

__all__ = ["Entry", "Overlay"]


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
        old, new = self.old_keys, self.keys
        if old == new:
            return Write(tablet, self.internal, data, prev_ts, (), (), tuple(old))
        if not old:
            return Write(tablet, self.internal, data, prev_ts, (), tuple(new), ())
        kept = set(old) & set(new)
        return Write(
            tablet,
            self.internal,
            data,
            prev_ts,
            tuple(key for key in old if key not in kept),
            tuple(key for key in new if key not in kept),
            tuple(key for key in old if key in kept),
        )


class Overlay:
    """The written documents of one table."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        # Keys of the documents that are there now, by index; made when an index is first scanned.
        self._sorted: dict[int, list[tuple[bytes, Entry]]] = {}

    def set(
        self, entry: Entry, stored: StoredDocument | None, fields: Mapping[str, Value] | None, keys: list[Key]
    ) -> None:
        """A document is now this, or gone."""
        if self._sorted:
            self._place(entry, keys)
        entry.now = stored
        entry.fields = fields
        entry.keys = keys

    def _place(self, entry: Entry, keys: list[Key]) -> None:
        for index_id, key in entry.keys:
            placed = self._sorted.get(index_id, [])
            place = bisect_left(placed, key, key=_key)
            if placed[place : place + 1] == [(key, entry)]:
                del placed[place]
        for index_id, key in keys:
            if index_id in self._sorted:
                insort(self._sorted[index_id], (key, entry), key=_key)

    def rows(self, index: IndexInfo, lo: bytes, hi: bytes) -> list[StoredDocument]:
        """The written documents in a range of an index, in order."""
        placed = self._sorted.get(index.id)
        if placed is None:
            placed = self._sorted[index.id] = sorted(
                (
                    (key, entry)
                    for entry in self.entries.values()
                    if entry.now is not None
                    for index_id, key in entry.keys
                    if index_id == index.id
                ),
                key=_key,
            )
        found = placed[bisect_left(placed, lo, key=_key) : bisect_left(placed, hi, key=_key)]
        return [entry.now._replace(key=key) for key, entry in found if entry.now is not None]


def _key(placed: tuple[bytes, Entry]) -> bytes:
    return placed[0]
