"""
TLS on the server's port: the certificate, and sockets until their handshake succeeds.

::

    accepted ──► handshake ──► the front door's protocol, on an `EncryptedTransport`
                   │ not TLS, HANDSHAKE_SECONDS, or the oldest of more than TLS_HANDSHAKES_MAX
                   └──► closed

A socket in its handshake does not count as a connection; only `strangers` refers to it as well.

`ssl` implements TLS in memory (`SSLObject`), and this file moves the bytes. asyncio's `create_server(ssl=...)` does not
report how many handshakes are under way. It also has a second buffer below the transport's, whose size it does not
report: a client that reads a long message slowly would look like a client that reads nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from tinyvex import limits
from tinyvex.errors import StartError
from tinyvex.runtime import bound_reads
from tinyvex.storage.file.private_file import warn_of_shared_key

if TYPE_CHECKING:
    from tinyvex.runtime import AwakeTimer, Runtime
    from tinyvex.server.options import TlsOptions
    from tinyvex.server.transport.strangers import Strangers

__all__ = ["Certificate", "EncryptedTransport", "Handshakes", "load"]

log = logging.getLogger("tinyvex.server")

READ_BYTES = 16 << 10  # decrypted by one call: the longest record of TLS

NO_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 46\r\nConnection: close\r\n\r\n"
    b"This port speaks TLS: use wss:// or https://.\n"
)
"""The response to a client that speaks HTTP without TLS."""

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"


class Certificate(Struct, frozen=True):
    """
    A certificate and its key.

    Attributes:
        context: creates connections that use them.
        fingerprint: `sha256:` and the hexadecimal SHA-256 of the certificate in DER, for clients to pin.
    """

    context: ssl.SSLContext
    fingerprint: str


def load(options: TlsOptions) -> Certificate:
    """
    Read a certificate and its key.

    Raises:
        StartError: a file is missing, unreadable, not PEM or encrypted, or the two do not belong together.
    """
    certificate, key = _read(options.certificate, "--tls-cert"), _read(options.key, "--tls-key")
    begin, end = certificate.find(_BEGIN), certificate.find(_END)
    if not 0 <= begin < end:
        raise StartError(f"--tls-cert `{options.certificate}` contains no certificate in PEM format")
    if "PRIVATE KEY-----" not in key:
        raise StartError(f"--tls-key `{options.key}` contains no private key in PEM format")

    def refuse_password() -> str:
        raise StartError(f"--tls-key `{options.key}` is encrypted; decrypt it with `openssl pkey`")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # For TLS 1.2: without CBC, whose padding has leaked plain text again and again, and without static keys.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_RENEGOTIATION  # a renegotiation costs the server more than the client
    context.set_alpn_protocols(["http/1.1"])  # browsers would use HTTP/2 otherwise
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate[begin : end + len(_END)])
        context.load_cert_chain(options.certificate, options.key, password=refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StartError(
                f"--tls-key `{options.key}` is not the key of --tls-cert `{options.certificate}`"
            ) from error
        raise StartError(
            f"--tls-cert `{options.certificate}` and --tls-key `{options.key}` cannot be used: {error.reason or error}"
        ) from error
    except ValueError as error:
        raise StartError(f"--tls-cert `{options.certificate}` is not a valid certificate: {error}") from error
    if _read(options.certificate, "--tls-cert") != certificate:  # `ssl` read it again, by its path
        raise StartError(f"--tls-cert `{options.certificate}` was replaced while it was being read; try again")
    warn_of_shared_key("--tls-key", options.key)
    return Certificate(context, f"sha256:{hashlib.sha256(der).hexdigest()}")


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text("ascii", errors="replace")
    except OSError as error:
        raise StartError(f"{option} `{path}` cannot be read: {error.strerror}") from error


class Handshakes:
    """
    The sockets that are in their handshake, oldest first.

    Args:
        certificate: for further handshakes; it may be replaced.
        accept: creates the protocol of a socket whose handshake has succeeded.
        runtime: for deadlines.
        strangers: counts the sockets, until their clients are admitted.
    """

    def __init__(
        self, certificate: Certificate, accept: Callable[[], asyncio.Protocol], runtime: Runtime, strangers: Strangers
    ) -> None:
        self.certificate = certificate
        self.strangers = strangers
        self._accept = accept
        self._runtime = runtime
        self._waiting: dict[_Socket, AwakeTimer] = {}
        self._closed = False

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a new socket."""
        return _Socket(self)

    def close(self) -> None:
        """Close the sockets in their handshake, and further ones as they open."""
        self._closed = True
        for socket in list(self._waiting):
            socket.abort()

    def began(self, socket: _Socket) -> None:
        """Start the deadline of an open socket; evict the oldest if there are too many."""
        if self._closed:
            socket.abort()
            return
        self.strangers.add(socket.transport)
        self._waiting[socket] = self._runtime.call_after(limits.HANDSHAKE_SECONDS, socket.abort)
        if len(self._waiting) > limits.TLS_HANDSHAKES_MAX:
            # Evict the oldest, not the newest: an attacker holds sockets open, a real client finishes in milliseconds.
            next(iter(self._waiting)).abort()

    def succeeded(self, socket: _Socket) -> asyncio.Protocol:
        """Return the protocol that takes over a socket whose handshake has succeeded."""
        self.ended(socket)
        return self._accept()

    def ended(self, socket: _Socket) -> None:
        """Remove a socket whose handshake has succeeded or failed."""
        deadline = self._waiting.pop(socket, None)
        if deadline is not None:
            deadline.cancel()


class _Socket(asyncio.Protocol):
    """A socket: `ssl` encrypts and decrypts, this moves the bytes to and from the transport."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.core = handshakes.certificate.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.transport: asyncio.Transport
        self._upper: asyncio.Protocol | None = None
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        bound_reads(transport)
        self._handshakes.began(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handshakes.ended(self)
        self._handshakes.strangers.remove(self.transport)
        self.closing = True
        upper, self._upper = self._upper, None  # a cycle, which would keep the memory of TLS until a collection
        if upper is not None:
            upper.connection_lost(exc)

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
                self._upper.connection_made(EncryptedTransport(self))
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
        """Send an alert, and a response to HTTP without TLS; then close."""
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
        """Write waiting bytes and the end of TLS, then close. The caller aborts a client that does not read them."""
        if self.closing:
            return
        self.closing = True
        with contextlib.suppress(ssl.SSLError):  # do not wait for the peer's end of TLS
            self.core.unwrap()
        self._flush()
        self.transport.close()

    def abort(self) -> None:
        self.closing = True
        self._handshakes.ended(self)
        self.transport.abort()


class EncryptedTransport(asyncio.Transport):
    """The transport of a connection. Bytes that wait are counted encrypted, in the only buffer: the socket's."""

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
        if name == "below_tls":
            return self._transport
        return self._socket.core if name == "ssl_object" else self._transport.get_extra_info(name, default)
