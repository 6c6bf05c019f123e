"""
Growth of the file over a simulated day with the default retention: 1,000 documents that are overwritten all the time.

A clock of the benchmark's own advances by a minute at a time. In each minute mutations overwrite 100 documents each, and
then retention sweeps, as it does in a server. The bound is four times the live data plus 256 MiB.

Then three hours of 100 mutations/s, each of which overwrites one document, returns an id and stores that result for its
session: by sessions that acknowledge their results, and by as many that do not.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from bench.harness import Bench
from bench.micro.storage import TABLE, insert, opened, revise
from bench.workloads import document
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.runtime import Runtime
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.operations import RequestRecord
from tinyvex.storage.maintenance.live_size import measure
from tinyvex.storage.maintenance.retention import Retention
from tinyvex.storage.maintenance.retention_policy import Policy
from tinyvex.values.codec import encode
from tinyvex.values.ids import DocumentId

if TYPE_CHECKING:
    from tinyvex.storage.engine.group_commit import Unit

PER_MUTATION = 100
MINUTE_US = 60_000_000
SESSIONS = 8
WINDOW = 8
"""Mutations of a session under way; the next one acknowledges those before."""


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
    minutes = bench.parameter("minutes with results", 2, 3 * 60)
    mutations = bench.parameter("mutations with results per minute", 64, 6_000)
    for acknowledges in (True, False):
        asyncio.run(_hours(bench, minutes, mutations, acknowledges=acknowledges))


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


async def _hours(bench: Bench, minutes: int, mutations: int, *, acknowledges: bool) -> None:
    label = "results acknowledged" if acknowledges else "results not acknowledged"
    random, clock, policy = bench.random(), SteppedClock(), Policy()
    sessions = [f"{random.getrandbits(128):032x}" for _ in range(SESSIONS)]
    async with opened(clock) as store:
        ids = await store.write(insert(random, [document(random) for _ in range(10 * PER_MUTATION)]))
        retention = Retention(store, policy, clock.now_us, _no_pause)
        number, purged, largest, largest_log = 0, 0, 0, 0
        for _ in range(minutes):
            end = number + mutations // SESSIONS
            while number < end:
                numbers = range(number, min(number + WINDOW, end))
                below = number if acknowledges else 0
                await asyncio.gather(
                    *(
                        store.write(_overwrite(random, random.choice(ids), session, each, below))
                        for each in numbers
                        for session in sessions
                    )
                )
                number = numbers.stop
            clock.clock_us += MINUTE_US
            purged += await retention.sweep()
            largest = max(largest, store.folder.database.stat().st_size)
            largest_log = max(largest_log, store.folder.wal.stat().st_size)
        size = await store.read(measure)
        bench.add(f"{label}: largest file", "MB", largest / 1e6)
        bench.add(f"{label}: largest write-ahead log", "MB", largest_log / 1e6)
        bench.add(f"{label}: stored results", "MB", size.request_bytes / 1e6)
        bench.add(f"{label}: bound", "MB", policy.bound(size) / 1e6, "neither")
        bench.add(f"{label}: revisions purged before their age", "revisions", purged, "neither")
        bench.hash([b"%d" % number])


def _overwrite(random: Random, key: bytes, session: str, number: int, below: int) -> Unit:
    """Create a unit of work that replaces a document and stores the result of a request, the document's id."""

    def run(snapshot: Snapshot, ts: int) -> Outcome[None]:
        transaction = Transaction(snapshot, ts=ts, writable=True, random=random)
        table = snapshot.catalog.table(TABLE)
        transaction.put(table, key, document(random))
        result = encode(DocumentId(table.number, key).text)
        request = RequestRecord(session, number, random.randbytes(16), result, (), ts, below)
        return Outcome(None, transaction.record(request))

    return run
