"""
TLS on the server's port: the certificate, and sockets until their handshake is done.

::

    accepted ──► handshake ──► Connection, on an `Encrypted` transport
                   │ no TLS, HANDSHAKE_SECONDS, the oldest of more than TLS_HANDSHAKES_MAX
                   └──► cut

A socket in its handshake is no connection yet: it holds no slot, and nobody but this file knows of it.
asyncio's own `create_server(ssl=...)` would tell nobody how many there are, or what waits below the encryption;
so sockets are accepted plain and handed to `start_tls`, which is the same machinery.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Awaitable, Callable
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

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    What the server proves itself with.

    Attributes:
        context: for `start_tls`.
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
        run: runs a coroutine function in a task that somebody waits for.
        runtime: whose loop it is.
    """

    def __init__(
        self,
        certificate: Certificate,
        accepted: Callable[[], asyncio.Protocol],
        run: Callable[[Callable[[], Awaitable[None]]], None],
        runtime: Runtime,
    ) -> None:
        self.certificate = certificate
        self.accepted = accepted
        self.runtime = runtime
        self._run = run
        self._waiting: dict[_Handshake, None] = {}
        self._closed = False

    def accept(self) -> asyncio.Protocol:
        """The protocol of a socket that was just accepted."""
        return _Handshake(self)

    def close(self) -> None:
        """Cut them all, and those that come."""
        self._closed = True
        for handshake in list(self._waiting):
            handshake.cut()

    def __len__(self) -> int:
        return len(self._waiting)

    def began(self, handshake: _Handshake) -> None:
        """A socket is open: begin its handshake, and give up the oldest where there are too many."""
        if self._closed:
            handshake.cut()
            return
        self._waiting[handshake] = None
        if len(self._waiting) > limits.TLS_HANDSHAKES_MAX:
            # Not the newest: who floods the port holds sockets for long, who means it is done in milliseconds.
            next(iter(self._waiting)).cut()
        self._run(handshake.run)

    def ended(self, handshake: _Handshake) -> None:
        """It is done, or was given up."""
        self._waiting.pop(handshake, None)


class _Handshake(asyncio.Protocol):
    """One socket, from being accepted until its protocol has taken it over."""

    def __init__(self, host: Handshakes) -> None:
        self._host = host
        self._socket: asyncio.Transport
        self._early = bytearray()  # came with the end of the handshake; bounded by what TLS reads at once
        self._ended = False
        self._successor: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        self._socket.pause_reading()  # every byte is TLS's
        self._host.began(self)

    def cut(self) -> None:
        """Drop the socket now."""
        self._host.ended(self)
        self._socket.abort()

    async def run(self) -> None:
        """Shake hands and hand over; cancelling closes the socket."""
        try:
            encrypted = await self._host.runtime.loop.start_tls(
                self._socket,
                self,
                self._host.certificate.context,
                server_side=True,
                ssl_handshake_timeout=limits.HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=limits.CLOSE_SECONDS,
            )
        except OSError as error:  # what TLS and sockets raise, and what their time limits do
            log.debug("a TLS handshake failed: %s", error)
            self._socket.abort()
            return
        finally:
            self._host.ended(self)
        # No await from here: nothing can come between.
        if encrypted is None or self._ended or self._socket.is_closing():
            self._socket.abort()
            return
        self._successor = self._host.accepted()
        encrypted.set_protocol(self._successor)
        self._successor.connection_made(Encrypted(encrypted, self._socket))
        if self._early:
            self._successor.data_received(bytes(self._early))

    # What is decrypted before `start_tls` has returned here.

    def data_received(self, data: bytes) -> None:
        self._early += data

    def eof_received(self) -> bool | None:
        self._ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._host.ended(self)
        if self._successor is not None:  # it was on its way here when the successor took over
            self._successor.connection_lost(exc)


class Encrypted(asyncio.Transport):
    """
    A TLS transport that also counts what waits below it, encrypted, in the socket's transport.

    Without that, a peer that reads a long message slowly but steadily would look as if it read nothing.
    """

    def __init__(self, encrypted: asyncio.Transport, socket: asyncio.Transport) -> None:
        super().__init__()
        self._encrypted, self._socket = encrypted, socket

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._encrypted.write(data)

    def close(self) -> None:
        self._encrypted.close()

    def abort(self) -> None:
        self._encrypted.abort()

    def is_closing(self) -> bool:
        return self._encrypted.is_closing()

    def pause_reading(self) -> None:
        self._encrypted.pause_reading()

    def resume_reading(self) -> None:
        self._encrypted.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._encrypted.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._encrypted.get_write_buffer_size() + self._socket.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._encrypted.get_extra_info(name, default)
