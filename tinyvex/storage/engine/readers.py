"""
Readers: a few threads, each with a read-only connection, and one read transaction per read.

A read learns its `ts` inside its own transaction: it selects `last_ts` there and reads as of that commit. So the state
that it returns and the timestamp that it reports belong together, whatever commits concurrently.

SQLite's readers do not block the writer, nor it them. But an open read transaction prevents the write-ahead log from being
restarted, so a reader thread that exceeds its time limit is abandoned, its transaction is ended from outside, and another
thread takes its place.

Clients share the readers by the run time of their reads and of what follows them (`fair_shares.py`). At most
READS_RUNNING_PER_CLIENT_MAX reads of one client run concurrently.

Results of LARGE_RESULT_BYTES and more are admitted before they are computed (`undelivered.py`).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from tinyvex.errors import FileDamaged, Overloaded, SnapshotUnavailable, TimeLimitExceeded
from tinyvex.limits import LARGE_RESULT_BYTES, READER_QUEUE_MAX, READER_THREADS, READS_RUNNING_PER_CLIENT_MAX
from tinyvex.storage.engine.fair_shares import SYSTEM
from tinyvex.storage.engine.time_limit import Abandoned, Guard, Stopped, Watch
from tinyvex.storage.engine.undelivered import HeldReads, UndeliveredResults
from tinyvex.storage.engine.work_queue import WorkQueue
from tinyvex.storage.file import pragmas
from tinyvex.storage.file.database_file import open_reader, read_snapshot_globals
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
"""The time that closing waits for a busy reader; this blocks the loop."""


class SnapshotSource:
    """Opens snapshots on one connection, and caches the catalog between them."""

    def __init__(self, connection: sqlite3.Connection, recent: RecentCommits | None = None) -> None:
        self.connection = connection
        self._recent = recent
        self._catalog = Catalog(-1, ())
        self._floor_ts = 0

    def begin(self, at: int | None) -> Snapshot:
        """
        Begin a read transaction.

        Args:
            at: the timestamp to read at; None for the newest.

        Raises:
            SnapshotUnavailable: `at` is in the future, or older than the retained history.
            FileDamaged: a global value has a wrong checksum.
            sqlite3.Error: as raised by SQLite.
        """
        self.connection.execute("BEGIN")
        catalog_ts, self._floor_ts, last_ts = read_snapshot_globals(self.connection)
        ts = last_ts if at is None else at
        if ts > last_ts:
            raise SnapshotUnavailable(f"ts {ts} is in the future: the last commit is {last_ts}", lastTs=last_ts)
        if ts < self._floor_ts:
            raise SnapshotUnavailable(
                f"ts {ts} is older than the retained history, which begins at {self._floor_ts}", floorTs=self._floor_ts
            )
        return Snapshot(
            self.connection,
            ts,
            self._catalog_at(ts, catalog_ts),
            newest=ts == last_ts,
            floor=lambda: self._floor_ts,
            recent=self._recent,
            last_ts=last_ts if ts >= catalog_ts else None,
        )

    def _catalog_at(self, ts: int, catalog_ts: int) -> Catalog:
        if ts < catalog_ts:
            return load_catalog(self.connection, ts)
        if self._catalog.ts != catalog_ts:
            self._catalog = load_catalog(self.connection, catalog_ts)
        return self._catalog

    def end(self) -> None:
        """End the transaction, if one is open."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


class Job:
    """A queued or running read; see `Store.read_nowait`."""

    __slots__ = (
        "at", "can_wait", "client", "done", "error", "large_bytes", "limit_seconds", "measure", "read", "seconds", "then",
        "value", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        read: Read,
        done: Done,
        at: int | None,
        limit_seconds: float | None,
        then: Callable[[Any], None] | None = None,
        client: str = SYSTEM,
        wanted: Callable[[], bool] | None = None,
        measure: Callable[[Any], int] | None = None,
        *,
        can_wait: bool = False,
    ) -> None:
        self.client = client
        self.wanted = wanted
        self.measure = measure
        self.can_wait = can_wait
        self.read = read
        self.done = done
        self.at = at
        self.limit_seconds = limit_seconds
        self.then = then
        self.seconds = 0.0
        self.large_bytes = 0
        self.value: Any = None
        self.error: BaseException | None = None


class Readers:
    """
    The queue of reads, and the event loop's side of the threads.

    Args:
        abandoned: called on the loop with the worker of an abandoned thread.
        recent: the writer's last commits; None if the writer is another process.
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: DataFolder,
        statistics: StoreStatistics,
        abandoned: Callable[[Worker], None],
        recent: RecentCommits | None = None,
    ) -> None:
        self.runtime = runtime
        self.folder = folder
        self.statistics = statistics
        self.recent = recent
        self.queue: WorkQueue[Job] = WorkQueue(READS_RUNNING_PER_CLIENT_MAX)
        self.undelivered = UndeliveredResults()
        self._held: HeldReads[Job] = HeldReads()
        self._abandoned = abandoned
        self._answered: deque[Job] = deque()
        self._answers_posted = False
        self._unfinished = 0
        self._watch = Watch(runtime, self._look, lambda: self._unfinished > 0)
        with contextlib.ExitStack() as opened:  # if one cannot be opened, none stays open
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

        If the queue is full, the newest read of the client with the most is answered with `Overloaded` in its place.

        Raises:
            Overloaded: the queue is full, and no client has more reads in it than this one.
        """
        if self._unfinished >= READER_QUEUE_MAX:
            self._make_room(job.client)
        self._unfinished += 1
        if job.can_wait and self._held.add(job):
            return
        self.queue.push(job)
        if job.limit_seconds is not None:
            self._watch.expect(job.limit_seconds)
        if (
            self.queue
        ):  # otherwise its client is at its bound: the thread that finishes the client's read takes this one
            self._wake_one()

    def hasten(self, job: Job, client: str) -> None:
        """Charge a waiting read to a further client that wants it, if it runs sooner in that client's turn."""
        if self.queue.move(job, client) and self.queue:
            self._wake_one()

    def hold(self, client: str) -> None:
        """Start no further read of this client that can wait, until `release`: it does not read its answers."""
        self._held.hold(client, self.queue.withdraw(client, lambda job: job.can_wait))

    def release(self, client: str) -> None:
        """End `hold`, if it is in effect."""
        for job in self._held.release(client):
            self.queue.push(job)
            if job.limit_seconds is not None:
                self._watch.expect(job.limit_seconds)
        self._wake_all()

    def _wake_one(self) -> None:
        for thread in self._threads:
            if thread.idle:
                # One is enough: busy threads check the queue before they sleep.
                thread.idle = False
                thread.worker.wake()
                break

    def _wake_all(self) -> None:
        for thread in self._threads:
            if thread.idle:
                thread.idle = False
                thread.worker.wake()

    def _make_room(self, client: str) -> None:
        error = Overloaded(f"{self._unfinished} reads are waiting, which is the limit; try again later")
        evicted = self.queue.evict(client, self._held.most()) or self._held.evict(client)
        if evicted is None:
            raise error
        evicted.error = error
        self.answer(evicted)

    def queue_length(self) -> int:
        """Return how many reads were queued and have not been answered."""
        return self._unfinished

    def answer(self, job: Job) -> None:
        """Post an answer from a reader's thread; one callback on the loop delivers all that have accumulated."""
        self._answered.append(job)
        if not self._answers_posted:
            self._answers_posted = True
            self.runtime.post(self._deliver)

    def _deliver(self) -> None:
        # Cleared before the queue is read: a thread that answers from here on posts again.
        self._answers_posted = False
        answered = self._answered
        for _ in range(len(answered)):  # later ones post again, so that long answers leave the loop free between them
            job = answered.popleft()
            self._unfinished -= 1
            self.statistics.reads += 1
            try:
                job.done(job.value, job.error)
            except Exception as error:  # noqa: BLE001 - a defective callback must not delay the other answers
                self.runtime.loop.call_exception_handler({"message": "a read's callback", "exception": error})
            job.error = None  # its traceback has frames that refer to the job
            if job.large_bytes:
                job.value = None
                self.queue.charge(job.client, job.seconds)
                self.undelivered.remove(job.large_bytes)
                self._wake_all()

    def _look(self) -> float | None:
        waits = []
        for number, thread in enumerate(self._threads):
            wait = thread.guard.check()
            if wait is not None and wait < 0:
                self._abandon(number)
            elif wait is not None:
                waits.append(wait)
        return min(waits, default=None)

    def _abandon(self, number: int) -> None:
        """Replace a thread whose read does not return."""
        stuck = self._threads[number]
        stuck.worker.stop(0)
        self._abandoned(stuck.worker)
        assert stuck.job is not None
        stuck.job.error = TimeLimitExceeded(
            f"ran longer than its time limit of {stuck.job.limit_seconds:g} s and did not stop when interrupted"
        )
        assert stuck.job.limit_seconds is not None
        self.queue.charge(stuck.job.client, stuck.job.limit_seconds)
        self.answer(stuck.job)
        stuck.roll_back_from_outside()  # its snapshot would prevent the write-ahead log from being restarted
        self._threads[number] = _Reader(self, None)
        self._threads[number].start()

    def close(self) -> None:
        """Stop the threads and close their connections, except that of a thread that does not stop in time."""
        self._watch.cancel()
        for thread in self._threads:
            thread.worker.stop(0)  # stop all of them, then wait for each
        for thread in self._threads:
            if thread.worker.stop(JOIN_SECONDS) and thread.source is not None:
                thread.source.connection.close()


class _Reader:
    """A reader thread; with `connection` None it opens its own when it first runs."""

    def __init__(self, readers: Readers, connection: sqlite3.Connection | None) -> None:
        self.readers = readers
        self.guard = Guard(readers.runtime, self._stop)
        self.source = None if connection is None else SnapshotSource(connection, readers.recent)
        self.job: Job | None = None
        self.idle = False
        self._ending = threading.Lock()
        self._ended = False
        self.worker: Worker

    def start(self) -> None:
        """Start the thread."""
        self.worker = self.readers.runtime.start_worker("tinyvex-reader", self._step)

    def _stop(self) -> None:
        assert self.source is not None
        self.source.connection.interrupt()
        self.worker.interrupt(Stopped)

    def roll_back_from_outside(self) -> None:
        """End the transaction of this abandoned thread; called on the loop."""
        with self._ending:
            if not self._ended and self.source is not None:
                with contextlib.suppress(sqlite3.Error):
                    self.source.end()

    # On the reader's thread.

    def _step(self) -> bool:
        queue, undelivered = self.readers.queue, self.readers.undelivered
        try:
            job = None if undelivered.is_full else queue.popleft()
        except IndexError:
            job = None
        if job is None:
            self.idle = True
            # Checked again after `idle` is set, so that no read is queued without a thread to wake.
            return bool(queue) and not undelivered.is_full
        self.idle = False
        self.job = job
        started = self.readers.runtime.awake_seconds()
        try:
            if job.wanted is None or job.wanted():
                self._run(job)
            else:
                job.error = Overloaded("the client disconnected before its query could run")
        except Abandoned:
            return False
        job.seconds = self.readers.runtime.awake_seconds() - started
        size = 0 if job.measure is None or job.value is None else job.measure(job.value)
        if size >= LARGE_RESULT_BYTES:
            job.large_bytes = size
            undelivered.add(size)  # its client is charged, and may have a further read run, when it is delivered
        else:
            queue.charge(job.client, job.seconds)
        self.job = None
        self.readers.answer(job)
        return True

    def _run(self, job: Job) -> None:
        try:
            if self.source is None:
                self.source = SnapshotSource(open_reader(self.readers.folder.database), self.readers.recent)
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
                with self._ending:  # the loop may be rolling back at the same time
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
        except BaseException as error:  # noqa: BLE001 - an error of a read is for its caller, not for this thread
            job.error = error
        if isinstance(job.error, FileDamaged) and self.source is not None:
            pragmas.forget_pages(self.source.connection)
