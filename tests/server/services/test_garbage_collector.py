"""When the collector's service collects, freezes and thaws; with a model of Python's collector, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.server.background_tasks import BackgroundTasks
from tinyvex.server.services.garbage_collector import GarbageCollector
from tinyvex.storage.engine.store_statistics import StoreStatistics
from tinyvex.sync.counters import Counters

FEW = limits.COLLECTOR_FREEZE_OBJECTS // 2
MANY = limits.COLLECTOR_FREEZE_OBJECTS + 1
MANY_BUSY = limits.COLLECTOR_FREEZE_BUSY_OBJECTS + 1
MANY_HELD = limits.COLLECTOR_HOLD_OBJECTS + 1
AT_START = 40_000
TICK = limits.COLLECTOR_SECONDS


class ModelOfPython:
    """
    Python's collector, as counts of objects.

    Attributes:
        old: objects that are not frozen, `garbage` of them without use.
        frozen: objects that are, `frozen_garbage` of them without use.
        young_collections: since the last full collection.
        done: what was done, in order.
    """

    def __init__(self, thresholds: tuple[int, int, int] = (700, 10, 10)) -> None:
        self.thresholds = thresholds
        self.old = AT_START
        self.garbage = self.frozen = self.frozen_garbage = self.young_collections = 0
        self.enabled = True
        self.done: list[str] = []

    def get_threshold(self) -> tuple[int, int, int]:
        return self.thresholds

    def set_threshold(self, *thresholds: Any) -> None:
        self.thresholds = thresholds

    def isenabled(self) -> bool:
        return self.enabled

    def get_count(self) -> tuple[int, int, int]:
        return 0, 0, self.young_collections

    def get_freeze_count(self) -> int:
        return self.frozen

    def get_objects(self, *, generation: int) -> range:
        assert generation == 2
        return range(self.old)

    def collect(self) -> int:
        self.done.append("collect")
        self.young_collections = 0
        garbage, self.garbage = self.garbage, 0
        self.old -= garbage
        return garbage

    def freeze(self) -> None:
        self.done.append("freeze")
        self.frozen += self.old
        self.old = 0

    def unfreeze(self) -> None:
        self.done.append("unfreeze")
        self.old += self.frozen - self.frozen_garbage
        self.frozen = self.frozen_garbage = 0


class World:
    """A running service, what it observes, and the collector that it controls."""

    def __init__(self, python: ModelOfPython) -> None:
        self.python = python
        self.counters = Counters()
        self.statistics = StoreStatistics()
        self.runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        self.service = GarbageCollector(self.runtime, self.counters, lambda: self.statistics, python)

    async def create(self, count: int, *, garbage: int = 0, busy: bool = False) -> None:
        """Let functions create objects that remain, and others that do not, and let the service see them."""
        self.python.old += count + garbage
        self.python.garbage += garbage
        self.python.young_collections = limits.COLLECTOR_YOUNG_COLLECTIONS + count // 7_000
        self.statistics.queue_length = int(busy)
        await self.work()

    async def subscribe(self, objects: int, *, busy: bool = False) -> None:
        """Let clients create live queries with this many objects."""
        self.counters.live_queries += objects // limits.LIVE_QUERY_OBJECTS
        await self.create(objects, busy=busy)

    async def seconds_until_frozen(self) -> int:
        """Let functions create many objects; return after how many seconds they are frozen."""
        started = self.runtime.monotonic()
        await self.create(MANY_BUSY, busy=True)
        while "freeze" not in self.python.done:
            await self.create(0, busy=True)
        return int(self.runtime.monotonic() - started)

    async def work(self) -> None:
        """Let a second pass in which a client sends a message."""
        self.counters.messages_received += 1
        await anyio.sleep(TICK)

    async def freeze_garbage(self, count: int) -> None:
        """Let functions create at least so many objects in cycles that are frozen."""
        for _ in range(0, count, MANY_HELD):
            await self.create(MANY_HELD, busy=True)
            self.python.frozen_garbage += MANY_HELD
        self.python.done.clear()


def in_world(scenario: Callable[[World], Awaitable[None]], python: ModelOfPython | None = None) -> ModelOfPython:
    """Run a scenario alongside the service."""
    world = World(python or ModelOfPython())

    async def main() -> None:
        world.runtime.bind(asyncio.get_running_loop())
        async with BackgroundTasks(world.runtime, lambda *_: None) as tasks:
            await world.service.start(tasks)
            world.python.done.clear()
            await scenario(world)
            await world.service.stop()

    run_virtual(main())
    return world.python


def test_objects_of_the_start_are_frozen_without_a_collection() -> None:
    """A collection would delay the start; and no full collection is automatic while the service runs."""
    python = ModelOfPython()
    world = World(python)

    async def main() -> None:
        world.runtime.bind(asyncio.get_running_loop())
        async with BackgroundTasks(world.runtime, lambda *_: None) as tasks:
            await world.service.start(tasks)
            assert (python.frozen, python.old, python.done) == (AT_START, 0, ["freeze"])
            assert python.thresholds[:2] == (limits.COLLECTOR_YOUNG_OBJECTS, limits.COLLECTOR_YOUNG_PASSES)
            assert python.thresholds[2] > 1 << 30
            await world.service.stop()

    run_virtual(main())
    assert python.thresholds == (700, 10, 10)


def test_without_young_collections_nothing_happens() -> None:
    """A server that creates no objects is not interrupted."""

    async def scenario(world: World) -> None:
        await anyio.sleep(1000 * TICK)
        assert not world.python.done

    in_world(scenario)


def test_a_full_collection_follows_young_ones_and_is_timed() -> None:
    """Few objects remain, so they are examined again the next time."""

    async def scenario(world: World) -> None:
        await world.create(FEW)
        assert world.python.done == ["collect"]
        assert sum(world.service.seconds.counts) == 1

    in_world(scenario)


@pytest.mark.parametrize(
    ("count", "busy", "frozen"),
    [(FEW, False, False), (MANY, False, True), (MANY, True, False), (MANY_BUSY, True, True)],
)
def test_many_objects_that_remain_are_frozen(count: int, busy: bool, frozen: bool) -> None:
    """While functions run, only if there are so many that few of them can be theirs."""

    async def scenario(world: World) -> None:
        await world.subscribe(count + limits.LIVE_QUERY_OBJECTS, busy=busy)
        assert world.python.done == (["collect", "freeze"] if frozen else ["collect"])

    in_world(scenario)


def test_objects_of_functions_are_frozen_when_they_are_old() -> None:
    """Those of live queries and connections immediately; these may be cycles that become garbage soon."""

    async def scenario(world: World) -> None:
        assert 0 <= await world.seconds_until_frozen() - limits.COLLECTOR_HOLD_SECONDS <= 2 * TICK

    in_world(scenario)


def test_objects_of_connections_are_frozen_immediately() -> None:
    """A storm of clients that reconnect is not examined again and again."""

    async def scenario(world: World) -> None:
        world.counters.connections = MANY // limits.CONNECTION_OBJECTS
        await world.create(MANY)
        assert world.python.done == ["collect", "freeze"]

    in_world(scenario)


def test_cycles_that_live_for_seconds_are_not_frozen() -> None:
    """As long as a part of the objects becomes garbage, however old the others are."""

    async def scenario(world: World) -> None:
        await world.create(MANY)
        for _ in range(100):
            await world.create(0, garbage=MANY // 5)
        assert "freeze" not in world.python.done
        await world.create(0)
        assert world.python.done[-1] == "freeze"

    in_world(scenario)


def test_no_more_objects_are_held_than_one_collection_may_examine() -> None:
    """Even if they are new and a part of them becomes garbage."""

    async def scenario(world: World) -> None:
        await world.create(MANY_HELD, garbage=MANY_HELD // 5)
        assert world.python.done == ["collect", "freeze"]

    in_world(scenario)


def test_no_collection_examines_more_than_the_bound_however_many_are_created() -> None:
    """A million objects, in steps, with functions running all the time."""
    examined: list[int] = []

    class Recording(ModelOfPython):
        def collect(self) -> int:
            examined.append(self.old)
            return super().collect()

    async def scenario(world: World) -> None:
        for _ in range(100):
            await world.subscribe(10_000, busy=True)

    in_world(scenario, Recording())
    assert max(examined) <= limits.COLLECTOR_FREEZE_BUSY_OBJECTS + 10_000


def test_frozen_garbage_is_freed_when_the_server_is_idle() -> None:
    """As soon as no message, commit or computation came for COLLECTOR_IDLE_SECONDS."""

    async def scenario(world: World) -> None:
        await world.freeze_garbage(limits.COLLECTOR_THAW_OBJECTS + 1)
        for _ in range(20):
            await world.work()
        assert not world.python.done
        await anyio.sleep(limits.COLLECTOR_IDLE_SECONDS + TICK)
        assert world.python.done == ["unfreeze", "collect", "freeze"]
        assert world.python.frozen == AT_START
        await anyio.sleep(1000 * TICK)
        assert len(world.python.done) == 3

    in_world(scenario)


def test_objects_of_live_queries_are_not_examined_again() -> None:
    """An idle server with many live queries is not interrupted; one whose live queries have ended is."""

    async def scenario(world: World) -> None:
        for _ in range(40):
            await world.subscribe(MANY_BUSY + limits.LIVE_QUERY_OBJECTS, busy=True)
        await anyio.sleep(100 * TICK)
        assert "unfreeze" not in world.python.done
        world.counters.live_queries = 0
        world.python.frozen_garbage = world.python.frozen - AT_START
        await anyio.sleep(100 * TICK)
        assert world.python.frozen == AT_START

    in_world(scenario)


def test_frozen_garbage_is_bounded_in_a_server_that_is_never_idle() -> None:
    """Ten times the bound is created; the memory of all of it was freed except for about the bound."""
    largest = 0

    async def scenario(world: World) -> None:
        nonlocal largest
        for _ in range(10 * limits.COLLECTOR_THAW_BUSY_OBJECTS // MANY_HELD):
            await world.freeze_garbage(MANY_HELD)
            largest = max(largest, world.python.frozen)

    in_world(scenario)
    assert largest < AT_START + limits.COLLECTOR_THAW_BUSY_OBJECTS + 2 * MANY_HELD


def test_objects_that_become_garbage_later_are_frozen_later() -> None:
    """Each time that most of them were garbage, the time doubles; otherwise it returns."""

    async def scenario(world: World) -> None:
        waits = []
        for is_garbage in (True, True, True, True, False, False, False, False):
            world.python.done.clear()
            while "unfreeze" not in world.python.done:
                await world.create(MANY_HELD, busy=True)
                world.python.frozen_garbage = is_garbage * (world.python.frozen - AT_START)
            world.python.frozen = AT_START
            world.service._frozen(AT_START)
            world.python.done.clear()
            waits.append(round(await world.seconds_until_frozen() / limits.COLLECTOR_HOLD_SECONDS))
        assert waits == [2, 4, 8, 8, 4, 2, 1, 1]

    in_world(scenario)


def test_nothing_is_collected_if_the_app_has_disabled_the_collector() -> None:
    """The app decides."""

    async def scenario(world: World) -> None:
        world.python.enabled = False
        await world.create(MANY_BUSY)
        assert not world.python.done

    in_world(scenario)


def test_an_incremental_collector_is_left_alone() -> None:
    """Python 3.14 ignores the third threshold, which it reports as 0."""
    python = ModelOfPython((2000, 10, 0))

    async def scenario(world: World) -> None:
        await world.create(MANY_BUSY)
        assert not world.python.done
        assert world.service.health().state == "ok"

    assert in_world(scenario, python).thresholds == (2000, 10, 0)
    assert python.frozen == AT_START
