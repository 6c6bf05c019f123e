"""
The two headline figures: commit-to-client latency, and durable mutations per second, on one declared workload.

16 connections send chat messages into 16 channels chosen by Zipf's law.
Each message reads a document, patches it and inserts another.
One more connection watches the newest 50 messages of the busiest channel throughout.
Latency is measured at a fixed rate below saturation, throughput with 8 mutations of each connection in flight.
"""

from __future__ import annotations

import asyncio

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Deliveries, Windowed
from bench.load.process import ServerProcess
from bench.workloads import zipf

CONNECTIONS = 16
CHANNELS = 16
WINDOW = 8
RATE = 500
"""Mutations per second of the latency phase."""


def run(bench: Bench) -> None:
    saturated = bench.parameter("mutations at full speed", 20 * CONNECTIONS, 1500 * CONNECTIONS)
    paced = bench.parameter(f"mutations at {RATE}/s", 3 * CONNECTIONS, 250 * CONNECTIONS)
    for _ in range(bench.rounds):
        with ServerProcess() as server:
            generator.run(_round(bench, server, saturated // CONNECTIONS, paced // CONNECTIONS))


async def _round(bench: Bench, server: ServerProcess, saturated: int, paced: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, "bench-control")
    channels = await chatting.open_channels(control, CHANNELS)
    watched = channels[0]
    await chatting.fill(control, random, watched, 50)
    watcher: Deliveries = await Deliveries.dial(server.port, "bench-watcher")
    await watcher.subscribe("chat:recent", channel=watched)
    writers: list[Windowed] = [
        await Windowed.dial(server.port, f"bench-writer-{number}") for number in range(CONNECTIONS)
    ]
    numbers = zipf(random, CHANNELS)

    def choose(count: int) -> list[list[str]]:
        return [[channels[next(numbers)] for _ in range(count)] for _ in writers]

    chosen = choose(paced)
    interval = CONNECTIONS / RATE
    phase = [
        writer.run_paced(chatting.prepared_sends(random, targets, 1), 1, interval=interval, offset=number / RATE)
        for number, (writer, targets) in enumerate(zip(writers, chosen, strict=True))
    ]
    await asyncio.gather(*phase)
    sent_and_ts = [
        (writer.sent_us[number], writer.commits[number])
        for writer, targets in zip(writers, chosen, strict=True)
        for number, target in enumerate(targets, 1)
        if target == watched
    ]
    await watcher.held(max(ts for _, ts in sent_and_ts))
    chatting.add_latencies(bench, watcher, sent_and_ts)

    first = paced + 1
    prepared = [chatting.prepared_sends(random, targets, first) for targets in choose(saturated)]
    with chatting.observed(bench, server, "durable mutations", saturated * CONNECTIONS, "mutation"):
        await asyncio.gather(
            *(writer.run(requests, first, WINDOW) for writer, requests in zip(writers, prepared, strict=True))
        )
    await chatting.hash_tally(bench, control)
    for client in (control, watcher, *writers):
        client.close()
