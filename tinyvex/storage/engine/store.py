"""
The store: one database file, one writer, a few readers.

It is the only object of the storage engine that the layers above use.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tinyvex.errors import DataFolderUnusable, FileDamaged, ServerStopping
from tinyvex.storage.engine.fair_shares import SYSTEM
from tinyvex.storage.engine.group_commit import Chore, Done, Participant, Unit
from tinyvex.storage.engine.readers import Job, Readers
from tinyvex.storage.engine.store_statistics import StoreStatistics
from tinyvex.storage.engine.writer import Writer
from tinyvex.storage.file import database_file
from tinyvex.storage.file.data_folder import DataFolder, FolderLock
from tinyvex.storage.file.last_commit import (
    LastCommit,
    LastCommitFile,
    require_no_missing_commits,
    require_not_lost,
    sync_earlier_commits,
)
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log.commit_feed import CommitFeed
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.housekeeping import Housekeeping
from tinyvex.storage.log.recent_commits import RecentCommits

if TYPE_CHECKING:
    from tinyvex.runtime import LoopThread, Runtime, Worker
    from tinyvex.storage.file.pragmas import Durability
    from tinyvex.storage.file.upgrade import Progress

__all__ = ["Store"]

T = TypeVar("T")


class Store:
    """
    An open database.

    All methods are called on the event loop to which the runtime is bound.

    Attributes:
        last_ts: the newest published commit.
        database_id: never changes.
        epoch: changes when the database is restored from a backup.
        on_commits: called on the loop with the commits of every group, in order, before their members are answered.
        feed: the same commits after that, for listeners that take them at their own pace.
        on_abandoned: called on the loop when a thread was abandoned, with the number of those that are still stuck;
            above THREADS_ABANDONED_MAX the process should end.
    """

    last_ts: int
    database_id: str
    epoch: str
    feed: CommitFeed

    def __init__(
        self,
        folder: DataFolder,
        runtime: Runtime,
        lock: FolderLock | None,
        durability: Durability,
        last_commit: LastCommit,
    ) -> None:
        self.folder = folder
        self._wal = folder.wal  # found once, because services ask for its size several times a second
        self.on_commits: Callable[[list[CommitRecord]], None] | None = None
        self.on_abandoned: Callable[[int], None] | None = None
        self._runtime = runtime
        self._lock = lock
        self._statistics = StoreStatistics(durability=durability)
        self._closing = False
        self._stuck: list[Worker | LoopThread] = []
        self._participants: list[Participant] = []
        # A read-only store does not learn of the other process's commits, so it has no recent ones.
        recent = None if lock is None else RecentCommits()
        self._readers = Readers(runtime, folder, self._statistics, self.thread_abandoned, recent)
        try:
            self._writer = None
            self._last_commit: LastCommitFile | None = None
            if recent is not None:
                self._last_commit = LastCommitFile(folder.last_commit, last_commit)
                self._participants.append(recent)
                self._writer = Writer(
                    runtime,
                    folder,
                    durability,
                    self._statistics,
                    self._publish,
                    self.thread_abandoned,
                    self._participants,
                    self._last_commit.record,
                )
        except BaseException:
            self._readers.close()
            if self._last_commit is not None:
                self._last_commit.close()
            raise

    @classmethod
    def open(cls, folder: Path, runtime: Runtime, *, durability: Durability = "full", read_only: bool = False) -> Store:
        """
        Open the database of a data folder, and create it if it does not exist.

        Args:
            folder: created if it does not exist.
            runtime: bound to the loop on which the store is used.
            durability: `full`: acknowledged commits survive a power failure; `normal`: they survive the death of the
                process, but a power failure may lose the last ones.
            read_only: write nothing and do not lock the folder; another process may own it and write.

        Raises:
            DataFolderLocked: another process owns the folder.
            DataFolderUnusable: the folder cannot be created, read or written.
            FileDamaged: the file is damaged, lacks acknowledged commits, or is not a Tinyvex database; it was not changed.
            FileTooNew: a newer Tinyvex wrote the file; it was not changed.
            DiskFull: the disk has no room for a new database.
        """
        data = DataFolder(folder)
        if read_only:
            data.require_database()
            return cls._opened(data, runtime, None, durability)
        data.prepare()
        lock = data.lock()
        try:
            if not data.database.exists():
                require_not_lost(data.last_commit, data.database)
                database_file.create(data, runtime)
            database_file.roll_back_journal(data.database)
            _upgrade(data, None)
            data.remove_unfinished()
            data.restrict_to_owner()
            return cls._opened(data, runtime, lock, durability)
        except BaseException:
            lock.release()
            raise

    @staticmethod
    def is_older(folder: Path) -> bool:
        """Return whether a data folder has a database of an older format."""
        return database_file.is_older(DataFolder(folder).database)

    @staticmethod
    def upgrade(folder: Path, progress: Progress | None = None) -> None:
        """
        Upgrade the database of a data folder if it has an older format.

        `open` does the same, but a large file takes minutes, in which this may run in a thread.

        Args:
            folder: the data folder.
            progress: called with the rows copied and in total; it may raise an error to interrupt the upgrade.

        Raises:
            DataFolderLocked: another process owns the folder.
            StorageError: the file cannot be upgraded; see `upgrade_file`.
        """
        data = DataFolder(folder)
        if database_file.is_older(data.database):
            lock = data.lock()
            try:
                _upgrade(data, progress)
            finally:
                lock.release()

    @classmethod
    def _opened(cls, data: DataFolder, runtime: Runtime, lock: FolderLock | None, durability: Durability) -> Store:
        # A reader connection comes first: it refuses a file that is not ours before anything can change it.
        connection = database_file.open_reader(data.database)
        try:
            database_file.refuse_triggers(connection, data.database)
            stored = database_file.read_globals(connection)
            (sqlite_version,) = connection.execute("SELECT sqlite_version()").fetchone()
            last_commit = LastCommit(stored["epoch"], stored["last_ts"], durability)
            if lock is not None:
                require_no_missing_commits(data.last_commit, last_commit.epoch, last_commit.ts)
                if durability == "full":
                    sync_earlier_commits(data.last_commit, data.wal)
            store = cls(data, runtime, lock, durability, last_commit)
        except OSError as error:
            from tinyvex.storage.file.os_errors import translate_os_error

            raise translate_os_error(error, f"`{data.last_commit}` cannot be written") from error
        except sqlite3.Error as error:
            raise translate(error, data.database) from error
        except (ValueError, LookupError) as error:
            raise FileDamaged(
                f"the system tables of {data.database} cannot be read ({error}); restore a backup"
            ) from error
        finally:
            connection.close()
        store.last_ts = stored["last_ts"]
        store.feed = CommitFeed(store.last_ts, store._listener_failed)
        store.database_id = stored["database_id"]
        store.epoch = stored["epoch"]
        store._statistics.sqlite_version = sqlite_version
        return store

    # Writing.

    def write_nowait(self, unit: Unit, done: Done, *, limit_seconds: float | None = None, client: str = SYSTEM) -> None:
        """
        Run a unit of work on the writer's thread.

        Args:
            unit: called with the newest state and a timestamp of its own, possibly more than once.
            done: called on the loop with the value or the error, after the commit is durable and published.
            limit_seconds: the unit is stopped after this time and fails with `TimeLimitExceeded`.
            client: shares the writer fairly with others; its units run in order.

        Raises:
            Overloaded: too many units are waiting, and no client has more of them than this one.
            ServerStopping: the store is closing.
            DataFolderUnusable: the store was opened read-only.
        """
        self._open_writer().submit(unit, done, limit_seconds, client)

    def _open_writer(self) -> Writer:
        if self._closing:
            raise ServerStopping("the store is closing")
        if self._writer is None:
            raise DataFolderUnusable(f"{self.folder.path} was opened read-only")
        return self._writer

    def write(
        self,
        unit: Callable[[Snapshot, int], Outcome[T]],
        *,
        limit_seconds: float | None = None,
        client: str = SYSTEM,
    ) -> Awaitable[T]:
        """
        Run a unit of work on the writer's thread and wait for its commit; see `write_nowait`.

        Cancelling the wait does not cancel the unit.
        """
        future: asyncio.Future[T] = self._runtime.loop.create_future()
        self.write_nowait(unit, _resolve(future), limit_seconds=limit_seconds, client=client)
        return future

    def housekeep(self, chore: Callable[[Housekeeping], T]) -> Awaitable[T]:
        """
        Run local housekeeping on the writer's thread, and wait until it is durable; see `housekeeping.py`.

        Raises:
            Overloaded: too many units are waiting.
            ServerStopping: the store is closing.
            DataFolderUnusable: the store was opened read-only.
        """
        future: asyncio.Future[T] = self._runtime.loop.create_future()
        self._open_writer().submit(Chore(chore), _resolve(future), None)
        return future

    def add_participant(self, participant: Participant) -> None:
        """Let state in memory follow records inside the writer's transaction, from the next record on."""
        self._participants.append(participant)

    def _publish(self, commits: list[CommitRecord]) -> None:
        self.last_ts = commits[-1].ts
        try:
            if self.on_commits is not None:
                self.on_commits(commits)
        finally:
            self.feed.publish(commits)

    def _listener_failed(self, error: Exception) -> None:
        self._runtime.loop.call_exception_handler({"message": "a listener of commits", "exception": error})

    def thread_abandoned(self, worker: Worker | LoopThread) -> None:
        """Count a thread that is stuck in a function, and report it; called on the loop."""
        self._stuck = [known for known in self._stuck if known.alive()] + [worker]
        self._statistics.threads_abandoned += 1
        if self.on_abandoned is not None:
            self.on_abandoned(len(self._stuck))

    # Reading.

    def read_nowait(
        self,
        read: Callable[[Snapshot], Any],
        done: Done,
        *,
        at: int | None = None,
        limit_seconds: float | None = None,
        then: Callable[[Any], None] | None = None,
        client: str = SYSTEM,
        wanted: Callable[[], bool] | None = None,
        measure: Callable[[Any], int] | None = None,
        can_wait: bool = False,
    ) -> Job:
        """
        Run a read on a reader's thread, in one read transaction; return it for `hasten`.

        `done` receives `SnapshotUnavailable` if `at` is in the future or older than the retained history.

        Args:
            read: called with a snapshot, which ends when it returns.
            done: called on the loop with the value or the error.
            at: the timestamp to read at; None for the newest.
            limit_seconds: the read is stopped after this time and fails with `TimeLimitExceeded`.
            then: called with the value on the same thread, after the transaction and without the limit.
            client: shares the readers fairly with others.
            wanted: called on the reader's thread before the read; if it returns False, the read is not run.
            measure: returns the bytes of a value, which are bounded until it is delivered; see `undelivered.py`.
            can_wait: the read is not started while `hold_reads` is in effect for its client.

        Raises:
            Overloaded: too many reads are waiting, and no client has more of them than this one.
            ServerStopping: the store is closing.
        """
        if self._closing:
            raise ServerStopping("the store is closing")
        job = Job(read, done, at, limit_seconds, then, client, wanted, measure, can_wait=can_wait)
        self._readers.submit(job)
        return job

    def hold_reads(self, client: str) -> None:
        """Start no further read of this client that can wait, until `release_reads`: it does not read its answers."""
        self._readers.hold(client)

    def release_reads(self, client: str) -> None:
        """End `hold_reads`, if it is in effect."""
        self._readers.release(client)

    def hasten(self, job: Job, client: str) -> None:
        """Charge a waiting read to a further client that wants it, if it runs sooner in that client's turn."""
        self._readers.hasten(job, client)

    def next_reader(self, clients: Iterable[str]) -> str:
        """Return the client of these whose read would run first."""
        return min(clients, key=self._readers.queue.turn_of)

    def read(
        self,
        read: Callable[[Snapshot], T],
        *,
        at: int | None = None,
        limit_seconds: float | None = None,
        client: str = SYSTEM,
    ) -> Awaitable[T]:
        """Run a read on a reader's thread and wait for its value; see `read_nowait`."""
        future: asyncio.Future[T] = self._runtime.loop.create_future()
        self.read_nowait(read, _resolve(future), at=at, limit_seconds=limit_seconds, client=client)
        return future

    # Statistics and closing.

    def statistics(self) -> StoreStatistics:
        """Return the figures for `stats` and `/metrics`; always the same object, updated by this call."""
        figures = self._statistics
        figures.wal_bytes = _size(self._wal)
        figures.file_bytes = _size(self.folder.database)
        figures.queue_length = 0 if self._writer is None else self._writer.queue_length()
        figures.threads_stuck = sum(worker.alive() for worker in self._stuck)
        figures.read_queue_length = self._readers.queue_length()
        return figures

    async def close(self, *, limit_seconds: float | None = None) -> None:
        """
        Close; idempotent.

        1. Refuse new work.
        2. Wait until all queued units are committed and answered. After the limit, roll back the rest and answer it with
           `ServerStopping`.
        3. Stop the threads; reads that are still queued are never answered.
        4. Checkpoint and close the file.
        5. Release the folder's lock.

        Args:
            limit_seconds: how long step 2 may wait; None for no limit.
        """
        if self._closing:
            return
        self._closing = True
        if self._writer is not None:
            drained = asyncio.Event()
            self._writer.call_when_idle(drained.set)
            try:
                async with asyncio.timeout(limit_seconds):
                    await drained.wait()
            except TimeoutError:
                self._writer.cancel_pending(
                    ServerStopping("the store closed before this was done; nothing of it was written")
                )
                await drained.wait()
        self._readers.close()
        if self._writer is not None:
            self._writer.close()
        if self._last_commit is not None:
            self._last_commit.close()
        if self._lock is not None:
            self._lock.release()


def _upgrade(data: DataFolder, progress: Progress | None) -> None:
    if database_file.is_older(data.database):
        from tinyvex.storage.file.upgrade import upgrade_file  # not needed by most starts

        upgrade_file(data.database, progress)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _resolve(future: asyncio.Future[Any]) -> Done:
    def done(value: Any, error: BaseException | None) -> None:
        if future.done():
            return  # the wait was cancelled
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    return done
