"""Triplit: entities inserted over HTTP, the newest of them as a query over its WebSocket."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.load.generator import frame
from bench.peers.connection import MarkedStream
from bench.peers.http import HttpWriter, ask, post
from bench.peers.peer import CHANNEL, Arrived, Line, Message, Peer, PeerProcess

__all__ = ["PEER"]

SCRIPT = Path(__file__).with_name("triplit.mjs")
FOLDER = "TINYVEX_BENCH_TRIPLIT"
"""The environment variable that names the folder with the server in its `node_modules`."""

SECRET = "benchmark-only"
QUERY = {
    "collectionName": "messages",
    "where": [["channel", "=", CHANNEL]],
    # Bodies begin with the number of the message.
    "order": [["body", "DESC"]],
    "limit": 50,
}


def _token() -> str:
    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"x-triplit-token-type": "secret", "x-triplit-project-id": "bench"}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())).decode()


class TriplitServer(PeerProcess):
    """Triplit's Node server on LMDB."""

    def __init__(self) -> None:
        super().__init__()
        self._headers = {"Authorization": f"Bearer {_token()}"}

    def command(self) -> list[str]:
        return [shutil.which("node") or "node", str(SCRIPT), os.environ[FOLDER], str(self.port), SECRET]

    def environment(self) -> dict[str, str]:
        return {"LOCAL_DATABASE_URL": str(self.folder / "data.lmdb")}

    async def writer(self, number: int) -> HttpWriter:
        return await HttpWriter().open(self.port)

    def prepare(self, messages: Sequence[Message], first: int) -> list[bytes]:
        entities = ({"collectionName": "messages", "entity": it.fields()} for it in messages)
        return [post("/insert", entity, self._headers) for entity in entities]

    async def stored(self) -> int:
        (statistics,) = ask(self.port, "POST", "/stats", {}, self._headers)
        return int(statistics["numEntities"])

    async def subscriber(self, number: int, arrived: Arrived) -> MarkedStream:
        handshake = (
            f"GET /?token={_token()}&sync-schema=false HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGlueXZleC1iZW5jaG1hcg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        stream = await MarkedStream(arrived).open(self.port, handshake.encode())
        await stream.opened(b'"READY"')
        connect = {"type": "CONNECT_QUERY", "payload": {"id": "newest", "params": QUERY}}
        stream.write(frame(json.dumps(connect).encode()))
        # The first result is empty and confirms the subscription.
        await stream.opened(b'"ENTITY_DATA"')
        return stream


def _version() -> str:
    package = Path(os.environ[FOLDER]) / "node_modules" / "@triplit" / "server" / "package.json"
    return str(json.loads(package.read_text(encoding="utf-8"))["version"])


PEER = Peer(
    "triplit",
    lambda: FOLDER in os.environ and shutil.which("node") is not None,
    _version,
    (Line("triplit", ("writes", "latency", "fanout", "start"), "process crash", TriplitServer, sends="change of 50"),),
)
