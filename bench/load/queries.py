"""
Queries per second over the socket, without subscriptions: a document by its id, and the newest 50 of a channel.

16 connections have 8 queries each in flight; there are no writes.
"""

from __future__ import annotations

import asyncio

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Windowed, request
from bench.load.process import ServerProcess

CONNECTIONS = 16
WINDOW = 8


def run(bench: Bench) -> None:
    documents = bench.parameter("documents", 1_000, 20_000)
    points = bench.parameter("point reads", 20 * CONNECTIONS, 1_500 * CONNECTIONS)
    ranges = bench.parameter("range reads", 10 * CONNECTIONS, 500 * CONNECTIONS)
    for _ in range(bench.rounds):
        with ServerProcess() as server:
            generator.run(_round(bench, server, documents, points, ranges))


async def _round(bench: Bench, server: ServerProcess, documents: int, points: int, ranges: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, "bench-control")
    channels = await chatting.open_channels(control, CONNECTIONS)
    ids = []
    for channel in channels:
        ids += await chatting.fill(control, random, channel, documents // CONNECTIONS, step=50)
    readers: list[Windowed] = [
        await Windowed.dial(server.port, f"bench-reader-{number}") for number in range(CONNECTIONS)
    ]
    shapes = (
        ("point reads", points, "chat:get_message", lambda: {"message": random.choice(ids)}),
        ("ranges of 50", ranges, "chat:recent", lambda: {"channel": random.choice(channels)}),
    )
    for label, count, path, args in shapes:
        prepared = [
            [request(number, "query", udfPath=path, args=args()) for number in range(1, count // CONNECTIONS + 1)]
            for _ in readers
        ]
        with chatting.observed(bench, server, label, count, "query"):
            await asyncio.gather(
                *(reader.run(requests, 1, WINDOW) for reader, requests in zip(readers, prepared, strict=True))
            )
    await chatting.hash_tally(bench, control)
    for client in (control, *readers):
        client.close()
