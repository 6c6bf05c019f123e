"""
Commit-to-subscriber latency of an otherwise idle server.

One connection sends a message, waits until the subscriber of the channel's newest 50 holds it, and sends the next.
Latency is measured from the commit's `ts`, allotted when the function starts, and from the time of sending.
"""

from __future__ import annotations

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Deliveries, Windowed
from bench.load.process import ServerProcess


def run(bench: Bench) -> None:
    messages = bench.parameter("messages", 20, 2_000)
    for _ in range(bench.rounds):
        with ServerProcess() as server:
            generator.run(_round(bench, server, messages))


async def _round(bench: Bench, server: ServerProcess, messages: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, "bench-control")
    (channel,) = await chatting.open_channels(control, 1)
    await chatting.fill(control, random, channel, 50)
    watcher: Deliveries = await Deliveries.dial(server.port, "bench-watcher")
    await watcher.subscribe("chat:recent", channel=channel)
    writer: Windowed = await Windowed.dial(server.port, "bench-writer")
    for number, prepared in enumerate(chatting.prepared_sends(random, [channel] * messages, 1), 1):
        await writer.run([prepared], number, 1)
        await watcher.held(writer.commits[number])
    sent_and_ts = [(writer.sent_us[number], ts) for number, ts in writer.commits.items()]
    chatting.add_latencies(bench, watcher, sent_and_ts)
    await chatting.hash_tally(bench, control)
    for client in (control, watcher, writer):
        client.close()
