"""
TLS on the server's port: sockets that complete the handshake are served, others are cut, and neither affects the rest.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import tinyvex as tv
from tests.support.certificates import Certificates
from tinyvex import errors, limits
from tinyvex.errors import ConnectionLost, StartError
from tinyvex.server.options import TlsOptions
from tinyvex.server.server import Server, ServerOptions
from tinyvex.server.transport import tls

APP = """
import tinyvex as tv

@tv.table("notes")
class Note(tv.Document):
    text: str

@tv.mutation
def write(ctx: tv.MutationCtx, size: int, letter: str) -> None:
    for note in ctx.db.query(Note).collect():
        ctx.db.delete(note._id)
    ctx.db.insert(Note(text=letter * size))

@tv.query
def read(ctx: tv.QueryCtx) -> str:
    note = ctx.db.query(Note).first()
    return "" if note is None else note.text
"""

SECONDS = 20

UPGRADE = (
    b"GET /sync HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGlueXZleC1iZW5jaG1hcg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    """Create certificates for this test."""
    return Certificates(tmp_path / "certificates")


@asynccontextmanager
async def serving(made: Certificates, **options: Any) -> AsyncIterator[Server]:
    """Run a real server on a real socket."""
    folder = made.authority.parent.parent
    (folder / "app.py").write_text(APP, "utf-8")
    pair = TlsOptions(made.certificate, made.key)
    with anyio.fail_after(SECONDS):
        async with Server(ServerOptions(app=folder / "app.py", data=folder / "data", tls=pair, **options)) as running:
            yield running


def connect(server: Server, made: Certificates, token: str | None = None) -> tv.Client:
    """Connect a client that trusts the authority."""
    return tv.connect(server.url, token, tls=made.authority)


async def is_served(server: Server, made: Certificates) -> bool:
    """Return whether a valid client gets its answer."""
    async with connect(server, made) as client:
        return isinstance(await client.query("app:read"), str)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """Return everything the server sends until it closes or resets the socket."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


# Served sockets.


async def test_the_ready_line_has_the_url_and_the_fingerprint(made: Certificates) -> None:
    """The ready line has wss:// and the fingerprint of the certificate file."""
    async with serving(made) as server:
        record = server.ready_record()
        assert record["url"] == f"wss://127.0.0.1:{server.port}"
        assert record["tlsFingerprint"] == made.fingerprint


async def test_http_is_answered_over_tls(made: Certificates) -> None:
    """The same port has /healthz for https."""
    async with serving(made) as server:
        context = ssl.create_default_context(cafile=made.authority)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        writer.write(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
        answer = await until_closed(reader)
        assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"413"]
        writer.close()


async def test_what_comes_with_the_end_of_the_handshake_is_not_lost(made: Certificates) -> None:
    """A client may send its request in the same packet as its last handshake message."""
    async with serving(made) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=made.authority)
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(1 << 16))
        client.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        writer.write(outgoing.read())
        answer = b""
        while not answer:
            incoming.write(await reader.read(1 << 16))
            try:
                answer = client.read(1 << 16)
            except ssl.SSLWantReadError:
                continue
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_wrong_token_is_refused_over_tls(made: Certificates) -> None:
    """TLS authenticates the server, not the client."""
    async with serving(made, client_token="right") as server:
        async with connect(server, made, "wrong") as client:
            with pytest.raises(errors.RemoteError, match="token is wrong"):
                await client.query("app:read")
        async with connect(server, made, "right") as client:
            assert await client.query("app:read") == ""


# Refused sockets.


async def test_a_client_without_tls_is_turned_away(made: Certificates) -> None:
    """Its connection is lost and it retries; others are served, and it held no slot."""
    async with serving(made) as server, tv.connect(server.url.replace("wss:", "ws:")) as client:
        async for state in client.connection_states():
            if state.last_error is not None:
                assert isinstance(state.last_error, ConnectionLost)
                assert "wss://" in str(state.last_error)
                break
        assert server.counters.connections_total == 0
        assert await is_served(server, made)


async def test_http_without_tls_gets_an_explanation(made: Certificates) -> None:
    """The server answers as web servers do."""
    async with serving(made) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, body = (await until_closed(reader)).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"https://" in body


async def test_a_client_that_ends_tls_is_closed(made: Certificates) -> None:
    """The server confirms the end, so that truncation can be excluded; the slot is free again."""
    context = ssl.create_default_context(cafile=made.authority)

    def end(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            encrypted = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
            encrypted.unwrap().close()

    async with serving(made) as server:
        await anyio.to_thread.run_sync(end, server.port)
        while server.counters.connections_total == 0 or server.counters.connections:
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    "noise",
    [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0" * 4096, b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000,
     b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x15\x03\x03\x00\x02\x02\x28"],
    ids=["http", "zeros", "a record that is too long", "a broken hello", "an alert"],
)  # fmt: skip
async def test_noise_is_cut(made: Certificates, noise: bytes) -> None:
    """Bytes that are not a handshake end their own socket immediately, long before its deadline."""
    async with serving(made) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(noise)
        with anyio.fail_after(limits.HANDSHAKE_SECONDS / 2):
            await until_closed(reader)
        writer.close()
        assert server.counters.connections_total == 0
        assert await is_served(server, made)


async def test_a_half_open_handshake_ends_at_its_deadline(made: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed, and never counted as a connection."""
    monkeypatch.setattr(limits, "HANDSHAKE_SECONDS", 0.3)
    async with serving(made) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x16\x03\x01")  # the first bytes of a hello
        with anyio.fail_after(5):
            await until_closed(reader)
        assert server.counters.connections_total == 0
        writer.close()


async def test_the_oldest_of_too_many_handshakes_is_cut(made: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent sockets keep no client out."""
    monkeypatch.setattr(limits, "TLS_HANDSHAKES_MAX", 3)
    async with serving(made) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        assert await is_served(server, made)
        with anyio.fail_after(limits.HANDSHAKE_SECONDS / 2):
            assert await until_closed(silent[0][0]) == b""
        for _, writer in silent:
            writer.close()


async def test_stopping_does_not_wait_for_handshakes(made: Certificates) -> None:
    """A silent socket is cut when the server stops."""
    async with serving(made) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await is_served(server, made)  # which was accepted after it
        with anyio.fail_after(limits.HANDSHAKE_SECONDS / 2):
            await server.stop()
            assert await until_closed(reader) == b""
        writer.close()


# Slow readers.


async def stop_reading(client: tv.Client) -> Any:
    """Make a client stop reading; return its transport, to resume with."""
    transport = client._connection._transport._transport  # type: ignore[union-attr]
    transport.pause_reading()
    return transport


async def test_a_slow_reader_costs_bounded_memory(made: Certificates) -> None:
    """Only a few of fifty states of a megabyte wait; the client skips the others and gets the newest."""
    size = 1_000_000
    async with serving(made) as server, connect(server, made) as slow, connect(server, made) as writer:
        values = slow.subscribe("app:read")
        assert await anext(values) == ""
        connection = next(iter(server.sessions.connections.values()))
        transport = await stop_reading(slow)
        waiting = []
        for number in range(50):
            await writer.mutation("app:write", {"size": size, "letter": chr(65 + number % 26)})
            waiting.append(connection.waiting_bytes)
        assert max(waiting) < 6 * size
        assert server.counters.transitions_sent < 50 + 15  # the writer gets one after each of its own
        transport.resume_reading()
        async for value in values:
            if value[:1] == chr(65 + 49 % 26):
                break


async def test_what_waits_encrypted_is_counted(made: Certificates) -> None:
    """A long answer waits in the socket's transport and shrinks, so its reader must not look stuck."""
    size = 1_000_000
    async with serving(made) as server, connect(server, made) as slow, connect(server, made) as other:
        await other.mutation("app:write", {"size": size, "letter": "a"})
        await slow.query("app:read")
        connection = next(
            each
            for each in server.sessions.connections.values()
            if each.session and each.session.session_id == slow._session.session_id
        )
        transport = await stop_reading(slow)
        async with anyio.create_task_group() as group:
            for _ in range(20):  # more than the system's buffers hold
                group.start_soon(slow.query, "app:read")
            while not connection._sender.socket_full:  # how much of a message the system took is not ours to say
                await other.query("app:read")
            transport.resume_reading()
        while connection.waiting_bytes:
            await other.query("app:read")


# Certificates.


async def test_a_renewed_certificate_is_for_new_connections(made: Certificates) -> None:
    """Open connections stay; new ones, the discovery file and the ready record get the new certificate."""
    async with serving(made) as server, tv.connect(server.url, tls=made.fingerprint) as old:
        await old.wait_connected()
        made.renew()
        server.reload_certificate()
        assert server.ready_record()["tlsFingerprint"] == made.fingerprint
        async with tv.connect(server.url, tls=made.fingerprint) as new:
            assert await new.query("app:read") == await old.query("app:read")


async def test_a_wrong_pair_is_not_taken(made: Certificates) -> None:
    """The old certificate stays in use."""
    async with serving(made) as server:
        before = made.fingerprint
        certificate = made.certificate.read_bytes()
        made.renew()
        made.certificate.write_bytes(certificate)
        with pytest.raises(StartError, match="not the key of"):
            server.reload_certificate()
        assert server.ready_record()["tlsFingerprint"] == before
        assert await is_served(server, made)


def test_a_pair_that_is_replaced_while_it_is_read_is_not_taken(
    made: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the reported fingerprint and the certificate in use could differ."""
    load_chain = ssl.SSLContext.load_cert_chain

    def renewed_before(*arguments: Any, **named: Any) -> None:
        made.renew()
        load_chain(*arguments, **named)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", renewed_before)
    with pytest.raises(StartError, match="while it was being read"):
        tls.load(TlsOptions(made.certificate, made.key))


def test_nothing_older_than_tls_1_2(made: Certificates) -> None:
    """Older versions are not offered."""
    context = tls.load(TlsOptions(made.certificate, made.key)).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def _other_key(made: Certificates) -> None:
    certificate = made.certificate.read_bytes()
    made.renew()
    made.certificate.write_bytes(certificate)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda made: made.certificate.unlink(), "--tls-cert .*certificate.pem` cannot be read: No such file"),
        (lambda made: made.key.unlink(), "--tls-key .*key.pem` cannot be read: No such file"),
        (lambda made: made.certificate.write_bytes(made.key.read_bytes()), "contains no certificate in PEM"),
        (lambda made: made.key.write_bytes(made.certificate.read_bytes()), "contains no private key in PEM"),
        (lambda made: made.certificate.write_bytes(b"\xff\x00"), "contains no certificate in PEM"),
        (lambda made: made.encrypt_key(), "key.pem` is encrypted"),
        (_other_key, "is not the key of --tls-cert"),
        (
            lambda made: made.certificate.write_text("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
            "--tls-cert",
        ),
        (
            lambda made: made.key.write_text("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n"),
            "cannot be used",
        ),
    ],
)  # fmt: skip
def test_errors_in_the_files_are_reported(made: Certificates, spoil: Any, sentence: str) -> None:
    """Each message names the option, the file and the problem."""
    spoil(made)
    with pytest.raises(StartError, match=sentence):
        tls.load(TlsOptions(made.certificate, made.key))


@pytest.mark.parametrize(("suite", "is_accepted"), [("ECDHE-ECDSA-AES128-SHA256", False), ("ECDHE+AESGCM", True)])
async def test_tls_1_2_has_no_cbc_suites(made: Certificates, suite: str, *, is_accepted: bool) -> None:
    """A client that offers nothing else is refused."""
    context = ssl.create_default_context(cafile=made.authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:ECDHE-RSA-AES128-SHA256" if not is_accepted else suite)
    async with serving(made) as server:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        except OSError:
            assert not is_accepted
        else:
            assert is_accepted
            writer.close()


@pytest.mark.parametrize("request_head", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", UPGRADE])
async def test_a_closed_socket_is_freed_without_a_collection(
    made: Certificates, monkeypatch: pytest.MonkeyPatch, request_head: bytes
) -> None:
    """The memory of TLS would stay until one: strangers who come and go would cost more than those who stay."""
    sockets: list[weakref.ref[Any]] = []
    create = tls._Socket.__init__

    def record(self: Any, handshakes: tls.Handshakes) -> None:
        create(self, handshakes)
        sockets.append(weakref.ref(self))

    monkeypatch.setattr(tls._Socket, "__init__", record)
    async with serving(made) as server:
        context = ssl.create_default_context(cafile=made.authority)
        await is_served(server, made)  # imports what the first connection needs
        gc.collect()
        gc.disable()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
            writer.write(request_head)
            if request_head:
                await reader.readuntil(b"\r\n\r\n")
            closed = sockets[-1]
            writer.transport.abort()
            while closed() is not None:
                await anyio.lowlevel.checkpoint()
        finally:
            gc.enable()
