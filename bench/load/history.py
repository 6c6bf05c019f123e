"""
Cost of history: 1,000 documents, each overwritten a thousand times.

Mutations of 100 documents each run one after another,
once with ten seconds of history retained and once with all of it.
The figures are the size of the file after each quarter, and the rate.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Deliveries, Windowed, mutation
from bench.load.process import ServerProcess
from bench.workloads import body

PER_MUTATION = 100


def run(bench: Bench) -> None:
    documents = bench.parameter("documents", 200, 1_000)
    overwrites = bench.parameter("overwrites", 2_000, 1_000_000)
    for label, options in (("ten seconds retained", ("--retention", "10s")), ("all retained", ("--retention", "7d"))):
        with ServerProcess(None, *options) as server:
            generator.run(_round(bench, server, label, documents, overwrites))


async def _round(bench: Bench, server: ServerProcess, label: str, documents: int, overwrites: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, "bench-control")
    (channel,) = await chatting.open_channels(control, 1)
    await chatting.fill(control, random, channel, documents)
    watcher: Deliveries = await Deliveries.dial(server.port, "bench-watcher")
    await watcher.subscribe("chat:recent", channel=channel, limit=documents)
    await watcher.held(1)
    ids = [row["_id"] for row in json.loads(watcher.latest)["params"]["modifications"][0]["value"]]
    watcher.close()
    writer: Windowed = await Windowed.dial(server.port, "bench-writer")
    file = server.data / "data.sqlite3"
    sizes: list[int] = []
    count = overwrites // PER_MUTATION
    with chatting.observed(bench, server, f"{label}: overwritten", overwrites, "document"):
        for first in range(1, count + 1, 100):
            numbers = range(first, min(first + 100, count + 1))
            edits = [
                mutation(number, "chat:edit", messages=random.sample(ids, PER_MUTATION), body=body(random))
                for number in numbers
            ]
            await writer.run(edits, first, 4)
            sizes.append(_size(file))
    for quarter in range(1, 5):
        bench.add(f"{label}: file after {quarter} of 4 parts", "MB", sizes[len(sizes) * quarter // 4 - 1] / 1e6)
    await chatting.hash_tally(bench, control)
    for client in (control, writer):
        client.close()


def _size(file: Path) -> int:
    return file.stat().st_size
