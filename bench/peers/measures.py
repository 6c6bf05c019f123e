"""
The measures, identical for every peer: one round of one line at a time.

Each function starts a server of its own, so every round starts with an empty file.
Figures of one line and measure go to one `Bench`, which stores their rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from bench.harness import Bench
from bench.load import generator
from bench.load.chatting import percentile
from bench.load.generator import Crowd
from bench.peers.peer import Line, Measure, PeerProcess, Server, Subscriber, Writer, messages

__all__ = ["MEASURES", "fanout", "latency", "start", "writes"]

WARM_MESSAGES = 20


class Phase:
    """The cost of a phase on both sides, from its construction to `end`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._server_before = server.cpu_seconds()
        self._own_before, self._started = time.process_time(), time.perf_counter()

    def end(self, bench: Bench, name: str, operations: int) -> None:
        """Record operations per second, the server's processor time for each, and the driver's load."""
        seconds = time.perf_counter() - self._started
        own = time.process_time() - self._own_before
        spent = self._server.cpu_seconds() - self._server_before
        bench.add(name, "/s", operations / seconds, "higher")
        bench.add(f"{name}: server processor", "µs each", spent / operations * 1e6)
        bench.add(f"{name}: driver busy", "%", own / seconds * 100, "neither")


def writes(bench: Bench, line: Line) -> None:
    """Measure acknowledged writes per second, on all connections concurrently."""
    with line.server() as server:
        generator.run(_writes(bench, line, server))


async def _writes(bench: Bench, line: Line, server: Server) -> None:
    seconds = bench.parameter("seconds of writes", 0.0, 2.5)
    warm_each = bench.parameter("writes before", 16, 1600) // line.connections
    writers = [await server.writer(number) for number in range(line.connections)]

    def prepare(first: int, each: int) -> list[Sequence[object]]:
        numbered = messages(bench.random(), first * len(writers), each * len(writers))
        return [server.prepare(numbered[offset :: len(writers)], first) for offset in range(len(writers))]

    # The warm-up also determines how many writes fill a round of the wanted length.
    warm = prepare(1, warm_each)
    started = time.perf_counter()
    await _send_all(writers, warm, 1, line.in_flight)
    each = max(int(warm_each * seconds / (time.perf_counter() - started)), warm_each)
    measured = prepare(1 + warm_each, each)
    phase = Phase(server)
    await _send_all(writers, measured, 1 + warm_each, line.in_flight)
    phase.end(bench, "writes", each * len(writers))
    count = await server.stored()
    assert count == (warm_each + each) * len(writers), f"{line.label} holds {count} messages"
    for writer in writers:
        writer.close()


async def _send_all(writers: list[Writer], prepared: list[Sequence[object]], first: int, window: int) -> None:
    await asyncio.gather(
        *(writer.run(requests, first, window) for writer, requests in zip(writers, prepared, strict=True))
    )


def latency(bench: Bench, line: Line) -> None:
    """Measure the time from sending a write to its arrival at one subscriber, at a moderate pace."""
    with line.server() as server:
        generator.run(_latency(bench, server))


async def _latency(bench: Bench, server: Server) -> None:
    pace = bench.parameter("writes a second", 500, 100)
    count = bench.parameter("messages", 20, 300)
    arrived_us: dict[int, int] = {}
    crowd = Crowd(1)

    def arrived(number: int) -> None:
        arrived_us[number] = time.time_ns() // 1000
        crowd.arrived(number)

    subscriber = await server.subscriber(0, arrived)
    writer = await server.writer(0)
    prepared = server.prepare(messages(bench.random(), 1, WARM_MESSAGES + count), 1)
    for number in range(1, WARM_MESSAGES + 1):
        await _send_one(writer, prepared, number, crowd)
    first = WARM_MESSAGES + 1
    await writer.run_paced(prepared[WARM_MESSAGES:], first, interval=1 / pace, offset=0.01)
    await crowd.all_hold(WARM_MESSAGES + count)
    samples = [(arrived_us[number] - writer.sent_us[number]) / 1000 for number in range(first, first + count)]
    for part in (0.5, 0.99):
        bench.add(f"p{part * 100:.0f}", "ms", percentile(samples, part))
    subscriber.close()
    writer.close()


def fanout(bench: Bench, line: Line) -> None:
    """
    Measure deliveries of one write to many subscribers; the next write follows when it is acknowledged and all have it.
    """
    for size in bench.parameter("subscribers", (1, 5), (1, 10, 100, 1000)):
        with line.server() as server:
            generator.run(_fanout(bench, server, size))


async def _fanout(bench: Bench, server: Server, size: int) -> None:
    seconds = bench.parameter("seconds for each number", 0.0, 2.0)
    count_max = bench.parameter("messages at most", 5, 10_000)
    crowd = Crowd(size)
    subscribers: list[Subscriber] = [await server.subscriber(number, crowd.arrived) for number in range(size)]
    writer = await server.writer(0)
    prepared = server.prepare(messages(bench.random(), 1, WARM_MESSAGES + count_max), 1)
    number = 0
    while number < WARM_MESSAGES:
        number += 1
        await _send_one(writer, prepared, number, crowd)
    bytes_before = sum(it.received_bytes for it in subscribers)
    phase = Phase(server)
    deadline = time.perf_counter() + seconds
    while number < len(prepared) and (time.perf_counter() < deadline or number < WARM_MESSAGES + 5):
        number += 1
        await _send_one(writer, prepared, number, crowd)
    deliveries = (number - WARM_MESSAGES) * size
    phase.end(bench, f"{size}", deliveries)
    received = sum(it.received_bytes for it in subscribers) - bytes_before
    bench.add(f"{size}: on the wire", "bytes each", received / deliveries)
    writer.close()
    for it in subscribers:
        it.close()


async def _send_one(writer: Writer, prepared: Sequence[object], number: int, crowd: Crowd) -> None:
    await writer.run(prepared[number - 1 : number], number, 1)
    await crowd.all_hold(number)


def start(bench: Bench, line: Line) -> None:
    """Measure a restart on a used folder, and the memory of a server before its first request."""
    settle_seconds = bench.parameter("seconds before memory is read", 0.0, 1.0)
    with line.server() as server:
        assert isinstance(server, PeerProcess), f"{line.label} does not run in a process of its own"
        for _ in range(bench.parameter("starts per round", 1, 3)):
            server.stop()
            server.start()
            bench.add("ready", "ms", server.ready_seconds * 1000)
        time.sleep(settle_seconds)
        bench.add("idle memory", "MB", server.memory_bytes() / 1e6)


MEASURES: dict[Measure, Callable[[Bench, Line], None]] = {
    "writes": writes,
    "latency": latency,
    "fanout": fanout,
    "start": start,
}
