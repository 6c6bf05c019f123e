"""Tinyvex: a mutation that inserts, and a live query of the newest messages, sent as patches."""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tinyvex
from bench.load.generator import Client, Windowed, mutation
from bench.peers.connection import marks
from bench.peers.peer import CHANNEL, START_SECONDS_MAX, Arrived, Line, Message, Peer, PeerProcess

__all__ = ["PEER", "TinyvexServer"]

APP = Path(__file__).with_name("app.py")
SOURCE = Path(tinyvex.__file__).resolve().parents[1]
NEWEST = 50
_sessions = itertools.count(1)


class Watcher(Client):
    """A subscriber of the newest messages that accepts patches and chunks, as an ordinary client does."""

    def __init__(self, port: int, session_id: str, arrived: Arrived) -> None:
        super().__init__(port, session_id)
        self.received_bytes = 0
        self._arrived = arrived
        self._seen = 0

    async def call(self, method: str, **params: Any) -> Any:
        if method == "connect":
            params["capabilities"] = ["patch", "chunk"]
        return await super().call(method, **params)

    def buffer_updated(self, nbytes: int) -> None:
        self.received_bytes += nbytes
        super().buffer_updated(nbytes)

    def transition(self, payload: bytes) -> None:
        # A patch has only new messages, possibly of several commits; a full value also has earlier ones.
        for number in sorted(marks(payload)[0]):
            if number > self._seen:
                self._seen = number
                self._arrived(number)


class TinyvexServer(PeerProcess):
    """`tinyvex serve` with its default settings, except for the requested durability."""

    stdout = subprocess.PIPE

    def __init__(self, durability: str = "full", newest: int = NEWEST) -> None:
        super().__init__()
        self._durability = durability
        self._newest = newest

    def command(self) -> list[str]:
        serve = [sys.executable, "-m", "tinyvex", "serve", str(APP), "--data", str(self.folder / "data")]
        return [*serve, "--no-token", "--log-level", "warning", "--durability", self._durability]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(SOURCE)}

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        lines: queue.Queue[bytes] = queue.Queue(1)
        output = self.process.stdout
        threading.Thread(target=lambda: lines.put(output.readline()), daemon=True).start()
        line = lines.get(timeout=START_SECONDS_MAX)
        assert line, "the server ended; its stderr is above"
        self.port = json.loads(line)["port"]

    async def writer(self, number: int) -> Windowed:
        writer: Windowed = await Windowed.dial(self.port, f"bench-writer-{next(_sessions)}")
        return writer

    def prepare(self, messages: Sequence[Message], first: int) -> list[bytes]:
        return [mutation(number, "app:post", **it.fields()) for number, it in enumerate(messages, first)]

    async def stored(self) -> int:
        control: Client = await Client.dial(self.port, f"bench-control-{next(_sessions)}")
        count = int(await control.query("app:stored"))
        control.close()
        return count

    async def subscriber(self, number: int, arrived: Arrived) -> Watcher:
        watcher: Watcher = await Watcher.dial(self.port, f"bench-watcher-{next(_sessions)}", arrived)
        await watcher.subscribe("app:newest", channel=CHANNEL, limit=self._newest)
        return watcher


PEER = Peer(
    "tinyvex",
    lambda: True,
    lambda: tinyvex.__version__,
    (
        Line("tinyvex", ("writes", "latency", "fanout", "start"), "power loss", TinyvexServer, sends="patch of 50"),
        Line("tinyvex, 8 in flight", ("writes",), "power loss", TinyvexServer, in_flight=8),
        Line("tinyvex, normal", ("writes",), "process crash", partial(TinyvexServer, "normal")),
        Line(
            "tinyvex, newest one",
            ("fanout",),
            "power loss",
            partial(TinyvexServer, newest=1),
            sends="record",
        ),
    ),
)
