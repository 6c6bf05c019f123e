"""
The front door: the first request of every connection, and the rules for every request.

::

    accepted ──► Arrival ── GET of a dialect's path, `Upgrade: websocket` ──► the dialect's connection
                    │ ───── any other bytes ────────────────────────────────► HttpConnection, an ASGI application
                    └────── no byte for HANDSHAKE_SECONDS ──────────────────► closed
    HttpConnection ── a later request that is an upgrade ───────────────────► the dialect's connection

An arrival chooses, and parses no more than that: the chosen protocol receives the same bytes and has a real parser. So
no rule depends on the choice. The chosen protocol asks for the rules when it has parsed a head: a dialect for its
upgrade, HTTP for *each* request, because a browser shares its connections among the pages of an origin.

The rules themselves are pure and stand in `access`: `origin_rules` (`Host`, `Origin`, what pages of other origins may
read) and `token_auth`. Only this file applies them.

The chosen protocol and everything above it are imported by their first connection: they would add to the time of each
start and to the memory of each idle server (`bench start`). If that fails, the client receives a 500, and the next
connection tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from enum import Enum, auto
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from tinyvex import errors, limits
from tinyvex.runtime import bound_reads
from tinyvex.server.access.origin_rules import find_refusal
from tinyvex.server.access.token_auth import REFUSAL_EVENTS, Caller, bearer_token
from tinyvex.server.transport import deadlines
from tinyvex.server.transport.endpoint import Endpoint

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tinyvex.runtime import Runtime
    from tinyvex.server.access.origin_rules import AccessRules
    from tinyvex.server.access.refusal_log import RefusalLog
    from tinyvex.server.access.token_auth import TokenAuth
    from tinyvex.server.transport.strangers import Strangers
    from tinyvex.sync.counters import Counters

__all__ = ["Choice", "CreateEndpoint", "FrontDoor", "choose"]

log = logging.getLogger("tinyvex.server")

_FAILED = b"The request failed; the server's log has the reason.\n"
_FAILED_RESPONSE = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n%b" % (len(_FAILED), _FAILED)
)

CreateEndpoint: TypeAlias = Callable[[int, float], Endpoint]
"""Makes the protocol of a socket from its number and the time at which it was accepted."""


class FrontDoor:
    """
    Every open socket, and the rules that let requests in.

    Args:
        runtime: the clock.
        counters: for connections and bytes.
        rules: the allowed hosts and origins.
        auth: the tokens.
        dialects: the protocols of WebSockets, by path.
        create_application: makes the ASGI application that answers all other requests; called once, when needed.
        run: runs a coroutine function in the server's task group.
    """

    def __init__(
        self,
        runtime: Runtime,
        counters: Counters,
        rules: AccessRules,
        auth: TokenAuth,
        *,
        dialects: Mapping[bytes, CreateEndpoint],
        create_application: Callable[[], ASGIApp],
        run: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
    ) -> None:
        self.runtime = runtime
        self.counters = counters
        self.run = run
        self.is_stopping = False
        self.endpoints: dict[int, Endpoint] = {}
        """Every open socket, by its number."""
        self._rules = rules
        self._auth = auth
        self.dialects = dialects
        self._create_application = create_application
        self._application: ASGIApp | None = None
        self._accepted = 0
        self._all_closed = asyncio.Event()  # set when the last socket closes while stopping

    @cached_property
    def strangers(self) -> Strangers:
        """The sockets whose clients are not admitted yet."""
        from tinyvex.server.transport.strangers import Strangers

        return Strangers()

    @cached_property
    def _refusal_log(self) -> RefusalLog:
        from tinyvex.server.access.refusal_log import RefusalLog

        return RefusalLog(self.runtime.monotonic)

    # Sockets.

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a new socket."""
        self._accepted += 1
        return Arrival(self, self._accepted)

    def opened(self, arrival: Endpoint) -> None:
        """Count a new socket; close it if there are too many."""
        sockets_max = self._sockets_max()
        if len(self.endpoints) >= sockets_max:
            self.log_refusal(
                f"{sockets_max:,} sockets are open, and no more fit into this process's limit of open files."
            )
        if self.is_stopping or len(self.endpoints) >= sockets_max:
            arrival.abort()
            return
        self.endpoints[arrival.number] = arrival
        if arrival.socket is not None:
            self.strangers.add(arrival.socket)
        self.counters.connections = len(self.endpoints)
        self.counters.connections_total += 1

    def _sockets_max(self) -> int:
        """
        Return the number of sockets above which a new one is closed without an answer.

        Without files for the database the server could neither read nor commit.
        """
        files_max = self.runtime.open_files_max()
        if files_max is None:
            return limits.SOCKETS_MAX
        return min(limits.SOCKETS_MAX, files_max - min(limits.FILES_RESERVED, files_max // 2))

    def create_endpoint(self, choice: bytes | Literal[Choice.HTTP], number: int, opened_at: float) -> Endpoint | None:
        """
        Make the protocol that takes over an arrival's socket: HTTP's or the dialect's of this path.

        Returns:
            The protocol; None if it cannot be imported or made. The reason is logged, and the caller answers with a 500.
        """
        try:
            endpoint: Endpoint
            if choice is Choice.HTTP:
                from tinyvex.server.http.http_connection import HttpConnection

                endpoint = HttpConnection(self, number, opened_at)
            else:
                endpoint = self.dialects[choice](number, opened_at)
        except Exception:
            log.exception("connection %d: its protocol cannot be started", number, extra={"connection": number})
            return None
        previous = self.endpoints.get(number)
        if previous is not None:
            endpoint.address, endpoint.socket = previous.address, previous.socket
        self.endpoints[number] = endpoint
        return endpoint

    def create_upgraded(self, head: bytes, number: int) -> Endpoint | None:
        """Make the protocol that takes over from HTTP after requests; None if HTTP must answer this head itself."""
        choice = choose(head, self.dialects)
        return (
            None if isinstance(choice, Choice) else self.create_endpoint(choice, number, self.runtime.awake_seconds())
        )

    def closed(self, number: int) -> None:
        """Note that a socket is closed."""
        endpoint = self.endpoints.pop(number, None)
        if endpoint is not None:
            self._admitted(endpoint)  # or gone
        self.counters.connections = len(self.endpoints)
        if self.is_stopping and not self.endpoints:
            self._all_closed.set()

    def begin_close(self, error: errors.TinyvexError) -> None:
        """Begin to close every socket: after the error was sent, or after the HTTP response under way."""
        self.is_stopping = True
        for endpoint in list(self.endpoints.values()):
            try:
                endpoint.fail(error)
            except Exception:
                number = endpoint.number
                log.exception("connection %d: its close failed; cutting it", number, extra={"connection": number})
                endpoint.abort()

    async def wait_closed(self) -> None:
        """Wait for the clients to close, at most CLOSE_SECONDS; then close the sockets that are left."""
        if self.endpoints:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.CLOSE_SECONDS):
                    await self._all_closed.wait()
        for endpoint in list(self.endpoints.values()):
            endpoint.abort()

    # Rules.

    def application(self) -> ASGIApp:
        """Return the ASGI application."""
        if self._application is None:
            self._application = self._create_application()
        return self._application

    def find_refusal(self, host_headers: list[str], origin_headers: list[str]) -> tuple[HTTPStatus, str] | None:
        """Return the status and reason if a request with these headers is refused; None if it is allowed."""
        if (refusal := find_refusal(self._rules, host_headers, origin_headers)) is not None:
            return HTTPStatus.FORBIDDEN, refusal
        if self.is_stopping:
            return HTTPStatus.SERVICE_UNAVAILABLE, "The server is stopping."
        if len(self.endpoints) > limits.CONNECTIONS_MAX:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"{limits.CONNECTIONS_MAX:,} connections are open."
        return None

    def log_refusal(self, sentence: str) -> None:
        """Log why a request was refused, at most once a minute."""
        self._refusal_log.record(sentence)

    def caller(self, connection: Endpoint, authorization_headers: list[str]) -> Caller:
        """Return the sender of a request with these headers. With a valid token, its connection is admitted."""
        token = bearer_token(authorization_headers) or ""
        caller = Caller(self._auth, token, connection.address, self.log_refusal)
        if token and caller.may_monitor:
            self._admitted(connection)
        return caller

    def _admitted(self, connection: Endpoint) -> None:
        if connection.socket is not None:
            self.strangers.remove(connection.socket)

    def admit(
        self, connection: Endpoint, token: str | None, authorization_headers: list[str], confirm: Callable[[], None]
    ) -> tuple[bool, str | None]:
        """
        Admit a WebSocket's client by the token of its first message, or else by that of its upgrade request.

        Args:
            connection: the WebSocket.
            token: the token or code of the first message.
            authorization_headers: of the upgrade request.
            confirm: as in `TokenAuth.admit`.

        Returns:
            Whether the client is an administrator, and the token that replaces a one-time code.

        Raises:
            Unauthenticated: the token is missing or wrong.
        """
        token = token or bearer_token(authorization_headers) or ""
        try:
            admitted = self._auth.admit(connection, token, confirm)
        except errors.Unauthenticated as error:
            if token:
                event = REFUSAL_EVENTS.get(token[: token.find(":") + 1], "token-refused")
                self._auth.audit.refused(event, error.message, connection.address)
            else:
                self.log_refusal(f"WebSocket: {error.message}.")
            raise
        self._admitted(connection)
        return admitted

    def is_admin(self, address: str, token: str) -> bool:
        """Return whether a client at this address that wants to act as an administrator may; both are recorded."""
        is_admin = self._auth.is_admin(token)
        if is_admin:
            self._auth.admitted_admin(address)
        else:
            self._auth.audit.refused("admin-refused", "the admin token is wrong", address)
        return is_admin

    def user_refused(self, address: str, reason: str) -> None:
        """Record that a client at this address sent a user's token that is not valid."""
        self._auth.audit.refused("user-refused", reason, address)


class Arrival(Endpoint):
    """A socket until its first request shows what it speaks."""

    def __init__(self, door: FrontDoor, number: int) -> None:
        self.number = number
        self._door = door
        self._opened_at = door.runtime.awake_seconds()
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the socket is open."""
        self._transport = cast("asyncio.Transport", transport)
        from tinyvex.server.access.peer_address import address_of
        from tinyvex.server.transport.strangers import socket_of

        self.address, self.socket = address_of(transport), socket_of(transport)
        bound_reads(transport)
        self._door.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the socket is closed."""
        self._door.closed(self.number)

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes arrived."""
        self._received += data
        choice = choose(self._received, self._door.dialects)
        if choice is not Choice.UNDECIDED:
            self._hand_over(choice)

    def _hand_over(self, choice: bytes | Literal[Choice.HTTP]) -> Endpoint | None:
        successor = self._door.create_endpoint(choice, self.number, self._opened_at)
        if successor is None:
            self._transport.write(_FAILED_RESPONSE)
            self._transport.close()
            return None
        self._transport.set_protocol(successor)
        successor.connection_made(self._transport)
        successor.data_received(self._received)
        return successor

    def tick(self, now: float, *, heartbeat: bool) -> None:
        """Close a socket whose first request is not complete in time; HTTP answers one that has begun."""
        if deadlines.is_open_too_long(now, self._opened_at):
            successor = self._hand_over(Choice.HTTP) if self._received else None
            if successor is not None:
                successor.tick(now, heartbeat=heartbeat)
            else:
                self.abort()

    def fail(self, error: errors.TinyvexError) -> None:
        """Close without the error: the client has not shown which protocol it speaks."""
        self.abort()

    def abort(self) -> None:
        """Close without a byte."""
        self._transport.abort()


class Choice(Enum):
    """The protocol that takes over a socket, if it is not a dialect's."""

    HTTP = auto()
    UNDECIDED = auto()


def choose(received: bytes, dialects: Collection[bytes]) -> bytes | Literal[Choice.HTTP, Choice.UNDECIDED]:
    """Return the dialect's path that the first bytes of a connection ask for, or another choice. (pure)"""
    line, has_line, _ = received.partition(b"\r\n")
    if not has_line:
        beginnings = [b"GET " + path for path in dialects]
        is_possible = any(received.startswith(each) or each.startswith(received) for each in beginnings)
        return Choice.UNDECIDED if is_possible and len(received) < limits.HTTP_HEAD_BYTES_MAX else Choice.HTTP
    method, _, target = line.partition(b" ")
    path = target.partition(b" ")[0].partition(b"?")[0]
    if method != b"GET" or path not in dialects:
        return Choice.HTTP
    head, has_head, _ = received.partition(b"\r\n\r\n")
    if not has_head:
        return Choice.UNDECIDED if len(received) < limits.HTTP_HEAD_BYTES_MAX else Choice.HTTP
    for header in head.split(b"\r\n")[1:]:
        name, _, value = header.partition(b":")
        if name.lower() == b"upgrade" and b"websocket" in value.lower():
            return path
    return Choice.HTTP
