"""
The writer: one thread owns the connection that writes, and receives functions, not statements.

::

    loop                                   writer thread
    submit ─► queue ───────────────────►   GroupCommit.run: one transaction (group_commit.py)
    finished ◄─── one callback per group ──┘
        1. publish the group's commits, in order
        2. answer every member

Nothing is published or acknowledged before COMMIT.

This file is the shell around the group commit: the queue and its bound, the thread, time limits, and checkpoints between
groups. A unit that ignores its time limit occupies its thread. That thread is *abandoned*: another one opens a new
connection, rolls back what the abandoned one left open, and runs the other members of its group again. None of them had
been acknowledged.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tinyvex.errors import Overloaded, TimeLimitExceeded, TinyvexError
from tinyvex.limits import (
    CHECKPOINT_IDLE_SECONDS,
    TRUNCATE_IDLE_SECONDS,
    WAL_BYTES_CHECKPOINT,
    WAL_BYTES_LULL,
    WAL_BYTES_MAX,
    WAL_BYTES_TRUNCATE,
    WRITER_QUEUE_MAX,
)
from tinyvex.storage.engine.checkpoints import CheckpointMode
from tinyvex.storage.engine.fair_shares import SYSTEM
from tinyvex.storage.engine.group_commit import (
    Chore,
    Done,
    Group,
    GroupCommit,
    Member,
    Participant,
    Unit,
    fail_group,
)
from tinyvex.storage.engine.time_limit import Abandoned, Guard, Stopped, Watch
from tinyvex.storage.engine.work_queue import WorkQueue
from tinyvex.storage.file.database_file import open_writer
from tinyvex.storage.log.commit_record import CommitRecord, Outcome

if TYPE_CHECKING:
    import asyncio

    from tinyvex.runtime import Runtime, Worker
    from tinyvex.storage.engine.store_statistics import StoreStatistics
    from tinyvex.storage.file.data_folder import DataFolder
    from tinyvex.storage.file.pragmas import Durability

__all__ = ["Writer"]


class Writer:
    """
    The queue and the event loop's side of the writer.

    Args:
        publish: called on the loop with the commits of a group, before its members are answered.
        abandoned: called on the loop with the worker of an abandoned thread.
        participants: follow records inside the transaction; the list may grow.
        committed: called on the writer's thread with the `ts` of a durable commit, before it is published.
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: DataFolder,
        durability: Durability,
        statistics: StoreStatistics,
        publish: Callable[[list[CommitRecord]], None],
        abandoned: Callable[[Worker], None],
        participants: list[Participant],
        committed: Callable[[int], None],
    ) -> None:
        self._runtime = runtime
        self._folder = folder
        self._durability: Durability = durability
        self._statistics = statistics
        self._participants = participants
        self._committed = committed
        self._publish = publish
        self._abandoned = abandoned
        self._queue: WorkQueue[Member] = WorkQueue()
        self._unfinished = 0
        self._is_abandoned = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._on_idle: Callable[[], None] | None = None
        self._watch = Watch(runtime, self._check_time_limit, lambda: self._unfinished > 0)
        self._thread = self._new_thread(None)
        self._thread.open()
        self._thread.start()

    def _new_thread(self, left: WriterThread | None) -> WriterThread:
        return WriterThread(
            self._runtime, self._folder, self._durability, self._statistics, self._queue, self._finished,
            self._participants, self._committed, left,
        )  # fmt: skip

    def submit(self, work: Unit | Chore, done: Done, limit_seconds: float | None, client: str = SYSTEM) -> None:
        """
        Queue a unit or a chore; `done` is called on the loop.

        If the queue is full, the newest unit of the client with the most is answered with `Overloaded` in its place.

        Raises:
            Overloaded: the queue is full, and no client has more units in it than this one.
        """
        if self._unfinished >= WRITER_QUEUE_MAX:
            self._make_room(client)
        self._unfinished += 1
        self._queue.push(Member(work, done, limit_seconds, client))
        if limit_seconds is not None:
            self._watch.expect(limit_seconds)
        self._thread.worker.wake()

    def _make_room(self, client: str) -> None:
        error = Overloaded(
            f"{self._unfinished} mutations are waiting for the writer, which is the limit; try again later"
        )
        evicted = self._queue.evict(client)
        if evicted is None:
            raise error
        evicted.error = error
        self._runtime.loop.call_soon(self._finished, Group([evicted]))

    def queue_length(self) -> int:
        """Return how many units were queued and have not been answered."""
        return self._unfinished

    def call_when_idle(self, callback: Callable[[], None]) -> None:
        """Call once, as soon as nothing waits or runs; immediately if that is now."""
        if self._unfinished == 0:
            callback()
        else:
            self._on_idle = callback

    def _finished(self, group: Group) -> None:
        """Publish a group's commits and answer its members; called on the loop."""
        statistics = self._statistics
        statistics.groups += 1
        statistics.group_sizes.add(len(group.members))
        if group.commits:
            statistics.commits += len(group.commits)
            statistics.commit_seconds.add(group.commit_seconds)
        self._unfinished -= len(group.members)
        try:
            if group.commits:
                self._publish(group.commits)
        finally:
            for member in group.members:
                if member.error is not None:
                    statistics.failed_units += 1
                try:
                    member.done(member.value, member.error)
                except Exception as error:  # noqa: BLE001 - a defective callback must not delay the other answers
                    self._runtime.loop.call_exception_handler({"message": "a commit's callback", "exception": error})
                member.error = None  # its traceback has frames that refer to the member
            if self._unfinished == 0:
                self._idle()

    # Pauses: the loop sees them, the thread uses them for checkpoints.

    def _idle(self) -> None:
        if self._on_idle is not None:
            callback, self._on_idle = self._on_idle, None
            callback()
        elif self._idle_timer is None:
            self._expect_pause(CHECKPOINT_IDLE_SECONDS)

    def _expect_pause(self, seconds: float) -> None:
        groups = self._statistics.groups
        self._idle_timer = self._runtime.loop.call_later(seconds, self._pause, seconds, groups)

    def _pause(self, seconds: float, groups: int) -> None:
        """Request a checkpoint if no group ran since: a quick one in a short pause, a complete one in a long pause."""
        self._idle_timer = None
        if self._unfinished > 0:
            return  # `_idle` is called when they are finished
        if self._statistics.groups != groups:
            self._expect_pause(CHECKPOINT_IDLE_SECONDS)
            return
        if seconds == CHECKPOINT_IDLE_SECONDS:
            self._thread.checkpoint_wanted = "PASSIVE"
            self._expect_pause(TRUNCATE_IDLE_SECONDS)
        else:
            self._thread.checkpoint_wanted = "TRUNCATE"
        self._thread.worker.wake()

    # Time limits.

    def _check_time_limit(self) -> float | None:
        wait = self._thread.guard.check()
        if wait is not None and wait < 0:
            self._abandon()
            return None
        return wait

    def _abandon(self) -> None:
        """Replace a thread whose unit does not return; the other members of its group run again."""
        stuck = self._thread
        stuck.worker.stop(0)
        self._abandoned(stuck.worker)
        assert stuck.running is not None
        for member in reversed(stuck.group_members()):
            if member is not stuck.running:
                member.value = member.error = None
                self._queue.put_back(member)
        assert stuck.running.limit_seconds is not None
        self._queue.charge(stuck.running.client, stuck.running.limit_seconds)
        self._thread = self._new_thread(stuck)
        self._thread.start()
        stuck.running.error = TimeLimitExceeded(
            f"ran longer than its time limit of {stuck.running.limit_seconds:g} s and did not stop when interrupted;"
            " nothing was written"
        )
        self._finished(Group([stuck.running]))

    # Closing.

    def cancel_pending(self, error: TinyvexError) -> None:
        """
        Answer all unfinished members with `error`; what runs now is rolled back, unless it is committing already.

        A function of the app is abandoned. The engine's own units, which have no time limit, end at their next page.
        """
        thread = self._thread
        self._is_abandoned = thread.guard.abandon()
        # In this order: an abandoned thread takes nothing more from the queue.
        members = self._queue.drain()
        if self._is_abandoned:
            thread.worker.stop(0)
            self._abandoned(thread.worker)
            thread.roll_back_from_outside()
            members = thread.group_members() + members
        elif thread.group_commit is not None:
            thread.group_commit.cancel(error)
        for member in members:
            member.value, member.error = None, error
        if members:
            self._finished(Group(members))

    def close(self) -> None:
        """Stop the thread and close its connection; the queue must be empty."""
        assert self._unfinished == 0
        self._watch.cancel()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if not self._is_abandoned:  # an abandoned thread closes its connection itself, if it ever returns
            self._thread.close()


class WriterThread:
    """
    The thread that runs groups, until it is closed or abandoned.

    Args:
        queue: shared with the loop.
        finished: called on the loop with each group.
        committed: called on this thread with the `ts` of each durable group, before `finished`.
        left: an abandoned thread that this one replaces.

    Attributes:
        running: the member whose unit is running under a time limit.
        checkpoint_wanted: requested by the loop, done when the queue is empty.
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: DataFolder,
        durability: Durability,
        statistics: StoreStatistics,
        queue: WorkQueue[Member],
        finished: Callable[[Group], None],
        participants: list[Participant],
        committed: Callable[[int], None],
        left: WriterThread | None,
    ) -> None:
        self.guard = Guard(runtime, self._interrupt)
        self.running: Member | None = None
        self.checkpoint_wanted: CheckpointMode | None = None
        self.worker: Worker
        self.group_commit: GroupCommit | None = None
        self._runtime = runtime
        self._folder = folder
        self._durability: Durability = durability
        self._statistics = statistics
        self._queue = queue
        self._finished = finished
        self._participants = participants
        self._committed = committed
        self._left = left
        self._ending = threading.Lock()
        self._ended = False

    def open(self) -> GroupCommit:
        """
        Open the connection, after rolling back what an abandoned thread left open.

        Raises:
            StorageError: the file cannot be opened for writing.
            sqlite3.Error: the catalog cannot be read.
        """
        if self._left is not None:
            self._left.roll_back_from_outside()
        connection = open_writer(self._folder.database, self._durability)
        try:
            group_commit = GroupCommit(
                connection, self._folder.database, self._runtime, self._participants, self._run_limited,
                self._queue.charge,
            )  # fmt: skip
        except BaseException:
            connection.close()
            raise
        self._left = None
        self.group_commit = group_commit
        return group_commit

    def start(self) -> None:
        """Start the thread."""
        self.worker = self._runtime.start_worker("tinyvex-writer", self._step)

    def group_members(self) -> list[Member]:
        """Return the members of the group that is running."""
        return [] if self.group_commit is None else self.group_commit.group.members

    # On this thread.

    def _step(self) -> bool:
        if not self._queue:
            self._checkpoint_when_idle()
            return False
        try:
            group = self._run_group()
        except Abandoned:
            self._end()
            return False
        if group.commits:
            self._committed(group.commits[-1].ts)
        self._statistics.failed_groups += group.failed
        self._runtime.post(self._finished, group)
        return bool(self._queue)

    def _run_group(self) -> Group:
        try:
            group_commit = self.group_commit or self.open()
            self._checkpoint_if_above(WAL_BYTES_MAX)
        except Exception as error:  # noqa: BLE001 - `fail_group` logs what it does not expect
            if self.group_commit is not None:
                return self.group_commit.fail_next(self._queue, error)
            group = Group()
            fail_group(group, self._queue, error, self._folder.database)
            return group
        return group_commit.run(self._queue)

    def _run_limited(self, member: Member, call: Callable[[], Outcome[Any]]) -> Outcome[Any]:
        self.running = member
        assert member.limit_seconds is not None
        return self.guard.run(call, member.limit_seconds)

    def _end(self) -> None:
        """Close the connection after the unit returned late; the replacement may be rolling back at the same time."""
        assert self.group_commit is not None
        with self._ending:
            self._ended = True
            self.group_commit.connection.close()

    # Checkpoints: never concurrently with a commit, because this thread makes both.

    def _checkpoint_when_idle(self) -> None:
        """Checkpoint a large log whenever the queue is empty, any log in a pause; truncate a grown one in a long pause."""
        wanted, self.checkpoint_wanted = self.checkpoint_wanted, None
        with contextlib.suppress(sqlite3.Error, OSError):  # housekeeping: a fault that matters shows at the next commit
            if wanted == "TRUNCATE":
                if self._folder.wal.stat().st_size > WAL_BYTES_TRUNCATE:
                    self.checkpoint("TRUNCATE")
            elif wanted == "PASSIVE":
                self._checkpoint_if_above(WAL_BYTES_CHECKPOINT)
            else:
                self._checkpoint_if_above(WAL_BYTES_LULL)

    def _checkpoint_if_above(self, limit_bytes: int) -> None:
        if self.group_commit is not None and self.group_commit.wal.is_above(limit_bytes):
            self.checkpoint("PASSIVE")

    def checkpoint(self, mode: CheckpointMode = "TRUNCATE") -> None:
        """Copy the write-ahead log into the file; see `WriteAheadLog.checkpoint`."""
        if self.group_commit is not None:
            self.group_commit.wal.checkpoint(self.group_commit.connection, mode)
            self._statistics.checkpoints += 1

    # On the loop.

    def _interrupt(self) -> None:
        assert self.group_commit is not None
        self.group_commit.connection.interrupt()
        self.worker.interrupt(Stopped)

    def roll_back_from_outside(self) -> None:
        """End the transaction of this abandoned thread; called by its replacement, or when the store closes."""
        if self.group_commit is None:
            return
        with self._ending:
            if not self._ended:
                with contextlib.suppress(sqlite3.Error):  # the transaction may have ended already
                    self.group_commit.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Stop the thread, checkpoint, and close the connection."""
        self.worker.stop()
        if self._left is not None:
            self._left.roll_back_from_outside()  # no group ran after it, so no replacement connection was opened
        if self.group_commit is not None:
            with contextlib.suppress(sqlite3.Error):  # the log stays next to the file and is read at the next open
                self.checkpoint()
            self.group_commit.connection.close()
