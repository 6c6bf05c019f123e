"""The modules imported before the ready line, and the first clients, which import the others."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import tinyvex as tv
from tests.support.process import ENVIRONMENT, ServerProcess

ROOT = Path(__file__).resolve().parents[2]
CHAT = ROOT / "examples" / "chat" / "app.py"

SECONDS_MAX = 30.0

LATER = {
    "tinyvex.client": "the Python client; a server is not one",
    "tinyvex.wire": "messages; no client is connected",
    "tinyvex.dialects": "messages; no client is connected",
    "tinyvex.sync.session": "no client is connected",
    "tinyvex.sync.live_queries": "no client subscribes",
    "tinyvex.sync.diff": "no client subscribes",
    "tinyvex.server.serving": "no client is connected",
    "tinyvex.server.transport.connection": "no client is connected",
    "tinyvex.server.http": "no request has arrived",
    "tinyvex.functions.run.executor": "no function runs",
    "tinyvex.functions.run.failures": "no function runs",
    "tinyvex.functions.run.actions": "no action runs",
    "tinyvex.functions.transaction.transaction": "no function runs",
    "tinyvex.functions.system": "no function of the system is called",
    "tinyvex.sync.identity": "the app does not verify users",
    "tinyvex.server.access.jwt": "the app does not verify users",
    "tinyvex.server.services.signing_keys": "the app does not verify users",
    "tinyvex.server.services.parent_watch": "no parent is watched",
    "tinyvex.server.services.mdns": "the server is not announced",
    "tinyvex.functions.run.exactly_once": "no mutation runs",
    "tinyvex.storage.maintenance.retention": "the first sweep comes later",
    "tinyvex.storage.maintenance.live_size": "the first sweep comes later",
    "tinyvex.storage.maintenance.check": "a command of its own",
    "tinyvex.storage.maintenance.backup": "a command of its own",
    "tinyvex.storage.schema.schema_change": "the file fits the app",
    "tinyvex.storage.schema.document_upgrade": "the file fits the app",
    "tinyvex.storage.schema.index_backfill": "the file fits the app",
    "tinyvex.storage.schema.table_replacement": "no import runs",
    "websockets": "no client is connected; with it come `importlib.metadata` and `email`",
    "anyio": "only actions and some options need its cancel scopes; it takes 10 ms",
    "h11": "no request has arrived",
    "starlette": "no request has arrived",
    "prometheus_client": "no figures are requested",
    "jwt": "the app does not verify users",
    "cryptography": "the app does not verify users",
    "zeroconf": "the server is not announced",
    "watchfiles": "only `tinyvex dev` watches the app",
    "email": "parts of HTTP and of package metadata",
    "importlib.metadata": "reads the installed packages",
    "importlib.resources": "imports `tempfile`, `shutil` and the compression libraries",
    "tempfile": "nothing is temporary",
    "multiprocessing": "no processes are started",
}
"""Modules, with all below them, that are imported after the ready line or never; with the reason."""

MODULES_MAX = 131
"""The modules of Tinyvex before the ready line: each costs 0.1 to 0.3 ms. Lower it when there are fewer."""


def modules_before_the_ready_line(data: Path) -> list[str]:
    """Start the chat example; return the modules imported when it wrote the ready line, in order."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "tinyvex",
        "serve",
        str(CHAT),
        "--data",
        str(data),
        "--no-token",
    ]
    log = data.with_suffix(".log")
    # A file, not a pipe: everything that the process wrote before the ready line is in it when that line is read.
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=ENVIRONMENT)
        assert process.stdout is not None
        try:
            assert b'"ready"' in process.stdout.readline()
            lines = log.read_text().splitlines()
        finally:
            process.kill()
            process.wait(SECONDS_MAX)
            process.stdout.close()
    return [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")][1:]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the modules before the ready line of the second start: the first one creates the tables as well."""
    data = tmp_path_factory.mktemp("ready") / "data"
    modules_before_the_ready_line(data)
    return modules_before_the_ready_line(data)


@pytest.mark.parametrize("module", LATER)
def test_a_module_is_imported_later(imported: list[str], module: str) -> None:
    """The ready line does not wait for what only clients, requests or options need."""
    assert [name for name in imported if name == module or name.startswith(f"{module}.")] == [], LATER[module]


def test_few_modules_are_imported_before_the_ready_line(imported: list[str]) -> None:
    """A new import at the top of a file may add many: import it where it is used, if a start does not need it."""
    ours = sorted({name for name in imported if name.split(".")[0] == "tinyvex"})
    assert "tinyvex.server.server" in ours
    assert len(ours) <= MODULES_MAX, "\n".join(ours)


async def first_calls(url: str, number: int) -> None:
    async with tv.connect(url) as client:
        await client.mutation("app:create_channel", {"name": f"channel {number}"})
        async for channels in client.subscribe("app:channels"):
            if any(channel["name"] == f"channel {number}" for channel in channels):
                return


@pytest.mark.parametrize("count", [1, 100])
def test_the_first_clients_are_served(tmp_path: Path, count: int) -> None:
    """One client causes the remaining imports, or a hundred that connect together."""

    async def main(url: str) -> None:
        async with asyncio.timeout(SECONDS_MAX), asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(first_calls(url, number))

    with ServerProcess(CHAT, tmp_path / "data", "--no-token") as server:
        asyncio.run(main(server.url))
        assert server.terminate() == 0
    assert b"Traceback" not in b"".join(server.errors)


UPGRADE = (
    b"GET /sync HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def ask(port: int, request: bytes) -> bytes:
    """Send a request, and return what the server answers until it closes or has sent a head."""
    with socket.create_connection(("127.0.0.1", port), SECONDS_MAX) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
            if answer.startswith(b"HTTP/1.1 101 "):
                break
        return answer


@pytest.mark.parametrize(("package", "request_", "status"), [("websockets", UPGRADE, b"101"), ("h11", HEALTH, b"200")])
def test_a_failed_import_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, request_: bytes, status: bytes
) -> None:
    """The client does not wait for nothing, other requests are served, and the next one imports again."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / f"{package}.py").write_text('raise ImportError("a broken installation")\n')
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", os.pathsep.join([str(broken), ENVIRONMENT["PYTHONPATH"]]))
    others = {"websockets": HEALTH, "h11": UPGRADE}
    with ServerProcess(CHAT, tmp_path / "data", "--no-token") as server:
        port = server.ready["port"]
        answer = ask(port, request_)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert answer.endswith(b"\r\n\r\nThe request failed; the server's log has the reason.\n")
        assert ask(port, others[package]).startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 101 "))
        (broken / f"{package}.py").unlink()
        assert ask(port, request_).startswith(b"HTTP/1.1 %b " % status)
        assert server.terminate() == 0
    assert b"a broken installation" in b"".join(server.errors)
