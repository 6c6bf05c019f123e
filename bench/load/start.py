"""
Cold start and idle memory.

Time from the start of the process to its ready line, with an empty data folder and with one that has documents,
and the resident memory of a server before its first request.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client
from bench.load.process import ServerProcess


def run(bench: Bench) -> None:
    documents = bench.parameter("documents", 100, 1_000_000)
    starts = bench.rounds * bench.parameter("starts per round", 1, 3)
    settle_seconds = bench.parameter("seconds before memory is read", 0.0, 1.0)
    with tempfile.TemporaryDirectory(prefix="tinyvex-bench-") as folder:
        filled = Path(folder) / "filled"
        for number in range(starts):
            _start(bench, "empty", Path(folder) / f"empty-{number}", settle_seconds)
        with ServerProcess(filled) as server:
            generator.run(_fill(bench, server, documents))
        for _ in range(starts):
            _start(bench, f"{documents:,} documents", filled, settle_seconds)


def _start(bench: Bench, label: str, data: Path, settle_seconds: float) -> None:
    with ServerProcess(data) as server:
        bench.add(f"{label}: ready", "ms", server.ready_seconds * 1000)
        time.sleep(settle_seconds)
        bench.add(f"{label}: idle memory", "MB", server.memory_bytes() / 1e6)


async def _fill(bench: Bench, server: ServerProcess, documents: int) -> None:
    control: Client = await Client.dial(server.port, "bench-control")
    (channel,) = await chatting.open_channels(control, 1)
    started = time.perf_counter()
    await chatting.fill(control, bench.random(), channel, documents)
    bench.add("documents inserted, 500 in a mutation", "/s", documents / (time.perf_counter() - started), "higher")
    bench.add("memory after that", "MB", server.memory_bytes() / 1e6)
    await chatting.hash_tally(bench, control)
    control.close()
