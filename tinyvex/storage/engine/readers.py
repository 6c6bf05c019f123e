"""
Readers: a few threads, each with a read-only connection, one read transaction for each piece of work.

A read learns its `ts` inside its own transaction,
so what it sees and what it says it saw are the same, whatever commits meanwhile.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from tinyvex.errors import FileDamaged, Overloaded, SnapshotUnavailable, TimeLimitExceeded
from tinyvex.limits import READER_QUEUE_MAX, READER_THREADS
from tinyvex.storage.engine.time_limit import Abandoned, Guard, Stopped, Watch
from tinyvex.storage.file import pragmas, statements
from tinyvex.storage.file.database_file import open_reader
from tinyvex.storage.file.sqlite_errors import translate
from tinyvex.storage.log.catalog import Catalog, load_catalog
from tinyvex.storage.log.document_log import Snapshot

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime, Worker
    from tinyvex.storage.engine.group_commit import Done
    from tinyvex.storage.engine.store_statistics import StoreStatistics
    from tinyvex.storage.file.data_folder import DataFolder
    from tinyvex.storage.log.recent_commits import RecentCommits

__all__ = ["Read", "Readers", "SnapshotSource"]

Read: TypeAlias = Callable[[Snapshot], Any]


JOIN_SECONDS = 0.5
"""How long closing waits for a reader that is in the middle of something; this is on the loop."""


class SnapshotSource:
    """Opens snapshots on one connection, and remembers the catalog between them."""

    def __init__(self, connection: sqlite3.Connection, tail: RecentCommits | None = None) -> None:
        self.connection = connection
        self._tail = tail
        self._catalog = Catalog(-1, ())
        self._floor_ts = 0

    def begin(self, at: int | None) -> Snapshot:
        """
        Begin a read transaction.

        Args:
            at: the timestamp to read at; None for the newest.

        Raises:
            SnapshotUnavailable: `at` is in the future, or older than what is kept.
            sqlite3.Error: as it came.
        """
        self.connection.execute("BEGIN")
        last_ts, catalog_ts, self._floor_ts = self.connection.execute(statements.SNAPSHOT).fetchone()
        ts = last_ts if at is None else at
        if ts > last_ts:
            raise SnapshotUnavailable(f"ts {ts} is in the future: the last commit is {last_ts}", lastTs=last_ts)
        if ts < self._floor_ts:
            raise SnapshotUnavailable(f"ts {ts} is older than what is kept: {self._floor_ts}", floorTs=self._floor_ts)
        return Snapshot(
            self.connection,
            ts,
            self._catalog_at(ts, catalog_ts),
            newest=ts == last_ts,
            floor=lambda: self._floor_ts,
            tail=self._tail,
        )

    def _catalog_at(self, ts: int, catalog_ts: int) -> Catalog:
        if ts < catalog_ts:
            return load_catalog(self.connection, ts)
        if self._catalog.ts != catalog_ts:
            self._catalog = load_catalog(self.connection, catalog_ts)
        return self._catalog

    def end(self) -> None:
        """End the transaction; nothing where none is open."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


class Job:
    """A read that waits or runs; see `Store.read_nowait`."""

    __slots__ = ("at", "done", "error", "limit_seconds", "read", "then", "value")

    def __init__(
        self,
        read: Read,
        done: Done,
        at: int | None,
        limit_seconds: float | None,
        then: Callable[[Any], None] | None = None,
    ) -> None:
        self.read = read
        self.done = done
        self.at = at
        self.limit_seconds = limit_seconds
        self.then = then
        self.value: Any = None
        self.error: BaseException | None = None


class Readers:
    """
    The queue of reads, and the loop's side of the threads.

    Args:
        abandoned: called on the loop with a worker that was given up.
        tail: what the writer has done last; None where it is another process's.
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: DataFolder,
        statistics: StoreStatistics,
        abandoned: Callable[[Worker], None],
        tail: RecentCommits | None = None,
    ) -> None:
        self.runtime = runtime
        self.folder = folder
        self.statistics = statistics
        self.tail = tail
        self.queue: deque[Job] = deque()
        self._abandoned = abandoned
        self._answered: deque[Job] = deque()
        self._answers_posted = False
        self._unfinished = 0
        self._watch = Watch(runtime, self._look, lambda: self._unfinished > 0)
        with contextlib.ExitStack() as opened:  # where one cannot be opened, none stays open
            connections = [
                opened.enter_context(contextlib.closing(open_reader(folder.database))) for _ in range(READER_THREADS)
            ]
            opened.pop_all()
        self._threads = [_Reader(self, connection) for connection in connections]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """
        Queue a read; its `done` is called on the loop.

        Raises:
            Overloaded: the queue is full.
        """
        if self._unfinished >= READER_QUEUE_MAX:
            raise Overloaded(f"{self._unfinished} reads wait, the most there may be")
        self._unfinished += 1
        self.queue.append(job)
        if job.limit_seconds is not None:
            self._watch.expect(job.limit_seconds)
        for thread in self._threads:
            if thread.idle:
                # One is enough; those that are busy look at the queue before they sleep.
                thread.idle = False
                thread.worker.wake()
                break

    def queue_length(self) -> int:
        """Reads that were queued and have not been answered."""
        return self._unfinished

    def answer(self, job: Job) -> None:
        """From a reader's thread: one callback on the loop serves all that were answered meanwhile."""
        self._answered.append(job)
        if not self._answers_posted:
            self._answers_posted = True
            self.runtime.post(self._deliver)

    def _deliver(self) -> None:
        # Cleared before looking: whoever answers from here on posts again.
        self._answers_posted = False
        answered = self._answered
        while answered:
            job = answered.popleft()
            self._unfinished -= 1
            self.statistics.reads += 1
            try:
                job.done(job.value, job.error)
            except Exception as error:  # noqa: BLE001 - one defective callback must not keep the others waiting
                self.runtime.loop.call_exception_handler({"message": "a read's callback", "exception": error})

    def _look(self) -> float | None:
        waits = []
        for place, thread in enumerate(self._threads):
            wait = thread.guard.check()
            if wait is not None and wait < 0:
                self._abandon(place)
            elif wait is not None:
                waits.append(wait)
        return min(waits, default=None)

    def _abandon(self, place: int) -> None:
        """Go on without a thread that does not come back."""
        stuck = self._threads[place]
        stuck.worker.stop(0)
        self._abandoned(stuck.worker)
        assert stuck.job is not None
        stuck.job.error = TimeLimitExceeded(
            f"ran longer than {stuck.job.limit_seconds:g} s and did not react to being stopped"
        )
        self.answer(stuck.job)
        stuck.roll_back_from_outside()  # its snapshot would keep the write-ahead log from ever being emptied
        self._threads[place] = _Reader(self, None)
        self._threads[place].start()

    def close(self) -> None:
        """Stop the threads and close their connections; a thread that does not stop in time keeps its own."""
        self._watch.cancel()
        for thread in self._threads:
            thread.worker.stop(0)  # all at once; then wait
        for thread in self._threads:
            if thread.worker.stop(JOIN_SECONDS) and thread.source is not None:
                thread.source.connection.close()


class _Reader:
    """One thread's part; `connection` None to open one on it."""

    def __init__(self, readers: Readers, connection: sqlite3.Connection | None) -> None:
        self.readers = readers
        self.guard = Guard(readers.runtime, self._stop)
        self.source = None if connection is None else SnapshotSource(connection, readers.tail)
        self.job: Job | None = None
        self.idle = False
        self._ending = threading.Lock()
        self._ended = False
        self.worker: Worker

    def start(self) -> None:
        """Begin."""
        self.worker = self.readers.runtime.start_worker("tinyvex-reader", self._step)

    def _stop(self) -> None:
        assert self.source is not None
        self.source.connection.interrupt()
        self.worker.interrupt(Stopped)

    def roll_back_from_outside(self) -> None:
        """End the transaction of a thread that was given up; on the loop."""
        with self._ending:
            if not self._ended and self.source is not None:
                with contextlib.suppress(sqlite3.Error):
                    self.source.end()

    # On the reader's thread from here on.

    def _step(self) -> bool:
        queue = self.readers.queue
        try:
            job = queue.popleft()
        except IndexError:
            self.idle = True
            # Looked at again after the mark is set, so no read is queued without somebody to wake.
            return bool(queue)
        self.idle = False
        self.job = job
        try:
            self._run(job)
        except Abandoned:
            return False
        self.readers.answer(job)
        return True

    def _run(self, job: Job) -> None:
        try:
            if self.source is None:
                self.source = SnapshotSource(open_reader(self.readers.folder.database), self.readers.tail)
            try:
                snapshot = self.source.begin(job.at)
                try:
                    if job.limit_seconds is None:
                        job.value = job.read(snapshot)
                    else:
                        job.value = self.guard.run(lambda: job.read(snapshot), job.limit_seconds)
                finally:
                    snapshot.end()
            except Abandoned:
                with self._ending:  # the loop may be rolling back just now
                    self._ended = True
                    self.source.connection.close()
                raise
            finally:
                if not self._ended:
                    self.source.end()
            if job.then is not None:
                job.then(job.value)
        except Abandoned:
            raise
        except sqlite3.Error as error:
            job.error = translate(error, self.readers.folder.database)
        except BaseException as error:  # noqa: BLE001 - whatever a read raises is its caller's, not this thread's
            job.error = error
        if isinstance(job.error, FileDamaged) and self.source is not None:
            pragmas.forget_pages(self.source.connection)
