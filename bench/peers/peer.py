"""
The interface between the measures and a peer, which every sibling module implements.

A `Peer` has one or more `Line`s; a line is one row of the tables.
A line starts a `Server`, in its own process with an empty folder.
The server creates writers, which send prepared requests, and subscribers, which look for marked messages.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from bench.load.process import cpu_seconds, memory_bytes
from bench.workloads import WORDS, body

__all__ = [
    "CHANNEL",
    "Arrived",
    "Line",
    "Measure",
    "Message",
    "Peer",
    "PeerProcess",
    "Server",
    "Subscriber",
    "Writer",
    "free_port",
    "messages",
    "on_path",
]

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30.0
POLL_SECONDS = 0.001

CHANNEL = "general"
"""The channel of all messages."""

Measure = Literal["writes", "latency", "fanout", "start"]
Arrived = Callable[[int], None]
"""Called with the number of a message when a subscriber has received it."""


@dataclass(frozen=True, slots=True)
class Message:
    """
    A message that every peer writes: three fields, about 60 bytes, with the mark by which a subscriber recognises it.
    """

    number: int
    author: str
    body: str

    def fields(self) -> dict[str, str]:
        """Return the fields by name."""
        return {"channel": CHANNEL, "author": self.author, "body": self.body}


def messages(random: random.Random, first: int, count: int) -> list[Message]:
    """Create messages numbered from `first`; the mark is `#~#` and eight digits."""
    texts = [body(random, 40) for _ in range(64)]
    return [
        Message(number, WORDS[number % len(WORDS)], f"#~#{number:08d} {texts[number % len(texts)]}")
        for number in range(first, first + count)
    ]


class Writer(Protocol):
    """
    A connection that writes; `bench.load.generator.Windowed` is one.

    Attributes:
        sent_us: time at which each request was written to the socket, in microseconds, by message.
    """

    sent_us: dict[int, int]

    async def run(self, prepared: Sequence[Any], first: int, window: int) -> None:
        """Send all requests, with at most `window` unanswered, and wait for all answers."""
        ...

    async def run_paced(self, prepared: Sequence[Any], first: int, *, interval: float, offset: float) -> None:
        """Send one every `interval` seconds, regardless of the answers; wait for all answers."""
        ...

    def close(self) -> None: ...


class Subscriber(Protocol):
    """
    A connection that receives messages.

    Attributes:
        received_bytes: bytes received on its socket so far.
    """

    received_bytes: int

    def close(self) -> None: ...


class Server(ABC):
    """A running peer; entering starts it, leaving stops it and removes its folder."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    async def writer(self, number: int) -> Writer:
        """Open a connection that writes."""

    @abstractmethod
    def prepare(self, messages: Sequence[Message], first: int) -> Sequence[Any]:
        """Prepare requests for one writer; the first has the request number `first`."""

    async def stored(self) -> int:
        """Return the number of stored messages, to verify that acknowledged writes were performed."""
        raise NotImplementedError

    async def subscriber(self, number: int, arrived: Arrived) -> Subscriber:
        """Open a connection that receives every message from now on."""
        raise NotImplementedError

    def cpu_seconds(self) -> float:
        """Return the processor time used so far; 0 if unknown."""
        return 0.0


class PeerProcess(Server):
    """
    A server in a process of its own.

    Attributes:
        folder: holds its files; removed at the end.
        port: the port it listens on.
        ready_seconds: time from the start of the process until it answers.
    """

    stdout: int | None = None

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="tinyvex-bench-")
        self.folder = Path(self._temporary.name)
        self.port = 0
        self.ready_seconds = 0.0

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that starts it, on `port` and with `folder`."""

    def prepare_folder(self) -> None:
        """Prepare the folder before the start; not part of `ready_seconds`."""

    def wait_until_ready(self) -> None:
        """Return when it answers; by default, when it accepts a connection."""
        self.poll(lambda: socket.create_connection(("127.0.0.1", self.port), 1).close())

    def __enter__(self) -> Self:
        try:
            self.port = free_port()
            self.prepare_folder()
            self.start()
        except BaseException:
            self._temporary.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._temporary.cleanup()

    def start(self) -> None:
        """Start the process on the folder as it is."""
        with (self.folder / "output").open("wb") as output:
            started = time.perf_counter()
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=self.stdout or output,
                stderr=None if self.stdout else output,
                cwd=self.folder,
                env={**os.environ, **self.environment()},
            )
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        self.ready_seconds = time.perf_counter() - started

    def environment(self) -> dict[str, str]:
        """Return additional environment variables."""
        return {}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Terminate the process; kill it after a timeout."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS_MAX)
            raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()

    def poll(self, request: Callable[[], object]) -> None:
        """
        Repeat a request every millisecond until it succeeds without an `OSError`.

        Raises:
            RuntimeError: the process ended, or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                request()
            except OSError:
                time.sleep(POLL_SECONDS)
            else:
                return
        raise RuntimeError(f"{self.command()[0]} does not answer: {(self.folder / 'output').read_text()[-1000:]}")

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    def memory_bytes(self) -> int:
        """Return the resident memory; 0 if the system does not report it."""
        return memory_bytes(self.process.pid)


@dataclass(frozen=True, slots=True)
class Line:
    """
    A row of the tables.

    Attributes:
        label: its name in the tables.
        measures: the measures it takes part in.
        durability: what an acknowledged write survives, in few words.
        server: creates a server to enter.
        connections: number of concurrent writers, in `writes`.
        in_flight: unanswered requests of each writer, in `writes`.
        sends: what a subscriber receives, in few words.
    """

    label: str
    measures: tuple[Measure, ...]
    durability: str
    server: Callable[[], Server]
    connections: int = 16
    in_flight: int = 1
    sends: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """
    A program to compare with.

    Attributes:
        name: its module, and its name on the command line.
        installed: returns whether it is available.
        version: returns its version; called only if it is installed.
        lines: its rows.
    """

    name: str
    installed: Callable[[], bool]
    version: Callable[[], str]
    lines: tuple[Line, ...]


def on_path(program: str) -> Callable[[], bool]:
    """Return a check of whether a program can be started by its name."""
    return lambda: shutil.which(program) is not None


def free_port() -> int:
    """Return a free port, for programs that cannot report the port they chose."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
