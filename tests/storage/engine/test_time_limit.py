"""The time limit: code that is stopped, code that ignores the stop, and late stops that must hit nothing else."""

import asyncio
import threading
import time

import pytest

from tests.support.storage import Blocker, insert, numbers, unit
from tinyvex import errors
from tinyvex.storage.engine import time_limit as guards
from tinyvex.storage.engine.time_limit import Guard, Stopped, Watch
from tinyvex.storage.log.commit_record import Outcome

LIMIT = 0.05


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr("tinyvex.storage.engine.time_limit.FUNCTION_GRACE_SECONDS", 0.05)


class Clock:
    """The part of a runtime that a guard uses."""

    def __init__(self):
        self.now = 0.0

    def awake_seconds(self):
        return self.now


class Stops:
    """A guard whose stop sets a pending `Stopped` on the thread that created it, as the loop would."""

    def __init__(self):
        from tinyvex.runtime import raise_in_thread

        self.clock = Clock()
        self.ident = threading.get_ident()
        self.count = 0
        self.send = lambda: raise_in_thread(self.ident, Stopped)
        self.guard = Guard(self.clock, self.stop)

    def stop(self):
        self.count += 1
        self.send()


def spin(until=lambda: False):
    """Run Python code that never ends by itself."""
    while not until():
        pass


def spinning(snapshot, *_):
    spin()


# The guard alone.


def test_code_within_its_limit_returns():
    """A later check of the guard finds it idle."""
    stops = Stops()
    assert stops.guard.run(lambda: 42, 1.0) == 42
    assert (stops.guard.check(), stops.count) == (None, 0)


def test_code_over_its_limit_is_stopped():
    """`Stopped` is raised in the code, and the caller gets `TimeLimitExceeded`."""
    stops = Stops()

    def work():
        stops.clock.now = 2.0
        stops.guard.check()
        spin()

    with pytest.raises(errors.TimeLimitExceeded, match="1 s"):
        stops.guard.run(work, 1.0)


def test_a_check_returns_the_time_of_the_next_one():
    """A check returns the time until the limit, and after the stop the grace period."""
    stops = Stops()
    stops.send = lambda: None
    seen = []

    def work():
        stops.clock.now = 0.75
        seen.append(stops.guard.check())
        stops.clock.now = 1.0
        seen.append(stops.guard.check())

    with pytest.raises(errors.TimeLimitExceeded):
        stops.guard.run(work, 1.0)
    assert seen == [0.25, guards.FUNCTION_GRACE_SECONDS]


class TimedLoop:
    """A loop with one clock and timers that fire in order."""

    def __init__(self, clock):
        self.clock = clock
        self.loop = self
        self.timers = []

    def call_later(self, delay, callback):
        timer = Timer(self.clock.now + delay, callback)
        self.timers.append(timer)
        return timer

    def advance(self, until):
        """Fire the timers up to a time."""
        while due := [timer for timer in self.timers if timer.when <= until]:
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.clock.now = max(self.clock.now, timer.when)
            if not timer.cancelled:
                timer.callback()
        self.clock.now = until


class Timer:
    """A timer of `TimedLoop`."""

    def __init__(self, when, callback):
        self.when, self.callback, self.cancelled = when, callback, False

    def cancel(self):
        self.cancelled = True


@pytest.mark.parametrize("delay", [0.0, 0.1, 5.0, 9.9, 10.0, 10.1, 19.9, 25.0])
def test_code_is_stopped_at_its_limit_whenever_it_begins(delay):
    """However long it waited in the queue, and wherever the timer stands, it has ten seconds and not more."""
    clock = Clock()
    stopped = []
    guard = Guard(clock, lambda: stopped.append(clock.now))
    loop = TimedLoop(clock)
    watch = Watch(loop, guard.check, lambda: True)
    watch.expect(10.0)
    loop.advance(delay)

    def runaway():
        loop.advance(delay + 9.999)
        assert stopped == []
        loop.advance(delay + 10.001)
        assert len(stopped) == 1

    with pytest.raises(errors.TimeLimitExceeded):
        guard.run(runaway, 10.0)


def test_an_exception_at_the_limit_is_a_time_limit_too():
    """Whatever the code raises or returns after the stop, the caller gets `TimeLimitExceeded`."""
    stops = Stops()
    stops.send = lambda: None

    def work():
        stops.clock.now = 1.0
        stops.guard.check()
        raise ValueError

    with pytest.raises(errors.TimeLimitExceeded):
        stops.guard.run(work, 1.0)


def test_a_stop_that_comes_while_the_code_ends_hits_nothing_else():
    """The timer checks at every point of many short runs; no stop is ever raised after a run."""
    stops = Stops()
    over = threading.Event()

    def look():
        while not over.is_set():
            stops.guard.check()

    watcher = threading.Thread(target=look)
    watcher.start()
    outcomes = {"ended": 0, "stopped": 0}
    try:
        for _ in range(3000):
            stops.clock.now = 0.0

            def work():
                stops.clock.now = 5.0

            try:
                stops.guard.run(work, 1.0)
                outcomes["ended"] += 1
            except errors.TimeLimitExceeded:
                outcomes["stopped"] += 1
            spin(iter([False] * 20 + [True]).__next__)
    finally:
        over.set()
        watcher.join()
    assert sum(outcomes.values()) == 3000


# In the store.


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_endless_python_is_stopped(store, kind):
    """The same thread continues with the next piece of work."""
    run = getattr(store, kind)
    with pytest.raises(errors.TimeLimitExceeded):
        await run(spinning, limit_seconds=LIMIT)
    await store.write(unit(insert({"n": 1})))
    assert await store.read(numbers) == [1]
    assert store.statistics().threads_abandoned == 0


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_an_endless_statement_is_interrupted(store, kind):
    """SQLite itself is interrupted."""

    def endless(snapshot, *_):
        statement = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
        snapshot._connection.execute(statement).fetchone()

    with pytest.raises(errors.TimeLimitExceeded):
        await getattr(store, kind)(endless, limit_seconds=LIMIT)
    await store.write(unit(insert({"n": 1})))
    assert await store.read(numbers) == [1]


async def test_catching_exceptions_does_not_catch_the_stop(store):
    """`except Exception` does not catch the stop."""

    def stubborn(snapshot, ts):
        while True:
            try:
                spin()
            except Exception:  # noqa: BLE001
                continue

    with pytest.raises(errors.TimeLimitExceeded):
        await store.write(stubborn, limit_seconds=LIMIT)


async def test_only_the_slow_member_of_a_group_fails(store):
    """The members before and after it commit."""
    blocker = Blocker(store)
    results = await blocker.grouped(
        store.write(unit(insert({"n": 1})), limit_seconds=10),
        store.write(spinning, limit_seconds=LIMIT),
        store.write(unit(insert({"n": 2})), limit_seconds=10),
    )
    assert isinstance(results[1], errors.TimeLimitExceeded)
    assert await store.read(numbers) == [1, 2]


@pytest.mark.usefixtures("short_grace")
async def test_a_writer_that_does_not_come_back_is_replaced(store):
    """The other members of its group run again on a new thread; its late return changes nothing."""
    release, ended = threading.Event(), threading.Event()

    def stuck(snapshot, ts):
        try:
            release.wait(30)  # one call of C, which notices no exception
        finally:
            ended.set()
        return unit(insert({"n": 666}))(snapshot, ts)

    blocker = Blocker(store)
    runs = []
    published = []
    store.on_commits = lambda commits: published.extend(record.ts for record in commits)

    def counted(snapshot, ts):
        runs.append(ts)
        return unit(insert({"n": 1}))(snapshot, ts)

    results = await blocker.grouped(
        store.write(counted, limit_seconds=10),
        store.write(stuck, limit_seconds=LIMIT),
        store.write(unit(insert({"n": 2})), limit_seconds=10),
    )
    assert isinstance(results[1], errors.TimeLimitExceeded)
    assert await store.read(numbers) == [1, 2]
    assert store.statistics().threads_abandoned == 1
    assert published == [results[0].ts, results[2].ts]
    release.set()
    assert await asyncio.to_thread(ended.wait, 30)
    await store.write(unit(insert({"n": 3})))
    assert await store.read(numbers) == [1, 2, 3]
    assert len(runs) == 2


@pytest.mark.usefixtures("short_grace")
async def test_a_reader_that_does_not_come_back_is_replaced(store):
    """Reads continue, however often this happens."""
    release = threading.Event()
    counts = []
    store.on_abandoned = counts.append
    for _ in range(3):
        with pytest.raises(errors.TimeLimitExceeded, match="did not stop when interrupted"):
            await store.read(lambda snapshot: release.wait(30), limit_seconds=LIMIT)
    assert await store.read(numbers) == []
    assert (store.statistics().threads_abandoned, store.statistics().threads_stuck) == (3, 3)
    assert counts == [1, 2, 3]
    stuck = [worker._thread for worker in store._stuck]
    release.set()
    for thread in stuck:
        await asyncio.to_thread(thread.join, 30)
    assert (store.statistics().threads_abandoned, store.statistics().threads_stuck) == (3, 0)


@pytest.mark.usefixtures("short_grace")
async def test_code_that_swallows_the_stop_is_abandoned(store):
    """Code is abandoned even if it loops over `except BaseException`."""
    over = []

    def swallowing(snapshot, ts):
        while not over:
            try:
                spin(lambda: over)
            except BaseException:  # noqa: BLE001
                continue
        return Outcome(None)

    with pytest.raises(errors.TimeLimitExceeded):
        await store.write(swallowing, limit_seconds=LIMIT)
    over.append(True)
    await store.write(unit(insert({"n": 1})))
    assert await store.read(numbers) == [1]


async def test_a_shorter_limit_is_enforced_in_time(store):
    """A shorter limit is enforced in time, although the timer was set for a longer one first."""
    await store.read(numbers, limit_seconds=60)
    started = time.monotonic()
    with pytest.raises(errors.TimeLimitExceeded):
        await store.read(spinning, limit_seconds=LIMIT)
    assert time.monotonic() - started < 30
