"""
Check that past snapshots see the right documents through their indexes.

An index can be read at every timestamp, from the floor on, at which it was ready. It may have been dropped since, or its
table may have moved to another tablet. At each of these timestamps a key's newest entry must be a beginning if a document
has that key then; otherwise it must be an end, or there is no entry.

Checking every timestamp is not necessary. Entries change only at revisions that change a key, so the check visits those
revisions, and the revision that the first readable timestamp sees.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from msgspec import Struct

from tinyvex.storage.file import statements
from tinyvex.storage.log.catalog import Catalog, IndexInfo
from tinyvex.storage.log.system_tablets import INDEXES_TABLET
from tinyvex.values.codec import decode_canonical

__all__ = ["NO_END", "IndexHistory", "RevisionWalk"]

NO_END = 2**63 - 1
"""After every timestamp."""


class _ReadablePeriod(Struct, frozen=True):
    """An index, and the timestamps at which it can be read: from `since` on, before `until`."""

    index: IndexInfo
    since: int
    until: int


class IndexHistory:
    """
    The periods in which each index can be read.

    Args:
        connection: a connection with an open transaction.
        floor: the first readable timestamp.
        catalog: the newest catalog.
    """

    def __init__(self, connection: sqlite3.Connection, floor: int, catalog: Catalog) -> None:
        self._connection = connection
        self._cursor = connection.cursor()  # of `has_key`: a cursor for each call takes half as long again
        self._periods: dict[int, list[_ReadablePeriod]] = {}
        self._owners = {index.id: table.tablet for table in catalog.tables() for index in table.maintained}
        for table in catalog.tables():
            if table.name.startswith("_"):
                self._periods[table.tablet] = [_ReadablePeriod(table.maintained[0], floor, NO_END)]
        self._read_periods(floor)

    def _read_periods(self, floor: int) -> None:
        ready_since: dict[bytes, int] = {}
        last_fields: dict[bytes, dict[str, Any]] = {}
        for key, ts, data in self._connection.execute(statements.CHECK_REVISIONS_OF, (INDEXES_TABLET,)):
            fields = None if data is None else cast("dict[str, Any]", decode_canonical(data))
            is_ready = fields is not None and fields["state"] == "ready"
            if fields is not None:
                last_fields[key] = fields
                self._owners[fields["indexId"]] = fields["tablet"]
            if is_ready:
                ready_since.setdefault(key, ts)
            elif key in ready_since:
                self._add_period(last_fields[key], max(ready_since.pop(key), floor), ts)
        for key, ts in ready_since.items():
            self._add_period(last_fields[key], max(ts, floor), NO_END)

    def _add_period(self, fields: Mapping[str, Any], since: int, until: int) -> None:
        if since < until:
            index = IndexInfo(fields["indexId"], fields["name"], tuple(fields["fields"]))
            self._periods.setdefault(fields["tablet"], []).append(_ReadablePeriod(index, since, until))

    def owner(self, index_id: int) -> int | None:
        """Return the tablet of an index that any retained timestamp has; None for other indexes."""
        return self._owners.get(index_id)

    def walk(self, tablet: int, document_key: bytes) -> RevisionWalk:
        """Begin to check a document."""
        return RevisionWalk(self.has_key, self._periods.get(tablet, ()), document_key)

    def has_key(self, index_id: int, key: bytes, ts: int) -> bool:
        """Return whether a reader at `ts` sees the key."""
        row = self._cursor.execute(statements.CHECK_PAST_ENTRY, (index_id, key, ts)).fetchone()
        return row is not None and not row[0]


class RevisionWalk:
    """Checks one document's keys in each index, revision by revision."""

    def __init__(
        self, has_key: Callable[[int, bytes, int], bool], periods: Sequence[_ReadablePeriod], document_key: bytes
    ) -> None:
        self._has_key = has_key
        self._periods = periods
        self._document_key = document_key
        self._last_ts = 0
        self._document: Mapping[str, Any] | None = None
        self._keys: dict[int, bytes] = {}
        """The keys of `_document` that were computed, by the position of the period."""

    def add(self, ts: int, document: Mapping[str, Any] | None) -> list[str]:
        """Visit the next revision, oldest first; None for a deletion. Return its problems."""
        problems: list[str] = []
        keys: dict[int, bytes] = {}
        last_ts, last = self._last_ts, self._document
        for position, period in enumerate(self._periods):
            index, since = period.index, period.since
            if ts <= since:
                continue
            before = self._key(position, last, self._keys)
            if before is not None and last_ts <= since:
                problems += self._require_key(index, before, since)
            if before is not None and document is not None and last is not None and index.same_key(document, last):
                keys[position] = before
                continue
            after = self._key(position, document, keys)
            if ts < period.until and after != before:
                if after is not None:
                    problems += self._require_key(index, after, ts)
                if before is not None and self._has_key(index.id, before, ts):
                    problems.append(
                        f"index {index.name} ({index.id}) has the key {before.hex()} at {ts}, the document does not"
                    )
        self._last_ts, self._document, self._keys = ts, document, keys
        return problems

    def end(self) -> list[str]:
        """Finish after the newest revision; return the problems of periods that begin after it."""
        problems: list[str] = []
        for position, period in enumerate(self._periods):
            if self._last_ts <= period.since:
                key = self._key(position, self._document, self._keys)
                if key is not None:
                    problems += self._require_key(period.index, key, period.since)
        return problems

    def _require_key(self, index: IndexInfo, key: bytes, ts: int) -> tuple[str, ...]:
        if self._has_key(index.id, key, ts):
            return ()
        return (f"index {index.name} ({index.id}) lacks the key {key.hex()} at {ts}",)

    def _key(self, position: int, document: Mapping[str, Any] | None, keys: dict[int, bytes]) -> bytes | None:
        if document is None:
            return None
        key = keys.get(position)
        if key is None:
            key = keys[position] = self._periods[position].index.key(document, self._document_key)
        return key
