"""Translate SQLite's errors to storage errors with advice."""

from __future__ import annotations

import sqlite3

from tinyvex import errors

__all__ = ["is_failed_write", "is_fault_of_one", "translate"]

_PRIMARY = 0xFF
"""The low byte of an extended result code is the code itself."""

_BY_CODE: dict[int, tuple[type[errors.StorageError], str]] = {
    sqlite3.SQLITE_FULL: (errors.DiskFull, "the disk is full; free some space, then retry"),
    sqlite3.SQLITE_CORRUPT: (
        errors.FileDamaged,
        "the database file is damaged; keep a copy of it, run `tinyvex check`, and restore a backup",
    ),
    sqlite3.SQLITE_NOTADB: (errors.FileDamaged, "the file is not a Tinyvex database, or its first page is damaged"),
    sqlite3.SQLITE_READONLY: (errors.DataFolderUnusable, "the database file or its folder cannot be written"),
    sqlite3.SQLITE_CANTOPEN: (errors.DataFolderUnusable, "the database file cannot be opened"),
    sqlite3.SQLITE_BUSY: (
        errors.StorageFailed,
        "another program is using the database file; close it there, then retry",
    ),
    sqlite3.SQLITE_IOERR: (errors.StorageFailed, "the disk failed to read or write; see the system log for the cause"),
    sqlite3.SQLITE_PERM: (errors.DataFolderUnusable, "the database file cannot be accessed"),
}

_FAILED_WRITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}


def translate(error: sqlite3.Error, path: object = None) -> errors.StorageError:
    """Return the storage error for an error of SQLite; the message has SQLite's text at its end."""
    code = getattr(error, "sqlite_errorcode", None)
    file = "" if path is None else f" (`{path}`)"
    if code is None and str(error).startswith("Could not decode"):
        code = sqlite3.SQLITE_CORRUPT  # Python's module, of a blob that became a text
    cls, advice = _BY_CODE.get(0 if code is None else code & _PRIMARY, (errors.StorageFailed, "SQLite failed"))
    return cls(f"{advice}{file}: {error}", sqlite=getattr(error, "sqlite_errorname", type(error).__name__))


def is_fault_of_one(error: sqlite3.Error) -> bool:
    """Return whether one commit record caused the error by violating a constraint, rather than the shared file."""
    return isinstance(error, sqlite3.IntegrityError)


def is_failed_write(error: Exception) -> bool:
    """Return whether a write to a file failed; a failed sync has another code."""
    code = getattr(error, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_IOERR_WRITE or (code is not None and code & _PRIMARY in _FAILED_WRITE)
