"""Faults that affect a whole group: which members fail, what the file contains, and that the writer recovers."""

import asyncio
import sqlite3
import threading

import pytest

from tests.support.storage import Blocker, bound_runtime, insert, numbers, opened, unit, writer_connection
from tinyvex import errors
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file import pragmas
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.storage.schema.system_tables import SystemChange, documents, system_tables

LIMIT = 0.05


class Refusal(Exception):
    """An error raised by a unit."""


async def write_fails(store):
    with pytest.raises(errors.StorageFailed):
        await store.write(unit(insert({"n": 666})))


# Both act on the idle writer's connection themselves: no group may come between the last commit and the fault.


async def locked_out(store, monkeypatch):
    """Hold the write lock from another tool beyond the busy timeout, so that BEGIN IMMEDIATE fails."""
    pragmas.busy_timeout(writer_connection(store), 0)
    other = sqlite3.connect(store.folder.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        await write_fails(store)
    finally:
        other.close()


async def not_checkpointed(store, monkeypatch):
    """Keep a statement of the same connection open, so that the checkpoint before the group fails."""
    under_way = writer_connection(store).execute("SELECT 1 FROM globals")
    under_way.fetchone()
    with monkeypatch.context() as patch:
        patch.setattr("tinyvex.storage.engine.writer.WAL_BYTES_MAX", 0)
        await write_fails(store)
    under_way.close()


before_the_group = pytest.mark.parametrize("fault", [locked_out, not_checkpointed])


# Before the transaction began.


@before_the_group
async def test_after_a_fault_before_a_group_mutations_succeed(store, monkeypatch, fault):
    """All later mutations succeed, in addition to what was committed before."""
    await store.write(unit(insert({"n": 1})))
    await fault(store, monkeypatch)
    for number in (2, 3):
        await store.write(unit(insert({"n": number})))
    assert await store.read(numbers) == [1, 2, 3]


@before_the_group
async def test_after_a_fault_before_a_group_a_unit_sees_the_newest_commit(store, monkeypatch, fault):
    """Its snapshot is at the `ts` of the last commit and contains its writes."""
    stored = await store.write(unit(insert({"n": 1})))
    await fault(store, monkeypatch)
    seen = await store.write(lambda snapshot, ts: Outcome((snapshot.ts, numbers(snapshot))))
    assert seen == (stored.ts, [1])


@before_the_group
async def test_after_a_fault_before_a_group_timestamps_go_on(store, monkeypatch, fault):
    """The next commit is later than the last, and is the one published."""
    before = (await store.write(unit(insert({"n": 1})))).ts
    await fault(store, monkeypatch)
    after = (await store.write(unit(insert({"n": 2})))).ts
    assert before < after == store.last_ts


@before_the_group
async def test_after_a_fault_before_a_group_the_catalog_is_the_newest(store, monkeypatch, fault):
    """The catalog contains the changes of the last commit."""

    def change_table(snapshot, ts):
        change = SystemChange(snapshot, ts)
        tables, _ = system_tables(snapshot.catalog)
        (row,) = [row for row in documents(snapshot, tables) if row.fields["name"] == "items"]
        change.update(tables, row, fingerprint="changed")
        return Outcome(None, change.record())

    await store.write(change_table)
    await fault(store, monkeypatch)
    table = await store.write(lambda snapshot, ts: Outcome(snapshot.catalog.table("items")))
    assert table.fingerprint == "changed"


# SQLite rolled back by itself inside a unit.


def rolling_back(snapshot, ts):
    """Roll back as SQLite does after an I/O error in a statement of a unit; the unit ignores it."""
    snapshot._connection.execute("ROLLBACK")
    return unit(insert({"n": 666}))(snapshot, ts)


def rolling_back_and_raising(snapshot, ts):
    snapshot._connection.execute("ROLLBACK")
    raise Refusal


def filling_the_disk(snapshot, ts):
    """
    Fail a statement for lack of space, so that SQLite rolls back; the unit's next statement starts from an empty
    transaction.
    """
    (pages,) = snapshot._connection.execute("PRAGMA page_count").fetchone()
    snapshot._connection.execute(f"PRAGMA max_page_count = {pages}")
    try:
        with pytest.raises(sqlite3.OperationalError, match="full"):
            snapshot._connection.execute("INSERT INTO globals VALUES ('large', randomblob(1000000), 0)")
    finally:
        snapshot._connection.execute("PRAGMA max_page_count = 1000000")
    return unit(insert({"n": 666}))(snapshot, ts)


def filling_the_disk_and_raising(snapshot, ts):
    filling_the_disk(snapshot, ts)
    raise Refusal


inside_a_unit = pytest.mark.parametrize(
    "fault", [rolling_back, rolling_back_and_raising, filling_the_disk, filling_the_disk_and_raising]
)


@inside_a_unit
async def test_a_transaction_lost_inside_a_unit_fails_its_group(store, fault):
    """Earlier members fail with the same fault, because nothing of theirs is stored."""
    blocker = Blocker(store)
    results = await blocker.grouped(store.write(unit(insert({"n": 1}))), store.write(fault))
    assert [type(result) for result in results] == [errors.StorageFailed] * 2


@inside_a_unit
async def test_a_transaction_lost_inside_a_unit_leaves_nothing_in_the_file(store, fault):
    """Nothing of the group is stored, neither from before the fault nor from after it."""
    await store.write(unit(insert({"n": 0})))
    blocker = Blocker(store)
    await blocker.grouped(store.write(unit(insert({"n": 1}))), store.write(fault))
    assert await store.read(numbers) == [0]


@inside_a_unit
async def test_mutations_after_a_lost_transaction_succeed(store, fault):
    """Mutations that waited behind the group succeed, and later ones."""
    blocker = Blocker(store)
    *_, behind = await blocker.grouped(
        store.write(unit(insert({"n": 1}))), store.write(fault), store.write(unit(insert({"n": 2})))
    )
    later = await store.write(unit(insert({"n": 3})))
    assert behind.ts < later.ts
    assert await store.read(numbers) == [2, 3]


# At the COMMIT.


async def test_members_that_raised_get_the_error_of_a_failed_commit(store):
    """Members that raised get the commit's error: they may have reacted to a write of the group that never happened."""

    def claim(snapshot, ts):
        if numbers(snapshot):
            raise Refusal
        return unit(insert({"n": 1}))(snapshot, ts)

    def fail():
        if store._writer._thread.group_commit._commits:
            raise sqlite3.OperationalError("disk I/O error")

    store._runtime.at_point["writer:before-commit"] = fail
    blocker = Blocker(store)
    results = await blocker.grouped(store.write(claim), store.write(claim))
    del store._runtime.at_point["writer:before-commit"]
    assert [type(result) for result in results] == [errors.StorageFailed] * 2


# The thread did not come back.


async def test_closing_takes_the_write_lock_from_a_stuck_writer(tmp_path, monkeypatch):
    """The same process can reopen the folder and write, although no new writer was started."""
    monkeypatch.setattr("tinyvex.storage.engine.time_limit.FUNCTION_GRACE_SECONDS", LIMIT)
    monkeypatch.setattr(pragmas.busy_timeout, "__defaults__", (100,))
    release = threading.Event()
    async with opened(tmp_path):
        pass  # has its tables now
    store = Store.open(tmp_path, bound_runtime())
    with pytest.raises(errors.TimeLimitExceeded):
        await store.write(lambda snapshot, ts: release.wait(30), limit_seconds=LIMIT)
    (stuck,) = store._stuck
    await store.close()
    try:
        async with opened(tmp_path) as again:
            await again.write(unit(insert({"n": 1})))
            assert await again.read(numbers) == [1]
            assert stuck.alive()
    finally:
        release.set()
        await asyncio.to_thread(stuck._thread.join, 30)
    assert check_folder(tmp_path) == []


async def test_closing_while_another_tool_holds_the_lock_fails_waiting_mutations(tmp_path):
    """BEGIN waits for the lock; at the limit the mutation fails with this reason, and the writer's thread ends."""
    async with opened(tmp_path) as store:
        thread = store._writer._thread
        pragmas.busy_timeout(thread.group_commit.connection, 300)
        other = sqlite3.connect(store.folder.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(store.write(unit(insert({"n": 1})), limit_seconds=5))
        await asyncio.sleep(0)
        await store.close(limit_seconds=LIMIT)
        other.close()
        with pytest.raises((errors.ServerStopping, errors.StorageFailed)):
            await waiting
        assert not thread.worker.alive()
    assert check_folder(tmp_path) == []
