"""
Durable mutations acknowledged per second: 1, 16 and 64 connections, with 1 and 8 mutations of each in flight.

There are no subscribers. Each mutation reads a document, patches it and inserts another, and is acknowledged
after its commit is on disk. More connections, or more mutations in flight, form larger commit groups.
"""

from __future__ import annotations

import asyncio
import itertools

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Windowed
from bench.load.process import ServerProcess
from bench.workloads import uniform

CHANNELS = 16
SHAPES = tuple(itertools.product((1, 16, 64), (1, 8)))


def run(bench: Bench) -> None:
    total = bench.parameter("mutations", 64, 16_000)
    alone = bench.parameter("mutations, one at a time", 64, 3_000)
    for _ in range(bench.rounds):
        with ServerProcess() as server:
            generator.run(_round(bench, server, total, alone))


async def _round(bench: Bench, server: ServerProcess, total: int, alone: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, "bench-control")
    channels = await chatting.open_channels(control, CHANNELS)
    numbers = uniform(random, CHANNELS)
    for connections, window in SHAPES:
        each = (alone if connections * window == 1 else total) // connections
        name = f"bench-{connections}x{window}"
        writers: list[Windowed] = [
            await Windowed.dial(server.port, f"{name}-{number}") for number in range(connections)
        ]
        prepared = [chatting.prepared_sends(random, (channels[next(numbers)] for _ in range(each)), 1) for _ in writers]
        with chatting.observed(bench, server, f"{connections} connections x {window}", each * connections, "mutation"):
            await asyncio.gather(
                *(writer.run(requests, 1, window) for writer, requests in zip(writers, prepared, strict=True))
            )
        for writer in writers:
            writer.close()
    await chatting.hash_tally(bench, control)
    control.close()
