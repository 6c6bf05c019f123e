"""
The writer: one thread owns the connection that writes, and is sent functions, not statements.

A group::

    BEGIN ─► unit, its record ─► unit, its record ─► … ─► COMMIT ─► one callback on the loop
               │                                                      1. the commits, in order
               └ raises: nothing of it was written, the others go on  2. every unit's `done`

Nothing is published or acknowledged before COMMIT.
If COMMIT fails, every member is told so and nothing is published.

A unit reads the newest state, including what members before it in the group wrote,
and buffers its own writes, so a unit that raises leaves nothing to take back.

The group is rolled back and its other members run again, with new timestamps, in two cases:
a record breaks a constraint, or a unit ran so long that its thread was given up.
Units must bear being run twice.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tinyvex.errors import Overloaded, TimeLimitExceeded, TinyvexError
from tinyvex.limits import CHECKPOINT_PAUSE_SECONDS, LOG_CUT_PAUSE_SECONDS, WRITER_QUEUE_MAX
from tinyvex.storage.engine.checkpoints import CheckpointMode
from tinyvex.storage.engine.group_commit import Done, Member, Unit, WriterThread
from tinyvex.storage.engine.time_limit import Watch
from tinyvex.storage.file.database_file import open_writer
from tinyvex.storage.log.commit_record import CommitRecord

if TYPE_CHECKING:
    import asyncio

    from tinyvex.runtime import Runtime, Worker
    from tinyvex.storage.engine.store_statistics import StoreStatistics
    from tinyvex.storage.file.data_folder import DataFolder
    from tinyvex.storage.file.pragmas import Durability
    from tinyvex.storage.log.recent_commits import RecentCommits

__all__ = ["Writer"]


class Writer:
    """
    The queue, and the loop's side of the writer.

    Args:
        publish: called on the loop with the commits of a group, before its members are told.
        abandoned: called on the loop with a worker that was given up.
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: DataFolder,
        durability: Durability,
        statistics: StoreStatistics,
        publish: Callable[[list[CommitRecord]], None],
        abandoned: Callable[[Worker], None],
        tail: RecentCommits,
    ) -> None:
        self.runtime = runtime
        self.folder = folder
        self.durability: Durability = durability
        self.statistics = statistics
        self.tail = tail
        self.queue: deque[Member] = deque()
        self.checkpoint_wanted: CheckpointMode | None = None
        self._publish = publish
        self._abandoned = abandoned
        self._unfinished = 0
        self._given_up = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._on_idle: Callable[[], None] | None = None
        self._watch = Watch(runtime, self._look, lambda: self._unfinished > 0)
        connection = open_writer(folder.database, durability)
        try:
            self._thread = WriterThread(self, connection)
        except BaseException:
            connection.close()
            raise
        self._thread.start()

    def submit(self, unit: Unit, done: Done, limit_seconds: float | None) -> None:
        """
        Queue a unit; `done` is called on the loop.

        Raises:
            Overloaded: the queue is full.
        """
        if self._unfinished >= WRITER_QUEUE_MAX:
            raise Overloaded(f"{self._unfinished} mutations wait for the writer, the most there may be")
        self._unfinished += 1
        self.queue.append(Member(unit, done, limit_seconds))
        if limit_seconds is not None:
            self._watch.expect(limit_seconds)
        self._thread.worker.wake()

    def queue_length(self) -> int:
        """Units that were queued and have not been answered."""
        return self._unfinished

    def call_when_idle(self, callback: Callable[[], None]) -> None:
        """Call once, when nothing waits or runs any more; at once if that is now."""
        if self._unfinished == 0:
            callback()
        else:
            self._on_idle = callback

    def finished(self, commits: list[CommitRecord], members: list[Member], seconds: float) -> None:
        """A group ended; called on the loop."""
        statistics = self.statistics
        statistics.groups += 1
        statistics.group_sizes.add(len(members))
        if commits:
            statistics.commits += len(commits)
            statistics.commit_seconds.add(seconds)
        self._unfinished -= len(members)
        try:
            if commits:
                self._publish(commits)
        finally:
            for member in members:
                if member.error is not None:
                    statistics.failed_units += 1
                try:
                    member.done(member.value, member.error)
                except Exception as error:  # noqa: BLE001 - one defective callback must not keep the others waiting
                    self.runtime.loop.call_exception_handler({"message": "a commit's callback", "exception": error})
            if self._unfinished == 0:
                self._idle()

    def _idle(self) -> None:
        if self._on_idle is not None:
            callback, self._on_idle = self._on_idle, None
            callback()
        elif self._idle_timer is None:
            self._expect_pause(CHECKPOINT_PAUSE_SECONDS)

    def _expect_pause(self, seconds: float) -> None:
        groups = self.statistics.groups
        self._idle_timer = self.runtime.loop.call_later(seconds, self._pause, seconds, groups)

    def _pause(self, seconds: float, groups: int) -> None:
        """If nothing has happened since, let the writer tidy up: quickly in a short pause, thoroughly in a long one."""
        self._idle_timer = None
        if self._unfinished > 0:
            return  # the end of that looks for a pause again
        if self.statistics.groups != groups:
            self._expect_pause(CHECKPOINT_PAUSE_SECONDS)
            return
        if seconds == CHECKPOINT_PAUSE_SECONDS:
            self.checkpoint_wanted = "PASSIVE"
            self._expect_pause(LOG_CUT_PAUSE_SECONDS)
        else:
            self.checkpoint_wanted = "TRUNCATE"
        self._thread.worker.wake()

    def _look(self) -> float | None:
        wait = self._thread.guard.check()
        if wait is not None and wait < 0:
            self._abandon()
            return None
        return wait

    def _abandon(self) -> None:
        """Go on without a thread that does not come back; its group was not acknowledged and runs again."""
        stuck = self._thread
        stuck.worker.stop(0)
        self._abandoned(stuck.worker)
        assert stuck.running is not None
        for member in reversed(stuck.group):
            if member is not stuck.running:
                member.value = member.error = None
                self.queue.appendleft(member)
        self._thread = WriterThread(self, None, stuck)
        self._thread.start()
        stuck.running.error = TimeLimitExceeded(
            f"ran longer than {stuck.running.limit_seconds:g} s and did not react to being stopped; nothing was written"
        )
        self.finished([], [stuck.running], 0.0)

    def give_up(self, error: TinyvexError) -> None:
        """Answer whoever still waits with `error`; nothing of what runs now is kept, unless it is committing already."""
        thread = self._thread
        self._given_up = thread.guard.abandon()
        # In this order: a thread that was given up takes nothing more from the queue.
        members = []
        with contextlib.suppress(IndexError):
            while True:  # one by one: another thread may take from the queue too, and nobody may be answered twice
                members.append(self.queue.popleft())
        if self._given_up:
            thread.worker.stop(0)
            self._abandoned(thread.worker)
            thread.roll_back_from_outside()
            members = thread.group + members
        for member in members:
            member.value, member.error = None, error
        if members:
            self.finished([], members, 0.0)

    def close(self) -> None:
        """Stop the thread and close its connection; the queue must be empty."""
        assert self._unfinished == 0
        self._watch.cancel()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if not self._given_up:  # a thread that was closes its connection itself, if it ever comes back
            self._thread.close()
