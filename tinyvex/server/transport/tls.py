"""
TLS on the server's port: the certificate, and sockets until their handshake is done.

::

    accepted ──► handshake ──► Connection, on an `Encrypted` transport
                   │ no TLS, HANDSHAKE_SECONDS, the oldest of more than TLS_HANDSHAKES_MAX
                   └──► cut

A socket in its handshake is no connection yet: it holds no slot, and nobody but this file knows of it.

`ssl` speaks TLS, through memory (`SSLObject`), and this moves the bytes.
asyncio's own `create_server(ssl=...)` would tell nobody how many handshakes are under way, and keeps a second buffer
below the first, of which nobody is told either: a peer that reads a long message slowly would look as if it read nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tinyvex import limits
from tinyvex.errors import StartError

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.server.options import TlsOptions

__all__ = ["Certificate", "Encrypted", "Handshakes", "load"]

log = logging.getLogger("tinyvex.server")

READ_BYTES = 64 << 10  # decrypted at once

NO_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 46\r\nConnection: close\r\n\r\n"
    b"This port speaks TLS: use wss:// or https://.\n"
)
"""To a client that speaks HTTP without TLS."""

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    What the server proves itself with.

    Attributes:
        context: what `ssl` makes connections of.
        fingerprint: `sha256:` and the SHA-256 of the certificate in DER, in hexadecimal: what a client can pin.
    """

    context: ssl.SSLContext
    fingerprint: str


def load(options: TlsOptions) -> Certificate:
    """
    Read a certificate and its key.

    Raises:
        StartError: one of the files is missing, unreadable, no PEM, encrypted, or they do not belong together.
    """
    certificate, key = _read(options.certificate, "--tls-cert"), _read(options.key, "--tls-key")
    begin, end = certificate.find(_BEGIN), certificate.find(_END)
    if not 0 <= begin < end:
        raise StartError(f"--tls-cert {options.certificate}: there is no certificate in PEM in it")
    if "PRIVATE KEY-----" not in key:
        raise StartError(f"--tls-key {options.key}: there is no private key in PEM in it")

    def refuse_password() -> str:
        raise StartError(f"--tls-key {options.key} is encrypted, and nobody is here to ask: `openssl pkey` decrypts it")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # which costs a server more than a client
    context.set_alpn_protocols(["http/1.1"])  # a browser would ask for HTTP/2 otherwise
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate[begin : end + len(_END)])
        context.load_cert_chain(options.certificate, options.key, password=refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StartError(f"--tls-key {options.key} is not the key of --tls-cert {options.certificate}") from error
        raise StartError(
            f"--tls-cert {options.certificate} and --tls-key {options.key} cannot be used: {error.reason or error}"
        ) from error
    except ValueError as error:
        raise StartError(f"--tls-cert {options.certificate}: this is no certificate: {error}") from error
    if _read(options.certificate, "--tls-cert") != certificate:  # `ssl` reads it again, by its path
        raise StartError(f"--tls-cert {options.certificate} was replaced while it was read: try again")
    return Certificate(context, f"sha256:{hashlib.sha256(der).hexdigest()}")


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text("ascii", errors="replace")
    except OSError as error:
        raise StartError(f"{option} {path} cannot be read: {error.strerror}") from error


class Handshakes:
    """
    All sockets in their handshake, oldest first.

    Args:
        certificate: for the next one; may be replaced.
        accepted: makes the protocol of a socket whose handshake is done.
        runtime: for their deadlines.
    """

    def __init__(self, certificate: Certificate, accepted: Callable[[], asyncio.Protocol], runtime: Runtime) -> None:
        self.certificate = certificate
        self._accepted = accepted
        self._runtime = runtime
        self._waiting: dict[_Socket, asyncio.TimerHandle] = {}
        self._closed = False

    def accept(self) -> asyncio.Protocol:
        """The protocol of a socket that was just accepted."""
        return _Socket(self)

    def close(self) -> None:
        """Cut them all, and those that come."""
        self._closed = True
        for socket in list(self._waiting):
            socket.abort()

    def began(self, socket: _Socket) -> None:
        """A socket is open: it has so long, unless there are too many."""
        if self._closed:
            socket.abort()
            return
        self._waiting[socket] = self._runtime.loop.call_later(limits.HANDSHAKE_SECONDS, socket.abort)
        if len(self._waiting) > limits.TLS_HANDSHAKES_MAX:
            # Not the newest: who floods the port holds sockets for long, who means it is done in milliseconds.
            next(iter(self._waiting)).abort()

    def succeeded(self, socket: _Socket) -> asyncio.Protocol:
        """A handshake is done: who takes over."""
        self.ended(socket)
        return self._accepted()

    def ended(self, socket: _Socket) -> None:
        """A handshake is done, or was given up."""
        deadline = self._waiting.pop(socket, None)
        if deadline is not None:
            deadline.cancel()


class _Socket(asyncio.Protocol):
    """One socket: `ssl`'s sans-I/O core makes bytes of bytes, this moves them."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.core = handshakes.certificate.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.transport: asyncio.Transport
        self._upper: asyncio.Protocol | None = None
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._handshakes.began(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handshakes.ended(self)
        if self._upper is not None:
            self._upper.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._upper is not None:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        if self._upper is not None:
            self._upper.resume_writing()

    def eof_received(self) -> bool | None:
        return None if self._upper is None else self._upper.eof_received()

    def set_upper(self, upper: asyncio.Protocol) -> None:
        self._upper = upper

    # Reading.

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if self._upper is None:
                self.core.do_handshake()
                self._upper = self._handshakes.succeeded(self)
                self._upper.connection_made(Encrypted(self))
            self._read()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._refuse(error)

    def _read(self) -> None:
        while not self.closing and not self.transport.is_closing():
            try:
                data = self.core.read(READ_BYTES)
            except ssl.SSLZeroReturnError:
                data = b""
            assert self._upper is not None
            if not data:  # the peer has ended its half
                if not self._upper.eof_received():
                    self.close()
                return
            self._upper.data_received(data)

    def _refuse(self, error: ssl.SSLError) -> None:
        """What came is no TLS, or none that is spoken here: say so, and close."""
        log.debug("a TLS connection failed: %s", error)
        self._flush()  # the alert
        if error.reason == "HTTP_REQUEST":
            self.transport.write(NO_TLS)
        self.closing = True
        self._handshakes.ended(self)
        self.transport.close()

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and not self.closing:
            self.core.write(data)
            self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.transport.write(self._outgoing.read())

    def close(self) -> None:
        """Write what waits and the end of TLS, then close; who does not read is cut by whoever called this."""
        if self.closing:
            return
        self.closing = True
        with contextlib.suppress(ssl.SSLError):  # the peer's own end, which is not waited for
            self.core.unwrap()
        self._flush()
        self.transport.close()

    def abort(self) -> None:
        self.closing = True
        self._handshakes.ended(self)
        self.transport.abort()


class Encrypted(asyncio.Transport):
    """What a connection writes to. What waits is counted encrypted, in the one buffer that there is: the socket's."""

    def __init__(self, socket: _Socket) -> None:
        super().__init__()
        self._socket, self._transport = socket, socket.transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._socket.set_upper(cast("asyncio.Protocol", protocol))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._socket.write(data)

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        self._socket.abort()

    def is_closing(self) -> bool:
        return self._socket.closing or self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket.core if name == "ssl_object" else self._transport.get_extra_info(name, default)
