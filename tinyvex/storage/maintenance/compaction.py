"""Making the file as small as what is in it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvex.storage.engine.store import Store
from tinyvex.storage.file import database_file, statements
from tinyvex.storage.file.data_folder import DataFolder, whole_file
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.maintenance.retention import Policy, Retention
from tinyvex.storage.schema.tablets import abandon_all

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime

__all__ = ["compact", "look_ahead"]


async def compact(folder: Path, runtime: Runtime, policy: Policy) -> tuple[int, int, int]:
    """
    Forget what a policy does not keep, and write the file anew.

    The new file is written beside the old one, so there must be room for both, and takes its place when it is whole:
    a process that dies leaves the old one.

    Returns:
        How many revisions were forgotten; the size of the file before and after, in bytes.

    Raises:
        DataFolderLocked: somebody uses it.
        DataFolderUnusable: there is no database.
        DiskFull: there is no room.
        StorageError: the file.
    """
    data = DataFolder(folder)
    data.require_database()
    before = data.database.stat().st_size
    store = Store.open(folder, runtime)
    try:
        await abandon_all(store)  # whoever was importing is gone
        forgotten = await Retention(store, policy, runtime.now_us, _no_pause).sweep(thorough=True)
    finally:
        await store.close()
    lock = data.lock()
    try:
        await asyncio.to_thread(_write_anew, data)
    finally:
        lock.release()
    return forgotten, before, data.database.stat().st_size


def look_ahead(folder: Path, policy: Policy, now_us: int) -> tuple[int, int]:
    """
    What a policy would forget now; a server may be using the database.

    Returns:
        The floor below which nothing could be read any more, and how many revisions would go.

    Raises:
        DataFolderUnusable: there is no database.
        StorageError: it cannot be read.
    """
    data = DataFolder(folder)
    data.require_database()
    with closing(database_file.open_reader(data.database)) as connection:
        try:
            connection.execute("BEGIN")
            stored = database_file.read_globals(connection)
            (used,) = connection.execute(statements.USED_BYTES).fetchone()
            floor = policy.floor(now_us, stored["last_ts"], stored["floor_ts"], used)
            (revisions,) = connection.execute(
                statements.COUNT_FORGETTABLE, (stored.get("swept_row", 0), floor)
            ).fetchone()
        except sqlite3.Error as error:
            raise translate(error, data.database) from error
    return floor, revisions


async def _no_pause() -> None:
    """Nobody else writes."""


def _write_anew(data: DataFolder) -> None:
    # Not a VACUUM in place: that makes the copy in memory, where temporary tables are, and writes all of it to the log.
    try:
        with (
            whole_file(data.database.resolve(), replace=True) as unfinished,  # where it is, should this be a link
            closing(database_file.open_writer(data.database, "full")) as connection,
        ):
            connection.execute("VACUUM INTO ?", (str(unfinished),))
            database_file.end_log(connection)
    except sqlite3.Error as error:
        raise translate(error, data.database) from error
