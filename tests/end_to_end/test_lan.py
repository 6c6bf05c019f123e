"""Server processes with TLS: discovered, paired, used by commands, killed, renewed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import tinyvex as tv
from tests.support.certificates import Certificates
from tests.support.process import ENVIRONMENT, START_SECONDS, ServerProcess, free_port
from tinyvex.server.services import discovery

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"

SECONDS = 30


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    """Create certificates for this test."""
    return Certificates(tmp_path / "certificates")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder."""
    return tmp_path / "data"


@pytest.fixture
def server(made: Certificates, data: Path) -> Iterator[ServerProcess]:
    """Run a server with TLS on a fixed port."""
    with ServerProcess(APP, data, "--port", str(free_port()), *made.options) as process:
        yield process


def tinyvex(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process."""
    return subprocess.run(
        [sys.executable, "-m", "tinyvex", *arguments],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=START_SECONDS, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "missing"),
    [(["--host", "0.0.0.0"], ["--tls-cert FILE and --tls-key FILE"]),
     (["--host", "0.0.0.0", "--no-token"], ["--tls-cert FILE and --tls-key FILE", "--no-token"]),
     (["--host", "::", "--no-token"], ["--no-token"])],
)  # fmt: skip
def test_other_machines_need_tls_and_a_token(data: Path, options: list[str], missing: list[str]) -> None:
    """Exit code 10; one line names the missing option, and the data folder is not created."""
    done = tinyvex("serve", str(APP), "--data", str(data), *options)
    assert (done.returncode, done.stdout) == (10, "")
    (line,) = done.stderr.splitlines()
    assert all(option in line for option in missing)
    assert not data.exists()


def test_tls_does_not_replace_the_token(made: Certificates, data: Path) -> None:
    """A network address without a token is refused with TLS as well."""
    done = tinyvex("serve", str(APP), "--data", str(data), "--host", "0.0.0.0", "--no-token", *made.options)
    assert done.returncode == 10
    assert "remove --no-token" in done.stderr


def test_dev_stays_on_this_machine(made: Certificates, data: Path) -> None:
    """`dev` requires no token and sends tracebacks, so a network address is refused with TLS as well."""
    done = tinyvex("dev", str(APP), "--data", str(data), "--host", "0.0.0.0", *made.options)
    assert done.returncode == 10
    assert "`dev` requires no token" in done.stderr


def test_commands_talk_to_it(server: ServerProcess, data: Path) -> None:
    """`run` and `data` trust the certificate because the discovery file names it."""
    assert server.url.startswith("wss://")
    added = tinyvex("run", "shelf:add", '{"title": "Ulysses"}', "--data", str(data))
    assert added.returncode == 0, added.stderr
    listed = tinyvex("data", "books", "--data", str(data), "--format", "jsonl")
    assert json.loads(listed.stdout)["title"] == "Ulysses"


def test_the_discovery_file_has_the_fingerprint(server: ServerProcess, made: Certificates, data: Path) -> None:
    """The discovery file and the ready line have the fingerprint of the certificate file."""
    discovered = discovery.read(data)
    assert discovered is not None
    assert discovered.tls_fingerprint == server.ready["tlsFingerprint"] == made.fingerprint


async def test_pairing_and_resuming_over_tls(server: ServerProcess, data: Path) -> None:
    """The output of `tinyvex pair` is all a program needs, and the program reconnects after a kill of the server."""
    paired = await anyio.to_thread.run_sync(tinyvex, "pair", "--data", str(data))
    fingerprint = paired.stderr.split()[-1]
    with anyio.fail_after(SECONDS):
        async with tv.connect(server.url, f"pairing:{paired.stdout.strip()}", tls=fingerprint) as client:
            titles = client.subscribe("shelf:titles")
            assert await anext(titles) == []
            await anyio.to_thread.run_sync(server.kill)
            async with anyio.create_task_group() as group:
                group.start_soon(client.mutation, "shelf:add", {"title": "Emma"})
                await anyio.to_thread.run_sync(server.start)
            while await anext(titles) != ["Emma"]:
                pass


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")
async def test_sighup_reads_a_renewed_certificate(server: ServerProcess, made: Certificates, data: Path) -> None:
    """New connections get the renewed certificate, and the open one stays."""
    token = server.ready["token"]
    with anyio.fail_after(SECONDS):
        async with tv.connect(server.url, token, tls=server.ready["tlsFingerprint"]) as old:
            await old.wait_connected()
            made.renew()
            server.process.send_signal(signal.SIGHUP)
            while True:
                discovered = discovery.read(data)
                if discovered is not None and discovered.tls_fingerprint == made.fingerprint:
                    break
                await old.query("shelf:titles")
            async with tv.connect(server.url, token, tls=made.fingerprint) as new:
                assert await new.query("shelf:titles") == await old.query("shelf:titles")
            assert old.connection_state.retries == 0


# Finding it.


def require_multicast() -> None:
    """Skip if loopback does not support multicast, as in some sandboxes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hearing, socket.socket(
        socket.AF_INET, socket.SOCK_DGRAM
    ) as speaking:  # fmt: skip
        hearing.settimeout(2)
        try:
            hearing.bind(("", 0))
            group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
            hearing.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            speaking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            speaking.sendto(b"anybody here?", ("224.0.0.251", hearing.getsockname()[1]))
            hearing.recv(100)
        except OSError as error:
            pytest.skip(f"loopback does not multicast here: {error}")


def browsed(name: str) -> tuple[dict[str, Any], str]:
    """Return the entry of a server in `tinyvex browse` as soon as there is one, and the full output."""
    for _ in range(10):
        done = tinyvex("browse", "--seconds", "1", "--format", "json")
        assert done.returncode == 0, done.stderr
        for entry in json.loads(done.stdout):
            if entry["name"] == name:
                return entry, done.stdout
    raise AssertionError(f"{name} was not found")


def test_an_announced_server_is_found(made: Certificates, data: Path) -> None:
    """An announcement has address, database and certificate, and no token; it disappears when the server stops."""
    require_multicast()
    name = f"shelf of {free_port()}"
    with ServerProcess(APP, data, *made.options, "--advertise", name) as server:
        entry, printed = browsed(name)
        assert entry["url"] == f"{server.url}/sync"
        assert entry["tlsFingerprint"] == made.fingerprint
        stored = discovery.read(data)
        assert stored is not None
        assert entry["databaseId"] == stored.database_id
        assert server.ready["token"] not in printed
        assert server.terminate() == 0
    assert name not in tinyvex("browse", "--seconds", "1").stdout


def test_a_server_that_does_not_announce_itself_is_not_found(server: ServerProcess, data: Path) -> None:
    """A server is announced only on request."""
    require_multicast()
    discovered = discovery.read(data)
    assert discovered is not None
    assert discovered.database_id not in tinyvex("browse", "--seconds", "1").stdout
