"""
Commits of the storage engine alone: one inserted document with one index, durable, 1, 8 and 64 submitted at a time.

Units that wait together become durable with one COMMIT.
"""

from __future__ import annotations

import asyncio
import time

from bench.harness import Bench
from bench.micro.storage import insert, opened, rows
from bench.workloads import document


def run(bench: Bench) -> None:
    commits = bench.parameter("commits", 64, 8_192)
    for _ in range(bench.rounds):
        asyncio.run(_round(bench, commits))


async def _round(bench: Bench, commits: int) -> None:
    random = bench.random()
    async with opened() as store:
        for size in (1, 8, 64):
            count = max(commits // (8 if size == 1 else 1), size)
            units = [insert(random, [document(random)]) for _ in range(count)]
            started = time.perf_counter()
            for first in range(0, count, size):
                await asyncio.gather(*(store.write(unit) for unit in units[first : first + size]))
            seconds = time.perf_counter() - started
            bench.add(f"{size} at a time", "commit/s", count / seconds, "higher")
        bench.hash([b"%d" % len(await store.read(rows))])
