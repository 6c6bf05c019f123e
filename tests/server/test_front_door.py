"""The front door: which protocol takes a connection over, the bound on connections, and refusals in the log."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.http import SHELF, RawHttp
from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.process import ENVIRONMENT, ServerProcess
from tests.support.raw import RawClient
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.client.blocking import connect_blocking
from tinyvex.server.front_door import Choice, choose
from tinyvex.server.server import Server, ServerOptions

UPGRADE = (
    b"GET /sync HTTP/1.1\r\nHost: localhost\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

# The choice.


def test_an_upgrade_goes_to_the_dialect_of_its_path() -> None:
    """Once its head is complete, and not a byte earlier."""
    for size in range(len(UPGRADE)):
        assert choose(UPGRADE[:size], [b"/sync", b"/api/sync"]) is Choice.UNDECIDED
    assert choose(UPGRADE, [b"/sync", b"/api/sync"]) == b"/sync"
    assert choose(UPGRADE.replace(b"/sync", b"/api/sync?x=1"), [b"/sync", b"/api/sync"]) == b"/api/sync"


@pytest.mark.parametrize(
    "received",
    [
        b"POST ", b"P", b"HEAD /sync HTTP/1.1\r\n", b"\x16\x03\x01", b"GET /healthz", b"GET /sync2 HTTP/1.1\r\n",
        b"GET /sync HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /sync HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
        UPGRADE.replace(b"/sync", b"/nothing"), b"GET /sync" + b"x" * limits.HTTP_HEAD_BYTES_MAX,
        b"GET /sync HTTP/1.1\r\nX: " + b"x" * limits.HTTP_HEAD_BYTES_MAX,
    ],
)  # fmt: skip
def test_everything_else_goes_to_http(received: bytes) -> None:
    """As soon as it cannot be an upgrade to a dialect any more: HTTP has the answer to it."""
    assert choose(received, [b"/sync"]) is Choice.HTTP


# A whole server, in virtual time.


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[Server, WorldRuntime], Awaitable[None]]], None]:
    """Runs a scenario against a server on a virtual loop."""

    def play_scenario(scenario: Callable[[Server, WorldRuntime], Awaitable[None]]) -> None:
        async def main() -> None:
            runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
            async with Server(ServerOptions(app=SHELF, data=tmp_path / "data", port=4800), runtime) as server:
                await scenario(server, runtime)

        run_virtual(main())

    return play_scenario


async def dial(runtime: WorldRuntime) -> RawHttp:
    _, client = await runtime.dial(RawHttp, "127.0.0.1", 4800)
    assert isinstance(client, RawHttp)
    return client


@pytest.mark.parametrize(("data", "status"), [(UPGRADE, b"101"), (HEALTH, b"200")])
def test_a_request_may_arrive_byte_by_byte(play: Callable[..., None], data: bytes, status: bytes) -> None:
    """Both protocols receive every byte."""

    async def scenario(_: Server, runtime: WorldRuntime) -> None:
        client = await dial(runtime)
        for byte in data:
            client.send(bytes([byte]))
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 %b " % status)

    play(scenario)


@pytest.mark.parametrize("together", [False, True])
def test_an_upgrade_may_follow_other_requests(play: Callable[..., None], *, together: bool) -> None:
    """Reverse proxies send it on a connection that they have used before."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await dial(runtime)
        client.send(HEALTH)
        if not together:
            await client.until(b"}}}\n")
        client.send(UPGRADE)
        received = await client.until(b"HTTP/1.1 101 ")
        assert received.startswith(b"HTTP/1.1 200 ")
        client.send(b"\x89\x80\x00\x00\x00\x00")
        await client.until(b"\x8a\x00")
        assert server.counters.connections == 1
        await runtime.sleep(limits.HANDSHAKE_SECONDS + 2)
        assert b"SlowHandshake" in await client.until_ended(), "the deadlines are those of a WebSocket"

    play(scenario)


def test_an_upgrade_on_a_used_connection_obeys_the_rules(play: Callable[..., None]) -> None:
    """Its own Host counts, not that of the first request."""

    async def scenario(_: Server, runtime: WorldRuntime) -> None:
        client = await dial(runtime)
        client.send(HEALTH + UPGRADE.replace(b"Host: localhost", b"Host: evil.example"))
        received = await client.until_ended()
        assert b"HTTP/1.1 403 " in received
        assert b"HTTP/1.1 101 " not in received

    play(scenario)


@pytest.mark.parametrize("beginning", [b"GET /sync HTTP/1.1\r\nHost: localhost\r\n", b"GET /heal"])
def test_a_slow_first_request_is_408(play: Callable[..., None], beginning: bytes) -> None:
    """Whichever protocol it would have been."""

    async def scenario(_: Server, runtime: WorldRuntime) -> None:
        client = await dial(runtime)
        client.send(beginning)
        assert (await client.until_ended()).startswith(b"HTTP/1.1 408 ")
        assert limits.HANDSHAKE_SECONDS < runtime.monotonic() < limits.HANDSHAKE_SECONDS + 3

    play(scenario)


def test_the_bound_on_connections_counts_all_of_them(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An HTTP connection takes a WebSocket's place, and the other way round; the one too many is answered 503."""
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 2)

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await RawClient.open(server.url, runtime)
        http, another = await dial(runtime), await dial(runtime)
        another.send(HEALTH)
        assert (await another.until_ended()).startswith(b"HTTP/1.1 503 ")
        while server.counters.connections > 2:
            await runtime.sleep(0.1)
        http.send(HEALTH)
        await http.until(b"HTTP/1.1 200 ")
        refused = await RawClient.open(server.url, runtime)
        assert refused.response is not None
        assert refused.response.status_code == 503
        client.cut()
        while server.counters.connections > 1:
            await runtime.sleep(0.1)
        assert (await RawClient.open(server.url, runtime)).is_open

    play(scenario)


def test_sockets_leave_files_for_the_database(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that may open few files closes sockets before none is left; it serves again when some have closed."""
    monkeypatch.setattr(WorldRuntime, "open_files_max", lambda _: 8)

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        sockets = [await dial(runtime) for _ in range(4)]
        assert await (await dial(runtime)).until_ended() == b""
        assert server.counters.connections == 4
        assert sum("limit of open files" in message for message in caplog.messages) == 1
        sockets[0].transport.abort()
        while server.counters.connections > 3:
            await runtime.sleep(0.1)
        another = await dial(runtime)
        another.send(HEALTH)
        await another.until(b"HTTP/1.1 200 ")

    play(scenario)


async def refused_websocket(server: Server, runtime: WorldRuntime, stranger: dict[str, str]) -> bytes:
    client = await RawClient.open(server.url, runtime, headers=stranger)
    assert client.response is not None
    assert client.response.status_code == 403
    assert client.response.headers["X-Content-Type-Options"] == "nosniff"
    return bytes(client.response.body or b"")


async def refused_http(_: Server, runtime: WorldRuntime, stranger: dict[str, str]) -> bytes:
    client = await dial(runtime)
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "localhost", **stranger}.items())
    client.send(f"GET /healthz HTTP/1.1\r\n{lines}\r\n".encode())
    head, _, body = (await client.until_ended()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")
    return body


@pytest.mark.parametrize("ask", [refused_websocket, refused_http])
@pytest.mark.parametrize("stranger", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_a_refusal_is_explained_to_the_client_and_in_the_log(
    play: Callable[..., None],
    stranger: dict[str, str],
    ask: Callable[[Server, WorldRuntime, dict[str, str]], Awaitable[bytes]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the same sentence, which names the value and the option; the log has it once a minute."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        bodies = [await ask(server, runtime, stranger) for _ in range(3)]
        ((header, value),) = stranger.items()
        option = f"--allow-{header.lower()} {value}"
        sentence = f"{header} `{value}` is not allowed. If it is yours, start the server with {option}."
        assert [body.decode() for body in bodies] == [f"{sentence}\n"] * 3
        assert caplog.messages.count(f"refused a request: {sentence}") == 1

    play(scenario)


def test_a_malformed_upgrade_is_400(play: Callable[..., None]) -> None:
    """In place of a silent end."""

    async def scenario(_: Server, runtime: WorldRuntime) -> None:
        client = await dial(runtime)
        client.send(UPGRADE.replace(b"Host:", b"H st:"))
        assert (await client.until_ended()).startswith(b"HTTP/1.1 400 ")

    play(scenario)


# Stopping.


def test_a_connection_that_cannot_be_closed_does_not_stop_the_shutdown(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is cut and logged; the others are sent the reason, and the database is closed."""

    def fail(*_: object) -> None:
        raise LookupError("a defect in a dialect")

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        broken, client = [await RawClient.open(server.url, runtime) for _ in range(2)]
        first, _ = server.sessions.connections.values()
        monkeypatch.setattr(first, "fail", fail)
        server.request_stop()
        assert (await client.notification("fatalError"))["params"]["error"]["message"] == "the server is stopping"
        await broken.until(lambda: not broken.is_open)
        await server.wait_stopped()
        assert "connection 1: its close failed; cutting it" in caplog.messages

    play(scenario)


# A real process.


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of open files")
def test_more_sockets_than_files_harm_nothing(tmp_path: Path) -> None:
    """Clients that are connected go on writing, the log stays short, and new clients connect when sockets have closed."""
    process = ServerProcess(SHELF, tmp_path / "data", "--no-token")
    process.command = ["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh", *process.command]
    with process, connect_blocking(process.url) as client:
        client.mutation("shelf:add", {"title": "Emma"})
        address = ("127.0.0.1", process.ready["port"])
        sockets = [socket.create_connection(address) for _ in range(300)]
        client.mutation("shelf:add", {"title": "Persuasion"})
        for each in sockets:
            each.close()
        with connect_blocking(process.url) as another:
            assert len(another.query("shelf:titles")) == 2
        assert process.terminate() == 0
    log = b"".join(process.errors).decode()
    assert log.count("limit of open files") == 1, log
    assert "Traceback" not in log


# Older versions of the core answer each malformed request with 400 and one reason.
HAS_STATUS = int(version("websockets").partition(".")[0]) >= 17
INVALID = "did not receive a valid HTTP request"


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ((b"Version: 13", b"Version: 8"), b"400", "invalid Sec-WebSocket-Version header: 8"),
        ((b"Sec-WebSocket-Key", b"X"), b"400", "missing Sec-WebSocket-Key header"),
        (
            (b"HTTP/1.1", b"HTTP/1.0"),
            b"505" if HAS_STATUS else b"400",
            "unsupported HTTP version: HTTP/1.0" if HAS_STATUS else INVALID,
        ),
        ((b"Host:", b"H st:"), b"400", INVALID),
        (
            (b"\r\n\r\n", b"\r\nX: " + b"x" * 9000 + b"\r\n\r\n"),
            b"431" if HAS_STATUS else b"400",
            "read 9005 bytes, expected no more than 8192 bytes" if HAS_STATUS else INVALID,
        ),
    ],
    ids=["version", "no-key", "HTTP/1.0", "malformed", "long-header"],
)
def test_an_invalid_upgrade_is_logged(
    play: Callable[..., None], change: tuple[bytes, bytes], status: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As every refusal is: once a minute, with its reason."""

    async def scenario(_: Server, runtime: WorldRuntime) -> None:
        for _ in range(2):
            client = await dial(runtime)
            client.send(UPGRADE.replace(*change))
            assert (await client.until_ended()).startswith(b"HTTP/1.1 %b " % status)
        assert caplog.messages == [f"refused a request: A WebSocket upgrade is not valid: {reason}."]

    play(scenario)


# Costs.


IMPORTED = """
import asyncio, random, sys
from tests.support.http import SHELF, RawHttp
from tinyvex.runtime import Runtime
from tinyvex.server.server import Server, ServerOptions
import tinyvex as tv
from pathlib import Path

async def main():
    async with Server(ServerOptions(app=SHELF, data=Path(sys.argv[1]))) as server:
        async with tv.connect(server.url) as client:
            await client.query("shelf:titles", {})
        print(sorted({name.partition(".")[0] for name in sys.modules} & {"h11", "starlette", "prometheus_client"}))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        print((await reader.readline()).decode().strip())
        print(sorted({name.partition(".")[0] for name in sys.modules} & {"h11", "starlette", "prometheus_client"}))
        writer.close()

asyncio.run(main())
"""


def test_http_is_imported_by_its_first_request(tmp_path: Path) -> None:
    """A server that only syncs pays neither its start time nor its memory."""
    command = [sys.executable, "-c", IMPORTED, str(tmp_path / "data")]
    result = subprocess.run(command, capture_output=True, check=True, env=ENVIRONMENT, text=True)
    assert result.stdout.splitlines() == ["[]", "HTTP/1.1 200 OK", "['h11', 'starlette']"]
