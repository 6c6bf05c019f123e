"""
Check the index entries: those of `indexes`, and the rows of `current` that are derived from them.

Both tables are read once, side by side, with the revisions that they point at, because reading the revisions is most of
the work. An entry that is the newest of its key nearly always has the revision at which `current` points, so one key is
computed for both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from tinyvex.errors import InvalidValue
from tinyvex.storage.file import statements
from tinyvex.storage.file.checksums import content_checksum, current_checksum, entry_checksum
from tinyvex.storage.log.catalog import IndexInfo
from tinyvex.values.codec import decode_canonical

__all__ = ["EntryCheck"]

Row: TypeAlias = tuple[Any, ...]
"""A row of `statements.CHECK_ENTRIES`."""

_CURRENT_ROW = 7
"""The column with the log row at which `current` points."""


class EntryCheck:
    """
    Checks entries against revisions.

    Args:
        floor: the first readable timestamp.
        indexes: the indexes of the newest catalog, also those that are not ready.
        owner: returns the tablet of an index that some retained timestamp has, or that an import fills; None if unknown.
    """

    def __init__(self, floor: int, indexes: Mapping[int, IndexInfo], owner: Callable[[int], int | None]) -> None:
        self._floor = floor
        self._indexes = indexes
        self._owner = owner

    def key_problems(self, index_id: int, key: bytes, entries: Iterable[Row]) -> Iterator[str]:
        """
        Check one key: its revisions exist and agree with it, it begins and ends in turn, and `current` has it if it should.

        Args:
            index_id: the index.
            key: the key.
            entries: all rows of the key, as `statements.CHECK_ENTRIES` selects them.
        """
        index = self._indexes.get(index_id)
        owner = self._owner(index_id)
        previous_deleted: int | None = None
        agreeing: int | None = None  # the log row of the last revision that was found to have the key
        row: Row = ()
        for row in entries:
            _, _, ts, deleted, tablet, document_key, checksum, *_ = row
            if entry_checksum(index_id, key, ts, deleted, tablet) != checksum:
                yield f"the entry at {ts} has a wrong checksum"
            log_row, data = _revision(row)
            has_key = None if index is None or data is None else _key(index, data, document_key) == key
            if has_key is None or has_key == bool(deleted) or owner != tablet:
                problem = self._entry_problem(row, log_row, data, has_key, owner)
                if problem is not None:
                    yield problem
            if has_key:
                agreeing = log_row
            if deleted == previous_deleted:
                yield f"the key {'ends' if deleted else 'begins'} twice, the second time at {ts}"
            previous_deleted = deleted
        if index is not None and (row[_CURRENT_ROW] is not None) == bool(previous_deleted):
            yield "`indexes` and `current` disagree"
        if row[_CURRENT_ROW] is not None:
            problem = self._current_problem(row, index, owner, agreeing)
            if problem is not None:
                yield problem

    def _entry_problem(
        self, row: Row, log_row: int | None, data: bytes | None, has_key: bool | None, owner: int | None
    ) -> str | None:
        _, _, ts, deleted, tablet, *_ = row
        if log_row is None and ts > self._floor:
            return f"the entry at {ts} has no revision"
        if owner is not None and owner != tablet:
            return f"the entry at {ts} belongs to tablet {tablet}, not {owner}"
        if not deleted and data is None and log_row is not None:
            return f"the key begins at {ts}, at which its document is deleted"
        if has_key is not None and has_key == bool(deleted):
            return f"the entry at {ts} does not agree with its document"
        return None

    def _current_problem(
        self, row: Row, index: IndexInfo | None, owner: int | None, agreeing: int | None
    ) -> str | None:
        """Return the problem of the key's row in `current`; `agreeing` is the last log row that has the key."""
        index_id, key, _, _, _, _, _, log_row, checksum, tablet, document_key, ts, data, has_later, _, _ = row
        if ts is None:
            return "`current` points at a revision that does not exist"
        if current_checksum(index_id, key, content_checksum(ts, data)) != checksum:
            return "`current` has a wrong checksum"
        if index is None:  # with an owner, it is being dropped
            return "`current` has an index that does not exist" if owner is None else None
        if tablet != owner:
            return f"`current` points at a revision of tablet {tablet}, not {owner}"
        if has_later or data is None:
            return f"`current` points at revision {ts}, which is not the newest"
        if log_row != agreeing and _key(index, data, document_key) != key:
            return "`current` points at a revision with another key"
        return None

    def rows_without_entry(self, connection: sqlite3.Connection) -> Iterator[str]:
        """Check the rows of `current` whose keys have no entry in `indexes`."""
        for index_id, key, checksum, ts, data in connection.execute(statements.CHECK_CURRENT_WITHOUT_ENTRY):
            name = f"index {index_id}, key {key.hex()}"
            if ts is None:
                yield f"{name}: `current` points at a revision that does not exist"
            elif current_checksum(index_id, key, content_checksum(ts, data)) != checksum:
                yield f"{name}: `current` has a wrong checksum"
            if index_id in self._indexes:
                yield f"{name}: `current` has it, `indexes` does not"
            elif self._owner(index_id) is None:
                yield f"{name}: `current` has an index that does not exist"
            # Otherwise the index is being dropped.


def _revision(row: Row) -> tuple[int | None, bytes | None]:
    """Return the log row and the JSON of an entry's revision; None if it does not exist."""
    _, _, ts, _, tablet, document_key, _, log_row, _, current_tablet, current_key, current_ts, data, *_ = row
    if current_ts == ts and current_key == document_key and current_tablet == tablet:
        return log_row, data
    return row[-2], row[-1]


def _key(index: IndexInfo, data: bytes, document_key: bytes) -> bytes | None:
    """Return the index key of a stored document; None if it cannot be decoded, which is reported with the documents."""
    try:
        document: Any = decode_canonical(data)  # its form is checked once, with the documents
        return index.key(document, document_key)
    except (InvalidValue, msgspec.DecodeError, UnicodeError, TypeError, KeyError):
        return None
