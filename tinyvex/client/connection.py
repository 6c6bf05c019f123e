"""
The client's connection: one socket after another until the client is closed.

::

                 dial                    connect answered
    ┌► CONNECTING ──────────────────────────────────► CONNECTED
    │      │ refused, timed out                           │ closed, broken, silent, protocol error
    │      └──────────────────► DISCONNECTED ◄────────────┘
    └──── backoff, or the server's hint ─┘   reconnect_now() ends the wait
           any ──stop(), or an error that a new socket cannot fix──► CLOSED

`state` decides what to send and what to show, `websocket_transport` moves bytes. This file dials, waits, retries, and
passes messages and events between them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import anyio
from websockets.uri import parse_uri

from tinyvex import limits
from tinyvex.client.state import Connected, Event, SessionPhase
from tinyvex.client.websocket_transport import WebSocketTransport
from tinyvex.errors import (
    AccessError,
    ClientClosed,
    ConnectionLost,
    InternalError,
    MessageTooLarge,
    RemoteError,
    ServerUntrusted,
    TinyvexError,
)

if TYPE_CHECKING:
    from websockets.uri import WebSocketURI

    from tinyvex.client.connection_status import ConnectionStatus
    from tinyvex.client.server_verification import ServerVerification
    from tinyvex.client.state import ClientState
    from tinyvex.runtime import Runtime

__all__ = ["ClientConnection", "sends_in_clear", "socket_uri"]

logger = logging.getLogger(__name__)

_WRITE_BYTES = 64 << 10  # written at a time, so that the transport can pause the writer in between

_RESOLUTION_SECONDS = 1e-3
"""A shorter rest of a time limit counts as none: a sum of floating-point times is not exact."""


def socket_uri(url: str) -> WebSocketURI:
    """
    Parse a server's URL. `http` and `https` mean `ws` and `wss`; the default path is `/sync`.

    Raises:
        ValueError: it is not the URL of a server.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in {"ws", "wss"} or not _is_host_name(parts.hostname):
        raise ValueError(f"{url!r} is not the URL of a Tinyvex server; one looks like ws://127.0.0.1:3210/sync")
    path = parts.path if parts.path.strip("/") else "/sync"
    return parse_uri(urlunsplit((scheme, parts.netloc, path, parts.query, "")))


def sends_in_clear(uri: WebSocketURI) -> bool:
    """Return whether what is sent to a server leaves this machine without encryption."""
    host = uri.host.rstrip(".").lower()
    is_local = host == "localhost" or host.endswith(".localhost") or host.startswith("127.") or host == "::1"
    return not uri.secure and not is_local


def _is_host_name(name: str | None) -> bool:
    """Return whether a name can be resolved; for others the resolver raises errors that are not OSError."""
    try:
        return name is not None and bool(name.encode("idna"))
    except UnicodeError:
        return False


def _is_loopback(host: str) -> bool:
    """Return whether a host is this machine; a name that only the resolver knows as such does not count."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: OSError) -> str:
    """Describe why dialling failed; asyncio's own texts contain socket addresses as Python tuples."""
    if isinstance(error, TimeoutError):
        return f" within {limits.HANDSHAKE_SECONDS:g} seconds"
    if isinstance(error, ConnectionRefusedError):
        return ": the connection was refused"
    if isinstance(error, ConnectionError):
        return ": the connection was closed during the handshake"
    if isinstance(error, socket.gaierror):
        return f": the host name cannot be resolved ({error.strerror})"
    return f": {os.strerror(error.errno)}" if error.errno else ""


class _Silence:
    """
    The seconds since the server's last bytes, added up in steps.

    A step that took much longer than planned was interrupted by a suspension of this process, in which it could receive
    nothing. It counts as an ordinary one.
    """

    def __init__(self, now: float) -> None:
        self._ended_at = self._added_at = now
        self._seconds = 0.0

    def ended(self, at: float) -> None:
        """Begin at zero again if bytes arrived at a time that is new."""
        if at > self._ended_at:
            self._ended_at = self._added_at = at
            self._seconds = 0.0

    def seconds(self, now: float) -> float:
        """Add the time since the last call."""
        self._seconds += min(now - self._added_at, limits.CLIENT_SILENCE_STEP_SECONDS)
        self._added_at = now
        return self._seconds


class ClientConnection:
    """
    Connects one `ClientState`, and reconnects it.

    Args:
        uri: the server.
        session: decides what to send and processes what is received.
        status: receives the state of the connection.
        runtime: sockets, clocks, randomness.
        verification: what the server must prove.
        on_events: called with the session's events, on the loop, in order.
    """

    def __init__(
        self,
        uri: WebSocketURI,
        session: ClientState,
        status: ConnectionStatus,
        runtime: Runtime,
        verification: ServerVerification,
        *,
        on_events: Callable[[list[Event]], None],
    ) -> None:
        self._uri, self._session, self._status, self._runtime = uri, session, status, runtime
        self._verification = verification
        self._on_events = on_events
        self._transport: WebSocketTransport | None = None
        self._flush_scheduled = False
        self._is_stopping = False
        self._has_warned = False
        self._reconnects_now = False
        self._was_opened = False
        """True if the last socket was opened: a server listens."""
        self._dialling: anyio.CancelScope | None = None
        self._attention = asyncio.Event()
        """Set when `run` must look again: a socket ended, or `stop` was called."""

    def wake(self) -> None:
        """Send the session's messages at the end of this loop iteration, so that they share one write."""
        if not self._flush_scheduled and self._transport is not None:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def reconnect_now(self) -> None:
        """End the pause before the next attempt to connect, or skip it if the current attempt fails."""
        if self._status.socket.phase != "connected":
            self._reconnects_now = True
            self._attention.set()

    def stop(self) -> None:
        """Close the socket with a closing handshake and end `run`."""
        self._is_stopping = True
        self._attention.set()
        if self._dialling is not None:
            self._dialling.cancel()

    async def run(self) -> None:
        """
        Connect and reconnect until the session is closed or `stop` is called.

        Cancelling aborts the socket and closes the session: without this task its callers would wait forever.
        """
        try:
            await self._run_sockets()
        except BaseException as error:
            reason = "was cancelled" if isinstance(error, asyncio.CancelledError) else f"failed: {error}"
            self._session.close(ClientClosed(f"the task of the client's connection {reason}"))
            self._deliver_events()
            raise

    async def _run_sockets(self) -> None:
        retries = 0
        while not self._is_over():
            self._status.change("connecting", retries, self._status.socket.last_error)
            caught_up, error = await self._run_socket()
            retries = 1 if caught_up else retries + 1
            if not self._is_over():
                self._log_failure(error)
                self._status.change("disconnected", retries, error)
                await self._wait_before_retry(retries, error)
        self._status.change("closed", retries, self._session.error or self._status.socket.last_error)

    def _log_failure(self, error: TinyvexError) -> None:
        """Warn once in an outage, when an attempt to connect failed: the address may be wrong, and calls only wait."""
        if self._status.socket.phase == "connected" or self._has_warned:
            logger.info("disconnected: %s", error)
        else:
            self._has_warned = True
            logger.warning("cannot connect, and will try again until it succeeds: %s", error)

    def _is_over(self) -> bool:
        return self._is_stopping or self._session.error is not None

    async def _wait_before_retry(self, retries: int, error: TinyvexError) -> None:
        """Wait with exponential backoff and jitter, and at least as long as the server's hint."""
        longest_of_all = limits.RECONNECT_SECONDS_MAX
        if not self._was_opened and _is_loopback(self._uri.host):
            longest_of_all = limits.RECONNECT_LOOPBACK_SECONDS_MAX
        longest = min(longest_of_all, limits.RECONNECT_SECONDS_MIN * 2.0 ** min(retries - 1, 20))
        seconds = longest * (0.5 + self._runtime.random.random() / 2)
        hint_ms = self._session.retry_after_ms or error.data.get("retryAfterMs", 0)
        if isinstance(hint_ms, int) and hint_ms > 0:
            # All clients received the same hint: spread their return over another half of it.
            hint_seconds = min(hint_ms, int(limits.RECONNECT_HINT_SECONDS_MAX * 1000)) / 1000
            seconds = max(seconds, hint_seconds * (1 + self._runtime.random.random() / 2))
        with anyio.move_on_after(seconds):
            while not (self._is_over() or self._reconnects_now):
                await self._wait_for_attention()
        self._reconnects_now = False

    async def _wait_for_attention(self) -> None:
        self._attention.clear()
        await self._attention.wait()

    # One socket.

    async def _run_socket(self) -> tuple[bool, TinyvexError]:
        """
        Dial and serve the session until the socket is closed.

        Returns:
            Whether the session had caught up, and why the socket was closed.
        """
        self._was_opened = False
        transport = self._transport = WebSocketTransport(
            self._uri,
            self._runtime,
            on_open=self._opened,
            on_text=self._receive,
            on_writable=self.wake,
            on_end=self._attention.set,
            check=self._verification.check,
        )
        try:
            await self._runtime.pause("client:dial")
            await self._dial(transport)
            await self._wait_closed(transport)
        finally:
            transport.abort()
            self._transport = None
            caught_up = self._session.caught_up
            error = transport.error or ConnectionLost("the connection was lost")
            is_local = not isinstance(error, RemoteError)  # the session has decided about the others
            if is_local and isinstance(error, AccessError | MessageTooLarge | ServerUntrusted):
                self._session.close(error)
            self._session.lost(f"{error.name}: {error.message}")
            self._deliver_events()
        return caught_up, error

    async def _dial(self, transport: WebSocketTransport) -> None:
        host, port = self._uri.host, self._uri.port
        try:
            with anyio.fail_after(limits.HANDSHAKE_SECONDS) as self._dialling:
                await self._runtime.dial(lambda: transport, host, port, self._verification.context)
        except ssl.SSLCertVerificationError as error:
            transport.abort(
                ServerUntrusted(
                    f"the certificate of {host}:{port} is not trusted: {error.verify_message}; "
                    "if you know the certificate, pass its fingerprint: tls='sha256:…'"
                )
            )
        except ssl.SSLError as error:
            transport.abort(ConnectionLost(f"the TLS handshake with {host}:{port} failed: {error.reason or error}"))
        except OSError as error:  # TimeoutError is a subclass
            over_tls = "" if self._verification.context is None else " over TLS"
            transport.abort(ConnectionLost(f"no server answers{over_tls} at {host}:{port}{_reason(error)}"))

    async def _wait_closed(self, transport: WebSocketTransport) -> None:
        """Wait until the socket is closed; close it if the server is silent for too long or the client stops."""
        silence = _Silence(self._runtime.monotonic())
        while not transport.is_closed:
            limit = limits.HANDSHAKE_SECONDS
            if self._session.phase is SessionPhase.READY:
                limit = limits.CLIENT_INACTIVE_SECONDS
                silence.ended(transport.received_at)
            remaining = limit - silence.seconds(self._runtime.monotonic())
            if remaining < _RESOLUTION_SECONDS:
                transport.abort(ConnectionLost(f"the server sent nothing for {limit:g} seconds"))
                return
            if self._is_stopping or transport.error is not None:
                await self._close(transport)
                return
            with anyio.move_on_after(min(remaining, limits.CLIENT_SILENCE_STEP_SECONDS)):
                await self._wait_for_attention()

    async def _close(self, transport: WebSocketTransport) -> None:
        transport.close()
        with anyio.move_on_after(limits.CLOSE_SECONDS):
            while not transport.is_closed:
                await self._wait_for_attention()

    # Callbacks of the transport, on the loop.

    def _opened(self) -> None:
        if self._is_over():
            return  # closed during the handshake; `_wait_closed` closes the socket
        self._was_opened = True
        self._session.opened(self._runtime.now_us() // 1000)
        self.wake()

    def _receive(self, text: bytes) -> None:
        try:
            with self._closing_on_defect():
                self._session.receive(text)
        finally:
            self._deliver_events()
            self.wake()

    @contextmanager
    def _closing_on_defect(self) -> Iterator[None]:
        """Close the session on an unexpected error: it would recur on another socket, and callers would wait forever."""
        try:
            yield
        except TinyvexError:
            raise
        except Exception as error:
            self._session.close(InternalError(f"the client has a defect: {type(error).__name__}: {error}"))
            self._attention.set()
            raise

    def _flush(self) -> None:
        self._flush_scheduled = False
        try:
            with self._closing_on_defect():
                self._write()
        finally:
            self._deliver_events()

    def _write(self) -> None:
        transport = self._transport
        while transport is not None and transport.writable:
            size_bytes = 0
            while size_bytes < _WRITE_BYTES and (message := self._session.next_message()) is not None:
                transport.send(message)
                size_bytes += len(message)
            transport.flush()
            if size_bytes < _WRITE_BYTES:
                break

    def _deliver_events(self) -> None:
        events = self._session.events()
        current = self._status.socket
        if any(isinstance(event, Connected) for event in events):
            self._has_warned = self._reconnects_now = False
            self._status.change("connected", current.retries, current.last_error)
        elif current.phase == "connected" and (current.retries or current.last_error) and self._session.caught_up:
            self._status.change("connected", 0, None)
        if events:
            self._on_events(events)
