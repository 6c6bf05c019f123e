"""
Growth of the file over a simulated day of 100 mutations/s with the default retention.

Each mutation overwrites one of 1,000 documents, returns an id and stores that result for its session. The mutations run in
the real writer, in groups, on a clock of the benchmark's own. A day of 100/s has 1,440 sweeps with 6,000 mutations before
each. This one has 72: time passes 20 times as fast, and everything between two sweeps is as large as at 100/s. A day at
that rate writes 18 times what the size bound allows, and this one still more than it allows.

After each step all sessions vanish, with their last results unacknowledged, and others take their place. In the first day
sessions acknowledge their results, in the second they do not. The file is compared with the bound before and after each
sweep: it may exceed the bound by what mutations write between two sweeps, and no more.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from bench.harness import Bench
from bench.micro.storage import TABLE, insert, opened
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
    from tinyvex.storage.engine.store import Store

DOCUMENTS = 1_000
DAY_US = 86_400_000_000
SESSIONS = 8
BYTES_PER_MUTATION_MAX = 2_000
"""By which a mutation lengthens the file, with a margin."""
WINDOW = 16
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
    steps = bench.parameter("sweeps in a day", 3, 72)
    mutations = bench.parameter("mutations before each", 256, 6_000)
    for acknowledges in (True, False):
        asyncio.run(_day(bench, steps, mutations, acknowledges=acknowledges))


async def _day(bench: Bench, steps: int, mutations: int, *, acknowledges: bool) -> None:
    label = "results acknowledged" if acknowledges else "results not acknowledged"
    random, clock, policy = bench.random(), SteppedClock(), Policy()
    async with opened(clock) as store:
        ids = await store.write(insert(random, [document(random) for _ in range(DOCUMENTS)]))
        retention = Retention(store, policy, clock.now_us, _no_pause)
        file, log = store.folder.database, store.folder.wal
        purged, size, files, logs, shares = 0, await store.read(measure), [], [], []
        for _ in range(steps):
            await _mutate(store, random, ids, mutations, acknowledges=acknowledges)
            clock.clock_us += DAY_US // steps
            before = file.stat().st_size
            logs.append(log.stat().st_size)
            purged += await retention.sweep()
            size = await store.read(measure)
            files.append(max(before, file.stat().st_size))
            bound = policy.bound(size)
            assert files[-1] <= bound + mutations * BYTES_PER_MUTATION_MAX, (files[-1], bound)
            shares.append(files[-1] / bound)
        bench.add(f"{label}: largest file", "MB", max(files) / 1e6, "lower")
        bench.add(f"{label}: largest file, of the bound at that time", "%", max(shares) * 100, "lower")
        bench.add(f"{label}: largest write-ahead log", "MB", max(logs) / 1e6, "lower")
        bench.add(f"{label}: stored results", "MB", size.request_bytes / 1e6, "lower")
        bench.add(f"{label}: bound at the end", "MB", policy.bound(size) / 1e6, "neither")
        bench.add(f"{label}: revisions purged before their age", "revisions", purged, "neither")
        bench.hash([b"%d" % len(ids)])


async def _mutate(store: Store, random: Random, ids: list[bytes], count: int, *, acknowledges: bool) -> None:
    """Run mutations of new sessions, each with WINDOW of them under way."""
    sessions = [f"{random.getrandbits(128):032x}" for _ in range(SESSIONS)]
    for first in range(0, count // SESSIONS, WINDOW):
        numbers = range(first, min(first + WINDOW, count // SESSIONS))
        below = first if acknowledges else 0
        await asyncio.gather(
            *(
                store.write(_overwrite(random, random.choice(ids), session, number, below))
                for number in numbers
                for session in sessions
            )
        )


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
