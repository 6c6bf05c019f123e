"""Where the server listens: which addresses need what, the socket, and TLS on it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from tinyvex import errors
from tinyvex.server.access.origin_rules import is_loopback

if TYPE_CHECKING:
    from tinyvex.runtime import Listener, Runtime
    from tinyvex.server.options import ServerOptions
    from tinyvex.server.transport.tls import Handshakes

__all__ = ["PortListener"]

WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it says what to do with them
"""Addresses that mean all of a machine's, and how a program of the same machine reaches them."""


class PortListener:
    """
    The server's port.

    Raises:
        StartError: other machines could connect without TLS or without a token, or the certificate cannot be used.
    """

    def __init__(self, options: ServerOptions, runtime: Runtime) -> None:
        self._options, self._runtime = options, runtime
        self._handshakes: Handshakes | None = None
        self.replaced = asyncio.Event()
        """Set when the certificate was replaced."""
        self._listener: Listener
        refuse_exposed(options)
        if options.tls is not None:
            from tinyvex.server.transport import tls

            self._certificate = tls.load(options.tls)

    async def listen(self, accepted: Callable[[], asyncio.Protocol]) -> None:
        """
        Open it.

        Args:
            accepted: makes the protocol of a new connection.

        Raises:
            PortTaken: the port, or the address is not this machine's.
        """
        if self._options.tls is not None:
            from tinyvex.server.transport.tls import Handshakes

            self._handshakes = Handshakes(self._certificate, accepted, self._runtime)
            accepted = self._handshakes.accept
        host, port = self._options.host, self._options.port
        try:
            self._listener = await self._runtime.listen(accepted, host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise errors.PortTaken(f"port {port} is taken; choose another, or 0 for a free one") from error
            raise errors.PortTaken(f"cannot listen on {host}:{port}: {error.strerror or error}") from error

    def close(self) -> None:
        """Accept nobody any more, and cut those who have not shaken hands."""
        self._listener.close()
        if self._handshakes is not None:
            self._handshakes.close()

    def reload_certificate(self) -> None:
        """
        Read the certificate's files again, for connections from now on; nothing without TLS.

        Raises:
            StartError: they cannot be used; the old certificate stays.
        """
        if self._options.tls is not None and self._handshakes is not None:
            from tinyvex.server.transport import tls

            self._certificate = self._handshakes.certificate = tls.load(self._options.tls)
            self.replaced.set()

    @property
    def number(self) -> int:
        """The port it listens on."""
        return self._listener.port

    @property
    def url(self) -> str:
        """Where programs of this machine connect."""
        host = WILDCARDS.get(self._options.host, self._options.host)
        scheme = "ws" if self._options.tls is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.number}"

    @property
    def fingerprint(self) -> str | None:
        """The certificate's, as clients pin it; None without TLS."""
        return None if self._options.tls is None else self._certificate.fingerprint


def refuse_exposed(options: ServerOptions) -> None:
    """
    What other machines can reach is encrypted and asks for a token.

    Raises:
        StartError: it would not be so; the message says what to add.
    """
    if is_loopback(options.host):
        return
    place = f"--host {options.host or repr('')} is open to other machines"
    if options.client_token is None and options.dev:
        raise errors.StartError(f"{place}, and `dev` asks nobody for a token: use `serve`, or a loopback address")
    missing = ["add --tls-cert FILE and --tls-key FILE"] if options.tls is None else []
    if options.client_token is None:
        missing.append("take --no-token away")
    if missing:
        raise errors.StartError(f"{place}: {', and '.join(missing)}; or use a loopback address")
