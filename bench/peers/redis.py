"""Redis: a hash per message with the append-only file synced before every answer; publish and subscribe as a floor."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Sequence

from bench.peers.connection import MarkedStream, PreparedWriter
from bench.peers.peer import CHANNEL, Arrived, Line, Message, Peer, PeerProcess, on_path

__all__ = ["PEER"]

PROGRAM = "redis-server"


def _command(*words: str) -> bytes:
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


class RedisWriter(PreparedWriter):
    """A writer whose answers are one line each."""

    def answers(self, data: bytes) -> int:
        if data.startswith(b"-"):
            raise RuntimeError(data.decode())
        return data.count(b"\n")


class RedisServer(PeerProcess):
    """A Redis without persistence."""

    options: tuple[str, ...] = ("--save", "", "--appendonly", "no")

    def command(self) -> list[str]:
        program = shutil.which(PROGRAM) or PROGRAM
        return [program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), *self.options]

    async def writer(self, number: int) -> RedisWriter:
        return await RedisWriter().open(self.port)

    def prepare(self, messages: Sequence[Message], first: int) -> list[bytes]:
        return [_command("PUBLISH", CHANNEL, it.body) for it in messages]

    async def subscriber(self, number: int, arrived: Arrived) -> MarkedStream:
        stream = await MarkedStream(arrived).open(self.port, _command("SUBSCRIBE", CHANNEL))
        await stream.opened(b":1\r\n")
        return stream


class StoringRedisServer(RedisServer):
    """A Redis that answers when the append-only file is on disk."""

    options = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")

    def prepare(self, messages: Sequence[Message], first: int) -> list[bytes]:
        return [
            _command("HSET", f"message:{it.number}", *(word for pair in it.fields().items() for word in pair))
            for it in messages
        ]

    async def stored(self) -> int:
        with socket.create_connection(("127.0.0.1", self.port), 30) as control:
            control.sendall(_command("DBSIZE"))
            return int(control.recv(100).removeprefix(b":"))


def _version() -> str:
    line = subprocess.run([PROGRAM, "--version"], capture_output=True, check=True, text=True).stdout
    return line.partition("v=")[2].split()[0]


PEER = Peer(
    "redis",
    on_path(PROGRAM),
    _version,
    (
        Line("redis, appendfsync always", ("writes",), "power loss", StoringRedisServer),
        Line("redis publish", ("latency", "fanout"), "nothing", RedisServer, sends="message"),
    ),
)
