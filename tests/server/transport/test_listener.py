"""The listening address: a network address needs TLS and a token, and has a URL for this machine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import tinyvex as tv
from tests.support.certificates import Certificates
from tinyvex.errors import PortTaken, RemoteError, StartError
from tinyvex.runtime import Listener, Runtime
from tinyvex.server.options import TlsOptions
from tinyvex.server.server import Server, ServerOptions
from tinyvex.server.transport.listener import PortListener, refuse_exposed
from tinyvex.server.transport.strangers import Strangers

APP = "import tinyvex as tv\n\n@tv.query\ndef word(ctx: tv.QueryCtx) -> str:\n    return 'one'\n"
PAIR = TlsOptions(Path("certificate.pem"), Path("key.pem"))


def options(host: str, **more: Any) -> ServerOptions:
    return ServerOptions(app=Path("app.py"), data=Path("data"), host=host, **more)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_neither(host: str) -> None:
    """Loopback needs neither TLS nor a token."""
    refuse_exposed(options(host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.20", "fd00::2", "desk.local"])
@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({}, "add --tls-cert FILE and --tls-key FILE, and remove --no-token"),
        ({"client_token": "secret"}, "add --tls-cert FILE and --tls-key FILE, or"),
        ({"tls": PAIR}, "machines; remove --no-token"),
        ({"tls": PAIR, "dev": True}, "`dev` requires no token"),
    ],
)
def test_every_other_address_needs_both(host: str, more: dict[str, Any], sentence: str) -> None:
    """Each alone is not enough, and the message names the missing one."""
    with pytest.raises(StartError, match=sentence):
        refuse_exposed(options(host, **more))
    refuse_exposed(options(host, tls=PAIR, client_token="secret"))


class Indoors(Runtime):
    """A listener that always uses loopback, so that no test is open to other machines."""

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, context: Any = None
    ) -> Listener:
        self.host = host
        return await super().listen(factory, "127.0.0.1", port, context)


async def test_a_server_of_the_network_is_reached_by_its_addresses_and_allowed_names(tmp_path: Path) -> None:
    """A client may name any address, but only allowed names; the token is required."""
    made = Certificates(tmp_path / "certificates")
    (tmp_path / "app.py").write_text(APP, "utf-8")
    serve = ServerOptions(
        app=tmp_path / "app.py", data=tmp_path / "data", host="0.0.0.0", allowed_hosts=("desk.local",),
        tls=TlsOptions(made.certificate, made.key), client_token="secret",
    )  # fmt: skip
    runtime = Indoors()
    with anyio.fail_after(20):
        async with Server(serve, runtime) as server:
            assert runtime.host == "0.0.0.0"
            async with tv.connect(server.url, "secret", tls=made.fingerprint) as client:
                assert await client.query("app:word") == "one"
            async with tv.connect(server.url, tls=made.fingerprint) as client:
                with pytest.raises(RemoteError, match="a token is required"):
                    await client.query("app:word")
            answers = [await answer(server.port, made, host) for host in ("192.168.1.20", "desk.local", "evil.example")]
            assert answers == [b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 403"]


async def answer(port: int, made: Certificates, host: str) -> bytes:
    """Return the beginning of the /healthz response for this Host."""
    context = ssl.create_default_context(cafile=made.authority)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer secret\r\n\r\n".encode())
    status_line = await reader.readexactly(12)
    writer.transport.abort()
    return status_line


class Silent(Runtime):
    """A listener that opens no port."""

    class _Listener:
        port = 4800

        def close(self) -> None:
            pass

    async def listen(self, *_: Any, **__: Any) -> Listener:
        return self._Listener()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "wss://127.0.0.1:4800"),
        ("::1", "wss://[::1]:4800"),
        ("192.168.1.20", "wss://192.168.1.20:4800"),
        ("0.0.0.0", "wss://127.0.0.1:4800"),
        ("::", "wss://[::1]:4800"),
        ("desk.local", "wss://desk.local:4800"),
    ],
)
async def test_the_url_is_one_that_this_machine_can_dial(tmp_path: Path, host: str, url: str) -> None:
    """An address that stands for all addresses cannot be dialled."""
    made = Certificates(tmp_path)
    port = PortListener(options(host, tls=TlsOptions(made.certificate, made.key), client_token="secret"), Silent())
    await port.listen(asyncio.Protocol, Strangers)
    assert port.url == url


async def test_without_tls_the_url_is_ws() -> None:
    """There is also no fingerprint."""
    port = PortListener(options("::1"), Silent())
    await port.listen(asyncio.Protocol, Strangers)
    assert (port.url, port.fingerprint) == ("ws://[::1]:4800", None)


async def test_an_unavailable_port_is_reported() -> None:
    """The error has the system's own message."""
    with pytest.raises(PortTaken, match="cannot listen on `127.0.0.1`"):
        await PortListener(options("127.0.0.1", port=1), _Denied()).listen(asyncio.Protocol, Strangers)


class _Denied(Runtime):
    async def listen(self, *_: Any, **__: Any) -> Listener:
        raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(
    ("allowed", "token", "warnings"),
    [(["db.example"], None, 1), (["db.example"], "secret", 0), (["localhost"], None, 0), ([], None, 0)],
)
def test_a_proxy_without_a_token_is_warned_of(
    allowed: list[str], token: str | None, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Everyone who reaches the proxy would reach the functions, health and metrics."""
    PortListener(options("127.0.0.1", client_token=token, allowed_hosts=tuple(allowed)), Silent())
    assert sum("--allow-host without a token" in message for message in caplog.messages) == warnings
