"""Stored requests: acknowledged ones are deleted and stay refused, the others live until they expire."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.storage import MemoryStore, insert, seal, stored_requests, unit
from tinyvex.errors import FileDamaged, RequestAcknowledged, RequestIdReused
from tinyvex.functions.run.call import MutationOutcome
from tinyvex.functions.run.exactly_once import request_record, stored_outcome
from tinyvex.functions.run.idempotency_key import IdempotencyKey
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.limits import REQUEST_RECORD_SECONDS
from tinyvex.storage.engine import group_commit
from tinyvex.storage.file import statements
from tinyvex.storage.file.database_file import schema_script
from tinyvex.storage.log import request_records
from tinyvex.storage.log.apply import replay
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.operations import ExpireRequests, RequestRecord, StoreRequest
from tinyvex.storage.log.record_codec import decode_record, encode_record
from tinyvex.storage.log.request_records import EXPIRY_POSITION, FIRST
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.maintenance.live_size import REQUEST_OVERHEAD

DAY_US = 86_400_000_000
EXPIRED_US = int(REQUEST_RECORD_SECONDS * 1e6)
TS_LEAD_US = 1_000_000
"""More than any `ts` here is ahead of the clock. A record's age is by the clock, the model's by its `ts`."""


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.declare({"items": {}})
    return store


def floor(store: MemoryStore, session: str = "session") -> int:
    return store.look(lambda snapshot: snapshot.request(session, 0).acknowledged_below)


def test_acknowledged_records_are_deleted_with_the_next_commit(store: MemoryStore) -> None:
    """A session whose client acknowledges keeps what it may still ask for."""
    for number in range(6):
        store.run(unit(insert({"n": number}), ("session", number), acknowledged_below=max(0, number - 1)))
        assert len(store.look(stored_requests)) <= 2
    assert store.look(stored_requests) == [4, 5]
    assert floor(store) == 4


def test_a_client_that_acknowledges_nothing_keeps_its_records(store: MemoryStore) -> None:
    """As before there were acknowledgements."""
    for number in range(6):
        store.run(unit(insert({"n": number}), ("session", number)))
        store.run(unit(insert({"n": number}), ("another", number), acknowledged_below=number))
    assert store.look(stored_requests) == [0, 1, 2, 3, 4, 5]
    assert store.look(lambda snapshot: stored_requests(snapshot, "another")) == [5]


def test_a_floor_never_falls(store: MemoryStore) -> None:
    """An acknowledgement that arrives late takes nothing back."""
    store.run(unit(insert({}), ("session", 9), acknowledged_below=8))
    for number in (8, 10):
        store.run(unit(insert({}), ("session", number), acknowledged_below=3))
        assert floor(store) == 8
    assert check(store.connection) == []


def test_a_floor_raised_out_of_order_survives_the_records_above_it(store: MemoryStore) -> None:
    """The record with the highest id may be the first to expire."""
    assert store.runtime.clock_us is not None
    store.run(unit(insert({}), ("session", 9), acknowledged_below=1))
    store.runtime.clock_us += DAY_US
    store.run(unit(insert({}), ("session", 8), acknowledged_below=2))
    store.run(unit(insert({}), ("session", 6), acknowledged_below=5))
    store.runtime.clock_us += EXPIRED_US - DAY_US // 2
    _inspect_all(store)
    assert store.look(stored_requests) == [6, 8]
    assert floor(store) == 5
    assert check(store.connection) == []


@pytest.mark.parametrize("request_id", [3, 4, 5, 6])
def test_a_damaged_floor_is_not_used(store: MemoryStore, request_id: int) -> None:
    """A request below the floor would be refused, or one that was acknowledged would run again."""
    for number in range(6):
        store.run(unit(insert({"n": number}), ("session", number), acknowledged_below=max(0, number - 1)))
    store.connection.execute("UPDATE requests SET acknowledged = 2 WHERE request_id = 5")
    with pytest.raises(FileDamaged, match="request 5"):
        store.look(lambda snapshot: snapshot.request("session", request_id))
    with pytest.raises(FileDamaged, match="request 5"):
        store.run(unit(insert({"n": 6}), ("session", 6)))


def test_a_damaged_record_is_not_made_valid_by_a_floor_raised_out_of_order(store: MemoryStore) -> None:
    """Its floor is stored again, and with it a new checksum; its result must not be covered by that."""
    store.run(unit(insert({}), ("session", 9), acknowledged_below=1))
    store.connection.execute("UPDATE requests SET result = CAST('\"forged\"' AS BLOB) WHERE request_id = 9")
    with pytest.raises(FileDamaged, match="request 9"):
        store.run(unit(insert({}), ("session", 6), acknowledged_below=5))
    with pytest.raises(FileDamaged, match="request 9"):
        store.look(lambda snapshot: snapshot.request("session", 9))


def test_a_session_ends_with_its_last_record(store: MemoryStore) -> None:
    """Nothing is left of a client that went away two weeks ago."""
    assert store.runtime.clock_us is not None
    for number in range(3):
        store.run(unit(insert({}), ("session", number), acknowledged_below=number))
    store.run(unit(insert({}), ("another", 0)))
    store.runtime.clock_us += EXPIRED_US + DAY_US
    _inspect_all(store)
    assert store.connection.execute("SELECT COUNT(*) FROM sessions").fetchone() == (0,)
    assert store.connection.execute("SELECT COUNT(*) FROM requests").fetchone() == (0,)
    assert floor(store) == 0


def test_the_walk_reaches_every_record(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired records go, step by step, whatever others lie between them."""
    monkeypatch.setattr(group_commit, "REQUEST_RECORDS_INSPECTED_STEP", 4)
    assert store.runtime.clock_us is not None
    for session in range(5):
        for number in (0, 2, 4):
            store.run(unit(insert({}), (f"session {session}", number)))
    store.runtime.clock_us += EXPIRED_US + DAY_US
    for session in range(5):
        for number in (1, 3):
            store.run(unit(insert({}), (f"session {session}", number)))
    _inspect_all(store)
    for session in range(5):
        assert store.look(lambda snapshot, name=f"session {session}": stored_requests(snapshot, name)) == [1, 3]
    assert check(store.connection) == []


@pytest.mark.parametrize("value", ["[[1]]", "7", '"text"', "null", "[]", "[[1.5, 2]]", f"[[{1 << 63}, 0]]"])
def test_a_malformed_position_begins_the_walk_again(store: MemoryStore, value: str) -> None:
    """The writer would otherwise fail at each step."""
    assert store.runtime.clock_us is not None
    store.run(unit(insert({}), ("session", 0)))
    store.connection.execute("INSERT INTO globals VALUES (?, ?, 0)", (EXPIRY_POSITION, value))
    seal(store.connection)
    store.runtime.clock_us += EXPIRED_US + DAY_US
    _inspect_all(store)
    assert store.look(stored_requests) == []


def test_short_runs_reach_every_record_together(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that makes one commit continues where the one before it ended."""
    monkeypatch.setattr(group_commit, "REQUEST_RECORDS_INSPECTED_STEP", 4)
    assert store.runtime.clock_us is not None
    for number in range(40):
        store.run(unit(insert({}), ("session", number)))
    store.runtime.clock_us += EXPIRED_US + DAY_US
    for run in range(12):
        store.reopen()
        store.run(unit(insert({}), ("another", run)))
    assert store.look(lambda snapshot: stored_requests(snapshot, "session")) == []
    assert check(store.connection) == []


def test_a_step_deletes_a_bounded_number_of_bytes(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large results are deleted in several steps, and each step deletes one at least."""
    monkeypatch.setattr(request_records, "REQUEST_RECORD_BYTES_STEP", 1_000)
    assert store.runtime.clock_us is not None
    sizes = [10, 400, 400, 400, 3_000, 10, 10, 900]
    for number, size in enumerate(sizes):
        record = RequestRecord("session", number, b"digest", b"x" * size, (), store.last_ts + 1, 0)
        store.run(lambda snapshot, ts, r=record: Outcome(None, CommitRecord(ts, (StoreRequest(replace(r, ts=ts)),))))
    store.runtime.clock_us += EXPIRED_US + DAY_US
    commits = len(store.commits)
    _inspect_all(store)
    steps = [step for commit in store.commits[commits:] for step in commit.operations if type(step) is ExpireRequests]
    assert [step.rows for step in steps] == [3, 1, 1, 3]
    assert check(store.connection) == []


def test_pages_cover_every_record_once(store: MemoryStore) -> None:
    """Whatever the size of a page."""
    for session in ("a-session", "b-session"):
        for number in range(5):
            store.run(unit(insert({}), (session, number)))
    for limit in (1, 3, 4, 10, 11):
        rows, sessions, after = 0, 0, FIRST
        while True:
            page = store.look(lambda snapshot, after=after, limit=limit: snapshot.requests_page(after, limit))
            rows, sessions = rows + page.rows, sessions + page.sessions
            if page.end is None:
                break
            after = page.end
        assert (rows, sessions) == (10, 2)


def _inspect_all(store: MemoryStore) -> None:
    """Make so many commits that every record is inspected."""
    commits = 2 * group_commit.REQUEST_RECORDS_INSPECTED_STEP // group_commit.REQUEST_RECORDS_INSPECTED_PER_COMMIT
    for _ in range(commits):
        store.run(lambda _, ts: Outcome(None, CommitRecord(ts, ())))


# The property: whatever the order of messages, no request runs twice.


class World:
    """
    Sessions that call, lose answers, resend in any order, and acknowledge; and a second file that replays the log.

    The oracle counts how often each request ran.
    """

    SESSIONS = ("session of a", "session of b", "an old session")

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.declare({"items": {}})
        self.ran: dict[tuple[str, int], int] = {}
        self.answers: dict[tuple[str, int], bytes] = {}
        self.acknowledged = dict.fromkeys(self.SESSIONS, 0)
        """The highest acknowledgement that committed."""
        self.expired: set[tuple[str, int]] = set()

    def call(self, session: str, request_id: int, below: int, other: bool) -> None:
        """Send a mutation, perhaps again, perhaps with other arguments."""
        self._end_if_expired(session)
        name = (session, request_id)
        key = IdempotencyKey(session, request_id, (b"another digest.." if other else b"one digest......"), below)
        ran: list[int] = []

        def work(snapshot: Snapshot, ts: int) -> Outcome[MutationOutcome]:
            if (stored := stored_outcome(snapshot, key)) is not None:
                return Outcome(stored)
            ran.append(ts)
            transaction = Transaction(snapshot, ts=ts, writable=True, random=self.store.runtime.random)
            transaction.insert(snapshot.catalog.table("items"), {"n": request_id})
            outcome = MutationOutcome(b"%d" % ts, ts)
            return Outcome(outcome, transaction.record(request_record(key, outcome)))

        try:
            outcome = self.store.run(work)
        except RequestAcknowledged:
            assert not ran
            assert request_id < max(self.acknowledged[session], below)
            return
        except RequestIdReused:
            assert not ran
            assert name in self.answers
            return
        assert request_id >= max(self.acknowledged[session], below), "an acknowledged request is refused"
        if ran:
            assert name not in self.ran or name in self.expired, "it ran twice"
            self.ran[name] = ran[0]
            self.answers[name] = outcome.value
            self.expired.discard(name)
            self.acknowledged[session] = max(self.acknowledged[session], below)
        else:
            assert outcome.value == self.answers[name]

    def wait(self, days: int) -> None:
        """Let time pass."""
        assert self.store.runtime.clock_us is not None
        self.store.runtime.clock_us += days * DAY_US
        before = self.store.runtime.clock_us - EXPIRED_US + TS_LEAD_US
        self.expired |= {name for name, ts in self.ran.items() if ts < before}

    def _end_if_expired(self, session: str) -> None:
        """Follow the store: a session without a commit for two weeks loses what it acknowledged when the walk comes by."""
        assert self.store.runtime.clock_us is not None
        before = self.store.runtime.clock_us - EXPIRED_US + TS_LEAD_US
        if all(ts < before for (owner, _), ts in self.ran.items() if owner == session):
            self.acknowledged[session] = floor(self.store, session)

    def restart(self) -> None:
        self.store.reopen()


session_ids = st.sampled_from(World.SESSIONS)
steps = st.one_of(
    st.tuples(st.just("call"), session_ids, st.integers(0, 9), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("call"), session_ids, st.integers(0, 9), st.integers(0, 3), st.just(False)),
    st.tuples(st.just("wait"), st.sampled_from([1, 6, 13])),
    st.tuples(st.just("restart")),
)


@pytest.fixture
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(group_commit, "REQUEST_RECORDS_INSPECTED_STEP", 4)
    yield


A_REQUEST_AT_THE_END_OF_ITS_TIME = [
    ("wait", 1),
    ("call", "session of a", 0, 0, False),
    ("wait", 14),
    ("call", "session of a", 1, 0, False),
    ("call", "session of a", 0, 0, False),
]


@pytest.mark.usefixtures("_small_steps")
@settings(max_examples=150)
@example(A_REQUEST_AT_THE_END_OF_ITS_TIME)
@given(st.lists(steps, max_size=60))
def test_no_request_runs_twice(history: list[tuple[Any, ...]]) -> None:
    """
    Whatever is resent, in whatever order and with whatever acknowledgements, a request runs once while its record is due;
    an acknowledged one is refused; and a file that replays the log has the same records.
    """
    world = World()
    listener = world.store.feed.follow(lambda: None)
    records = [encode_record(record) for record in world.store.commits]
    for step in history:
        getattr(world, step[0])(*step[1:])
        for session in world.SESSIONS:
            stored = world.store.look(lambda snapshot, session=session: stored_requests(snapshot, session))
            assert all(number >= floor(world.store, session) for number in stored)
    while (record := listener.take()) is not None:
        assert isinstance(record, CommitRecord)
        records.append(encode_record(record))
    replica = MemoryStore(first_ts=1)
    for data in records:
        replay(replica.connection, decode_record(data))
    for table in ("sessions", "requests"):
        rows = [each.connection.execute(f"SELECT * FROM {table}").fetchall() for each in (world.store, replica)]
        assert rows[0] == rows[1]
    assert check(world.store.connection) == []


@pytest.mark.parametrize("page_bytes", [1024, 4096])
@pytest.mark.parametrize("length", [20, 150, 250, 900, 1200, 5000])
def test_the_size_of_records_is_about_what_the_file_takes(tmp_path: Path, length: int, page_bytes: int) -> None:
    """A result above a quarter of a page has pages of its own, so it takes up to four times its length."""
    with closing(sqlite3.connect(tmp_path / "file")) as connection:
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        connection.executescript(schema_script())
        before = connection.execute(statements.USED_BYTES).fetchone()[0]
        for number in range(1000):
            record = RequestRecord("session", number, b"x" * 16, b"y" * length, (), 1 << 50)
            request_records.store(connection, StoreRequest(record))
        used = connection.execute(statements.USED_BYTES).fetchone()[0] - before
        page = request_records.page(connection, request_records.FIRST, 2000)
    assert 0.8 < (page.size + page.rows * REQUEST_OVERHEAD) / used < 1.2
