"""
Fan-out: one commit, many subscribers of one query.

A message is sent; when every subscriber holds the new result, the next follows.
The query is computed once for all, so this measures the cost of sending to one more client.
The result is a document of about 150 bytes; the last shape sends the newest 50 messages, about 12 KB, instead.
"""

from __future__ import annotations

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Crowd, Deliveries, Windowed
from bench.load.process import ServerProcess


def run(bench: Bench) -> None:
    shapes = bench.parameter("subscribers", (1, 5), (1, 10, 100, 1000))
    large = bench.parameter("subscribers of 50 messages", 5, 100)
    deliveries = bench.parameter("deliveries", 20, 60_000)
    rounds_max = bench.parameter("messages at most", 5, 2_000)
    for _ in range(bench.rounds):
        with ServerProcess() as server:
            for subscribers in shapes:
                messages = min(deliveries // subscribers, rounds_max)
                generator.run(_round(bench, server, "chat:get_channel", subscribers, messages))
            generator.run(_round(bench, server, "chat:recent", large, min(deliveries // large, rounds_max) // 2))


async def _round(bench: Bench, server: ServerProcess, path: str, subscribers: int, messages: int) -> None:
    random = bench.random()
    name = f"{path}-{subscribers}"
    control: Client = await Client.dial(server.port, f"{name}-control")
    channel = str(await control.mutate("chat:open_channel", name=name))
    await chatting.fill(control, random, channel, 50)
    crowd = Crowd(subscribers)
    watchers: list[Deliveries] = []
    for number in range(subscribers):
        watcher: Deliveries = await Deliveries.dial(server.port, f"{name}-watcher-{number}", crowd)
        await watcher.subscribe(path, channel=channel)
        watchers.append(watcher)
    writer: Windowed = await Windowed.dial(server.port, f"{name}-writer")
    prepared = chatting.prepared_sends(random, [channel] * messages, 1)
    await _send(writer, prepared[0], 1, crowd)
    label = f"{subscribers} subscribers" + (" of 50 messages" if path == "chat:recent" else "")
    with chatting.observed(bench, server, label, (messages - 1) * subscribers, "delivery"):
        for number, request in enumerate(prepared[1:], 2):
            await _send(writer, request, number, crowd)
    await chatting.hash_tally(bench, control)
    for client in (control, writer, *watchers):
        client.close()


async def _send(writer: Windowed, request: bytes, number: int, crowd: Crowd) -> None:
    await writer.run([request], number, 1)
    await crowd.all_hold(writer.commits[number])
