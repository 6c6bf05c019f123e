"""
Pauses of the server by garbage collections, with 20,000 and 100,000 live queries: while clients subscribe, and afterwards
while mutations at a steady pace each change the result of one live query.

The app records the collections inside the server; a client that pings at a steady pace sees the pauses from outside.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from pathlib import Path
from typing import Any

from bench.harness import Bench
from bench.load import generator
from bench.load.chatting import percentile
from bench.load.generator import Client, Deliveries, Windowed, mutation, wait
from bench.load.process import ServerProcess

APP = Path(__file__).with_name("collected.py")
QUERIES_PER_CONNECTION = 2_000
FILLED_PER_MUTATION = 500
MUTATIONS_PER_SECOND = 100
PING_SECONDS = 0.005
_REQUEST_IDS = itertools.count(1)


def run(bench: Bench) -> None:
    counts = bench.parameter("live queries", (20,), (20_000, 100_000))
    rows = bench.parameter("rows of each result", 3, 3)
    seconds = bench.parameter("seconds", 0.2, 20)
    for _ in range(bench.rounds):
        for count in counts:
            with ServerProcess(app=APP) as server:
                generator.run(_round(bench, server, count, rows, seconds))


async def _round(bench: Bench, server: ServerProcess, count: int, rows: int, seconds: float) -> None:
    control: Client = await Client.dial(server.port, "bench-control")
    for first in range(0, count, FILLED_PER_MUTATION):
        authors = min(FILLED_PER_MUTATION, count - first)
        await control.mutate("collected:fill", first=first, count=authors, rows=rows)
    await _act(control, "clear")
    tracked = await _act(control, "tracked")
    memory = server.memory_bytes()
    label = f"{count:,} live queries"
    spent = server.cpu_seconds()
    pings = Pings(await Client.dial(server.port, "bench-pings"))
    await _act(control, "clear")
    watchers = await _subscribe(server, count)
    await _report(bench, control, pings, f"{label}, subscribing")
    bench.add(f"{label}, subscribing: server processor", "µs/query", (server.cpu_seconds() - spent) / count * 1e6)
    bench.add(f"{label}: memory", "bytes/query", (server.memory_bytes() - memory) / count)
    bench.add(f"{label}: tracked objects", "per query", max(0.0, (await _act(control, "tracked") - tracked) / count))
    await _act(control, "clear")
    pings.clear()
    spent = server.cpu_seconds()
    prepared = int(seconds * MUTATIONS_PER_SECOND)
    await _mutate(bench, server, count, prepared)
    bench.add(f"{label}: server processor", "µs/mutation", (server.cpu_seconds() - spent) / prepared * 1e6)
    await _report(bench, control, pings, label)
    await pings.stop()
    bench.hash([str(await control.query("collected:count")).encode()])
    for client in (control, pings.client, *watchers):
        client.close()


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


async def _mutate(bench: Bench, server: ServerProcess, count: int, mutations: int) -> None:
    random = bench.random()
    writer: Windowed = await Windowed.dial(server.port, "bench-writer")
    prepared = [
        mutation(number, "collected:write", author=f"author {random.randrange(count)}", body="a later note " + "x" * 80)
        for number in range(1, mutations + 1)
    ]
    await writer.run_paced(prepared, 1, interval=1 / MUTATIONS_PER_SECOND, offset=0.01)
    writer.close()


async def _report(bench: Bench, control: Client, pings: Pings, label: str) -> None:
    record = await _act(control, "collections")
    bench.add(f"{label}: longest collection", "ms", record["clock"] * 1e3)
    bench.add(f"{label}: longest collection, processor", "ms", record["processor"] * 1e3)
    bench.add(f"{label}: all collections", "ms", record["total"] * 1e3)
    bench.add(f"{label}: longest ping", "ms", max(pings.seconds) * 1e3)
    bench.add(f"{label}: ping p99", "ms", percentile(pings.seconds, 0.99) * 1e3)


class Pings:
    """
    Pings at a steady pace. The generator's own collector is off meanwhile, because it would delay them too.

    Attributes:
        seconds: the duration of each.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.seconds: list[float] = []
        gc.disable()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def clear(self) -> None:
        """Begin a new record."""
        self.seconds.clear()

    async def stop(self) -> None:
        """Stop pinging."""
        self._task.cancel()
        await wait(asyncio.gather(self._task, return_exceptions=True))
        gc.enable()

    async def _run(self) -> None:
        while True:
            started = time.perf_counter()
            await self.client.call("ping")
            self.seconds.append(time.perf_counter() - started)
            await asyncio.sleep(PING_SECONDS)
