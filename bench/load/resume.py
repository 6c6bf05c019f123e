"""
Cost of reconnecting: a client with a result of 10,000 rows was away while 0, 10 or 1,000 of them changed.

Bytes and time from the request to the transition, on a server that kept running.
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
    seconds, latest = await _subscribe(server, question, None)
    bench.add("the full value", "bytes", len(latest))
    bench.add("the full value, ready", "ms", seconds * 1000)
    ids = [row["_id"] for row in json.loads(latest)["params"]["modifications"][0]["value"]]
    resume = _resume_data(latest)
    for count in changes:
        edited = random.sample(ids, count)
        for start in range(0, count, EDITS_PER_MUTATION):
            await control.mutate("chat:edit", messages=edited[start : start + EDITS_PER_MUTATION], body=body(random))
        seconds, latest = await _subscribe(server, question, resume)
        bench.add(f"resume after {count:,} changes", "bytes", len(latest))
        bench.add(f"resume after {count:,} changes, ready", "ms", seconds * 1000)
        resume = _resume_data(latest)
    await chatting.hash_tally(bench, control)
    control.close()


async def _subscribe(
    server: ServerProcess, question: dict[str, Any], resume: dict[str, Any] | None
) -> tuple[float, bytes]:
    """Subscribe on a new connection; return the duration and the transition."""
    client: Deliveries = await Deliveries.dial(server.port, "bench-returning")
    began = time.perf_counter()
    await client.subscribe("chat:recent", resume=resume, **question)
    await client.held(1)
    seconds = time.perf_counter() - began
    client.close()
    return seconds, client.latest


def _resume_data(transition: bytes) -> dict[str, Any]:
    """Return the resume data of a transition's result."""
    params = json.loads(transition)["params"]
    return {"ts": params["endVersion"]["ts"], "hash": params["modifications"][0]["hash"]}
