"""Verification of servers: public authorities, an authority of one's own, a pinned certificate; and failures."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import tinyvex as tv
from tests.support.certificates import Certificates
from tinyvex import limits
from tinyvex.client.server_verification import ServerVerification, Tls
from tinyvex.errors import ServerUntrusted
from tinyvex.server.options import TlsOptions
from tinyvex.server.server import Server, ServerOptions

APP = "import tinyvex as tv\n\n@tv.query\ndef word(ctx: tv.QueryCtx) -> str:\n    return 'one'\n"

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": lambda: importlib.import_module("uvloop").new_event_loop()}


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    """Create certificates for this test."""
    return Certificates(tmp_path / "certificates")


def colons(fingerprint: str) -> str:
    """Format a fingerprint as openssl prints it."""
    digits = fingerprint.removeprefix("sha256:").upper()
    return "SHA256:" + ":".join(digits[index : index + 2] for index in range(0, 64, 2))


def on_loop(name: str, main: Callable[[], Any]) -> None:
    """Run a test's coroutine on this kind of event loop."""
    if name == "uvloop":
        pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(main())


async def ask(made: Certificates, tls: Tls, host: str = "127.0.0.1") -> tuple[Any, Server]:
    """Start a server with these certificates, connect, and stop it; return the answer or the error, and the server."""
    folder = made.authority.parent
    (folder / "app.py").write_text(APP, "utf-8")
    pair = TlsOptions(made.certificate, made.key)
    options = ServerOptions(app=folder / "app.py", data=folder / "data", tls=pair)
    with anyio.fail_after(20):
        async with Server(options) as server, tv.connect(server.url.replace("127.0.0.1", host), tls=tls) as client:
            try:
                return await client.query("app:word"), server
            except ServerUntrusted as error:
                assert client.connection_state.phase == "closed"
                return error, server


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "tls",
    [
        lambda made: made.authority,
        lambda made: str(made.authority),
        lambda made: made.fingerprint,
        lambda made: colons(made.fingerprint),
        lambda made: ssl.create_default_context(cafile=made.authority),
    ],
    ids=["path", "text", "fingerprint", "with colons", "context"],
)
def test_a_trusted_server_is_accepted(made: Certificates, loop: str, tls: Callable[..., Tls]) -> None:
    """By a file of authorities, a fingerprint in either spelling, or a context."""

    async def main() -> None:
        answer, _ = await ask(made, tls(made))
        assert answer == "one"

    on_loop(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("tls", "host", "sentence"),
    [
        (lambda _: None, "127.0.0.1", "unable to get local issuer certificate"),
        (lambda made: made.authority, "127.0.0.1", "IP address mismatch"),
        (lambda made: made.authority, "localhost", "Hostname mismatch"),
        (
            lambda _: "sha256:" + "0" * 64,
            "127.0.0.1",
            "the server's certificate has the fingerprint sha256:.*, not sha256:000",
        ),
    ],
    ids=["unknown authority", "other address", "other name", "other certificate"],
)
def test_an_untrusted_server_is_dialled_once_and_sent_nothing(
    tmp_path: Path, loop: str, tls: Callable[..., Tls], host: str, sentence: str
) -> None:
    """Every call raises the reason; there is no retry, and no byte of WebSocket was sent."""
    made = Certificates(tmp_path / "certificates", "database.example")

    async def main() -> None:
        error, server = await ask(made, tls(made), host)
        with pytest.raises(ServerUntrusted, match=sentence):
            raise error
        assert server.counters.connections_total <= 1
        assert server.counters.bytes_received == 0

    on_loop(loop, main)


async def test_a_server_without_tls_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be about to restart with TLS."""
    monkeypatch.setattr(limits, "HANDSHAKE_SECONDS", 0.2)  # the server waits for the end of a line
    (tmp_path / "app.py").write_text(APP, "utf-8")
    async with Server(ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")) as server:
        with anyio.fail_after(20):
            async with tv.connect(server.url.replace("ws:", "wss:"), tls="sha256:" + "0" * 64) as client:
                async for state in client.connection_states():
                    if state.retries:
                        assert "TLS" in str(state.last_error)
                        break


def test_tls_is_for_wss() -> None:
    """A pinned certificate with a mistyped URL must not lead to an unencrypted connection."""
    with pytest.raises(ValueError, match="wss://"):
        tv.connect("ws://127.0.0.1:4800", tls="sha256:" + "0" * 64)


@pytest.mark.parametrize("pin", ["sha256:", "sha256:" + "0" * 63, "sha256:" + "g" * 64, "sha256:" + "0" * 40])
def test_a_fingerprint_has_64_digits(pin: str) -> None:
    """Others are refused before dialling."""
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        ServerVerification(pin, secure=True)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A missing file, and one without certificates."""
    with pytest.raises(ValueError, match=r"nowhere.pem`: No such file"):
        ServerVerification(tmp_path / "nowhere.pem", secure=True)
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"empty.pem`: it has no certificates"):
        ServerVerification(tmp_path / "empty.pem", secure=True)


def test_a_pinned_client_requires_tls_1_2() -> None:
    """Pinning replaces the authorities and no other requirement."""
    context = ServerVerification("sha256:" + "0" * 64, secure=True).context
    assert context is not None
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
