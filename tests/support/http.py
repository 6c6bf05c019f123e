"""HTTP servers and clients: an ASGI application behind a front door of its own, a real process, and raw sockets."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio

from tests.support.process import ServerProcess
from tinyvex.client.blocking import connect_blocking
from tinyvex.runtime import Runtime
from tinyvex.server.access.audit_log import AuditLog
from tinyvex.server.access.dashboard_links import DashboardLinks
from tinyvex.server.access.origin_rules import AccessRules
from tinyvex.server.access.pairing import Pairing
from tinyvex.server.access.token_auth import ServerTokens, TokenAuth
from tinyvex.server.background_tasks import BackgroundTasks
from tinyvex.server.front_door import FrontDoor
from tinyvex.server.services.ticker import every_second
from tinyvex.sync.counters import Counters

ADMIN, CLIENT = "admin-token", "client-token"


def token_auth(folder: Path = Path("no-such-folder")) -> TokenAuth:
    """Tokens for tests."""
    secret = "0123456789abcdef" * 4
    pairing = Pairing(folder, lambda: 0, lambda: secret)
    return TokenAuth(
        ServerTokens(ADMIN, CLIENT), pairing, DashboardLinks(lambda: 0.0, lambda: secret), AuditLog(lambda: 0.0)
    )


@dataclass
class Served:
    """A front door that is open on `port`."""

    door: FrontDoor
    port: int
    runtime: Runtime

    async def dial(self) -> RawHttp:
        """Connect a client."""
        return cast("RawHttp", (await self.runtime.dial(RawHttp, "127.0.0.1", self.port))[1])


@asynccontextmanager
async def serving(
    application: Any, runtime: Runtime | None = None, rules: AccessRules | None = None
) -> AsyncIterator[Served]:
    """Serve an ASGI application: on a real socket, or on a world's runtime, where deadlines pass in virtual time."""
    runtime = runtime or Runtime()
    runtime.bind(asyncio.get_running_loop())
    async with BackgroundTasks(runtime, _fail) as tasks:
        door = FrontDoor(
            runtime, Counters(), rules or AccessRules(), token_auth(),
            dialects={}, create_application=lambda: application, run=tasks.start_for_client,
        )  # fmt: skip
        listener = await runtime.listen(door.accept, "127.0.0.1", 0)
        tasks.start(lambda: _tick(door, runtime), name="tick")
        try:
            yield Served(door, listener.port, runtime)
        finally:
            listener.close()
            for endpoint in list(door.endpoints.values()):
                endpoint.abort()


def _fail(_: str, error: Exception) -> None:
    raise error


async def _tick(door: FrontDoor, runtime: Runtime) -> None:
    async for _ in every_second(runtime):
        for endpoint in list(door.endpoints.values()):
            endpoint.tick(runtime.monotonic(), heartbeat=False)


class RawHttp(asyncio.Protocol):
    """A client that sends exactly the bytes that a test gives it."""

    def __init__(self) -> None:
        self.received = b""
        self.has_ended = False
        self.transport: asyncio.Transport
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._changed.set()

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        self.has_ended = True
        self._changed.set()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)

    async def until(self, text: bytes) -> bytes:
        """Wait until these bytes arrived; all that arrived so far."""
        while text not in self.received:
            assert not self.has_ended, self.received
            await self._wait()
        return self.received

    async def until_ended(self) -> bytes:
        """Wait until the server ended its half; all that arrived."""
        while not self.has_ended:
            await self._wait()
        return self.received

    async def _wait(self) -> None:
        self._changed.clear()
        with anyio.fail_after(300):
            await self._changed.wait()


SHELF = Path(__file__).resolve().parent / "shelf.py"


@contextmanager
def shelf_server(data: Path, *options: str) -> Iterator[ServerProcess]:
    """A server that has committed one mutation and has one live query."""
    with (
        ServerProcess(SHELF, data, "--no-token", *options) as process,
        connect_blocking(process.url) as client,
        client.subscribe("shelf:titles") as titles,
    ):
        assert next(titles) == []
        client.mutation("shelf:add", {"title": "Emma"})
        assert next(titles) == ["Emma"]
        yield process


def request(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Send a request to a port of this machine; status, headers and text of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()
