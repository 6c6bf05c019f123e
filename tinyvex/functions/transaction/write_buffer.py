"""
The write buffer: what a transaction has written so far, laid over its snapshot.

A mutation must read its own writes, through any index, before any of them is stored. So the buffer of a table has an entry
for each written document, and two views per index that are built when an index is first scanned or counted:

-   `_sorted`: the documents as they are now, in index order. A scan merges them into the snapshot's pages.
-   `_replaced`: the keys that the written documents have in the snapshot. A count subtracts them.

A scan sees the transaction as of its beginning. The entries that existed then are known by their numbers: an entry with a
number at or above the count of that time was written later, so its document is still read from the snapshot.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tinyvex.storage.log.operations import Write
from tinyvex.storage.log.revisions import StoredDocument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyvex.storage.log.catalog import IndexInfo
    from tinyvex.storage.log.operations import IndexKey
    from tinyvex.values.types import Value

__all__ = ["WriteBuffer", "WriteEntry"]

_by_key = attrgetter("key")


class WriteEntry:
    """
    The writes of a transaction to one document.

    Attributes:
        number: the number of documents of the table that were written before it.
        document_key: the document's own part of its id.
        creation_time: milliseconds since the epoch.
        base: the document in the snapshot; None if it is new.
        old_keys: the index keys of `base`.
        now: the document in the transaction; None if it is deleted.
        fields: the fields of `now`.
        keys: the index keys of `now`.
    """

    __slots__ = ("base", "creation_time", "document_key", "fields", "keys", "now", "number", "old_keys")

    def __init__(
        self,
        number: int,
        document_key: bytes,
        creation_time: float,
        base: StoredDocument | None = None,
        old_keys: Sequence[IndexKey] = (),
        fields: Mapping[str, Value] | None = None,
    ) -> None:
        self.number = number
        self.document_key = document_key
        self.creation_time = creation_time
        self.base = base
        self.old_keys = list(old_keys)
        self.now: StoredDocument | None = base
        self.fields = fields
        self.keys = self.old_keys

    def changed(self) -> bool:
        """Return whether the document differs from the snapshot's."""
        return (None if self.base is None else self.base.json) != (None if self.now is None else self.now.json)

    def write(self, tablet: int) -> Write:
        """Return the write that commits the document as it is now."""
        prev_ts = None if self.base is None else self.base.ts
        data = None if self.now is None else self.now.json
        return Write.between(tablet, self.document_key, data, prev_ts, self.old_keys, self.keys)


class WriteBuffer:
    """
    The written documents of one table.

    Attributes:
        entries: the entries by document key, in the order of their first write.
    """

    def __init__(self) -> None:
        self.entries: dict[bytes, WriteEntry] = {}
        self._sorted: dict[int, list[StoredDocument]] = {}
        self._replaced: dict[int, list[bytes]] = {}

    def add(self, entry: WriteEntry) -> None:
        """Add a document; `set` follows with its contents."""
        self.entries[entry.document_key] = entry
        if self._replaced:
            for index_id, key in entry.old_keys:
                if index_id in self._replaced:
                    insort(self._replaced[index_id], key)

    def set(
        self, entry: WriteEntry, stored: StoredDocument | None, fields: Mapping[str, Value] | None, keys: list[IndexKey]
    ) -> None:
        """Set a document's new contents; `stored` is None if it is deleted."""
        if self._sorted:
            self._reposition(entry, stored, keys)
        entry.now = stored
        entry.fields = fields
        entry.keys = keys

    def _reposition(self, entry: WriteEntry, stored: StoredDocument | None, keys: list[IndexKey]) -> None:
        """Move a document from its old keys to its new ones in the sorted views."""
        for index_id, key in entry.keys:
            documents = self._sorted.get(index_id, [])
            position = bisect_left(documents, key, key=_by_key)
            if position < len(documents) and documents[position].key == key:
                del documents[position]
        if stored is None:
            return
        for index_id, key in keys:
            if index_id in self._sorted:
                insort(self._sorted[index_id], replace(stored, key=key), key=_by_key)

    def rows(
        self, index: IndexInfo, lo: bytes, hi: bytes, *, reverse: bool = False, limit: int | None = None
    ) -> list[StoredDocument]:
        """
        Return the written documents in a range of an index, ascending.

        Given a limit, the first ones are returned; the last ones if `reverse`.
        """
        documents = self._in_order(index)
        first, end = _span(documents, lo, hi)
        if limit is not None and end - first > limit:
            first, end = (end - limit, end) if reverse else (first, first + limit)
        return documents[first:end]

    def count(self, index: IndexInfo, lo: bytes, hi: bytes) -> int:
        """Return the difference of a range's count to the snapshot's; negative if documents were removed from it."""
        replaced = self._replaced.get(index.id)
        if replaced is None:
            replaced = self._replaced[index.id] = sorted(
                [key for entry in self.entries.values() for index_id, key in entry.old_keys if index_id == index.id]
            )
        first, end = _span(self._in_order(index), lo, hi)
        old_first = bisect_left(replaced, lo)
        return end - first - (bisect_left(replaced, hi, lo=old_first) - old_first)

    def _in_order(self, index: IndexInfo) -> list[StoredDocument]:
        """Return the documents as they are now, in the order of an index."""
        documents = self._sorted.get(index.id)
        if documents is None:
            documents = self._sorted[index.id] = sorted(
                (
                    replace(entry.now, key=key)
                    for entry in self.entries.values()
                    if entry.now is not None
                    for index_id, key in entry.keys
                    if index_id == index.id
                ),
                key=_by_key,
            )
        return documents


def _span(documents: list[StoredDocument], lo: bytes, hi: bytes) -> tuple[int, int]:
    """Return the positions of the documents with lo <= key < hi: the first one, and the one after the last."""
    first = bisect_left(documents, lo, key=_by_key)
    return first, bisect_left(documents, hi, lo=first, key=_by_key)
