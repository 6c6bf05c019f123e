"""
What the measures need of a peer: few objects, which every file beside this one fills in its own way.

A `Peer` has one or more `Line`s; a line is one row of the tables.
A line starts a `Server`, in a process of its own with an empty folder;
the server gives writers, which send prepared requests, and subscribers, which look for marked messages.
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
"""The one all messages go to."""

Measure = Literal["writes", "latency", "fanout", "start"]
Arrived = Callable[[int], None]
"""Called with the number of a message when a subscriber has received it."""


@dataclass(frozen=True, slots=True)
class Message:
    """What every peer writes: three fields, about 60 bytes, and the mark by which a subscriber knows it again."""

    number: int
    author: str
    body: str

    def fields(self) -> dict[str, str]:
        """By name."""
        return {"channel": CHANNEL, "author": self.author, "body": self.body}


def messages(random: random.Random, first: int, count: int) -> list[Message]:
    """So many, numbered from `first`; the mark is `#~#` and eight digits."""
    texts = [body(random, 40) for _ in range(64)]
    return [
        Message(number, WORDS[number % len(WORDS)], f"#~#{number:08d} {texts[number % len(texts)]}")
        for number in range(first, first + count)
    ]


class Writer(Protocol):
    """
    One connection that writes; `bench.load.generator.Windowed` is one.

    Attributes:
        sent_us: when each request was handed to the socket, in microseconds, by message.
    """

    sent_us: dict[int, int]

    async def run(self, prepared: Sequence[Any], first: int, window: int) -> None:
        """Send all, with at most `window` unanswered, and wait for all answers."""
        ...

    async def run_paced(self, prepared: Sequence[Any], first: int, *, interval: float, offset: float) -> None:
        """Send one every `interval` seconds, whatever comes back; wait for all answers."""
        ...

    def close(self) -> None: ...


class Subscriber(Protocol):
    """
    One connection that is told.

    Attributes:
        received_bytes: all that came on its socket so far.
    """

    received_bytes: int

    def close(self) -> None: ...


class Server(ABC):
    """A peer that runs; entering starts it, leaving stops it and removes its folder."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    async def writer(self, number: int) -> Writer:
        """A connection that writes."""

    @abstractmethod
    def prepare(self, messages: Sequence[Message], first: int) -> Sequence[Any]:
        """Requests for one writer, the first of which is its request number `first`."""

    async def stored(self) -> int:
        """How many messages it holds, so that nobody is praised for writes that were not done."""
        raise NotImplementedError

    async def subscriber(self, number: int, arrived: Arrived) -> Subscriber:
        """A connection that is told of every message from now on."""
        raise NotImplementedError

    def cpu_seconds(self) -> float:
        """Processor time used so far; 0 where nobody knows."""
        return 0.0


class PeerProcess(Server):
    """
    A server in a process of its own.

    Attributes:
        folder: for its files, removed at the end.
        port: where it listens.
        ready_seconds: from the start of the process until it answers.
    """

    stdout: int | None = None

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="tinyvex-bench-")
        self.folder = Path(self._temporary.name)
        self.port = 0
        self.ready_seconds = 0.0

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it, on `port` and with `folder`."""

    def prepare_folder(self) -> None:
        """What has to be there before it starts; no part of `ready_seconds`."""

    def wait_until_ready(self) -> None:
        """Return when it answers; here, when it accepts a connection."""
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
        """Variables of the process besides our own."""
        return {}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the process, kindly first."""
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

    def poll(self, question: Callable[[], object]) -> None:
        """
        Ask every millisecond until it is answered without an `OSError`.

        Raises:
            RuntimeError: the process ended, or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                question()
            except OSError:
                time.sleep(POLL_SECONDS)
            else:
                return
        raise RuntimeError(f"{self.command()[0]} does not answer: {(self.folder / 'output').read_text()[-1000:]}")

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    def memory_bytes(self) -> int:
        """Resident memory; 0 where the system does not say."""
        return memory_bytes(self.process.pid)


@dataclass(frozen=True, slots=True)
class Line:
    """
    One row of the tables.

    Attributes:
        label: what the tables call it.
        measures: those it takes part in.
        durability: what an acknowledged write survives, in few words.
        server: makes one that can be entered.
        connections: that write at once, in `writes`.
        in_flight: requests of each that are unanswered, in `writes`.
        told: what a subscriber is sent, in few words.
    """

    label: str
    measures: tuple[Measure, ...]
    durability: str
    server: Callable[[], Server]
    connections: int = 16
    in_flight: int = 1
    told: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """
    A program to compare with.

    Attributes:
        name: of its file, and on the command line.
        installed: whether it is there.
        version: asks it; called when it is there.
        lines: its rows.
    """

    name: str
    installed: Callable[[], bool]
    version: Callable[[], str]
    lines: tuple[Line, ...]


def on_path(program: str) -> Callable[[], bool]:
    """Whether a program can be started by its name; what most peers need."""
    return lambda: shutil.which(program) is not None


def free_port() -> int:
    """A port nobody listens on now, for programs that cannot say which one they took."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
