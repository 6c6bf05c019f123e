"""The writer: groups, the order of publication and acknowledgement, and the extent of failures."""

import asyncio
import sqlite3
import threading

import pytest

from tests.support.storage import (
    Blocker,
    SteppedRuntime,
    bound_runtime,
    insert,
    numbers,
    opened,
    stored_requests,
    unit,
    writer_connection,
)
from tinyvex import errors
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.operations import WriteDocuments
from tinyvex.values.codec import decode


def failing(error):
    def run(snapshot, ts):
        raise error

    return run


def breaking(snapshot, ts):
    """Create a unit whose record violates a constraint: it contains one write twice."""
    outcome = unit(insert({"n": 666}))(snapshot, ts)
    return Outcome(None, CommitRecord(ts, (WriteDocuments(outcome.record.writes * 2),)))


async def test_what_waits_together_is_one_group(store):
    """One COMMIT serves all, in the order in which they were queued, each seeing those before it."""
    blocker = Blocker(store)
    batches = []
    store.on_commits = batches.append
    seen = await blocker.grouped(*[
        store.write(lambda snapshot, ts, n=n: Outcome(numbers(snapshot), unit(insert({"n": n}))(snapshot, ts).record))
        for n in range(5)
    ])  # fmt: skip
    assert seen == [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert [len(batch) for batch in batches] == [5]


async def test_timestamps_increase_and_are_published_in_order(store):
    """Timestamps increase across groups, as `last_ts` shows."""
    published = []
    store.on_commits = lambda commits: published.extend(record.ts for record in commits)
    await asyncio.gather(*[store.write(unit(insert({"n": n}))) for n in range(300)])
    assert published == sorted(set(published))
    assert store.last_ts == published[-1]


async def test_commits_are_published_before_they_are_acknowledged(store):
    """A mutation is acknowledged only after its commit is published."""
    order = []
    store.on_commits = lambda commits: order.extend(("published", record.ts) for record in commits)
    store.write_nowait(unit(insert({"n": 1})), lambda value, error: order.append(("done", value.ts)))
    await store.write(unit(insert({"n": 2})))
    ((_, ts),) = [entry for entry in order if entry[0] == "done"]
    assert order.index(("published", ts)) < order.index(("done", ts))


async def test_a_unit_that_raises_leaves_nothing_and_fails_alone(store):
    """The other members of the group commit."""
    blocker = Blocker(store)
    results = await blocker.grouped(
        store.write(unit(insert({"n": 1}))),
        store.write(failing(ZeroDivisionError("boom"))),
        store.write(unit(insert({"n": 2}))),
    )
    assert isinstance(results[1], ZeroDivisionError)
    assert await store.read(numbers) == [1, 2]


async def test_a_unit_may_raise_anything(store):
    """Even an exception that would end a thread leaves the writer running."""
    for error in (SystemExit(3), KeyboardInterrupt()):
        caught = []
        store.write_nowait(failing(error), lambda value, raised, caught=caught: caught.append(raised))
        await store.write(unit(insert({"n": 1})))
        assert caught == [error]


async def test_a_record_that_breaks_a_constraint_fails_alone(store):
    """Its group is rolled back and the other members run again, without visible effect."""
    blocker = Blocker(store)
    published = []
    store.on_commits = lambda commits: published.extend(record.ts for record in commits)
    results = await blocker.grouped(
        store.write(unit(insert({"n": 1}))),
        store.write(breaking),
        store.write(unit(insert({"n": 2}))),
        store.write(breaking),
        store.write(unit(insert({"n": 3}))),
    )
    assert [isinstance(result, errors.StorageFailed) for result in results] == [False, True, False, True, False]
    assert await store.read(numbers) == [1, 2, 3]
    assert published == [results[place].ts for place in (0, 2, 4)]


async def test_a_failed_commit_fails_every_member_and_publishes_nothing(store):
    """The writer then continues from the state of the file."""
    published = []
    store.on_commits = published.append

    def fail():
        if store._writer._thread.group_commit._commits:
            raise sqlite3.OperationalError("disk I/O error")

    store._runtime.at_point["writer:before-commit"] = fail
    blocker = Blocker(store)
    results = await blocker.grouped(*[store.write(unit(insert({"n": n}))) for n in range(3)])
    assert [type(result) for result in results] == [errors.StorageFailed] * 3
    assert published == []
    del store._runtime.at_point["writer:before-commit"]
    await store.write(unit(insert({"n": 7})))
    assert await store.read(numbers) == [7]


async def test_a_full_disk_is_named_and_survived(store):
    """Nothing of the group is stored, and with free space the same mutation succeeds."""
    connection = writer_connection(store)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    large = unit(insert({"n": 1, "text": "x" * 100_000}))
    with pytest.raises(errors.DiskFull):
        await store.write(large)
    assert await store.read(numbers) == []
    connection.execute("PRAGMA max_page_count = 100000")
    await store.write(large)
    assert await store.read(numbers) == [1]


async def test_nothing_is_acknowledged_before_the_commit(store):
    """Until COMMIT returns, no reader sees the writes and no callback has run."""
    reached, go_on = threading.Event(), threading.Event()

    def hold():
        reached.set()
        assert go_on.wait(30)

    store._runtime.at_point["writer:before-commit"] = hold
    pending = store.write(unit(insert({"n": 1})))
    await asyncio.to_thread(reached.wait, 30)
    assert await store.read(numbers) == []
    assert not pending.done()
    go_on.set()
    await pending
    assert await store.read(numbers) == [1]


async def test_a_clock_that_steps_back_does_not_turn_timestamps_back(tmp_path):
    """Timestamps also increase across a restart: the last one is stored in the file."""
    runtime = bound_runtime()
    runtime.clock_us = 2_000_000_000_000_000
    async with opened(tmp_path, runtime=runtime) as store:
        first = (await store.write(unit(insert({"n": 1})))).ts
        runtime.clock_us -= 10_000_000
        second = (await store.write(unit(insert({"n": 2})))).ts
    runtime = bound_runtime()
    runtime.clock_us = 1_000_000_000_000_000
    async with opened(tmp_path, runtime=runtime) as store:
        assert store.last_ts == second
        third = (await store.write(unit(insert({"n": 3})))).ts
    assert first < second < third


async def test_the_queue_has_a_bound(store, monkeypatch):
    """A mutation beyond the bound is refused immediately, and the queued ones complete."""
    monkeypatch.setattr("tinyvex.storage.engine.writer.WRITER_QUEUE_MAX", 3)
    blocker = Blocker(store)
    pending = [store.write(unit(insert({"n": n}))) for n in range(2)]
    with pytest.raises(errors.Overloaded):
        store.write(unit(insert({"n": 9})))
    await blocker.grouped(*pending)
    assert await store.read(numbers) == [0, 1]


async def test_the_client_with_the_most_pays_for_a_full_queue(store, monkeypatch):
    """At the bound, the newest mutation of the client with the most is Overloaded, and the newcomer's runs."""
    monkeypatch.setattr("tinyvex.storage.engine.writer.WRITER_QUEUE_MAX", 4)
    blocker = Blocker(store)
    await asyncio.to_thread(blocker.entered.wait, 30)
    pending = [store.write(unit(insert({"n": n})), client="busy") for n in range(3)]
    pending.append(store.write(unit(insert({"n": 9})), client="newcomer"))
    results = await blocker.grouped(*pending)
    assert [isinstance(result, errors.Overloaded) for result in results] == [False, False, True, False]
    assert sorted(await store.read(numbers)) == [0, 1, 9]


async def test_a_mutation_does_not_wait_for_the_queue_of_another_client(store):
    """It runs after at most one of the other client's, however many were queued first."""
    blocker = Blocker(store)
    order = []

    def noted(client):
        return lambda snapshot, ts: order.append(client) or Outcome(None)

    pending = [store.write(noted("busy"), client="busy") for _ in range(100)]
    pending.append(store.write(noted("good"), client="good"))
    await blocker.grouped(*pending)
    assert order.index("good") <= 1


async def test_the_mutations_of_a_client_run_in_order(store):
    """Among those of other clients, each client's own keep their order of arrival."""
    blocker = Blocker(store)
    order = []

    def noted(client, number):
        return lambda snapshot, ts: order.append((client, number)) or Outcome(None)

    pending = [store.write(noted(client, number), client=client) for number in range(50) for client in "abc"]
    await blocker.grouped(*pending)
    assert [[number for owner, number in order if owner == client] for client in "abc"] == [list(range(50))] * 3


async def test_a_cancelled_wait_does_not_take_the_write_back(store):
    """Cancelling loses the answer, not the commit."""
    blocker = Blocker(store)
    pending = store.write(unit(insert({"n": 1})))
    pending.cancel()
    await blocker.grouped()
    await store.write(unit(insert({"n": 2})))
    assert await store.read(numbers) == [1, 2]


async def test_a_group_without_records_commits_nothing(store):
    """Units that only read do not change `last_ts`."""
    before = store.last_ts
    published = []
    store.on_commits = published.append
    assert await store.write(lambda snapshot, ts: Outcome(snapshot.ts)) == before
    assert (store.last_ts, published) == (before, [])


async def test_a_defective_callback_does_not_keep_others_waiting(store):
    """The defect is reported to the loop; the next callback runs."""
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
    blocker = Blocker(store)
    store.write_nowait(unit(insert({"n": 1})), lambda value, error: 1 / 0)
    await blocker.grouped(store.write(unit(insert({"n": 2}))))
    assert [type(error) for error in reported] == [ZeroDivisionError]


async def test_a_long_group_is_cut(store, monkeypatch):
    """Slow mutations are acknowledged before all queued ones have run."""
    monkeypatch.setattr("tinyvex.storage.engine.group_commit.GROUP_SECONDS", -1.0)
    blocker = Blocker(store)
    sizes = []
    store.on_commits = lambda commits: sizes.append(len(commits))
    await blocker.grouped(*[store.write(unit(insert({"n": n}))) for n in range(3)])
    assert sizes == [1, 1, 1]


async def test_the_log_is_checkpointed_at_its_bound(store, monkeypatch):
    """Without a pause, the checkpoint runs before the next group."""
    monkeypatch.setattr("tinyvex.storage.engine.writer.WAL_BYTES_MAX", 20_000)
    for number in range(20):
        await store.write(unit(insert({"n": number, "text": "x" * 2000})))
    figures = store.statistics()
    assert figures.checkpoints > 0
    assert figures.wal_bytes < 60_000
    assert await store.read(numbers) == list(range(20))


@pytest.mark.parametrize("kept", [1, 1 << 30])
async def test_the_log_is_checkpointed_in_a_pause(store, monkeypatch, kept):
    """The log is checkpointed shortly after the last mutation, and truncated in a longer pause if it is large."""
    monkeypatch.setattr("tinyvex.storage.engine.writer.WAL_BYTES_CHECKPOINT", 1)
    monkeypatch.setattr("tinyvex.storage.engine.writer.TRUNCATE_IDLE_SECONDS", 0.05)
    monkeypatch.setattr("tinyvex.storage.engine.writer.WAL_BYTES_TRUNCATE", kept)
    checkpointed = threading.Event()
    wanted = ("TRUNCATE",) if kept == 1 else ("PASSIVE",)
    original = type(store._writer._thread).checkpoint

    def checkpoint(self, *mode):
        original(self, *mode)
        if mode == wanted:
            checkpointed.set()

    monkeypatch.setattr(type(store._writer._thread), "checkpoint", checkpoint)
    await store.write(unit(insert({"n": 1})))
    assert await asyncio.to_thread(checkpointed.wait, 30)
    assert (store.statistics().wal_bytes == 0) == (kept == 1)


async def test_what_the_engine_itself_writes_counts_for_checkpoints(store, monkeypatch):
    """A long sweep or backfill does not let the log grow without bound."""
    monkeypatch.setattr("tinyvex.storage.engine.writer.WAL_BYTES_MAX", 20_000)

    def rewrite(house):
        house._connection.execute("INSERT INTO globals VALUES ('unused', '1', 0)")
        house._connection.execute("DELETE FROM globals WHERE key = 'unused'")

    for _ in range(2):  # what making the tables has left
        await store.housekeep(rewrite)
    before = store.statistics().checkpoints
    for _ in range(30):
        await store.housekeep(rewrite)
    assert store.statistics().checkpoints > before


async def test_a_reader_keeps_its_snapshot_through_a_checkpoint(store):
    """The log is not emptied under a reader; a later checkpoint does it."""
    inside, go_on = threading.Event(), threading.Event()

    def slow(snapshot):
        before = numbers(snapshot)
        inside.set()
        assert go_on.wait(30)
        return before, numbers(snapshot)

    await store.write(unit(insert({"n": 1})))
    pending = asyncio.ensure_future(store.read(slow))
    await asyncio.to_thread(inside.wait, 30)
    await store.write(unit(insert({"n": 2})))
    thread = store._writer._thread
    await store.write(lambda snapshot, ts: Outcome(None))
    await asyncio.to_thread(thread.checkpoint)
    go_on.set()
    assert await pending == ([1], [1])


async def test_old_request_records_expire(tmp_path, monkeypatch):
    """Expired records are deleted in small steps alongside new commits."""
    monkeypatch.setattr("tinyvex.storage.engine.group_commit.REQUEST_RECORDS_INSPECTED_STEP", 4)
    runtime = SteppedRuntime()
    runtime.bind(asyncio.get_running_loop())
    runtime.clock_us = 1_800_000_000_000_000
    async with opened(tmp_path, runtime=runtime) as store:
        for number in range(3):
            await store.write(unit(insert({"n": number}), request=("session", number)))
        runtime.clock_us += 15 * 86_400_000_000
        for number in range(3, 8):
            await store.write(unit(insert({"n": number}), request=("session", number)))
        assert await store.read(stored_requests) == [3, 4, 5, 6, 7]


async def test_the_same_request_twice_in_one_group_is_seen_by_the_second(store):
    """A unit finds the request record of an earlier member of its group."""

    def once(snapshot, ts):
        if (known := snapshot.request("session", 1).record) is not None:
            return Outcome(known.ts)
        return Outcome(ts, unit(insert({"n": 1}), request=("session", 1))(snapshot, ts).record)

    blocker = Blocker(store)
    first, second = await blocker.grouped(store.write(once), store.write(once))
    assert first == second
    assert await store.read(numbers) == [1]


async def test_what_a_unit_read_is_the_newest_state(store):
    """Many read-modify-write units lose no update."""
    stored = await store.write(unit(insert({"n": 0})))

    def increment(transaction):
        table = transaction.catalog.table("items")
        count = decode(transaction.get(table, stored.internal).json)["n"]
        transaction.put(table, stored.internal, {"n": count + 1})

    await asyncio.gather(*[store.write(unit(increment)) for _ in range(300)])
    assert await store.read(numbers) == [300]
