"""PocketBase: records created over HTTP, a realtime subscription to the collection over server-sent events."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from bench.peers.connection import MarkedStream
from bench.peers.http import HttpWriter, ask, post
from bench.peers.peer import Arrived, Line, Message, Peer, PeerProcess, on_path

__all__ = ["PEER"]

PROGRAM = "pocketbase"
EMAIL, PASSWORD = "bench@example.com", "benchmark-only"
TOPIC = "messages/*"
COLLECTION = {
    "name": "messages",
    "type": "base",
    # Open to all: no request needs a token, as with Tinyvex here.
    "listRule": "",
    "viewRule": "",
    "createRule": "",
    "fields": [{"name": name, "type": "text"} for name in ("channel", "author", "body")],
    "indexes": [f"CREATE INDEX by_{name} ON messages ({name})" for name in ("channel", "author")],
}


class PocketBaseServer(PeerProcess):
    """`pocketbase serve` with one open collection; its request log is off, because Tinyvex has none."""

    def command(self) -> list[str]:
        program = shutil.which(PROGRAM) or PROGRAM
        return [program, "serve", f"--http=127.0.0.1:{self.port}", f"--dir={self.folder / 'data'}"]

    def prepare_folder(self) -> None:
        upsert = [self.command()[0], "superuser", "upsert", EMAIL, PASSWORD, f"--dir={self.folder / 'data'}"]
        subprocess.run(upsert, check=True, capture_output=True)
        self.start()
        try:
            login = {"identity": EMAIL, "password": PASSWORD}
            answer = ask(self.port, "POST", "/api/collections/_superusers/auth-with-password", login)
            headers = {"Authorization": answer["token"]}
            ask(self.port, "POST", "/api/collections", COLLECTION, headers)
            ask(self.port, "PATCH", "/api/settings", {"logs": {"maxDays": 0}}, headers)
        finally:
            self.stop()

    def wait_until_ready(self) -> None:
        self.poll(lambda: ask(self.port, "GET", "/api/health"))

    async def writer(self, number: int) -> HttpWriter:
        return await HttpWriter().open(self.port)

    def prepare(self, messages: Sequence[Message], first: int) -> list[bytes]:
        return [post("/api/collections/messages/records", it.fields()) for it in messages]

    async def stored(self) -> int:
        return int(ask(self.port, "GET", "/api/collections/messages/records?perPage=1")["totalItems"])

    async def subscriber(self, number: int, arrived: Arrived) -> MarkedStream:
        stream = await MarkedStream(arrived).open(self.port, b"GET /api/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = await stream.opened(b'"}\n\n')
        client_id = re.search(rb'"clientId":"([^"]+)"', head)
        assert client_id, head
        control = await self.writer(0)
        subscription = {"clientId": client_id[1].decode(), "subscriptions": [TOPIC]}
        await control.run([post("/api/realtime", subscription)], 1, 1)
        control.close()
        return stream


def _version() -> str:
    return subprocess.run([PROGRAM, "--version"], capture_output=True, check=True, text=True).stdout.split()[-1]


PEER = Peer(
    "pocketbase",
    on_path(PROGRAM),
    _version,
    (Line("pocketbase", ("writes", "latency", "fanout", "start"), "process crash", PocketBaseServer, sends="record"),),
)
