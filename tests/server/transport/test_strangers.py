"""Sockets whose client is not admitted: bounded together and by address, and clients that are admitted stay."""

from __future__ import annotations

import asyncio
import ssl
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.certificates import Certificates
from tests.support.http import RawHttp
from tests.support.raw import RawClient
from tinyvex import limits
from tinyvex.runtime import Runtime
from tinyvex.server.options import TlsOptions
from tinyvex.server.server import Server, ServerOptions
from tinyvex.server.transport import strangers
from tinyvex.server.transport.strangers import Strangers

SHELF = Path(__file__).resolve().parents[2] / "support" / "shelf.py"


class Socket(asyncio.Transport):
    """A socket from an address, which records that it was closed."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 4800)})
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


def added(counted: Strangers, *addresses: str) -> list[Socket]:
    """Add a socket from each address."""
    sockets = [Socket(address) for address in addresses]
    for socket in sockets:
        counted.add(socket)
    return sockets


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_the_oldest_of_an_address_gives_way(address: str) -> None:
    """Above STRANGERS_PER_NETWORK_MAX; sockets of other addresses stay."""
    counted = Strangers()
    others = added(counted, "192.0.2.2", "2001:db8:0:1::1")
    sockets = added(counted, *[address] * (limits.STRANGERS_PER_NETWORK_MAX + 2))
    assert [socket.is_aborted for socket in sockets[:3]] == [True, True, False]
    assert len(counted) == limits.STRANGERS_PER_NETWORK_MAX + len(others)
    assert not any(socket.is_aborted for socket in others)


def test_addresses_of_one_ipv6_network_share_a_bound() -> None:
    """One machine has all of them at its disposal."""
    counted = Strangers()
    added(counted, *[f"2001:db8::{number:x}" for number in range(2 * limits.STRANGERS_PER_NETWORK_MAX)])
    assert len(counted) == limits.STRANGERS_PER_NETWORK_MAX


def test_the_address_with_the_most_gives_way_to_others() -> None:
    """Above STRANGERS_MAX; an address that has one socket keeps it."""
    counted = Strangers()
    friend = added(counted, "192.0.2.1")[0]
    numbers = range(limits.STRANGERS_MAX // limits.STRANGERS_PER_NETWORK_MAX)
    for number in numbers:
        added(counted, *[f"192.0.3.{number}"] * limits.STRANGERS_PER_NETWORK_MAX)
    added(counted, "192.0.2.2")
    assert len(counted) == limits.STRANGERS_MAX
    assert not friend.is_aborted


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""])
def test_programs_of_this_machine_have_a_bound_of_their_own(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They neither count with other machines nor have a bound for each address."""
    monkeypatch.setattr(limits, "STRANGERS_LOCAL_MAX", 40)
    counted = Strangers()
    sockets = added(counted, *[address] * 41)
    assert [socket.is_aborted for socket in sockets] == [True] + [False] * 40


def test_an_admitted_client_is_not_counted() -> None:
    """Nor one whose socket is closed; to remove one twice changes nothing."""
    counted = Strangers()
    sockets = added(counted, *["192.0.2.1"] * 3)
    for _ in range(2):
        counted.remove(sockets[0])
    assert len(counted) == 2
    counted.remove(sockets[1])
    counted.remove(sockets[2])
    assert counted._by_network == {}


# A whole server. Its clients seem to come from another machine.


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients of this machine count as those of another one, of which two may be strangers."""
    monkeypatch.setattr(strangers, "is_loopback", lambda _: False)
    monkeypatch.setattr(limits, "STRANGERS_PER_NETWORK_MAX", 2)


def serving(tmp_path: Path, **options: Any) -> Server:
    return Server(ServerOptions(app=SHELF, data=tmp_path / "data", client_token="secret", **options))


@pytest.mark.usefixtures("remote")
async def test_silent_sockets_requests_and_upgrades_count_together(tmp_path: Path) -> None:
    """Whatever a stranger does, the third socket closes the first; an admitted client stays."""
    runtime, numbers = Runtime(), count()
    async with serving(tmp_path) as server:
        with anyio.fail_after(20):
            admitted = await RawClient.open(server.url, runtime)
            assert "result" in await admitted.answer(admitted.connect(token="secret"))
            silent = (await runtime.dial(RawHttp, "127.0.0.1", server.port))[1]
            http = (await runtime.dial(RawHttp, "127.0.0.1", server.port))[1]
            assert isinstance(silent, RawHttp)
            assert isinstance(http, RawHttp)
            http.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await http.until(b"ok")
            upgraded = await RawClient.open(server.url, runtime)
            assert await silent.until_ended() == b""
            other = await RawClient.open(server.url, runtime)
            await http.until_ended()
            for client in (upgraded, other):
                assert "result" in await client.answer(
                    client.connect(token="secret", sessionId=f"session-{next(numbers)}")
                )
            await admitted.ask("ping")
            assert len(server._front_door.strangers) == 0
            for client in (admitted, upgraded, other):
                client.cut()


@pytest.mark.usefixtures("remote")
async def test_a_request_with_a_token_is_not_a_strangers(tmp_path: Path) -> None:
    """A monitor keeps its connection."""
    runtime = Runtime()
    async with serving(tmp_path) as server:
        with anyio.fail_after(20):
            monitor = (await runtime.dial(RawHttp, "127.0.0.1", server.port))[1]
            assert isinstance(monitor, RawHttp)
            monitor.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n\r\n")
            await monitor.until(b"lastTs")
            assert len(server._front_door.strangers) == 0


@pytest.mark.usefixtures("remote")
async def test_handshakes_of_tls_count_too(tmp_path: Path) -> None:
    """And a socket counts once, from its handshake on."""
    made = Certificates(tmp_path / "certificates")
    async with serving(tmp_path, tls=TlsOptions(made.certificate, made.key)) as server:
        with anyio.fail_after(20):
            silent = await asyncio.open_connection("127.0.0.1", server.port)
            context = ssl.create_default_context(cafile=made.authority)
            clients = []
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await reader.readuntil(b"ok")
                clients.append(writer)
            assert await silent[0].read() == b""
            assert len(server._front_door.strangers) == 2
            for writer in (silent[1], *clients):
                writer.close()
