"""
What older moments see through indexes, compared with the documents that they have.

An index can be read at the moments at which it was ready, from the floor on; its table may have left it behind since.
At each of them the newest entry of a key must be a beginning if a document has that key then, and else an end, or nothing.
So only the revisions at which a key changes are looked up, and the one that the first of those moments sees.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from tinyvex.storage.file import statements
from tinyvex.storage.log.catalog import Catalog, IndexInfo
from tinyvex.storage.log.system_tablets import INDEXES_TABLET
from tinyvex.values.codec import decode_canonical

__all__ = ["PastEntries", "Trail"]

END = 2**63 - 1
"""Later than every moment."""


@dataclass(frozen=True, slots=True)
class _Readable:
    """An index, and the moments at which it can be read: from `since` on, before `until`."""

    index: IndexInfo
    since: int
    until: int


class PastEntries:
    """
    The entries that older moments read.

    Args:
        connection: with a transaction.
        floor: the first moment that can be read.
        catalog: the newest; what its indexes have of newest revisions is not looked up again.
    """

    def __init__(self, connection: sqlite3.Connection, floor: int, catalog: Catalog) -> None:
        self._connection = connection
        self._newest = {index.id for table in catalog.tables() for index in table.indexes.values()}
        self._readable: dict[int, list[_Readable]] = {}
        self._owners = {index.id: table.tablet for table in catalog.tables() for index in table.maintained}
        for table in catalog.tables():
            if table.name.startswith("_"):
                self._readable[table.tablet] = [_Readable(table.maintained[0], floor, END)]
        self._read_periods(floor)

    def _read_periods(self, floor: int) -> None:
        opened: dict[bytes, int] = {}
        last: dict[bytes, dict[str, Any]] = {}
        for internal, ts, data in self._connection.execute(statements.CHECK_INDEXES, (INDEXES_TABLET,)):
            fields = None if data is None else cast("dict[str, Any]", decode_canonical(data))
            is_ready = fields is not None and fields["state"] == "ready"
            if fields is not None:
                last[internal] = fields
                self._owners[fields["indexId"]] = fields["tablet"]
            if is_ready:
                opened.setdefault(internal, ts)
            elif internal in opened:
                self._add(last[internal], max(opened.pop(internal), floor), ts)
        for internal, ts in opened.items():
            self._add(last[internal], max(ts, floor), END)

    def _add(self, fields: Mapping[str, Any], since: int, until: int) -> None:
        if since < until:
            index = IndexInfo(fields["indexId"], fields["name"], tuple(fields["fields"]))
            self._readable.setdefault(fields["tablet"], []).append(_Readable(index, since, until))

    def owner(self, index_id: int) -> int | None:
        """The tablet of an index that some moment knows; None where none does."""
        return self._owners.get(index_id)

    def trail(self, tablet: int, internal: bytes) -> Trail:
        """To be told the revisions of a document, oldest first."""
        return Trail(self, self._readable.get(tablet, []), internal)

    def has_beginning(self, index_id: int, key: bytes, ts: int) -> bool:
        """Whether somebody who reads at `ts` finds the key."""
        row = self._connection.execute(statements.CHECK_PAST_ENTRY, (index_id, key, ts)).fetchone()
        return row is not None and not row[0]

    def is_looked_at(self, index_id: int) -> bool:
        """Whether the newest entries of an index are compared with the newest revisions anyway."""
        return index_id in self._newest


class Trail:
    """One document's revisions, and its keys in each index."""

    def __init__(self, past: PastEntries, readable: list[_Readable], internal: bytes) -> None:
        self._past = past
        self._readable = readable
        self._internal = internal
        self._last_ts = 0
        self._document: Mapping[str, Any] | None = None

    def add(self, ts: int, document: Mapping[str, Any] | None) -> Iterator[str]:
        """The next revision, None for a deletion; what is wrong."""
        for readable in self._readable:
            index, since = readable.index, readable.since
            if ts <= since:
                continue
            before = self._key(index, self._document)
            if self._last_ts <= since < ts:
                yield from self._find(index, before, since)
            after = self._key(index, document)
            if ts < readable.until and after != before:
                yield from self._find(index, after, ts)
                if before is not None and self._past.has_beginning(index.id, before, ts):
                    yield f"index {index.name} ({index.id}) has the key {before.hex()} at {ts}, no document has"
        self._last_ts, self._document = ts, document

    def end(self) -> Iterator[str]:
        """That was the newest; what is wrong."""
        for readable in self._readable:
            if self._last_ts <= readable.since and not self._past.is_looked_at(readable.index.id):
                yield from self._find(readable.index, self._key(readable.index, self._document), readable.since)

    def _find(self, index: IndexInfo, key: bytes | None, ts: int) -> Iterator[str]:
        if key is not None and not self._past.has_beginning(index.id, key, ts):
            yield f"index {index.name} ({index.id}) lacks the key {key.hex()} at {ts}"

    def _key(self, index: IndexInfo, document: Mapping[str, Any] | None) -> bytes | None:
        return None if document is None else index.key(document, self._internal)
