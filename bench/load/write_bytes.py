"""
Bytes that the server writes to the disk for one mutation, one after another and 16 under way.

`insert` inserts a document of about 250 bytes with two indexes; `send` also patches another one.
The file has many messages already, so that the trees have their usual depth.

The kernel counts the bytes that the process causes to be written. Those of the write-ahead log follow from the number of
frames in SQLite's shared index of the log, read between short runs of mutations. The rest are checkpoints and rounding to
blocks. Linux only; elsewhere, and on file systems in memory, there are no figures.
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

from bench.harness import Bench
from bench.load import chatting, generator
from bench.load.generator import Client, Windowed, mutation
from bench.load.process import ServerProcess
from bench.workloads import WORDS, body, uniform

CHANNELS = 16
WINDOWS = (1, 16)
RUN = 32
"""Mutations between two looks at the log, which is reused from its beginning after a checkpoint."""
FRAME_HEADER_BYTES = 24
INDEX_HEADER = struct.Struct(
    "=12xBBH I I 8x 8s"
)  # of the first copy: initialised, …, page size, frames, pages, …, salt


def run(bench: Bench) -> None:
    messages = bench.parameter("messages before", 500, 200_000)
    mutations = bench.parameter("mutations", 64, 4_000)
    for _ in range(bench.rounds):
        with ServerProcess() as server:
            generator.run(_round(bench, server, messages, mutations))


async def _round(bench: Bench, server: ServerProcess, messages: int, mutations: int) -> None:
    random = bench.random()
    control: Client = await Client.dial(server.port, "bench-control")
    channels = await chatting.open_channels(control, CHANNELS)
    for channel in channels:
        await chatting.fill(control, random, channel, messages // CHANNELS)
    writer: Windowed = await Windowed.dial(server.port, "bench-5f0d1c52-8a9e-4b53-a1c6")
    targets = (channels[number] for number in uniform(random, CHANNELS))
    first = 1
    for window, kind in itertools.product(WINDOWS, ("insert", "send")):
        if kind == "send":
            requests = chatting.prepared_sends(random, itertools.islice(targets, mutations), first)
        else:
            requests = [
                mutation(number, "chat:fill", channel=next(targets), author=random.choice(WORDS), bodies=[body(random)])
                for number in range(first, first + mutations)
            ]
        await _measure(bench, server, writer, f"{kind}, {window} under way", requests, first, window)
        first += mutations
    await chatting.hash_tally(bench, control)
    for client in (control, writer):
        client.close()


async def _measure(
    bench: Bench, server: ServerProcess, writer: Windowed, label: str, requests: list[bytes], first: int, window: int
) -> None:
    log = _Log(server.data / "data.sqlite3-shm")
    written_before = _written_bytes(server.process.pid)
    for start in range(0, len(requests), RUN):
        await writer.run(requests[start : start + RUN], first + start, window)
        log.look()
    written = _written_bytes(server.process.pid) - written_before
    count = len(requests)
    if written:
        bench.add(label, "KB/mutation", written / count / 1000)
        bench.add(f"{label}: write-ahead log", "KB/mutation", log.written_bytes / count / 1000)
    bench.add(f"{label}: pages in the log", "/mutation", log.frames / count)


class _Log:
    """The frames that were appended to a write-ahead log while it was watched."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self.frames = 0
        self._page_bytes = 0
        self._last = self._read()

    def _read(self) -> tuple[int, bytes]:
        with self._index.open("rb") as file:
            _, _, page_bytes, frames, _, salt = INDEX_HEADER.unpack(file.read(INDEX_HEADER.size))
        self._page_bytes = 65536 if page_bytes == 1 else page_bytes
        return frames, salt

    def look(self) -> None:
        """Count the frames since the last look; those before the log was reused meanwhile are missed."""
        frames, salt = now = self._read()
        last_frames, last_salt = self._last
        self.frames += frames - last_frames if salt == last_salt and frames >= last_frames else frames
        self._last = now

    @property
    def written_bytes(self) -> int:
        """The bytes of these frames."""
        return self.frames * (self._page_bytes + FRAME_HEADER_BYTES)


def _written_bytes(pid: int) -> int:
    """Return the bytes that a process has caused to be written; 0 if the system does not report it."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))
