"""The listening socket: what an address requires, the port, and TLS on it."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tinyvex import errors, forks
from tinyvex.server.access.origin_rules import is_loopback

if TYPE_CHECKING:
    from tinyvex.runtime import Listener, Runtime
    from tinyvex.server.options import ServerOptions
    from tinyvex.server.transport.strangers import Strangers
    from tinyvex.server.transport.tls import Handshakes

__all__ = ["PortListener"]

log = logging.getLogger("tinyvex.server")

WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
"""Addresses that mean all of a machine's addresses, and the one by which local programs connect."""


class PortListener:
    """
    The server's port.

    Args:
        options: address, port and certificate.
        runtime: opens the socket.

    Attributes:
        replaced: set when the certificate was replaced.

    Raises:
        StartError: other machines could connect without TLS or a token, or the certificate cannot be used.
    """

    def __init__(self, options: ServerOptions, runtime: Runtime) -> None:
        self._options, self._runtime = options, runtime
        self._handshakes: Handshakes | None = None
        self.replaced = asyncio.Event()
        self._listener: Listener
        refuse_exposed(options)
        warn_of_proxy(options)
        if options.tls is not None:
            from tinyvex.server.transport import tls

            self._certificate = tls.load(options.tls)

    async def listen(self, accept: Callable[[], asyncio.Protocol], strangers: Callable[[], Strangers]) -> None:
        """
        Open the port.

        Args:
            accept: creates the protocol of a new socket.
            strangers: returns the count of sockets whose clients are not admitted.

        Raises:
            PortTaken: the port is taken, or the address is not this machine's.
        """
        if self._options.tls is not None:
            from tinyvex.server.transport.tls import Handshakes

            self._handshakes = Handshakes(self._certificate, accept, self._runtime, strangers())
            accept = self._handshakes.accept
        host, port = self._options.host, self._options.port
        try:
            self._listener = await self._runtime.listen(accept, host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise errors.PortTaken(
                    f"port {port} is already in use; choose another, or use 0 for a free port"
                ) from error
            raise errors.PortTaken(f"cannot listen on `{host}`, port {port}: {error.strerror or error}") from error
        self._withheld = forks.withhold_port(self._listener.port)

    def close(self) -> None:
        """Accept no more sockets, and close those that are in their TLS handshake."""
        self._listener.close()
        self._withheld.release()
        if self._handshakes is not None:
            self._handshakes.close()

    def reload_certificate(self) -> None:
        """
        Read the certificate's files again, for further connections; without TLS there is nothing to do.

        Raises:
            StartError: the files cannot be used; the old certificate stays in use.
        """
        if self._options.tls is not None and self._handshakes is not None:
            from tinyvex.server.transport import tls

            self._certificate = self._handshakes.certificate = tls.load(self._options.tls)
            self.replaced.set()

    @property
    def number(self) -> int:
        """The port number."""
        return self._listener.port

    @property
    def url(self) -> str:
        """The URL at which local programs connect."""
        host = WILDCARDS.get(self._options.host, self._options.host)
        scheme = "ws" if self._options.tls is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.number}"

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the certificate, as clients pin it; None without TLS."""
        return None if self._options.tls is None else self._certificate.fingerprint


def warn_of_proxy(options: ServerOptions) -> None:
    """Warn if a reverse proxy admits other machines to a server that requires no token."""
    if options.client_token is None and not all(is_loopback(host) for host in options.allowed_hosts):
        log.warning(
            "--allow-host without a token: every client of the proxy can call functions and read /healthz and /metrics; "
            "remove --no-token, or let the proxy require a login"
        )


def refuse_exposed(options: ServerOptions) -> None:
    """
    Refuse an address beyond loopback without TLS or a token.

    Raises:
        StartError: with the missing options.
    """
    if is_loopback(options.host):
        return
    problem = f"--host `{options.host}` is reachable from other machines"
    if options.client_token is None and options.dev:
        raise errors.StartError(f"{problem}, and `dev` requires no token; use `serve`, or a loopback address")
    missing = ["add --tls-cert FILE and --tls-key FILE"] if options.tls is None else []
    if options.client_token is None:
        missing.append("remove --no-token")
    if missing:
        raise errors.StartError(f"{problem}; {', and '.join(missing)}, or use a loopback address")
