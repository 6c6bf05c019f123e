"""
Server cost of one update of a large result: one row of 100, and one of 10,000, changes.

One client watches a channel; another edits one message at a time and waits until the watcher holds the edit.
The processor time is that of the whole server: mutation, commit, new result, patch and sending.
"""

from __future__ import annotations

import json

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Deliveries, Windowed, mutation
from bench.load.process import ServerProcess
from bench.workloads import body


def run(bench: Bench) -> None:
    sizes = bench.parameter("rows", (10, 100), (100, 10_000))
    updates = bench.parameter("updates", 5, 1_500)
    with ServerProcess() as server:
        for number in range(bench.rounds):
            generator.run(_round(bench, server, sizes, updates, number))


async def _round(bench: Bench, server: ServerProcess, sizes: tuple[int, ...], updates: int, number: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, f"bench-control-{number}")
    spent = []
    for size in sizes:
        channel = str(await control.mutate("chat:open_channel", name=f"of-{size}-{number}"))
        await chatting.fill(control, random, channel, size)
        watcher: Deliveries = await Deliveries.dial(server.port, f"bench-watcher-{size}-{number}")
        await watcher.subscribe("chat:recent", channel=channel, limit=size)
        await watcher.held(1)
        ids = [row["_id"] for row in json.loads(watcher.latest)["params"]["modifications"][0]["value"]]
        writer: Windowed = await Windowed.dial(server.port, f"bench-writer-{size}-{number}")
        edits = [
            mutation(number, "chat:edit", messages=[random.choice(ids)], body=body(random))
            for number in range(1, updates + 1)
        ]
        before = server.cpu_seconds()
        with chatting.observed(bench, server, f"one of {size:,} rows", updates, "update"):
            for edit_number, edit in enumerate(edits, 1):
                await writer.run([edit], edit_number, 1)
                await watcher.held(writer.commits[edit_number])
        spent.append(server.cpu_seconds() - before)
        watcher.close()
        writer.close()
    if spent[0]:
        bench.add(f"server processor, {sizes[1]:,} rows to {sizes[0]:,}", "times", spent[1] / spent[0])
    await chatting.hash_tally(bench, control)
    control.close()
