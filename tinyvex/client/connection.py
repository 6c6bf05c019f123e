"""
The client's connection: one socket after another, until the client is closed.

::

                 dial                    connect answered
    ┌► CONNECTING ──────────────────────────────────► CONNECTED
    │      │ refused, too slow                            │ closed, broken, silent for too long, makes no sense
    │      └──────────────────► DISCONNECTED ◄────────────┘
    └─── backoff, or the server's hint ──┘
           any ──stop(), or an error that no new socket can mend──► CLOSED
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

import anyio
from websockets.uri import parse_uri

from tinyvex import limits
from tinyvex.client.events import Connected, Event, SessionPhase
from tinyvex.client.websocket_transport import WebSocketTransport
from tinyvex.errors import AccessError, ConnectionLost, InternalError, ServerUntrusted, TinyvexError

if TYPE_CHECKING:
    from websockets.uri import WebSocketURI

    from tinyvex.client.server_verification import ServerVerification
    from tinyvex.client.state import ClientState
    from tinyvex.runtime import Runtime

__all__ = ["Connection", "ConnectionState", "socket_uri"]

logger = logging.getLogger(__name__)

_WRITE_BYTES = 64 << 10  # messages are collected up to here, then written, so that the transport can say stop


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """
    How the connection is.

    Attributes:
        phase: `connecting` (dialling, or waiting for the first answer), `connected`,
            `disconnected` (waiting before the next try) or `closed` (for good).
        retries: tries since a connection had caught up with everything; 0 again when this one has.
        last_error: why the last connection ended, or why the client is closed; None before anything failed.
        auth_error: why the client speaks for nobody, or is about to, though it was given `auth`; None when it does not.
    """

    phase: Literal["connecting", "connected", "disconnected", "closed"]
    retries: int = 0
    last_error: TinyvexError | None = None
    auth_error: TinyvexError | None = None


def socket_uri(url: str) -> WebSocketURI:
    """
    Where to dial: `http` and `https` are taken for `ws` and `wss`, and the path is `/sync` unless there is another.

    Raises:
        ValueError: this is no URL of a server.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in {"ws", "wss"} or not _is_host_name(parts.hostname):
        raise ValueError(f"not the URL of a Tinyvex server, such as ws://127.0.0.1:3210/sync: {url!r}")
    path = parts.path if parts.path.strip("/") else "/sync"
    return parse_uri(urlunsplit((scheme, parts.netloc, path, parts.query, "")))


def _is_host_name(name: str | None) -> bool:
    """Whether it can be looked up: what cannot would raise something else than OSError there."""
    try:
        return name is not None and bool(name.encode("idna"))
    except UnicodeError:
        return False


class Connection:
    """
    Keeps one `ClientState` connected.

    Args:
        uri: where to.
        session: what to say and what to make of the answers.
        runtime: sockets, clocks, randomness.
        trust: whom it believes to be the server.
        on_events: called with what happened, on the loop, in order.
        on_state: called when `state` has changed.
    """

    def __init__(
        self,
        uri: WebSocketURI,
        session: ClientState,
        runtime: Runtime,
        trust: ServerVerification,
        *,
        on_events: Callable[[list[Event]], None],
        on_state: Callable[[], None],
    ) -> None:
        self.state = ConnectionState("connecting")
        self._uri, self._session, self._runtime = uri, session, runtime
        self._on_events, self._on_state = on_events, on_state
        self._trust = trust
        self._link: WebSocketTransport | None = None
        self._flush_is_due = False
        self._is_stopping = False
        self._dialling = anyio.CancelScope()
        self._attention = asyncio.Event()
        """Set when `run` should look up from its waiting: a socket ended, or it is to stop."""

    def wake(self) -> None:
        """The session has something to say: it leaves at the end of this turn of the loop, with all that joins it."""
        if not self._flush_is_due and self._link is not None:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def stop(self) -> None:
        """Close the socket, politely, and end `run`."""
        self._is_stopping = True
        self._attention.set()
        self._dialling.cancel()

    async def run(self) -> None:
        """
        Connect again and again.

        Returns when the session is closed or `stop` was called; cancelling drops the socket at once.
        """
        retries = 0
        while not self._is_over():
            self._change("connecting", retries, self.state.last_error)
            caught_up, error = await self._one_socket()
            retries = 1 if caught_up else retries + 1
            if not self._is_over():
                logger.info("disconnected: %s", error)
                self._change("disconnected", retries, error)
                await self._wait_before_next(retries, error)
        self._change("closed", retries, self._session.error or self.state.last_error)

    def _is_over(self) -> bool:
        return self._is_stopping or self._session.error is not None

    def _change(
        self,
        phase: Literal["connecting", "connected", "disconnected", "closed"],
        retries: int,
        error: TinyvexError | None,
    ) -> None:
        self.state = ConnectionState(phase, retries, error)
        self._on_state()

    async def _wait_before_next(self, retries: int, error: TinyvexError) -> None:
        """Exponential backoff with jitter; never sooner than the server asked for, if that makes sense."""
        longest = min(limits.RECONNECT_SECONDS_MAX, limits.RECONNECT_SECONDS_MIN * 2.0 ** min(retries - 1, 20))
        seconds = longest * (0.5 + self._runtime.random.random() / 2)
        hint_ms = self._session.retry_after_ms or error.data.get("retryAfterMs", 0)
        if isinstance(hint_ms, int) and hint_ms > 0:
            # Everybody got the same hint: spread the return over half of it again.
            hint_seconds = min(hint_ms, int(limits.RECONNECT_HINT_SECONDS_MAX * 1000)) / 1000
            seconds = max(seconds, hint_seconds * (1 + self._runtime.random.random() / 2))
        with anyio.move_on_after(seconds):
            while not self._is_over():
                await self._look_up()

    async def _look_up(self) -> None:
        self._attention.clear()
        await self._attention.wait()

    # One socket.

    async def _one_socket(self) -> tuple[bool, TinyvexError]:
        """Dial, serve the session until the socket is gone; whether it had caught up, and why it ended."""
        link = self._link = WebSocketTransport(
            self._uri,
            self._runtime,
            on_open=self._opened,
            on_text=self._receive,
            on_writable=self.wake,
            on_end=self._attention.set,
            check=self._trust.check,
        )
        try:
            await self._runtime.pause("client:dial")
            await self._dial(link)
            await self._attend(link)
        finally:
            link.abort()
            self._link = None
            caught_up = self._session.recovered
            error = link.error or ConnectionLost("the connection broke")
            if isinstance(error, AccessError | ServerUntrusted):
                self._session.close(error)
            self._session.lost(f"{error.name}: {error.message}")
            self._deliver()
        return caught_up, error

    async def _dial(self, link: WebSocketTransport) -> None:
        host, port = self._uri.host, self._uri.port
        try:
            with anyio.fail_after(limits.HANDSHAKE_SECONDS) as self._dialling:
                await self._runtime.dial(lambda: link, host, port, self._trust.context)
        except ssl.SSLCertVerificationError as error:
            link.abort(
                ServerUntrusted(
                    f"the certificate of {host}:{port} is not to be believed: {error.verify_message}; "
                    "one that you know is named by its fingerprint, tls='sha256:…'"
                )
            )
        except ssl.SSLError as error:
            link.abort(ConnectionLost(f"{host}:{port} does not answer in TLS: {error.reason or error}"))
        except OSError as error:  # TimeoutError is one
            spoken = "" if self._trust.context is None else " in TLS"
            link.abort(ConnectionLost(f"nobody answers{spoken} at {host}:{port}: {str(error) or 'too slow'}"))

    async def _attend(self, link: WebSocketTransport) -> None:
        """Wait for the socket's end; end it when the server is silent for too long or the client is stopped."""
        started_at = self._runtime.monotonic()
        while not link.is_closed:
            if self._session.phase is SessionPhase.READY:
                limit, since = limits.CLIENT_INACTIVE_SECONDS, link.heard_at
            else:
                limit, since = limits.HANDSHAKE_SECONDS, started_at
            remaining = since + limit - self._runtime.monotonic()
            if remaining <= 0:
                link.abort(ConnectionLost(f"the server was silent for {limit:g} seconds"))
                return
            if self._is_stopping or link.error is not None:
                await self._close(link)
                return
            with anyio.move_on_after(remaining):
                await self._look_up()

    async def _close(self, link: WebSocketTransport) -> None:
        link.close()
        with anyio.move_on_after(limits.CLOSE_SECONDS):
            while not link.is_closed:
                await self._look_up()

    # Called by the link, on the loop.

    def _opened(self) -> None:
        if self._is_over():
            return  # closed meanwhile: `_attend` will see to it
        self._session.opened(self._runtime.now_us() // 1000)
        self.wake()

    def _receive(self, text: bytes) -> None:
        try:
            with self._ending_at_a_defect():
                self._session.receive(text)
        finally:
            self._deliver()
            self.wake()

    @contextmanager
    def _ending_at_a_defect(self) -> Iterator[None]:
        """Another socket would meet it again: what waits for an answer must not wait for ever."""
        try:
            yield
        except TinyvexError:
            raise
        except Exception as error:
            self._session.close(InternalError(f"a defect in the client: {error!r}"))
            self._attention.set()
            raise

    def _flush(self) -> None:
        self._flush_is_due = False
        try:
            with self._ending_at_a_defect():
                self._write()
        finally:
            self._deliver()

    def _write(self) -> None:
        link = self._link
        while link is not None and link.writable:
            size_bytes = 0
            while size_bytes < _WRITE_BYTES and (message := self._session.next_message()) is not None:
                link.send(message)
                size_bytes += len(message)
            link.flush()
            if size_bytes < _WRITE_BYTES:
                break

    def _deliver(self) -> None:
        events = self._session.events()
        if any(isinstance(event, Connected) for event in events):
            self._change("connected", self.state.retries, self.state.last_error)
        elif self.state.phase == "connected" and self.state.retries and self._session.recovered:
            self._change("connected", 0, self.state.last_error)
        if events:
            self._on_events(events)
