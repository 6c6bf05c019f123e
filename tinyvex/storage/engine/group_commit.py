"""The writer's side of the writer: groups, commits, checkpoints. `writer.py` has the picture."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from tinyvex.errors import FileDamaged, InternalError, StorageError, StorageFailed, TinyvexError
from tinyvex.limits import (
    GROUP_MUTATIONS_MAX,
    GROUP_SECONDS,
    REQUEST_RECORD_SECONDS,
    REQUEST_RECORDS_EXPIRED_STEP,
    WAL_BYTES_CHECKPOINT,
    WAL_BYTES_KEPT,
    WAL_BYTES_LULL,
    WAL_BYTES_MAX,
)
from tinyvex.storage.engine.checkpoints import CheckpointMode, WriteAheadLog
from tinyvex.storage.engine.time_limit import Abandoned, Guard, Stopped
from tinyvex.storage.file import pragmas, statements
from tinyvex.storage.file.database_file import open_writer, read_globals, set_global
from tinyvex.storage.file.sqlite_errors import is_fault_of_one, translate
from tinyvex.storage.log.catalog import Catalog, load_catalog
from tinyvex.storage.log.document_log import CommitRecord, Outcome, Snapshot, apply, newest_row
from tinyvex.values.timestamps import next_ts

if TYPE_CHECKING:
    from tinyvex.runtime import Worker
    from tinyvex.storage.engine.writer import Writer

__all__ = ["Done", "Member", "Unit", "WriterThread"]

log = logging.getLogger("tinyvex.storage")

Unit: TypeAlias = Callable[[Snapshot, int], Outcome[Any]]
Done: TypeAlias = Callable[[Any, BaseException | None], None]


class Member:
    """A unit in the queue or in a group, and what came of it."""

    __slots__ = ("done", "error", "limit_seconds", "unit", "value")

    def __init__(self, unit: Unit, done: Done, limit_seconds: float | None) -> None:
        self.unit = unit
        self.done = done
        self.limit_seconds = limit_seconds
        self.value: Any = None
        self.error: BaseException | None = None


class WriterThread:
    """
    One thread's time as the writer; another begins only when it was given up.

    Args:
        connection: open, for the first one; None to open one on the thread, after rolling back what `left` left.
        left: the thread that was given up.
    """

    def __init__(self, writer: Writer, connection: sqlite3.Connection | None, left: WriterThread | None = None) -> None:
        self.writer = writer
        self.runtime = writer.runtime
        self.guard = Guard(self.runtime, self._stop)
        self.group: list[Member] = []
        self.running: Member | None = None
        self._left = left
        self._connection = connection
        self._catalog = Catalog(0, ())
        self.last_ts = 0  # of the newest record applied
        self._last_allotted = 0
        self._row = 0  # of the next revision
        self._base = (self.last_ts, self._row, self._catalog)
        self._since_expiry = 0
        self._wal = WriteAheadLog()
        self._ending = threading.Lock()
        self._ended = False
        self._commits: list[CommitRecord] = []
        self._undos: list[Callable[[], None]] = []  # of the group's members, for a roll back
        self.worker: Worker
        if connection is not None:
            self._load()

    def start(self) -> None:
        """Begin."""
        self.worker = self.runtime.start_worker("tinyvex-writer", self._step)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection that writes."""
        assert self._connection is not None
        return self._connection

    def _stop(self) -> None:
        self.connection.interrupt()
        self.worker.interrupt(Stopped)

    def _load(self) -> None:
        """What this term remembers of the file."""
        stored = read_globals(self.connection)
        self.last_ts = stored["last_ts"]
        self._last_allotted = max(self._last_allotted, self.last_ts)
        self._catalog = load_catalog(self.connection, self.last_ts)
        (newest,) = self.connection.execute(statements.NEWEST_ROW).fetchone()
        self._row = newest + 1
        with contextlib.suppress(OSError):  # a process that was killed left it
            self._wal.size = self.writer.folder.wal.stat().st_size
        self._base = (self.last_ts, self._row, self._catalog)
        self.writer.tail.begin(self.last_ts)

    # On the writer's thread from here on.

    def _step(self) -> bool:
        writer = self.writer
        if not writer.queue:
            self._tidy()
            return False
        try:
            self._run_group()
        except Abandoned:
            self._end()
            return False
        return bool(writer.queue)

    def _run_group(self) -> None:
        """Run what waits, commit, and tell the loop."""
        seconds = 0.0
        self._commits = []
        try:
            if self._connection is None:
                self._take_over()
            self._checkpoint_if_above(WAL_BYTES_MAX)
            until = self.runtime.monotonic() + GROUP_SECONDS
            while not self._run_members(until):
                pass
            seconds = self._commit()
        except sqlite3.Error as error:
            self._fail(translate(error, self.writer.folder.database))
        except StorageError as error:
            self._fail(error)
        except Exception as error:
            log.exception("the writer failed")
            self._fail(InternalError(f"the writer failed: {error!r}"))
        group, self.group = self.group, []
        if self._connection is not None and any(isinstance(member.error, FileDamaged) for member in group):
            pragmas.forget_pages(self._connection)
        self.runtime.post(self.writer.finished, self._commits, group, seconds)

    def _take_over(self) -> None:
        assert self._left is not None
        self._left.roll_back_from_outside()
        self._connection = open_writer(self.writer.folder.database, self.writer.durability)
        self._load()
        self._left = None

    def roll_back_from_outside(self) -> None:
        """Called by the thread that takes over: end the transaction of this one, which does not come back."""
        with self._ending:
            if not self._ended:
                with contextlib.suppress(sqlite3.Error):  # there may be no transaction
                    self.connection.execute("ROLLBACK")
            self._undo()

    def _end(self) -> None:
        """It came back after all; another has taken over, and may be rolling back just now."""
        with self._ending:
            self._ended = True
            self.connection.close()

    def _run_members(self, until: float) -> bool:
        """Run the group's members, then what waits; False when one must be left out and the group begins anew."""
        self._begin()
        for member in self.group:
            if member.error is None and not self._run_member(member):
                return False
        queue = self.writer.queue
        while queue and len(self.group) < GROUP_MUTATIONS_MAX:
            try:
                member = queue.popleft()
            except IndexError:
                break  # closing took what waited
            self.group.append(member)
            if not self._run_member(member):
                return False
            if self.runtime.monotonic() > until:
                break
        return True

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        """Back to what the file has; SQLite may have rolled back itself."""
        self._commits = []
        self._undo()
        self.last_ts, self._row, self._catalog = self._base
        if self._connection is not None and self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # what made this necessary is being reported
                self._connection.execute("ROLLBACK")

    def _undo(self) -> None:
        """Take back what the group did outside the database, the last first."""
        while self._undos:
            self._undos.pop()()

    def _run_member(self, member: Member) -> bool:
        """Run one unit and apply its record; False when that broke something and the group was rolled back."""
        ts = self._last_allotted = next_ts(self._last_allotted, self.runtime.now_us())
        snapshot = Snapshot(self.connection, self.last_ts, self._catalog)
        unit = member.unit
        outcome: Outcome[Any] = Outcome(None)
        try:
            if member.limit_seconds is None:
                outcome = unit(snapshot, ts)
            else:
                self.running = member
                outcome = self.guard.run(lambda: unit(snapshot, ts), member.limit_seconds)
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its caller's, not this thread's
            member.error = error
        finally:
            snapshot.end()
        if not self.connection.in_transaction:
            # SQLite itself rolls back where a statement, be it a SELECT, meets a full disk, an I/O error or no memory;
            # whatever came next would commit on its own.
            if isinstance(member.error, StorageError):
                raise member.error  # it names the fault: a full disk, a damaged file
            raise StorageFailed("SQLite rolled the transaction back after a fault") from member.error
        if member.error is not None:
            return True
        try:
            self._apply(outcome)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not is_fault_of_one(error):
                raise
            member.error = translate(error) if isinstance(error, sqlite3.Error) else error
            self._roll_back()
            return False
        member.value = outcome.value
        return True

    def _apply(self, outcome: Outcome[Any]) -> None:
        record = outcome.record
        if record is not None:
            assert self.last_ts < record.ts <= self._last_allotted, (self.last_ts, record.ts, self._last_allotted)
            self._row = apply(self.connection, record, log_row=self._row)
            self.last_ts = record.ts
            self._wal.committed(record)
            self._commits.append(record)
        if outcome.undo is not None:
            self._undos.append(outcome.undo)
        if outcome.then is not None:
            changes = self.connection.total_changes
            outcome.then(self.connection)
            self._wal.changed(self.connection.total_changes - changes)
            if record is not None and record.moves:
                self._row = newest_row(self.connection) + 1
        if record is not None and record.changes_catalog:
            set_global(self.connection, "catalog_ts", record.ts)
            self._catalog = load_catalog(self.connection, record.ts)

    def _commit(self) -> float:
        """Make the group durable; seconds that it took."""
        if self._commits:
            self.connection.execute(statements.SET_LAST_TS, (self.last_ts,))
            self._expire_requests()
            # Before the COMMIT: from then on a reader may see them.
            self._undos.append(partial(self.writer.tail.retract, self._base[0]))
            self.writer.tail.append(self._commits)
        self.runtime.point("writer:before-commit")
        started = self.runtime.monotonic()
        self.connection.execute("COMMIT")
        seconds = self.runtime.monotonic() - started
        self._base = (self.last_ts, self._row, self._catalog)  # what a roll back goes back to, also one before BEGIN
        self._undos.clear()
        self.runtime.point("writer:after-commit")
        return seconds

    def _expire_requests(self) -> None:
        """
        Delete request records past their time, now and then, and faster than new ones come.

        By the clock: where it was set back, the newest `ts` is ahead of it, and by that one records would go too early.
        Where it jumps ahead, so does the next `ts`; then the oldest go first, a few for each commit, as long as that lasts.
        """
        self._since_expiry += len(self._commits)
        if self._since_expiry * 2 >= REQUEST_RECORDS_EXPIRED_STEP:
            self._since_expiry = 0
            before = self.runtime.now_us() - int(REQUEST_RECORD_SECONDS * 1e6)
            self.connection.execute(statements.EXPIRE_REQUESTS, (before, REQUEST_RECORDS_EXPIRED_STEP))

    def _fail(self, error: TinyvexError) -> None:
        """Nobody of the group has anything, nor has whoever would have been its first."""
        self._roll_back()
        self.writer.statistics.failed_groups += 1
        if not self.group:
            with contextlib.suppress(IndexError):  # closing gave up on those that waited
                self.group.append(self.writer.queue.popleft())
        for member in self.group:
            # Also those that raised: what they objected to may have been a write of this group.
            member.value, member.error = None, error

    # Checkpoints: never beside a commit, because this thread makes both.

    def _tidy(self) -> None:
        """
        Nothing waits: checkpoint a long log now, if only for a moment nothing waits, and any log in a pause.

        In a long pause, cut off a log that has grown.
        """
        pause, self.writer.checkpoint_wanted = self.writer.checkpoint_wanted, None
        with contextlib.suppress(sqlite3.Error, OSError):  # housekeeping: a fault that matters shows at the next commit
            if pause == "TRUNCATE":
                if self.writer.folder.wal.stat().st_size > WAL_BYTES_KEPT:
                    self.checkpoint("TRUNCATE")
            elif pause == "PASSIVE":
                self._checkpoint_if_above(WAL_BYTES_CHECKPOINT)
            else:
                self._checkpoint_if_above(WAL_BYTES_LULL)

    def _checkpoint_if_above(self, limit_bytes: int) -> None:
        if self._wal.is_above(limit_bytes):
            self.checkpoint("PASSIVE")

    def checkpoint(self, mode: CheckpointMode = "TRUNCATE") -> None:
        """Copy the write-ahead log into the file; see `WriteAheadLog.checkpoint`."""
        if self._connection is not None:
            self._wal.checkpoint(self._connection, mode)
            self.writer.statistics.checkpoints += 1

    # On the loop again.

    def close(self) -> None:
        """Stop the thread, checkpoint, close."""
        self.worker.stop()
        if self._left is not None:
            self._left.roll_back_from_outside()  # nothing came after it that would have
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):  # the log stays beside the file and is read at the next open
                self.checkpoint()
            self._connection.close()
