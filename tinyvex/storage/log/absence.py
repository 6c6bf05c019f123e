"""
Make sure that a row which a read did not find is absent, and not hidden behind a damaged key.

SQLite finds rows by comparing keys. If a key in a B-tree is damaged, the rows are no longer in order: a search may end at the
wrong position, and a walk through a range may end too early. All other keys are in order, so such a search or walk ends next
to the damaged row. The functions here read the neighbours of that position and compare their checksums.

Two damaged keys in one B-tree may hide each other. `check` finds them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeAlias

from tinyvex.storage.file import statements
from tinyvex.storage.file.checksums import (
    checked_entry,
    checked_revision,
    content_checksum,
    current_checksum,
    damaged_row,
)

__all__ = [
    "Execute",
    "require_intact_current_ends",
    "require_intact_entry_ends",
    "require_intact_revisions_around",
]

Execute: TypeAlias = Callable[..., sqlite3.Cursor]


def require_intact_revisions_around(execute: Execute, tablet: int, document_key: bytes, ts: int) -> None:
    """
    Check the revisions before and after a position in the order of tablet, document and `ts`.

    Raises:
        FileDamaged: one of them has a wrong checksum.
        sqlite3.Error: as raised by SQLite.
    """
    position = (tablet, document_key, ts)
    for statement in (statements.REVISION_BEFORE, statements.REVISION_AFTER):
        row = execute(statement, position).fetchone()
        if row is not None:
            checked_revision(row)


def require_intact_current_ends(execute: Execute, index_id: int, lo: bytes, hi: bytes) -> None:
    """
    Check the rows of `current` before and after a range.

    Raises:
        FileDamaged: one of them has a wrong checksum.
        sqlite3.Error: as raised by SQLite.
    """
    for statement, key in ((statements.CURRENT_BEFORE, lo), (statements.CURRENT_FROM, hi)):
        row = execute(statement, (index_id, key)).fetchone()
        if row is not None and not _is_intact_current(*row):
            raise damaged_row(f"an entry of index {row[0]}")


def _is_intact_current(index_id: int, key: bytes, checksum: int, ts: int, json: bytes) -> bool:
    try:
        return current_checksum(index_id, key, content_checksum(ts, json)) == checksum
    except TypeError:  # a column has another type than it should, or there is no revision
        return False


def require_intact_entry_ends(execute: Execute, index_id: int, lo: bytes, hi: bytes) -> None:
    """
    Check the rows of `indexes` before and after a range.

    Raises:
        FileDamaged: one of them has a wrong checksum.
        sqlite3.Error: as raised by SQLite.
    """
    for statement, key in ((statements.ENTRY_BEFORE, lo), (statements.ENTRY_FROM, hi)):
        row = execute(statement, (index_id, key)).fetchone()
        if row is not None:
            checked_entry(row)
