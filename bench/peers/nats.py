"""NATS: publish and subscribe without storage, the floor of sending to many subscribers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from bench.peers.connection import MarkedStream, PreparedWriter
from bench.peers.peer import CHANNEL, Arrived, Line, Message, Peer, PeerProcess, on_path

__all__ = ["PEER"]

PROGRAM = "nats-server"


class NatsWriter(PreparedWriter):
    """A writer in verbose mode, in which every request is answered with `+OK`."""

    def answers(self, data: bytes) -> int:
        if b"-ERR" in data:
            raise RuntimeError(data.decode())
        if b"PING" in data:
            self.write(b"PONG\r\n")
        return data.count(b"+OK")


class NatsServer(PeerProcess):
    """A NATS without JetStream."""

    def command(self) -> list[str]:
        return [shutil.which(PROGRAM) or PROGRAM, "-a", "127.0.0.1", "-p", str(self.port)]

    async def writer(self, number: int) -> NatsWriter:
        writer = await NatsWriter().open(self.port)
        await writer.run([b'CONNECT {"verbose":true}\r\n'], 0, 1)
        return writer

    def prepare(self, messages: Sequence[Message], first: int) -> list[bytes]:
        payloads = [it.body.encode() for it in messages]
        return [b"PUB %b %d\r\n%b\r\n" % (CHANNEL.encode(), len(payload), payload) for payload in payloads]

    async def subscriber(self, number: int, arrived: Arrived) -> MarkedStream:
        greeting = b'CONNECT {"verbose":false}\r\nSUB %b 1\r\nPING\r\n' % CHANNEL.encode()
        stream = await MarkedStream(arrived).open(self.port, greeting)
        await stream.opened(b"PONG\r\n")
        return stream


def _version() -> str:
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, check=True, text=True)
    return (done.stdout or done.stderr).split()[-1].removeprefix("v")


PEER = Peer(
    "nats",
    on_path(PROGRAM),
    _version,
    (Line("nats publish", ("latency", "fanout"), "nothing", NatsServer, sends="message"),),
)
