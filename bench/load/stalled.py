"""
Effect of clients that do not read on other clients.

Messages are sent at a steady pace to a small channel with one watcher, first alone.
Then other clients, which watch an equally busy large channel, stop reading.
"""

from __future__ import annotations

import asyncio

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.chatting import percentile
from bench.load.generator import Client, Deliveries, Windowed
from bench.load.process import ServerProcess

INTERVAL_SECONDS = 0.004
QUIET_SECONDS = 0.5
"""Pause before each phase, so that the server checkpoints outside the measurement."""


UPDATES_UNTIL_STUCK = 100
"""Updates of about 250 KB each, more than the system buffers for a socket."""


class Stalled(Deliveries):
    """A client without patches, so that its socket fills up soon after it stops reading."""

    capabilities = ()


def run(bench: Bench) -> None:
    stalled = bench.parameter("clients that do not read", 3, 50)
    rows = bench.parameter("rows watched by each", 50, 1_000)
    messages = bench.parameter("messages", 20, 1_500)
    with ServerProcess() as server:
        for number in range(bench.rounds):
            generator.run(_round(bench, server, stalled, rows, messages, number))


async def _round(bench: Bench, server: ServerProcess, stalled: int, rows: int, messages: int, number: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, f"bench-control-{number}")
    large = str(await control.mutate("chat:open_channel", name=f"large-{number}"))
    small = str(await control.mutate("chat:open_channel", name=f"small-{number}"))
    await chatting.fill(control, random, large, rows)
    watcher: Deliveries = await Deliveries.dial(server.port, f"bench-watcher-{number}")
    await watcher.subscribe("chat:recent", channel=small)
    writer: Windowed = await Windowed.dial(server.port, f"bench-writer-{number}")

    async def measure(label: str, first: int) -> float:
        sends = chatting.prepared_sends(random, [small, large] * messages, first)
        await asyncio.sleep(QUIET_SECONDS)
        await writer.run_paced(sends, first, interval=INTERVAL_SECONDS / 2, offset=0.01)
        numbers = range(first, first + 2 * messages, 2)
        await watcher.held(writer.commits[numbers[-1]])
        took = [(watcher.arrival_us(writer.commits[n]) or 0) - writer.sent_us[n] for n in numbers]
        for part in (0.5, 0.99):
            bench.add(f"send to subscriber p{part * 100:.0f}, {label}", "ms", percentile(took, part) / 1000)
        return percentile(took, 0.99)

    warm_up = chatting.prepared_sends(random, [small, large] * messages, 1)
    await writer.run(warm_up, 1, 8)  # so that deferred work of filling the channel is done
    alone = await measure("all reading", 2 * messages + 1)
    clients: list[Stalled] = []
    for position in range(stalled):
        client: Stalled = await Stalled.dial(server.port, f"bench-stalled-{number}-{position}")
        await client.subscribe("chat:recent", channel=large, limit=rows)
        await client.held(1)
        client.stall()
        clients.append(client)
    before = server.memory_bytes()
    stuck = chatting.prepared_sends(random, [large] * UPDATES_UNTIL_STUCK, 4 * messages + 1)
    await writer.run(stuck, 4 * messages + 1, 1)  # fills the system's buffers
    stalled_p99 = await measure(f"{stalled} stalled", 4 * messages + UPDATES_UNTIL_STUCK + 1)
    bench.add("p99, ratio to all reading", "times", stalled_p99 / alone)
    bench.add("memory of the stalled clients", "MB", (server.memory_bytes() - before) / 1e6, "neither")
    await chatting.hash_tally(bench, control)
    for leaving in (control, watcher, writer, *clients):
        leaving.close()
