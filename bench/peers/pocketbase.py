"""PocketBase: records created over HTTP, a realtime subscription to the collection over server-sent events."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from bench.peers.connection import MarkedStream, PreparedWriter
from bench.peers.peer import Arrived, Line, Message, Peer, PeerProcess

__all__ = ["PEER"]

PROGRAM = "pocketbase"
EMAIL, PASSWORD = "bench@example.com", "benchmark-only"
TOPIC = "messages/*"
COLLECTION = {
    "name": "messages",
    "type": "base",
    # Open to all: no token is looked at for any request, as Tinyvex looks at none here.
    "listRule": "",
    "viewRule": "",
    "createRule": "",
    "fields": [{"name": name, "type": "text"} for name in ("channel", "author", "body")],
    "indexes": [f"CREATE INDEX by_{name} ON messages ({name})" for name in ("channel", "author")],
}


def _request(method: str, path: str, body: object) -> bytes:
    payload = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


class HttpWriter(PreparedWriter):
    """One connection, kept alive."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""

    def answers(self, data: bytes) -> int:
        data = self._rest + data if self._rest else data
        finished = at = 0
        while (end := data.find(b"\r\n\r\n", at)) >= 0:
            if not data.startswith(b"HTTP/1.1 20", at):
                raise RuntimeError(data[at:].decode())
            length = data.find(b"Content-Length: ", at, end)
            size = int(data[length + 16 : data.find(b"\r\n", length)]) if length >= 0 else 0
            if end + 4 + size > len(data):
                break
            at = end + 4 + size
            finished += 1
        self._rest = data[at:]
        return finished


class PocketBaseServer(PeerProcess):
    """`pocketbase serve` with one open collection; its log of requests is off, as Tinyvex has none."""

    def command(self) -> list[str]:
        program = shutil.which(PROGRAM) or PROGRAM
        return [program, "serve", f"--http=127.0.0.1:{self.port}", f"--dir={self.folder / 'data'}"]

    def prepare_folder(self) -> None:
        upsert = [self.command()[0], "superuser", "upsert", EMAIL, PASSWORD, f"--dir={self.folder / 'data'}"]
        subprocess.run(upsert, check=True, capture_output=True)
        self.start()
        try:
            login = {"identity": EMAIL, "password": PASSWORD}
            token = self.ask("POST", "/api/collections/_superusers/auth-with-password", login)["token"]
            self.ask("POST", "/api/collections", COLLECTION, token)
            self.ask("PATCH", "/api/settings", {"logs": {"maxDays": 0}}, token)
        finally:
            self.stop()

    def wait_until_ready(self) -> None:
        self.poll(lambda: self.ask("GET", "/api/health"))

    def ask(self, method: str, path: str, body: object = None, token: str = "") -> dict[str, Any]:
        """One request outside of any measurement."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json", "Authorization": token}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        assert response.status < 300, answer
        parsed: dict[str, Any] = json.loads(answer or b"{}")
        return parsed

    async def writer(self, number: int) -> HttpWriter:
        return await HttpWriter().open(self.port)

    def prepare(self, messages: Sequence[Message], first: int) -> list[bytes]:
        return [_request("POST", "/api/collections/messages/records", it.fields()) for it in messages]

    async def stored(self) -> int:
        return int(self.ask("GET", "/api/collections/messages/records?perPage=1")["totalItems"])

    async def subscriber(self, number: int, arrived: Arrived) -> MarkedStream:
        stream = await MarkedStream(arrived).open(self.port, b"GET /api/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = await stream.opened(b'"}\n\n')
        found = re.search(rb'"clientId":"([^"]+)"', head)
        assert found, head
        control = await self.writer(0)
        subscription = {"clientId": found[1].decode(), "subscriptions": [TOPIC]}
        await control.run([_request("POST", "/api/realtime", subscription)], 1, 1)
        control.close()
        return stream


def _version() -> str:
    return subprocess.run([PROGRAM, "--version"], capture_output=True, check=True, text=True).stdout.split()[-1]


PEER = Peer(
    "pocketbase",
    PROGRAM,
    _version,
    (Line("pocketbase", ("writes", "latency", "fanout", "start"), "process crash", PocketBaseServer, told="record"),),
)
