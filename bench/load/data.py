"""
Import and export with a running server: rows per second, memory of both processes, and the delay of mutations.

A zip of messages of about 200 bytes each, with two indexes, is imported with `--replace-all` and exported again.
A tenth as many are then appended from JSON lines.
Meanwhile another client writes a document every few milliseconds and measures each mutation.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from bench.harness import Bench
from bench.load import generator
from bench.load.chatting import percentile
from bench.load.generator import Client
from bench.load.process import SOURCE, ServerProcess
from bench.workloads import WORDS, body
from tinyvex.values.ids import DocumentId, new_internal

CHANNELS, MESSAGES = 10_001, 10_002
BEGIN_US = 1_700_000_000_000_000
PAUSE_SECONDS = 0.005


def run(bench: Bench) -> None:
    documents = bench.parameter("documents", 2_000, 1_000_000)
    with tempfile.TemporaryDirectory(prefix="tinyvex-bench-") as name:
        folder = Path(name)
        _make_files(bench.random(), folder, documents)
        for _ in range(bench.rounds):
            with ServerProcess() as server:
                generator.run(_round(bench, server, folder, documents))


def _make_files(random: Random, folder: Path, documents: int) -> None:
    channel = {"_creationTime": 1.0, "_id": DocumentId(CHANNELS, new_internal(BEGIN_US, random)).text, "name": "one"}
    numbers = [{"name": "channels", "id": CHANNELS}, {"name": "messages", "id": MESSAGES}]
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("_tables/documents.jsonl", "".join(json.dumps(entry) + "\n" for entry in numbers))
        archive.writestr("channels/documents.jsonl", json.dumps({**channel, "messages": 0}) + "\n")
        with archive.open("messages/documents.jsonl", "w", force_zip64=True) as entry:
            for number, fields in enumerate(_messages(random, channel["_id"], documents)):
                internal = new_internal(BEGIN_US + number * 1000, random)
                created = BEGIN_US / 1000 + number
                fields |= {"_creationTime": created, "_id": DocumentId(MESSAGES, internal).text}
                entry.write(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
    with (folder / "more.jsonl").open("w", encoding="utf-8") as file:
        for fields in _messages(random, channel["_id"], documents // 10):
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")


def _messages(random: Random, channel: object, count: int) -> Iterator[dict[str, object]]:
    for _ in range(count):
        yield {"channel": channel, "author": random.choice(WORDS), "body": body(random, 60)}


async def _round(bench: Bench, server: ServerProcess, folder: Path, documents: int) -> None:
    writer: Client = await Client.dial(server.port, "bench-writer")
    steps = {
        "import": (documents, ["import", str(folder / "all.zip"), "--replace-all", "--yes"]),
        "export": (documents, ["export", "--path", str(folder / "out.zip"), "--replace"]),
        "append": (documents // 10, ["import", str(folder / "more.jsonl"), "--table", "messages", "--append"]),
    }
    for label, (rows, arguments) in steps.items():
        work = asyncio.create_task(asyncio.to_thread(_command, [*arguments, "--data", str(server.data)]))
        latencies = await _write_concurrently(writer, work)
        seconds, memory_bytes = await work
        bench.add(f"{label}: rows", "/s", rows / seconds, "higher")
        bench.add(f"{label}: peak memory of the command", "MB", memory_bytes / 1e6)
        for part, text in ((0.5, "p50"), (0.99, "p99"), (1.0, "longest")):
            bench.add(f"{label}: a concurrent mutation, {text}", "ms", percentile(latencies, part) * 1000)
    bench.add("peak memory of the server", "MB", _peak_bytes(server.process.pid) / 1e6)
    with zipfile.ZipFile(folder / "out.zip") as archive:
        bench.hash([archive.read("messages/documents.jsonl")])
    writer.close()


async def _write_concurrently(writer: Client, work: asyncio.Task[object]) -> list[float]:
    """Run one mutation after another until the work is done; return the duration of each in seconds."""
    latencies = []
    while not work.done():
        started = time.perf_counter()
        await writer.mutate("chat:open_channel", name="concurrent")
        latencies.append(time.perf_counter() - started)
        await asyncio.wait([work], timeout=PAUSE_SECONDS)
    return latencies


def _command(arguments: list[str]) -> tuple[float, int]:
    """Run one command of Tinyvex; return its duration and its peak resident memory."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "tinyvex", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, cwd=SOURCE)
    assert process.stderr is not None
    with process.stderr as errors:
        output = errors.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output.decode()
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - started, usage.ru_maxrss * unit


def _peak_bytes(pid: int) -> int:
    """Return a process's peak resident memory; 0 if the system does not report it (only Linux does)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
