"""
Cost of a commit with many unrelated live queries: 100, and 100,000.

The commit touches none of them.
Two servers run concurrently and are measured alternately, so that other load on the machine affects both.
"""

from __future__ import annotations

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Deliveries, Windowed
from bench.load.process import ServerProcess

QUERIES_PER_CONNECTION = 1_000
WINDOW = 8


def run(bench: Bench) -> None:
    few, many = bench.parameter("live queries", (10, 50), (100, 100_000))
    commits = bench.parameter("commits", 20, 6_000)
    with ServerProcess() as one, ServerProcess() as other:
        generator.run(_run(bench, ((few, one), (many, other)), commits))


async def _run(bench: Bench, servers: tuple[tuple[int, ServerProcess], ...], commits: int) -> None:
    watchers = [watcher for count, server in servers for watcher in await _watch(server, count)]
    for count, server in servers:
        bench.add(f"{count:,} live queries: memory", "MB", server.memory_bytes() / 1e6)
    for number in range(bench.rounds):
        spent = []
        for count, server in servers:
            before = server.cpu_seconds()
            await _commit(bench, server, f"{count:,} live queries", commits, number)
            spent.append(server.cpu_seconds() - before)
        if spent[0]:
            bench.add(
                f"server processor, {servers[1][0]:,} live queries to {servers[0][0]}", "times", spent[1] / spent[0]
            )
    for watcher in watchers:
        watcher.close()


async def _watch(server: ServerProcess, count: int) -> list[Deliveries]:
    """Connect watchers that hold this many live queries, each of a different author."""
    watchers = []
    for first in range(0, count, QUERIES_PER_CONNECTION):
        watcher: Deliveries = await Deliveries.dial(server.port, f"bench-watcher-{first}")
        numbers = range(first, min(first + QUERIES_PER_CONNECTION, count))
        await watcher.subscribe_many("chat:authored", [{"author": f"author {number}"} for number in numbers])
        await watcher.held(1)
        watchers.append(watcher)
    return watchers


async def _commit(bench: Bench, server: ServerProcess, label: str, commits: int, number: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, f"bench-control-{number}")
    channel = str(await control.mutate("chat:open_channel", name=f"round-{number}"))
    writer: Windowed = await Windowed.dial(server.port, f"bench-writer-{number}")
    prepared = chatting.prepared_sends(random, [channel] * commits, 1)
    with chatting.observed(bench, server, label, commits, "commit"):
        await writer.run(prepared, 1, WINDOW)
    await chatting.hash_tally(bench, control)
    for client in (control, writer):
        client.close()
