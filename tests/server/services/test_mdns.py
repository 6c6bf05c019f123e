"""Announcements of servers on the network: their content, and which of them are accepted."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zeroconf.asyncio

from tinyvex.errors import StartError
from tinyvex.server.options import ServerOptions
from tinyvex.server.services import mdns
from tinyvex.server.services.background_service import OnFailure, ServiceFailed

FINGERPRINT = "sha256:" + "ab" * 32


def server(host: str = "127.0.0.1", fingerprint: str | None = FINGERPRINT) -> Any:
    return SimpleNamespace(
        options=ServerOptions(app=Path("app.py"), data=Path("data"), host=host, client_token="secret"),
        port=4800,
        store=SimpleNamespace(database_id="d" * 32),
        listening=SimpleNamespace(fingerprint=fingerprint),
    )


def announce(monkeypatch: pytest.MonkeyPatch, info: Any) -> None:
    """Make a look-up return this announcement."""

    class Info:
        def __init__(self, *_: object) -> None:
            self.port = info.port
            self.decoded_properties = info.decoded_properties
            self.parsed_scoped_addresses = info.parsed_scoped_addresses

        async def async_request(self, *_: object) -> bool:
            return True

    monkeypatch.setattr(zeroconf.asyncio, "AsyncServiceInfo", Info)


async def look_up() -> mdns.FoundServer | None:
    return await mdns._look_up(SimpleNamespace(zeroconf=None), f"shelf.{mdns.SERVICE}")


async def test_an_announcement_is_found_as_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, port, path, database and certificate; nothing more, and no token."""
    announced = mdns._service(server(), "shelf", ["192.168.1.20"])
    assert set(announced.decoded_properties) == {"path", "db", "tls"}
    announce(monkeypatch, announced)
    assert await look_up() == mdns.FoundServer(
        name="shelf",
        url="wss://192.168.1.20:4800/sync",
        addresses=["192.168.1.20"],
        database_id="d" * 32,
        tls_fingerprint=FINGERPRINT,
    )


async def test_without_tls_the_url_is_ws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on loopback needs no certificate."""
    announce(monkeypatch, mdns._service(server(fingerprint=None), "shelf", ["127.0.0.1"]))
    announced = await look_up()
    assert announced is not None
    assert (announced.url, announced.tls_fingerprint) == ("ws://127.0.0.1:4800/sync", None)


async def test_an_address_of_ipv6_is_bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the URL; the list of addresses has it without brackets."""
    announce(monkeypatch, mdns._service(server(), "shelf", ["fd00::2"]))
    announced = await look_up()
    assert announced is not None
    assert (announced.url, announced.addresses) == ("wss://[fd00::2]:4800/sync", ["fd00::2"])


@pytest.mark.parametrize(
    ("properties", "port", "addresses"),
    [
        ({"tls": "sha256:short"}, 1, ["127.0.0.1"]),
        ({"tls": FINGERPRINT + "\x1b[2J"}, 1, ["127.0.0.1"]),
        ({"path": "/sync\x1b[2J"}, 1, ["127.0.0.1"]),
        ({"path": "@evil.example/"}, 1, ["127.0.0.1"]),
        ({"path": "/sync?token=x"}, 1, ["127.0.0.1"]),
        ({}, 0, ["127.0.0.1"]),
        ({}, 1, []),
    ],
)
async def test_an_invalid_announcement_is_not_listed(
    monkeypatch: pytest.MonkeyPatch, properties: dict[str, str | None], port: int, addresses: list[str]
) -> None:
    """Any machine can announce anything; what is unsafe to print or to connect to is left out."""
    info = SimpleNamespace(port=port, decoded_properties=properties, parsed_scoped_addresses=lambda: addresses)
    announce(monkeypatch, info)
    assert await look_up() is None


def test_a_long_name_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 6763 has room for 63 bytes, and a character is not halved."""
    announced = mdns._service(server(), "é" * 40, ["127.0.0.1"])
    assert announced.name == f"{'é' * 31}.{mdns.SERVICE}"


async def test_a_name_is_looked_up_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of the network may take seconds, which must not delay clients."""
    threads = []

    def look_up(*_args: object, **_options: object) -> list[object]:
        threads.append(threading.current_thread())
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.168.1.20", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert await mdns._addresses("hub.example") == ["192.168.1.20"]
    assert threads != []
    assert threading.main_thread() not in threads


async def test_a_wildcard_stands_for_the_machines_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses of its family are announced, without loopback and link-local ones."""
    addresses = [SimpleNamespace(ip=text) for text in ("127.0.0.1", "192.168.1.20")]
    addresses += [SimpleNamespace(ip=(text, 0, 0)) for text in ("::1", "fe80::1", "fd00::2")]
    monkeypatch.setattr("ifaddr.get_adapters", lambda: [SimpleNamespace(ips=addresses)])
    assert await mdns._addresses("0.0.0.0") == ["192.168.1.20"]
    assert await mdns._addresses("::") == ["fd00::2"]
    assert await mdns._addresses("127.0.0.1") == ["127.0.0.1"]


async def test_a_network_that_does_not_multicast_fails_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again later; the server keeps serving."""

    def refuse(**_: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr(zeroconf.asyncio, "AsyncZeroconf", refuse)
    service = mdns.MdnsAdvertising(server(), "shelf")
    assert service.on_failure is OnFailure.RESTART
    with pytest.raises(ServiceFailed, match="No such device"):
        await service.run()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setattr(mdns, "find_spec", lambda _: None)
    with pytest.raises(StartError, match=r"pip install 'tinyvex\[lan\]'"):
        mdns.require_zeroconf()
