"""Databases for tests: opened on the test's loop, with tables, and checked when the test ends."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import struct
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.runtime import Runtime
from tinyvex.storage.engine.fair_shares import SYSTEM
from tinyvex.storage.engine.group_commit import Chore, GroupCommit, Member, Participant
from tinyvex.storage.engine.readers import SnapshotSource
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file.checksums import (
    content_checksum,
    current_checksum,
    entry_checksum,
    global_checksum,
    request_checksum,
    revision_checksum,
    session_checksum,
)
from tinyvex.storage.file.database_file import initialise
from tinyvex.storage.log.commit_feed import CommitFeed
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.housekeeping import Housekeeping
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN
from tinyvex.storage.log.operations import RequestRecord
from tinyvex.storage.log.recent_commits import RecentCommits
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.storage.schema.schema_change import change_schema
from tinyvex.storage.schema.schema_plan import Declaration, fits
from tinyvex.values.codec import decode

T = TypeVar("T")

Tables = Mapping[str, Mapping[str, tuple[str, ...]]]
ITEMS: Tables = {"items": {"by_n": ("n",)}}


class SteppedRuntime(Runtime):
    """A real runtime with a clock that the test sets, and points at which the test acts."""

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(0)
        self.clock_us: int | None = None
        self.at_point: dict[str, Callable[[], None]] = {}

    def now_us(self) -> int:
        return super().now_us() if self.clock_us is None else self.clock_us

    def point(self, label: str) -> None:
        if label in self.at_point:
            self.at_point[label]()


def bound_runtime() -> SteppedRuntime:
    """Return a runtime on the running loop."""
    runtime = SteppedRuntime()
    runtime.bind(asyncio.get_running_loop())
    return runtime


@asynccontextmanager
async def opened(folder: Path, tables: Tables = ITEMS, **options: Any) -> AsyncIterator[Store]:
    """Open a store with tables; at the end close it and check its file."""
    runtime = options.pop("runtime", None) or bound_runtime()
    store = Store.open(folder, runtime, **options)
    try:
        await declare(store, tables)
        yield store
    finally:
        await store.close()
    assert check_folder(folder) == []


async def declare(store: Any, tables: Tables, **options: Any) -> None:
    """
    Declare these tables; `renamed_from` has the earlier names of some, `schemas` the stored schemas.

    A file that fits them already is not changed, so a server need not try.
    """
    declaration = Declaration(tables, options.pop("renamed_from", {}), options.pop("schemas", {}))
    code = repr((tables, declaration.renamed_from) if declaration.renamed_from else tables)
    arguments: dict[str, Any] = {"validators": {}, "fingerprint": code, "table_fingerprints": {}} | options
    if not arguments.pop("validators_take_catalog", False):
        arguments["validators"] = {name: _ignoring_catalog(check) for name, check in arguments["validators"].items()}
    compared = partial(fits, declaration, arguments["fingerprint"], arguments["table_fingerprints"])
    fitted, before = await store.read(compared), store.last_ts
    await change_schema(store, declaration, **arguments)
    assert not fitted or store.last_ts == before


def _ignoring_catalog(validator: Callable[[bytes], T]) -> Callable[[bytes, Any], T]:
    return lambda json, _catalog: validator(json)


class MemoryStore:
    """
    A log without writer, readers, loop or file.

    The threads' work is done immediately; every commit has the next timestamp.
    `between` is called before every unit, as other mutations would run between the steps of a longer operation.
    """

    def __init__(self, first_ts: int = 1_000) -> None:
        self.runtime = SteppedRuntime()
        self.runtime.clock_us = first_ts
        # Closed with its store, because Python 3.13 warns of connections that are left to the garbage collector;
        # which may do that in any thread.
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self.connection.close)
        self.commits: list[CommitRecord] = []
        self.between: Callable[[], None] | None = None
        initialise(self.connection, self.runtime)
        recent = RecentCommits()
        self.participants: list[Participant] = [recent]
        self.reopen()
        self.feed = CommitFeed(first_ts, _raise)
        self._source = SnapshotSource(self.connection, recent)

    def reopen(self) -> None:
        """Read the state from the file again, which something else than this store has changed."""
        self.group_commit = GroupCommit(self.connection, None, self.runtime, self.participants)

    @property
    def last_ts(self) -> int:
        return self.group_commit.last_ts

    def run(self, work: Callable[[Snapshot, int], Outcome[T]]) -> T:
        """Run a unit and commit it."""
        return self._run(work)

    def keep_house(self, chore: Callable[[Housekeeping], T]) -> T:
        """Run housekeeping."""
        return self._run(Chore(chore))

    def _run(self, work: Any) -> Any:
        member = Member(work, lambda value, error: None)
        group = self.group_commit.run(deque([member]))
        self.commits += group.commits
        if group.commits:
            self.feed.publish(group.commits)
        if member.error is not None:
            raise member.error
        return member.value

    def look(self, read: Callable[[Snapshot], T], at: int | None = None) -> T:
        """Read at a timestamp, None for the newest."""
        try:
            return read(self._source.begin(at))
        finally:
            self._source.end()

    async def write(self, work: Callable[[Snapshot, int], Outcome[T]], *, client: str = SYSTEM) -> T:
        if self.between is not None:
            between, self.between = self.between, None
            between()
            self.between = between
        return self.run(work)

    async def housekeep(self, chore: Callable[[Housekeeping], T]) -> T:
        return self.keep_house(chore)

    async def read(self, read: Callable[[Snapshot], T]) -> T:
        return self.look(read)

    def declare(self, tables: Tables, **options: Any) -> None:
        """Change the schema."""
        drive(declare(self, tables, **options))


def _raise(error: Exception) -> None:
    raise error


def seal(connection: sqlite3.Connection) -> None:
    """Give every row the right checksum, after a test changed rows: as a defect of ours would, not a damaged disk."""
    for function in (
        content_checksum, revision_checksum, entry_checksum, current_checksum, session_checksum, request_checksum, global_checksum,
    ):  # fmt: skip
        connection.create_function(function.__name__, -1, partial(_checksum_or_zero, function))
    for statement in SEALS:
        connection.execute(statement)


def _checksum_or_zero(function: Callable[..., int], *columns: Any) -> int:
    try:
        return function(*columns)
    except (TypeError, struct.error):  # the test changed a type
        return 0


SEALS = (
    "UPDATE documents SET checksum = revision_checksum(log_row, ts, table_id, id, json_value, prev_ts)",
    "UPDATE indexes SET checksum = entry_checksum(index_id, key, ts, deleted, table_id)",
    (
        "UPDATE current SET checksum = COALESCE((SELECT current_checksum(index_id, key, content_checksum(ts, json_value))"
        " FROM documents AS d WHERE d.log_row = current.log_row), 0)"
    ),
    "UPDATE sessions SET checksum = session_checksum(session_id)",
    (
        "UPDATE requests SET checksum ="
        " request_checksum(session, request_id, ts, digest, result, log_lines, acknowledged)"
    ),
    "UPDATE globals SET checksum = global_checksum(key, json_value)",
)


def writer_connection(store: Store) -> sqlite3.Connection:
    """The connection of a store's writer; to be used while it is idle."""
    writer: Any = store._writer
    connection: sqlite3.Connection = writer._thread.group_commit.connection
    return connection


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")


def unit(
    work: Callable[[Transaction], T], request: tuple[str, int] | None = None, acknowledged_below: int = 0
) -> Callable[[Snapshot, int], Outcome[T]]:
    """Create a mutation in the writer's form; `request` is a session and a request id."""

    def run(snapshot: Snapshot, ts: int) -> Outcome[T]:
        transaction = Transaction(snapshot, ts=ts, writable=True, random=random.Random(ts))
        value = work(transaction)
        record = None
        if request is not None:
            record = RequestRecord(*request, b"digest", b"null", ("a line",), ts, acknowledged_below)
        return Outcome(value, transaction.record(record))

    return run


def stored_requests(snapshot: Snapshot, session: str = "session") -> list[int]:
    """Return which of the first request ids of a session have a record."""
    return [number for number in range(100) if snapshot.request(session, number).record is not None]


def insert(fields: Mapping[str, Any], table: str = "items") -> Callable[[Transaction], StoredDocument]:
    """Create work that inserts a document."""
    return lambda transaction: transaction.insert(transaction.catalog.table(table), fields)


def scan(
    snapshot: Snapshot, index: str = "by_n", lo: bytes = KEY_MIN, hi: bytes = KEY_MAX, *, table: str = "items",
    reverse: bool = False,
) -> list[Any]:  # fmt: skip
    """Return every decoded document in a range."""
    info = snapshot.catalog.table(table)
    transaction = Transaction(snapshot, ts=snapshot.ts, writable=False, random=random.Random(0))
    return [decode(stored.json) for stored in transaction.scan(info, info.index(index), lo, hi, reverse=reverse)]


def numbers(snapshot: Snapshot, **options: Any) -> list[Any]:
    """Return the field `n` of every document, in the index's order."""
    return [document.get("n") for document in scan(snapshot, **options)]


class Blocker:
    """Blocks the writer in a unit until released, so that units queued meanwhile form one group."""

    def __init__(self, store: Store) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self.done = store.write(self._unit)

    def _unit(self, snapshot: Snapshot, ts: int) -> Outcome[None]:
        self.entered.set()
        assert self.release.wait(30)
        return Outcome(None)

    async def grouped(self, *pending: Awaitable[Any]) -> list[Any]:
        """Release the writer; return the results of the units queued meanwhile, as one group."""
        self.release.set()
        _, *results = await asyncio.gather(self.done, *pending, return_exceptions=True)
        return results
