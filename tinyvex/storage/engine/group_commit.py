"""
Group commit: many units of work in one durable transaction.

A COMMIT waits for the disk, so units that wait together share one. Each unit reads the newest state, including what
members before it in the group wrote, and returns a record; the record is applied before the next member runs::

    BEGIN ─► unit, apply ─► unit, apply ─► … ─► COMMIT ─► acknowledge all

A unit that raises has written nothing, because only its returned record is applied; the group goes on without it.
Three kinds of failure concern more than one unit:

1.  *A record breaks a constraint.* The group is rolled back and begins again without that member. The others run again,
    with new timestamps. Units must bear being run more than once.
2.  *SQLite fails* (a full disk, an I/O error), in a statement or at COMMIT. Every member fails with that error. This
    includes members that raised an error of their own: it may have been caused by a write of this group.
3.  *SQLite rolls back on its own* inside a unit, even in a SELECT. Anything executed after that would commit alone, so the
    open transaction is checked after each unit, and its loss counts as case 2.

A failed COMMIT may have written all its frames to the write-ahead log, for example if only the sync failed. No reader of
this process sees them, but the next process would find a complete commit. So they are overwritten before the failure is
reported. If that fails too, the members fail with `OutcomeUnknown`.

State in memory that depends on the file takes part in the transaction (`Participant`): it follows each record as it is
applied, and returns to the committed state when the group is rolled back.

Everything here is synchronous and runs on the caller's thread. `writer.py` adds the thread, the queue's bound and the time
limits.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from msgspec import Struct, field

from tinyvex.errors import (
    FileDamaged,
    InternalError,
    OutcomeUnknown,
    ServerStopping,
    StorageError,
    StorageFailed,
    TinyvexError,
)
from tinyvex.limits import (
    CLOCK_AHEAD_SECONDS,
    CLOCK_OBSERVED_SECONDS,
    GROUP_MUTATIONS_MAX,
    GROUP_SECONDS,
    HOUSEKEEPING_SECONDS,
    REQUEST_RECORD_SECONDS,
    REQUEST_RECORDS_INSPECTED_PER_COMMIT,
    REQUEST_RECORDS_INSPECTED_STEP,
    RETRY_AFTER_MS,
)
from tinyvex.storage.engine.checkpoints import WriteAheadLog
from tinyvex.storage.engine.fair_shares import SYSTEM
from tinyvex.storage.engine.time_limit import Abandoned
from tinyvex.storage.file import pragmas, statements
from tinyvex.storage.file.checksums import global_checksum
from tinyvex.storage.file.database_file import read_globals
from tinyvex.storage.file.sqlite_errors import is_failed_write, is_fault_of_one, translate
from tinyvex.storage.file.wal_file import WalFile
from tinyvex.storage.log.apply import apply, newest_row
from tinyvex.storage.log.catalog import Catalog, load_catalog
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.housekeeping import Housekeeping, observe_clock, store_expiry_position
from tinyvex.storage.log.request_records import expiry_position, expiry_step
from tinyvex.values.timestamps import next_ts

__all__ = ["Chore", "Done", "Group", "GroupCommit", "Member", "MemberQueue", "Participant", "Unit", "fail_group"]

log = logging.getLogger("tinyvex.storage")

T = TypeVar("T")

Unit: TypeAlias = Callable[[Snapshot, int], Outcome[Any]]
"""Work that reads the newest state and returns a record for the timestamp that it is given."""

Done: TypeAlias = Callable[[Any, BaseException | None], None]
"""Receives a member's value or error."""


class Clock(Protocol):
    """The part of the runtime that a group commit uses."""

    def now_us(self) -> int:
        """Return the wall clock in microseconds."""
        ...

    def awake_seconds(self) -> float:
        """Return a clock in seconds that never steps back, without suspensions."""
        ...

    def point(self, label: str) -> None:
        """Pass a point at which a test may act."""


class Participant(Protocol):
    """State in memory that follows the records of a group inside its transaction; called on the writer's thread."""

    def applied(self, record: CommitRecord) -> None:
        """Follow a record that was just applied; later members of the group already see it."""

    def rolled_back(self, ts: int) -> None:
        """Return to the state as of `ts`: records after it were not committed."""


class Chore:
    """Local housekeeping in the place of a unit; it gets no timestamp and makes no record."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[Housekeeping], Any]) -> None:
        self.run = run


class Member:
    """A unit or a chore, in the queue or in a group, its result, and the client that pays for it."""

    __slots__ = ("client", "done", "error", "limit_seconds", "value", "work")

    def __init__(
        self, work: Unit | Chore, done: Done, limit_seconds: float | None = None, client: str = SYSTEM
    ) -> None:
        self.client = client
        self.work = work
        self.done = done
        self.limit_seconds = limit_seconds
        self.value: Any = None
        self.error: BaseException | None = None


class MemberQueue(Protocol):
    """The members that wait; their order is the queue's decision."""

    def __bool__(self) -> bool:
        """Return whether `popleft` may have a member."""
        ...

    def popleft(self) -> Member:
        """
        Remove and return the next member.

        Raises:
            IndexError: none waits.
        """
        ...


class Group(Struct):
    """
    The members of one transaction, and its result.

    Attributes:
        members: in the order in which they ran; each has its value or its error.
        commits: the records that became durable; empty if the group failed.
        failed: whether all members failed with one error.
        commit_seconds: the duration of COMMIT.
    """

    members: list[Member] = field(default_factory=list)
    commits: list[CommitRecord] = field(default_factory=list)
    failed: bool = False
    commit_seconds: float = 0.0


class _State(NamedTuple):
    """The newest state inside the transaction; a roll back restores the one that the file has."""

    last_ts: int
    next_row: int
    catalog: Catalog


def _charge_nothing(_client: str, _seconds: float) -> None:
    pass


def _run_unlimited(_member: Member, call: Callable[[], T]) -> T:
    return call()


class GroupCommit:
    """
    Runs groups on one connection.

    Args:
        connection: open for writing, without a transaction.
        database: the file's path, for error messages.
        clock: the runtime.
        participants: read again for every record, so more may be added.
        run_limited: calls a unit that has a time limit.
        charge: called with the client of a member that has run, and the seconds that it took.

    Attributes:
        group: the one that is running, or the last.
        wal: how much of the write-ahead log is not in the file.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        database: Path | None,
        clock: Clock,
        participants: Sequence[Participant] = (),
        run_limited: Callable[[Member, Callable[[], Outcome[Any]]], Outcome[Any]] = _run_unlimited,
        charge: Callable[[str, float], None] = _charge_nothing,
    ) -> None:
        self.connection = connection
        self.group = Group()
        self.wal = WriteAheadLog(WalFile(database))
        self._database = database
        self._clock = clock
        self._participants = participants
        self._run_limited = run_limited
        self._charge = charge
        self._cancelled: TinyvexError | None = None
        self._commits: list[CommitRecord] = []
        # A run of the process may be shorter than the interval between two steps, so each begins with one.
        self._commits_since_expiry = REQUEST_RECORDS_INSPECTED_STEP // REQUEST_RECORDS_INSPECTED_PER_COMMIT
        self._observed_us = 0
        self._changes = connection.total_changes
        last_ts: int = read_globals(connection)["last_ts"]
        self._committed = _State(last_ts, newest_row(connection) + 1, load_catalog(connection, last_ts))
        self._last_ts = last_ts
        self._next_row = self._committed.next_row
        self._catalog = self._committed.catalog
        self._last_allotted = last_ts
        for participant in participants:
            participant.rolled_back(last_ts)

    @property
    def last_ts(self) -> int:
        """The `ts` of the newest record applied, committed or not."""
        return self._last_ts

    def run(self, queue: MemberQueue) -> Group:
        """
        Run a group of members from the queue, and commit it.

        Returns:
            The group, durable or failed.

        Raises:
            Abandoned: this thread was abandoned inside a unit; another one has taken over.
        """
        group = self.group = Group()
        try:
            until = self._clock.awake_seconds() + GROUP_SECONDS
            while not self._run_members(queue, until):
                pass
            group.commit_seconds = self._commit()
            group.commits = self._commits
        except Abandoned:
            raise
        except Exception as error:  # noqa: BLE001 - `fail_group` logs what it does not expect
            self._fail(queue, error)
        self._forget_damaged_pages()
        return group

    def fail_next(self, queue: MemberQueue, error: Exception) -> Group:
        """Fail the next queued member, because no group can begin."""
        self.group = Group()
        self._fail(queue, error)
        self._forget_damaged_pages()
        return self.group

    def cancel(self, error: TinyvexError) -> None:
        """
        End the unit or operation that is running soon, with `error`; called on another thread, when the store closes.

        A statement that is running is interrupted. An operation on any number of documents ends after its page.
        """
        self._cancelled = error
        self.connection.interrupt()

    def _raise_if_cancelled(self) -> None:
        if self._cancelled is not None:
            raise self._cancelled

    def _fail(self, queue: MemberQueue, error: Exception) -> None:
        self.roll_back()
        if self._cancelled is not None and isinstance(error, sqlite3.Error):
            error = self._cancelled
        fail_group(self.group, queue, error, self._database)

    def _forget_damaged_pages(self) -> None:
        if any(isinstance(member.error, FileDamaged) for member in self.group.members):
            pragmas.forget_pages(self.connection)

    def roll_back(self) -> None:
        """Return to the state that the file has; SQLite may have rolled back on its own."""
        self._commits = []
        committed = self._committed
        self._last_ts, self._next_row, self._catalog = committed.last_ts, committed.next_row, committed.catalog
        for participant in self._participants:
            participant.rolled_back(committed.last_ts)
        if self.connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # the error that made this necessary is being reported
                self.connection.execute("ROLLBACK")

    def _run_members(self, queue: MemberQueue, until: float) -> bool:
        """Run the group's members, then queued ones; return False if the group must begin again without one of them."""
        members = self.group.members
        self._commits = []
        self.connection.execute("BEGIN IMMEDIATE")
        for member in members:
            if member.error is None and not self._run_member(member):
                return False
        started = self._clock.awake_seconds()
        while queue and len(members) < GROUP_MUTATIONS_MAX:
            try:
                member = queue.popleft()
            except IndexError:
                break  # closing took it
            members.append(member)
            complete = self._run_member(member)
            ended = self._clock.awake_seconds()
            self._charge(member.client, ended - started)
            if not complete:
                return False
            if ended > until:
                break
            started = ended
        return True

    def _run_member(self, member: Member) -> bool:
        """Run one unit and apply its record; return False if that broke something and the group was rolled back."""
        outcome = self._call(member)
        if not self.connection.in_transaction:
            # SQLite rolls back on its own when a statement meets a full disk, an I/O error or no memory.
            if isinstance(member.error, StorageError | sqlite3.Error):
                raise member.error  # it names the fault: a full disk, a damaged file
            raise StorageFailed("SQLite rolled the transaction back after a fault") from member.error
        if member.error is not None:
            if self._cancelled is not None and isinstance(member.error, StorageError | sqlite3.Error):
                member.error = self._cancelled  # a statement was interrupted
            return not isinstance(member.work, Chore) or self._leave_out(member, member.error)
        try:
            if outcome.record is not None:
                self._apply(outcome.record)
        except Exception as error:  # noqa: BLE001 - raised again if it is not this member's
            return self._leave_out(member, error)
        member.value = outcome.value
        return True

    def _call(self, member: Member) -> Outcome[Any]:
        """Call the member's work; an error that it raises becomes the member's."""
        ts = self._last_allotted = next_ts(self._last_allotted, self._clock.now_us())
        snapshot = Snapshot(self.connection, self._last_ts, self._catalog)
        work = member.work
        try:
            if isinstance(work, Chore):
                return self._run_chore(work, snapshot)
            if member.limit_seconds is None:
                return work(snapshot, ts)
            return self._run_limited(member, partial(work, snapshot, ts))
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001 - an error of a unit is for its caller, not for this thread
            member.error = error
            return Outcome(None)
        finally:
            snapshot.end()

    def _run_chore(self, chore: Chore, snapshot: Snapshot) -> Outcome[Any]:
        until = self._clock.awake_seconds() + HOUSEKEEPING_SECONDS
        house = Housekeeping(self.connection, snapshot, lambda: self._clock.awake_seconds() >= until)
        return Outcome(chore.run(house))

    def _leave_out(self, member: Member, error: BaseException) -> bool:
        """Roll the group back because of one member; raise the error if it concerns the whole file."""
        if isinstance(error, sqlite3.Error):
            if not is_fault_of_one(error):
                raise error
            error = translate(error, self._database)
        member.error = error
        self.roll_back()
        return False

    def _apply(self, record: CommitRecord) -> None:
        assert self._last_ts < record.ts <= self._last_allotted, (self._last_ts, record.ts, self._last_allotted)
        self._next_row = apply(self.connection, record, log_row=self._next_row, between=self._raise_if_cancelled)
        self._last_ts = record.ts
        self._commits.append(record)
        if record.changes_catalog:
            self._catalog = load_catalog(self.connection, record.ts)
        for participant in self._participants:
            participant.applied(record)

    def _commit(self) -> float:
        """Make the group durable; return the seconds that it took."""
        if self._commits:
            self._expire_requests()
            self._observe_clock()
            last_ts = self._last_ts
            self.connection.execute(statements.SET_LAST_TS, (last_ts, global_checksum("last_ts", last_ts)))
        self._clock.point("writer:before-commit")
        started = self._clock.awake_seconds()
        try:
            self.connection.execute("COMMIT")
        except Exception as error:
            self.roll_back()
            self._overwrite_frames(error)
            raise
        seconds = self._clock.awake_seconds() - started
        changes, self._changes = self._changes, self.connection.total_changes
        self.wal.added(self._changes - changes)
        # The state to which a roll back returns from here on, also one before BEGIN.
        self._committed = _State(self._last_ts, self._next_row, self._catalog)
        self._clock.point("writer:after-commit")
        return seconds

    def _overwrite_frames(self, failure: Exception) -> None:
        """
        Commit a page as it is, so that frames that a failed COMMIT left in the log cannot become true.

        The page takes the place of the first of these frames. The checksum of a frame depends on the frames before it, so
        the others become invalid.

        Raises:
            OutcomeUnknown: this failed too, so the next process may find the commit.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            pragmas.rewrite_first_page(self.connection)
            self.connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - also the MemoryError of Python's module
            with contextlib.suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
            if not is_failed_write(failure):  # if so, the last frame of the commit is not in the log
                raise OutcomeUnknown(
                    f"the disk failed to sync a commit ({failure}), and to withdraw it ({error}); it has no effect, unless the"
                    " process ends before its next commit: send the mutation again with the same request id",
                    retry_after_ms=RETRY_AFTER_MS,
                ) from failure

    def _expire_requests(self) -> None:
        """
        Commit the expiry of old request records, from time to time: a step of a walk through all of them, without end.

        The limit is by the wall clock: if it was set back, the newest `ts` is ahead of it, and the clock's history states
        the age of a record. If it jumps ahead, so does the next `ts`, and old records expire a step at a time.
        """
        self._commits_since_expiry += len(self._commits)
        if self._commits_since_expiry * REQUEST_RECORDS_INSPECTED_PER_COMMIT < REQUEST_RECORDS_INSPECTED_STEP:
            return
        now_us = self._clock.now_us()
        clock = observe_clock(self.connection, self._last_ts, now_us)
        before = clock.ts_at(now_us - int(REQUEST_RECORD_SECONDS * 1e6)) + 1
        position = expiry_position(read_globals(self.connection))
        step = expiry_step(self.connection, position, before, REQUEST_RECORDS_INSPECTED_STEP)
        if not step.is_short:  # otherwise the next group continues
            self._commits_since_expiry = 0
        if step.end != position:
            store_expiry_position(self.connection, step.end)
        if step.operation is not None:
            ts = self._last_allotted = next_ts(self._last_allotted, self._clock.now_us())
            self._apply(CommitRecord(ts, (step.operation,)))

    def _observe_clock(self) -> None:
        """Remember the newest `ts` from time to time, while it is ahead of the clock; see `clock_history.py`."""
        now_us = self._clock.now_us()
        if self._last_ts - now_us <= CLOCK_AHEAD_SECONDS * 1e6:
            return
        if not 0 <= now_us - self._observed_us < CLOCK_OBSERVED_SECONDS * 1e6:
            self._observed_us = now_us
            observe_clock(self.connection, self._last_ts, now_us)


def fail_group(group: Group, queue: MemberQueue, error: Exception, database: Path | None) -> None:
    """Fail every member of the group, or the next queued one if the group never started."""
    group.failed = True
    group.commits = []
    if not group.members:
        with contextlib.suppress(IndexError):  # closing took those that waited
            group.members.append(queue.popleft())
    reported = _storage_error(error, database)
    for member in group.members:
        member.value, member.error = None, reported


def _storage_error(error: Exception, database: Path | None) -> TinyvexError:
    if isinstance(error, sqlite3.Error):
        return translate(error, database)
    if isinstance(error, StorageError | ServerStopping):
        return error
    log.error("the writer failed", exc_info=error)
    return InternalError(f"the writer failed: {error!r}")
