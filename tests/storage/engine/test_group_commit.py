"""The group commit on a connection in memory: one call runs a whole group, on this thread."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.storage import MemoryStore, insert, numbers, stored_requests, unit
from tinyvex import errors
from tinyvex.storage.engine import group_commit
from tinyvex.storage.engine.group_commit import Chore, Group, Member
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.operations import ExpireRequests, WriteDocuments
from tinyvex.storage.maintenance.check import check


class Refusal(Exception):
    """An error raised by a unit."""


class Follower:
    """A participant that records the timestamps that it followed."""

    def __init__(self) -> None:
        self.followed: list[int] = []

    def applied(self, record: CommitRecord) -> None:
        self.followed.append(record.ts)

    def rolled_back(self, ts: int) -> None:
        self.followed = [each for each in self.followed if each <= ts]


class Groups:
    """A file with a table, and groups of units on it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.declare({"items": {"by_n": ("n",)}})
        self.commit = self.store.group_commit
        self.follower = Follower()
        self.store.participants.append(self.follower)
        self.queue: deque[Member] = deque()
        self.started: list[int] = []

    def run(self, *works: Any) -> Group:
        """Run a group of these; each is a unit, a number to insert, or housekeeping."""
        self.queue.extend(Member(self._unit(work), lambda value, error: None) for work in works)
        return self.commit.run(self.queue)

    def _unit(self, work: Any) -> Any:
        if isinstance(work, Chore):
            return work
        run = unit(insert({"n": work})) if isinstance(work, int) else work

        def counted(snapshot: Any, ts: int) -> Any:
            self.started.append(ts)
            return run(snapshot, ts)

        return counted

    def numbers(self) -> list[Any]:
        return self.store.look(numbers)

    def fail_at_commit(self, error: Exception) -> None:
        """Let the next COMMIT fail."""

        def fail() -> None:
            del self.store.runtime.at_point["writer:before-commit"]
            raise error

        self.store.runtime.at_point["writer:before-commit"] = fail


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(group_commit, "GROUP_SECONDS", 60.0)  # a slow machine must not end a group early
    made = Groups()
    yield made
    assert check(made.store.connection) == []


def refusing(snapshot: Any, ts: int) -> Any:
    raise Refusal


def breaking(snapshot: Any, ts: int) -> Outcome[None]:
    """Create a unit whose record violates a constraint: it contains one write twice."""
    record = unit(insert({"n": 666}))(snapshot, ts).record
    assert record is not None
    return Outcome(None, CommitRecord(ts, (WriteDocuments(record.writes * 2),)))


def losing_the_transaction(snapshot: Any, ts: int) -> Any:
    """Roll back as SQLite does after an I/O error."""
    snapshot._connection.execute("ROLLBACK")
    return unit(insert({"n": 666}))(snapshot, ts)


def outcomes(group: Group) -> list[Any]:
    """Return for each member None, or its error's type."""
    return [None if member.error is None else type(member.error) for member in group.members]


def test_members_run_in_order_and_see_those_before_them(groups: Groups) -> None:
    """They share one transaction, with increasing timestamps."""
    seen: list[Any] = []

    def look(snapshot: Any, ts: int) -> Outcome[None]:
        seen.append(numbers(snapshot))
        return Outcome(None)

    group = groups.run(1, look, 2, look)
    assert seen == [[1], [1, 2]]
    assert [record.ts for record in group.commits] == [groups.started[0], groups.started[2]]
    assert groups.started == sorted(set(groups.started))
    assert groups.store.last_ts == group.commits[-1].ts


def test_a_member_that_raises_leaves_nothing(groups: Groups) -> None:
    """The other members run once and commit."""
    group = groups.run(1, refusing, 2)
    assert outcomes(group) == [None, Refusal, None]
    assert (groups.numbers(), len(groups.started)) == ([1, 2], 3)


def test_a_group_without_the_breaking_member_begins_again(groups: Groups) -> None:
    """Members before it run twice, the second time with later timestamps; it does not run again."""
    group = groups.run(1, breaking, 2)
    assert outcomes(group) == [None, errors.StorageFailed, None]
    assert len(groups.started) == 4
    assert [record.ts for record in group.commits] == groups.started[2:]
    assert groups.numbers() == [1, 2]


def test_every_breaking_member_is_left_out(groups: Groups) -> None:
    """Several breaking members may be anywhere in the group."""
    group = groups.run(breaking, 1, breaking, breaking, 2, breaking)
    assert [outcome is None for outcome in outcomes(group)] == [False, True, False, False, True, False]
    assert groups.numbers() == [1, 2]


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), errors.DiskFull("full")])
def test_a_failed_commit_fails_every_member(groups: Groups, error: Exception) -> None:
    """This includes members that raised: they may have reacted to a write of this group."""
    groups.run(0)
    groups.fail_at_commit(error)
    group = groups.run(1, refusing, 2)
    expected = errors.DiskFull if isinstance(error, errors.DiskFull) else errors.StorageFailed
    assert outcomes(group) == [expected] * 3
    assert (group.failed, group.commits, groups.numbers()) == (True, [], [0])


def test_after_a_failed_commit_the_next_group_goes_on_from_the_file(groups: Groups) -> None:
    """Log rows, timestamps and the catalog are those of the last commit."""
    groups.run(0)
    groups.fail_at_commit(sqlite3.OperationalError("disk I/O error"))
    groups.run(1)
    groups.run(2)
    assert groups.numbers() == [0, 2]


def test_an_unexpected_error_is_logged_and_reported_as_such(groups: Groups, caplog: pytest.LogCaptureFixture) -> None:
    """A defect of the engine fails the group, not the thread."""
    groups.fail_at_commit(ZeroDivisionError("boom"))
    assert outcomes(groups.run(1)) == [errors.InternalError]
    assert "the writer failed" in caplog.text


def test_a_transaction_lost_inside_a_unit_fails_the_group(groups: Groups) -> None:
    """Later members would have committed alone."""
    group = groups.run(1, losing_the_transaction, 2)
    assert outcomes(group) == [errors.StorageFailed] * 2
    assert outcomes(groups.run()) == [None]
    assert groups.numbers() == [2]


def test_a_group_that_cannot_begin_fails_the_next_member(groups: Groups) -> None:
    """If the file cannot be written, callers are answered one after another."""
    groups.queue.extend(Member(groups._unit(number), lambda value, error: None) for number in (1, 2))
    groups.store.connection.execute("BEGIN")
    group = groups.run()
    assert outcomes(group) == [errors.StorageFailed]
    assert outcomes(groups.run()) == [None]
    assert groups.numbers() == [2]


def test_participants_follow_what_becomes_durable(groups: Groups) -> None:
    """They follow through a group that is restarted, and one that fails."""
    group = groups.run(1, breaking, 2)
    assert groups.follower.followed == [record.ts for record in group.commits]
    groups.fail_at_commit(sqlite3.OperationalError("disk I/O error"))
    groups.run(3)
    assert groups.follower.followed == [record.ts for record in group.commits]


def test_a_participant_follows_a_record_before_the_next_member_runs(groups: Groups) -> None:
    """A member after a change of the code runs the new code."""
    seen: list[int] = []

    def look(snapshot: Any, ts: int) -> Outcome[None]:
        seen.extend(groups.follower.followed)
        return Outcome(None)

    group = groups.run(1, look)
    assert seen == [group.commits[0].ts]


def test_housework_makes_no_record(groups: Groups) -> None:
    """Housekeeping is part of the transaction, and has no timestamp."""
    before = groups.store.last_ts
    group = groups.run(Chore(lambda house: house.raise_floor(before)))
    assert (group.commits, groups.store.last_ts) == ([], before)
    assert groups.store.look(lambda snapshot: snapshot.globals()["floor_ts"]) == before


def test_housework_that_fails_is_left_out(groups: Groups) -> None:
    """Its changes are rolled back, and the others commit."""

    def fail(house: Any) -> None:
        house.raise_floor(1)
        raise Refusal

    group = groups.run(1, Chore(fail), 2)
    assert outcomes(group) == [None, Refusal, None]
    assert groups.store.look(lambda snapshot: snapshot.globals()["floor_ts"]) == 0
    assert groups.numbers() == [1, 2]


def test_a_group_has_at_most_so_many_members(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others stay in the queue."""
    monkeypatch.setattr(group_commit, "GROUP_MUTATIONS_MAX", 2)
    group = groups.run(1, 2, 3)
    assert (len(group.members), len(groups.queue)) == (2, 1)


def expiring(groups: Groups, count: int) -> Callable[[], list[list[ExpireRequests]]]:
    """Run a group after request records have expired; return the expiry steps of its commits."""
    for number in range(count):
        groups.run(unit(insert({"n": number}), request=("session", number)))
    assert groups.store.runtime.clock_us is not None
    groups.store.runtime.clock_us += 15 * 86_400_000_000

    def run() -> list[list[ExpireRequests]]:
        group = groups.run(7)
        return [[one for one in record.operations if isinstance(one, ExpireRequests)] for record in group.commits]

    return run


def test_request_records_expire_in_a_commit_of_their_own(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    """They expire in small steps, the oldest first; the record has their number."""
    monkeypatch.setattr(group_commit, "REQUEST_RECORDS_INSPECTED_STEP", 2)
    run = expiring(groups, 3)
    steps = [run(), run(), run()]
    assert [[[one.rows for one in each] for each in step] for step in steps] == [[[], [2]], [[], [1]], [[]]]
    assert groups.store.look(stored_requests) == []


def test_request_records_expire_by_their_real_age_after_the_clock_was_ahead(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two weeks after the clock was corrected they expire, and not a year later; a day before that they do not."""
    monkeypatch.setattr(group_commit, "REQUEST_RECORDS_INSPECTED_STEP", 2)
    day_us = 86_400_000_000
    runtime = groups.store.runtime
    assert runtime.clock_us is not None
    remaining = []
    for request, days in enumerate((365, -365, 13, 2)):
        runtime.clock_us += days * day_us
        groups.run(unit(insert({"n": request}), request=("session", request)))
        remaining.append(groups.store.look(stored_requests))
    assert remaining == [[0], [0, 1], [0, 1, 2], [2, 3]]
