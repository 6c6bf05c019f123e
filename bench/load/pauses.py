"""
Pauses of the server with 20,000 and 100,000 live queries: while clients subscribe, while mutations at a steady pace each
change the result of one live query, and while such mutations leave objects in cycles that the app needs for some seconds.

The app records the collections inside the server; a process that pings at a steady pace sees the pauses from outside.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.harness import Bench
from bench.load import generator
from bench.load.chatting import percentile
from bench.load.generator import Client, Deliveries, Windowed, mutation
from bench.load.pings import Pings
from bench.load.process import ServerProcess

APP = Path(__file__).with_name("collected.py")
QUERIES_PER_CONNECTION = 2_000
FILLED_PER_MUTATION = 500
MUTATIONS_PER_SECOND = 100
_REQUEST_IDS = itertools.count(1)


def run(bench: Bench) -> None:
    counts = bench.parameter("live queries", (20,), (20_000, 100_000))
    rows = bench.parameter("rows of each result", 3, 3)
    seconds = bench.parameter("seconds", 0.2, 20)
    gc.disable()  # the generator must not be late
    try:
        for _ in range(bench.rounds):
            for count in counts:
                with ServerProcess(app=APP) as server:
                    generator.run(_round(bench, server, count, rows, seconds))
    finally:
        gc.enable()


async def _round(bench: Bench, server: ServerProcess, count: int, rows: int, seconds: float) -> None:
    control: Client = await Client.dial(server.port, "bench-control")
    for first in range(0, count, FILLED_PER_MUTATION):
        authors = min(FILLED_PER_MUTATION, count - first)
        await control.mutate("collected:fill", first=first, count=authors, rows=rows)
    label, mutations = f"{count:,} live queries", int(seconds * MUTATIONS_PER_SECOND)
    await _act(control, "tracked")
    tracked, memory = await _act(control, "tracked"), server.memory_bytes()
    watchers = []
    async with _observed(bench, server, control, f"{label}, subscribing", "query", count):
        watchers += await _subscribe(server, count)
    bench.add(f"{label}: memory", "bytes/query", (server.memory_bytes() - memory) / count)
    bench.add(f"{label}: tracked objects", "per query", max(0.0, (await _act(control, "tracked") - tracked) / count))
    async with _observed(bench, server, control, label, "mutation", mutations):
        await _mutate(bench, server, "collected:write", count, mutations)
    async with _observed(bench, server, control, f"{label}, functions with cycles", "mutation", mutations):
        await _mutate(bench, server, "collected:write_cycles", count, mutations)
    bench.hash([str(await control.query("collected:count")).encode()])
    for client in (control, *watchers):
        client.close()


@asynccontextmanager
async def _observed(
    bench: Bench, server: ServerProcess, control: Client, label: str, unit: str, count: int
) -> AsyncIterator[None]:
    """Report the pauses inside the context, and its cost for each of `count` operations."""
    await _act(control, "clear")
    with Pings(server.port) as pings:
        spent = server.cpu_seconds()
        yield
        bench.add(f"{label}: server processor", f"µs/{unit}", (server.cpu_seconds() - spent) / count * 1e6)
        seconds, late_seconds = await pings.stop()
    record = await _act(control, "collections")
    bench.add(f"{label}: longest collection", "ms", record["clock"] * 1e3)
    bench.add(f"{label}: longest collection, processor", "ms", record["processor"] * 1e3)
    bench.add(f"{label}: all collections", "ms", record["total"] * 1e3)
    bench.add(f"{label}: longest ping", "ms", max(seconds) * 1e3)
    bench.add(f"{label}: ping p99", "ms", percentile(seconds, 0.99) * 1e3)
    bench.add(f"{label}: latest start of a ping", "ms", max(late_seconds) * 1e3, "neither")


async def _act(control: Client, function: str) -> Any:
    """Run an action of the app without arguments."""
    answer = await control.call("action", requestId=next(_REQUEST_IDS), udfPath=f"collected:{function}", args={})
    return answer["value"]


async def _subscribe(server: ServerProcess, count: int) -> list[Deliveries]:
    """Connect watchers that hold this many live queries, each of a different author."""
    watchers = []
    for first in range(0, count, QUERIES_PER_CONNECTION):
        watcher: Deliveries = await Deliveries.dial(server.port, f"bench-watcher-{first}")
        numbers = range(first, min(first + QUERIES_PER_CONNECTION, count))
        await watcher.subscribe_many("collected:written", [{"author": f"author {number}"} for number in numbers])
        await watcher.held(1)
        watchers.append(watcher)
    return watchers


async def _mutate(bench: Bench, server: ServerProcess, path: str, count: int, mutations: int) -> None:
    random = bench.random()
    writer: Windowed = await Windowed.dial(server.port, f"bench-writer-{path}")
    prepared = [
        mutation(number, path, author=f"author {random.randrange(count)}", body="a later note " + "x" * 80)
        for number in range(1, mutations + 1)
    ]
    await writer.run_paced(prepared, 1, interval=1 / MUTATIONS_PER_SECOND, offset=0.01)
    writer.close()
