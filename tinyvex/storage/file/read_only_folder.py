"""
Read a database in a folder that cannot be written: a read-only disk, a mounted snapshot, a folder of another user.

A database in WAL mode needs an index of its log next to it, which SQLite cannot create there. Such a database is opened as
*immutable* instead: SQLite reads the file alone and expects that no process changes it. That is true if

1.  no commit is only in a log: there is no write-ahead log, or an empty one, and no rollback journal;
2.  no process owns the data folder. The folder may be writable through another mount, so its lock is taken in shared mode
    until the connection is closed; a server that starts meanwhile reports that the folder is in use.

Otherwise the folder must be copied to a disk where SQLite can recover the log.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyvex.errors import DataFolderUnusable
from tinyvex.storage.file.atomic_file import follow_links
from tinyvex.storage.file.data_folder import DataFolder, share_lock

__all__ = ["is_unwritable", "open_immutable"]


class _SharingConnection(sqlite3.Connection):
    """A connection that shares the lock of the data folder until it is closed."""

    release: Callable[[], None] | None = None

    def close(self) -> None:
        """Close the connection and release the lock; idempotent."""
        super().close()
        if self.release is not None:
            self.release()
            self.release = None


def is_unwritable(database: Path) -> bool:
    """Return whether no file can be created next to a database."""
    return not os.access(follow_links(database).parent, os.W_OK)


def open_immutable(database: Path, **options: Any) -> sqlite3.Connection:
    """
    Open a database in a folder that cannot be written.

    Args:
        database: the file.
        options: further arguments of `sqlite3.connect`.

    Raises:
        DataFolderUnusable: a log must be recovered first.
        DataFolderLocked: a process owns the folder.
        sqlite3.Error: SQLite cannot open the file.
    """
    folder = DataFolder(database.parent)
    release = share_lock(folder) if folder.database == database else None
    try:
        _refuse_log(follow_links(database))
        uri = f"{database.absolute().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, factory=_SharingConnection, **options)
    except BaseException:
        if release is not None:
            release()
        raise
    connection.release = release
    return connection


def _refuse_log(real: Path) -> None:
    for suffix in ("-wal", "-journal"):
        log = real.with_name(real.name + suffix)
        if log.exists() and log.stat().st_size > 0:
            raise DataFolderUnusable(
                f"`{log}` may have commits that are not yet in the database, and they cannot be copied into it because"
                f" `{real.parent}` cannot be written; copy the whole folder to a disk that can, and use the copy"
            )
