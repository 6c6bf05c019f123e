"""Readers: snapshots, timestamps, and the queue."""

import asyncio
import sqlite3
import threading
import time

import pytest

from tests.support.storage import declare, insert, numbers, unit
from tinyvex import errors, limits
from tinyvex.runtime import AWAKE_TICK_SECONDS
from tinyvex.storage.engine.readers import Job
from tinyvex.storage.log.commit_record import Outcome


async def test_a_read_sees_one_snapshot_and_returns_its_timestamp(store):
    """A read sees one snapshot and returns its timestamp, however long it takes and whatever commits meanwhile."""
    first = await store.write(unit(insert({"n": 1})))
    inside, go_on = threading.Event(), threading.Event()

    def slow(snapshot):
        inside.set()
        assert go_on.wait(30)
        return snapshot.ts, numbers(snapshot)

    pending = asyncio.ensure_future(store.read(slow))
    await asyncio.to_thread(inside.wait, 30)
    await store.write(unit(insert({"n": 2})))
    go_on.set()
    assert await pending == (first.ts, [1])


async def test_a_read_at_an_older_timestamp(store):
    """A read at an older timestamp returns the state at that time."""
    stored = await store.write(unit(insert({"n": 1})))
    await store.write(unit(insert({"n": 2})))
    assert await store.read(numbers, at=stored.ts) == [1]
    assert await store.read(numbers, at=stored.ts - 1) == []
    assert await store.read(lambda snapshot: snapshot.ts, at=stored.ts) == stored.ts


async def test_a_read_in_the_future_is_refused(store):
    """The read fails with `SnapshotUnavailable`, and the reader continues."""
    with pytest.raises(errors.SnapshotUnavailable):
        await store.read(numbers, at=store.last_ts + 1_000_000_000)
    assert await store.read(numbers) == []


async def test_a_read_may_raise_anything(store):
    """The exception reaches the caller, and the reader continues."""

    def fail(snapshot):
        raise SystemExit(1)

    for _ in range(limits.READER_THREADS * 2):
        caught = asyncio.get_running_loop().create_future()
        store.read_nowait(fail, lambda value, error, caught=caught: caught.set_result(error))
        assert isinstance(await caught, SystemExit)
    assert await store.read(numbers) == []


async def test_what_follows_a_read_is_not_limited(store):
    """
    The continuation is called with the value on the reader's thread, after the time limit and the transaction have
    ended.
    """
    done = asyncio.get_running_loop().create_future()
    seen = []

    def follow(value):
        thread = threading.current_thread()
        event = threading.Event()
        event.wait(0.3)  # longer than the read may take
        seen.append((value, thread is not threading.main_thread()))

    store.read_nowait(numbers, lambda value, error: done.set_result((value, error)), limit_seconds=0.1, then=follow)
    assert await done == ([], None)
    assert seen == [([], True)]


async def test_an_error_after_a_read_reaches_the_caller(store):
    """An exception of the continuation reaches the caller of the read."""
    done = asyncio.get_running_loop().create_future()
    store.read_nowait(numbers, lambda value, error: done.set_result(error), then=lambda value: 1 / 0)
    assert isinstance(await done, ZeroDivisionError)


async def test_readers_cannot_write(store):
    """A reader cannot write even with SQL of its own."""

    def write(snapshot):
        snapshot._connection.execute("DELETE FROM documents")

    with pytest.raises(errors.DataFolderUnusable):
        await store.read(write)


async def test_reads_run_concurrently(store):
    """As many reads run concurrently as there are threads."""
    barrier = threading.Barrier(limits.READER_THREADS)
    await asyncio.gather(*[store.read(lambda snapshot: barrier.wait(30)) for _ in range(limits.READER_THREADS)])


async def test_many_reads_are_all_answered(store):
    """No wake-up is lost between many bursts."""
    await store.write(unit(insert({"n": 1})))
    for burst in (1, 2, 3, 50, 1, 200):
        assert await asyncio.gather(*[store.read(numbers) for _ in range(burst)]) == [[1]] * burst


async def test_the_queue_has_a_bound(store, monkeypatch):
    """A read beyond the bound is refused immediately."""
    monkeypatch.setattr("tinyvex.storage.engine.readers.READER_QUEUE_MAX", 2)
    go_on = threading.Event()
    pending = [asyncio.ensure_future(store.read(lambda snapshot: go_on.wait(30))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(errors.Overloaded):
        store.read(numbers)
    go_on.set()
    await asyncio.gather(*pending)


async def test_the_client_with_the_most_pays_for_a_full_queue(store, monkeypatch):
    """At the bound, the newest read of the client with the most is Overloaded, and the newcomer's runs."""
    monkeypatch.setattr("tinyvex.storage.engine.readers.READER_QUEUE_MAX", 3)
    go_on = threading.Event()
    busy = [asyncio.ensure_future(store.read(lambda snapshot: go_on.wait(30), client="busy")) for _ in range(3)]
    await asyncio.sleep(0)
    assert await store.read(numbers, client="newcomer") == []
    go_on.set()
    results = await asyncio.gather(*busy, return_exceptions=True)
    assert [isinstance(result, errors.Overloaded) for result in results] == [False, False, True]


async def test_a_client_never_occupies_all_readers(store):
    """While one client's reads block, another client's are answered."""
    go_on = threading.Event()
    busy = [
        asyncio.ensure_future(store.read(lambda snapshot: go_on.wait(30), client="busy"))
        for _ in range(limits.READER_THREADS * 2)
    ]
    await asyncio.sleep(0)
    assert await store.read(numbers, client="good") == []
    go_on.set()
    assert await asyncio.gather(*busy) == [True] * len(busy)


async def test_answers_leave_the_loop_free_between_them(store):
    """An answer that arrives while another is delivered waits for the loop's next iteration."""
    readers, order = store._readers, []
    last = asyncio.get_running_loop().create_future()
    second = Job(numbers, lambda value, error: (order.append("second"), last.set_result(None)), None, None)

    def deliver_first(value, error):
        asyncio.get_running_loop().call_soon(order.append, "loop")
        readers._unfinished += 1
        readers.answer(second)

    store.read_nowait(numbers, deliver_first)
    await last
    assert order == ["loop", "second"]


async def test_a_read_that_is_no_longer_wanted_is_not_run(store):
    """It is answered, and takes no time from others."""
    done = asyncio.get_running_loop().create_future()
    ran = []
    store.read_nowait(ran.append, lambda value, error: done.set_result(error), wanted=lambda: False)
    assert isinstance(await done, errors.Overloaded)
    assert ran == []


async def test_what_follows_a_read_is_charged_to_its_client(store):
    """The work after a read, such as comparing two results, occupies a reader, so its client pays for it."""
    for _ in range(2):
        done = asyncio.get_running_loop().create_future()
        store.read_nowait(
            numbers,
            lambda value, error, done=done: done.set_result(value),
            then=lambda value: threading.Event().wait(0.2),
            client="busy",
        )
        await done
    assert store._readers.queue.turn_of("busy") - store._readers.queue.turn_of("good") > 0.1


async def test_a_client_does_not_pay_for_a_suspension(store, monkeypatch):
    """The process was stopped for an hour while the client's query was running."""
    runtime, skipped = store._runtime, 0.0
    monkeypatch.setattr(runtime, "monotonic", lambda: time.monotonic() + skipped)
    runtime.tick()

    def suspend(snapshot):
        nonlocal skipped
        skipped = 3600.0

    await read_as("suspended", store, suspend)
    assert store._readers.queue.turn_of("suspended") - store._readers.queue.turn_of("good") < 2 * AWAKE_TICK_SECONDS


async def read_as(client, store, read):
    """Read on behalf of a client, and wait."""
    done = asyncio.get_running_loop().create_future()
    store.read_nowait(read, lambda value, error: done.set_result(value), client=client)
    await done


async def test_the_catalog_is_the_one_of_the_snapshot(store):
    """A reader with an older catalog notices the change, and still reads at the older timestamp."""
    before = store.last_ts
    names = [await store.read(lambda snapshot: snapshot.catalog.names()) for _ in range(4)]
    await declare(store, {"items": {}, "others": {}})
    names += [await store.read(lambda snapshot: snapshot.catalog.names()) for _ in range(4)]
    assert names == [["items"]] * 4 + [["items", "others"]] * 4
    assert await store.read(lambda snapshot: snapshot.catalog.names(), at=before) == ["items"]


async def test_an_error_of_sqlite_is_ours(store):
    """An error in the file is reported as a storage error."""

    def fail(snapshot):
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    with pytest.raises(errors.FileDamaged):
        await store.read(fail)


async def test_a_defective_callback_does_not_keep_others_waiting(store):
    """The defect is reported to the loop; the next callback runs."""
    reported = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.set_result(context["exception"]))
    store.read_nowait(numbers, lambda value, error: 1 / 0)
    assert await asyncio.gather(*[store.read(numbers) for _ in range(5)]) == [[]] * 5
    # Two readers: the defective one's answer may come after the others'.
    assert isinstance(await reported, ZeroDivisionError)


async def stuck_read(store, monkeypatch, release):
    """Start a read that blocks with its snapshot until released; return its abandoned worker."""
    monkeypatch.setattr("tinyvex.storage.engine.time_limit.FUNCTION_GRACE_SECONDS", 0.05)

    def stuck(snapshot):
        numbers(snapshot)
        release.wait(30)  # one call of C, which notices no exception
        return numbers(snapshot)

    with pytest.raises(errors.TimeLimitExceeded, match="did not stop when interrupted"):
        await store.read(stuck, limit_seconds=0.05)
    (worker,) = store._stuck
    return worker


async def test_a_stuck_reader_does_not_keep_the_log_from_being_emptied(store, monkeypatch):
    """Abandoning the reader ends its snapshot, and a checkpoint empties the log while the thread is still stuck."""
    release = threading.Event()
    await store.write(unit(insert({"n": 1})))
    worker = await stuck_read(store, monkeypatch, release)
    try:
        await store.write(unit(insert({"n": 2, "text": "x" * 100_000})))
        await store.write(lambda snapshot, ts: Outcome(None))  # the writer is between two groups
        await asyncio.to_thread(store._writer._thread.checkpoint)
        assert (store.statistics().wal_bytes, worker.alive()) == (0, True)
    finally:
        release.set()
        await asyncio.to_thread(worker._thread.join, 30)


async def test_a_stuck_reader_that_comes_back_ends(store, monkeypatch):
    """Its thread ends and closes its connection, whatever it still reads; other reads continue."""
    release = threading.Event()
    await store.write(unit(insert({"n": 1})))
    stuck = {reader.worker: reader for reader in store._readers._threads}
    worker = await stuck_read(store, monkeypatch, release)
    release.set()
    await asyncio.to_thread(worker._thread.join, 30)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        stuck[worker].source.connection.execute("SELECT 1")
    assert await store.read(numbers) == [1]
