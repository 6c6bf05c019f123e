"""
Effect of a slow query on other clients.

One connection runs, again and again, a query that inspects every message of a large channel in Python.
Other connections ping, and send messages to a small channel with a watcher, at a steady pace:
first alone, then concurrently with the slow query.
"""

from __future__ import annotations

import asyncio
import time

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.chatting import percentile
from bench.load.generator import Client, Deliveries, Windowed
from bench.load.process import ServerProcess
from bench.workloads import WORDS

INTERVAL_SECONDS = 0.01
"""Interval of pings and of messages: 100/s each."""


def run(bench: Bench) -> None:
    documents = bench.parameter("documents", 300, 100_000)
    messages = bench.parameter("messages", 20, 1_000)
    for _ in range(bench.rounds):
        with ServerProcess() as server:
            generator.run(_round(bench, server, documents, messages))


async def _round(bench: Bench, server: ServerProcess, documents: int, messages: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, "bench-control")
    large, small = await chatting.open_channels(control, 2)
    await chatting.fill(control, random, large, documents)
    await chatting.fill(control, random, small, 50)
    watcher: Deliveries = await Deliveries.dial(server.port, "bench-watcher")
    await watcher.subscribe("chat:recent", channel=small)
    writer: Writer = await Writer.dial(server.port, "bench-writer")
    pinger: Pinger = await Pinger.dial(server.port, "bench-pinger")
    searcher: Searcher = await Searcher.dial(server.port, "bench-searcher")
    sends = chatting.prepared_sends(random, [small] * messages * 2, 1)
    await _measure(bench, "alone", watcher, writer, pinger, sends[:messages], 1)
    searcher.search(large)
    await _measure(bench, "alongside a scan", watcher, writer, pinger, sends[messages:], messages + 1)
    for seconds in await searcher.stop():
        bench.add("the scan itself", "ms", seconds * 1000, "neither")
    await chatting.hash_tally(bench, control)
    for client in (control, watcher, writer, pinger, searcher):
        client.close()


async def _measure(
    bench: Bench, label: str, watcher: Deliveries, writer: Writer, pinger: Pinger, sends: list[bytes], first: int
) -> None:
    pinger.begin()
    await writer.run_paced(sends, first, interval=INTERVAL_SECONDS, offset=INTERVAL_SECONDS / 2)
    pings = await pinger.end()
    numbers = range(first, first + len(sends))
    await watcher.held(max(writer.commits[number] for number in numbers))
    answers = [writer.answered_us[number] - writer.sent_us[number] for number in numbers]
    arrivals = [(watcher.arrival_us(writer.commits[number]) or 0) - writer.sent_us[number] for number in numbers]
    for name, samples in (("ping", pings), ("mutation", answers), ("send to subscriber", arrivals)):
        for part in (0.5, 0.99):
            bench.add(f"{name} p{part * 100:.0f}, {label}", "ms", percentile(samples, part) / 1000)


class Writer(Windowed):
    """
    A writer of messages.

    Attributes:
        answered_us: time of each acknowledgement, by request.
    """

    def __init__(self, port: int, session_id: str) -> None:
        super().__init__(port, session_id)
        self.answered_us: dict[int, int] = {}

    def response(self, number: int, payload: bytes) -> None:
        self.answered_us[number] = time.time_ns() // 1000
        super().response(number, payload)


class Pinger(Client):
    """A client that pings at a steady pace, regardless of the answers."""

    def __init__(self, port: int, session_id: str) -> None:
        super().__init__(port, session_id)
        self._asked_ns: dict[int, int] = {}
        self._took_us: list[float] = []
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._idle: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Start pinging."""
        self._took_us = []
        self._idle = None
        self._ping(asyncio.get_running_loop().time())

    def _ping(self, due: float) -> None:
        self._number += 1
        self._asked_ns[self._number] = time.perf_counter_ns()
        self.write(generator.request(self._number, "ping"))
        due += INTERVAL_SECONDS
        self._timer = asyncio.get_running_loop().call_at(due, self._ping, due)

    def response(self, number: int, payload: bytes) -> None:
        self._took_us.append((time.perf_counter_ns() - self._asked_ns.pop(number)) / 1000)
        if not self._asked_ns and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def end(self) -> list[float]:
        """Stop; return the durations in microseconds."""
        assert self._timer is not None
        self._timer.cancel()
        self._idle = asyncio.get_running_loop().create_future()
        if self._asked_ns:
            await generator.wait(self._idle)
        return self._took_us


class Searcher(Client):
    """A client that repeats the slow query as soon as it is answered."""

    def __init__(self, port: int, session_id: str) -> None:
        super().__init__(port, session_id)
        self._channel = ""
        self._number = 0
        self._began = 0.0
        self._took: list[float] = []
        self._stopped: asyncio.Future[None] | None = None

    def search(self, channel: str) -> None:
        """Start the queries."""
        self._channel = channel
        self._ask()

    def _ask(self) -> None:
        self._number += 1
        self._began = time.perf_counter()
        args = {"channel": self._channel, "text": WORDS[0]}
        self.write(generator.request(self._number, "query", udfPath="chat:search", args=args))

    def response(self, number: int, payload: bytes) -> None:
        self._took.append(time.perf_counter() - self._began)
        if self._stopped is None:
            self._ask()
        elif not self._stopped.done():
            self._stopped.set_result(None)

    async def stop(self) -> list[float]:
        """Stop after the current query; return the durations."""
        self._stopped = asyncio.get_running_loop().create_future()
        await generator.wait(self._stopped)
        return self._took
