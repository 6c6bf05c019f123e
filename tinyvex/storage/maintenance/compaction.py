"""
Shrink the database file to what it holds.

1.  Abandon unfinished imports, and purge the revisions that the retention policy no longer retains.
2.  Write the database into a new file with `VACUUM INTO`, next to the old one; the disk needs room for both.
3.  Replace the old file by the new one when that is complete and synced. A process that dies before leaves the old file.

A plain `VACUUM` is not used: it builds its copy in memory, where our temporary tables are, and writes all of it through
the write-ahead log.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinyvex.storage.engine.store import Store
from tinyvex.storage.file import database_file, statements
from tinyvex.storage.file.atomic_file import atomic_file
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log.catalog import load_catalog
from tinyvex.storage.log.clock_history import ClockHistory
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.maintenance.live_size import measure
from tinyvex.storage.maintenance.progress import Progress
from tinyvex.storage.maintenance.retention import Retention
from tinyvex.storage.maintenance.retention_policy import HistoryState, Policy
from tinyvex.storage.schema.tablets import tablets, unreadable_tablets

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime

__all__ = ["Compaction", "compact", "preview"]

OPERATIONS_PER_REPORT = 100_000
"""Operations of SQLite's virtual machine between two reports: some milliseconds."""


class Compaction(NamedTuple):
    """The result of a compaction."""

    purged_revisions: int
    bytes_before: int
    bytes_after: int


async def compact(folder: Path, runtime: Runtime, policy: Policy, progress: Progress | None = None) -> Compaction:
    """
    Purge expired revisions and rewrite the file.

    Args:
        folder: the data folder.
        runtime: the clock.
        policy: which revisions are retained.
        progress: called with the bytes written and in total; from another thread.

    Raises:
        DataFolderLocked: a process uses the folder.
        DataFolderUnusable: there is no database.
        DiskFull: the disk has no room for the new file.
        StorageError: the file cannot be read or written.
    """
    data = DataFolder(folder)
    data.require_database()
    before = data.database.stat().st_size
    if progress is not None:
        progress(0, 0)
    store = Store.open(folder, runtime)
    try:
        purged = await Retention(store, policy, runtime.now_us, _no_pause).sweep(thorough=True, is_alone=True)
    finally:
        await store.close()
    lock = data.lock()
    try:
        await asyncio.to_thread(_rewrite, data, progress)
    finally:
        lock.release()
    return Compaction(purged, before, data.database.stat().st_size)


def preview(folder: Path, policy: Policy, now_us: int) -> tuple[int, int]:
    """
    Return what `compact` would purge now; a server may be using the database.

    Returns:
        The floor, before which no timestamp could be read any more, and the number of revisions to purge.

    Raises:
        DataFolderUnusable: there is no database.
        StorageError: the database cannot be read.
    """
    data = DataFolder(folder)
    data.require_database()
    with closing(database_file.open_reader(data.database)) as connection:
        try:
            connection.execute("BEGIN")
            stored = database_file.read_globals(connection)
            last_ts = stored["last_ts"]
            clock = ClockHistory.stored(stored).observed(last_ts, now_us)
            snapshot = Snapshot(connection, last_ts, load_catalog(connection, last_ts))
            state = HistoryState.of(snapshot, clock, measure(snapshot))
            floor = policy.floor(state, now_us)
            unfinished = [tablet for tablet in tablets(snapshot) if tablet.state == "filling"]
            cleared = [tablet.table.tablet for tablet in (*unreadable_tablets(snapshot, floor), *unfinished)]
            counted = state.swept_row, floor, json.dumps(cleared)
            (revisions,) = connection.execute(statements.COUNT_PURGEABLE, counted).fetchone()
        except sqlite3.Error as error:
            raise translate(error, data.database) from error
    return floor, revisions


async def _no_pause() -> None:
    """Return without pausing: no other writer waits."""


def _rewrite(data: DataFolder, progress: Progress | None) -> None:
    try:
        with (
            atomic_file(data.database, replace=True) as unfinished,
            closing(database_file.open_writer(data.database, "full")) as connection,
        ):
            with _reporting_growth(connection, unfinished, progress):
                connection.execute("VACUUM INTO ?", (str(unfinished),))
            database_file.end_log(connection)
    except sqlite3.Error as error:
        raise translate(error, data.database) from error


@contextmanager
def _reporting_growth(connection: sqlite3.Connection, file: Path, progress: Progress | None) -> Iterator[None]:
    """Report the size of the new file while SQLite writes it."""
    if progress is None:
        yield
        return
    (total,) = connection.execute(statements.USED_BYTES).fetchone()

    def report() -> int:
        progress(min(file.stat().st_size, total - 1), total)  # SQLite's cache still holds the last pages
        return 0  # continue

    connection.set_progress_handler(report, OPERATIONS_PER_REPORT)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
    progress(total, total)
