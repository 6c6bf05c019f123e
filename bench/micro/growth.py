"""
Growth of the file over a simulated day with the default retention: 1,000 documents that are overwritten all the time.

A clock of the benchmark's own advances by a minute at a time. In each minute mutations overwrite 100 documents each, and
then retention sweeps, as it does in a server. The bound is four times the live data plus 256 MiB.
"""

from __future__ import annotations

import asyncio

from bench.harness import Bench
from bench.micro.storage import insert, opened, revise
from bench.workloads import document
from tinyvex.runtime import Runtime
from tinyvex.storage.maintenance.live_size import measure
from tinyvex.storage.maintenance.retention import Retention
from tinyvex.storage.maintenance.retention_policy import Policy

PER_MUTATION = 100
MINUTE_US = 60_000_000


class SteppedClock(Runtime):
    """A real runtime with a wall clock that the benchmark advances."""

    def __init__(self) -> None:
        super().__init__()
        self.clock_us = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.clock_us


async def _no_pause() -> None:
    """Return without pausing: no mutation waits."""


def run(bench: Bench) -> None:
    minutes = bench.parameter("minutes", 3, 24 * 60)
    mutations = bench.parameter("mutations per minute", 2, 5)
    asyncio.run(_day(bench, minutes, mutations))


async def _day(bench: Bench, minutes: int, mutations: int) -> None:
    random, clock, policy = bench.random(), SteppedClock(), Policy()
    async with opened(clock) as store:
        ids = await store.write(insert(random, [document(random) for _ in range(10 * PER_MUTATION)]))
        bound = policy.bound(await store.read(measure))
        retention = Retention(store, policy, clock.now_us, _no_pause)
        file, largest, purged = store.folder.database, 0, 0
        for _ in range(minutes):
            for _ in range(mutations):
                chosen = random.sample(ids, PER_MUTATION)
                await store.write(revise(random, chosen, [document(random) for _ in chosen]))
            clock.clock_us += MINUTE_US
            purged += await retention.sweep()
            largest = max(largest, file.stat().st_size)
        bench.add("bound", "MB", bound / 1e6)
        bench.add("largest file", "MB", largest / 1e6, "lower")
        bench.add("revisions written", "revisions", minutes * mutations * PER_MUTATION)
        bench.add("revisions purged before their age", "revisions", purged)
        bench.hash([b"%d" % len(ids)])
