"""
The longest wait of a well-behaved client alongside one that queues far too much.

The greedy client queues, in one go: slow one-shot queries, slow live queries, slow mutations, or results of 60 MB that it
reads as fast as it can. Meanwhile the other client runs a short query, a short mutation, and waits for the live update that
the mutation causes, one after another. A call into C that the greedy client's function makes holds the interpreter lock until
it returns; the longest one is reported, because no server can be quicker than it.

Last, many clients ask once for a result of 60 MB and read nothing: by a one-shot query, by a live query, and by resuming one.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TypeAlias

from bench.harness import Bench
from bench.load import generator
from bench.load.generator import Client, Deliveries
from bench.load.process import ServerProcess

APP = Path(__file__).with_name("busy.py")
ROUNDTRIPS_MAX = 20
Requests: TypeAlias = list[tuple[str, dict[str, object]]]
"""Methods and parameters."""
STALLED_SECONDS = 100.0
"""The longest time in which the results for clients that do not read are computed."""


def run(bench: Bench) -> None:
    calls = bench.parameter("calls queued by the greedy client", 5, 200)
    query_ms = bench.parameter("each query, ms", 10, 200)
    mutation_ms = bench.parameter("each mutation, ms", 10, 100)
    size = bench.parameter("bytes of a large result", 1_000_000, 60_000_000)
    large = bench.parameter("large results", 2, 20)
    stalled = bench.parameter("clients that do not read", 2, 50)
    spins = [("query", {"udfPath": "busy:spin", "args": {"number": n, "ms": query_ms}}) for n in range(calls)]
    holds = [
        ("mutation", {"requestId": n, "udfPath": "busy:hold", "args": {"number": n, "ms": mutation_ms}})
        for n in range(calls)
    ]
    bigs = [("query", {"udfPath": "busy:big", "args": {"number": n, "size": size}}) for n in range(large)]
    adds = [
        {"type": "Add", "queryId": n, "udfPath": "busy:spin", "args": {"number": n, "ms": query_ms}}
        for n in range(calls)
    ]
    live = [("modifyQuerySet", {"baseVersion": 0, "newVersion": 1, "modifications": adds})]
    loads: dict[str, Requests] = {
        "alone": [], "slow queries": spins, "slow mutations": holds, "large results": bigs, "slow live queries": live,
    }  # fmt: skip
    for _ in range(bench.rounds):
        for label, requests in loads.items():
            # A server of its own: mutations continue when their client has closed.
            with ServerProcess(app=APP) as server:
                generator.run(_measure(bench, server, label, requests))
        for label in ("one-shot", "live", "resumed"):
            with ServerProcess(app=APP) as server:
                generator.run(_stall(bench, server, label, stalled, size))


async def _measure(bench: Bench, server: ServerProcess, label: str, requests: Requests) -> None:
    """Measure the well-behaved client while the greedy one waits for its answers, ROUNDTRIPS_MAX times."""
    good: Deliveries = await Deliveries.dial(server.port, f"good-{label}")
    await good.subscribe("busy:marked", name=label)
    await good.held(await good.commit("busy:mark", name=label))
    await good.query("busy:marked", name=label)  # the first one imports what queries need
    greedy: Greedy = await Greedy.dial(server.port, f"greedy-{label}")
    if requests:
        greedy.ask(requests)
        await asyncio.sleep(0.05)  # so that everything is queued
    longest = {"query": 0.0, "mutation": 0.0, "live update": 0.0}
    for _ in range(ROUNDTRIPS_MAX):
        started = time.perf_counter()
        await good.query("busy:marked", name=label)
        queried = time.perf_counter()
        ts = await good.commit("busy:mark", name=label)
        committed = time.perf_counter()
        await good.held(ts)
        ended = time.perf_counter()
        for name, seconds in (
            ("query", queried - started), ("mutation", committed - queried), ("live update", ended - queried),
        ):  # fmt: skip
            longest[name] = max(longest[name], seconds)
    if label == "large results":
        bench.add("longest foreign call, large results", "ms", await good.query("busy:longest_foreign_call") * 1000)
    for name, seconds in longest.items():
        bench.add(f"longest {name}, {label}", "ms", seconds * 1000)
    bench.hash([label.encode(), str(await good.query("busy:marked", name=label)).encode()])
    good.close()
    greedy.close()


async def _stall(bench: Bench, server: ServerProcess, label: str, clients: int, size: int) -> None:
    """Let clients ask for large results without reading; report the server's peak memory."""
    control: Client = await Client.dial(server.port, "bench-control")
    await control.query("busy:marked", name="never")
    before = server.memory_bytes()
    stalled: list[Greedy] = [await Greedy.dial(server.port, f"stalled-{number}") for number in range(clients)]
    for number, client in enumerate(stalled):
        client.stall()
        client.ask([_large(label, number, size)])
    peak, settled = before, before
    last_change = time.perf_counter()
    started = last_change
    while time.perf_counter() - started < STALLED_SECONDS:
        await asyncio.sleep(0.02)
        settled, previous = server.memory_bytes(), settled
        peak = max(peak, settled)
        if settled != previous:
            last_change = time.perf_counter()
        elif time.perf_counter() - last_change > 1.0:
            break
    bench.add(f"memory of unread {label} results, at most", "MB", max(0, peak - before) / 1e6)
    bench.add(f"memory of unread {label} results, in the end", "MB", max(0, settled - before) / 1e6)
    for client in (control, *stalled):
        client.close()


def _large(label: str, number: int, size: int) -> tuple[str, dict[str, object]]:
    """Return a request for a large result."""
    call = {"udfPath": "busy:big", "args": {"number": number, "size": size}}
    if label == "one-shot":
        return "query", call
    resume = {"ts": 1, "hash": "x" * 22} if label == "resumed" else None
    add = {"type": "Add", "queryId": 0, **call, "resume": resume}
    return "modifyQuerySet", {"baseVersion": 0, "newVersion": 1, "modifications": [add]}


class Greedy(Client):
    """A client that sends everything in one write. The server may close it."""

    _discards = False

    def ask(self, requests: Requests) -> None:
        """Send requests in one write, and discard the answers: joining them would delay the measured client."""
        self._discards = True
        frames = [generator.request(number, method, **params) for number, (method, params) in enumerate(requests)]
        self.write(b"".join(frames))

    def buffer_updated(self, nbytes: int) -> None:
        """Receive, or discard, the next bytes."""
        if not self._discards:
            super().buffer_updated(nbytes)

    def fail(self, error: BaseException) -> None:
        """Accept that the server closes this client, and that requests are refused."""
        if any(number < 0 or number >= generator.CALLS_FIRST for number in self._calls):
            super().fail(error)
