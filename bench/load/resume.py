"""
What coming back costs: a client that holds 10,000 rows was away while 0, 10 or 1,000 of them changed.

Bytes and time from the question to the transition; on the same server, and on one that was started again meanwhile.
"""

from __future__ import annotations

import json
import time
from typing import Any

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Deliveries
from bench.load.process import ServerProcess
from bench.workloads import body

EDITS_PER_MUTATION = 100


def run(bench: Bench) -> None:
    rows = bench.parameter("rows", 100, 10_000)
    changes = bench.parameter("changes", (0, 1, 10), (0, 10, 1_000))
    for _ in range(bench.rounds):
        with ServerProcess() as server:
            generator.run(_round(bench, server, rows, changes))


async def _round(bench: Bench, server: ServerProcess, rows: int, changes: tuple[int, ...]) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, "bench-control")
    (channel,) = await chatting.open_channels(control, 1)
    await chatting.fill(control, random, channel, rows)
    question = {"channel": channel, "limit": rows}
    seconds, latest = await _ask(server, question, None)
    bench.add("the whole result", "bytes", len(latest))
    bench.add("the whole result, ready", "ms", seconds * 1000)
    ids = [row["_id"] for row in json.loads(latest)["params"]["modifications"][0]["value"]]
    held = _held(latest)
    for count in changes:
        edited = random.sample(ids, count)
        for start in range(0, count, EDITS_PER_MUTATION):
            await control.mutate("chat:edit", messages=edited[start : start + EDITS_PER_MUTATION], body=body(random))
        seconds, latest = await _ask(server, question, held)
        bench.add(f"back after {count:,} changes", "bytes", len(latest))
        bench.add(f"back after {count:,} changes, ready", "ms", seconds * 1000)
        held = _held(latest)
    await chatting.hash_tally(bench, control)
    control.close()


async def _ask(server: ServerProcess, question: dict[str, Any], held: dict[str, Any] | None) -> tuple[float, bytes]:
    """Subscribe on a new connection: how long it took, and the transition."""
    client: Deliveries = await Deliveries.dial(server.port, "bench-returning")
    began = time.perf_counter()
    await client.subscribe("chat:recent", resume=held, **question)
    await client.held(1)
    seconds = time.perf_counter() - began
    client.close()
    return seconds, client.latest


def _held(transition: bytes) -> dict[str, Any]:
    """What is offered in `resume`."""
    params = json.loads(transition)["params"]
    return {"ts": params["endVersion"]["ts"], "hash": params["modifications"][0]["hash"]}
