"""
A WebSocket: bytes to messages and messages to bytes; the connection's dialect gives them meaning.

`websockets`' sans-I/O core parses and validates; this asyncio protocol moves its bytes. There are three roles, all of
them callbacks on the loop:

- *receive*: `data_received` feeds the core and passes complete messages to the dialect;
- *session*: the dialect's session, once it is open, answers and computes transitions;
- *send*: the `Sender` writes queued messages, and waits while the socket is full.

Closing::

    open ──fail(error)──► farewell sent ──► close frame sent ──► closed by the client, or after CLOSE_SECONDS
    open ──close frame received──► echoed ──► closed

`deadlines` has the rules for clients that do not send, `slow_clients` those for clients that do not read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, cast

from websockets.exceptions import InvalidMessage, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from tinyvex import errors, limits
from tinyvex.server.access.origin_rules import RESPONSE_HEADERS, printable
from tinyvex.server.transport import deadlines, slow_clients
from tinyvex.server.transport.endpoint import Endpoint
from tinyvex.server.transport.outbox import text_frame
from tinyvex.server.transport.sender import Sender, SenderHost

if TYPE_CHECKING:
    from tinyvex.dialects.dialect import CreateDialect, Dialect, Farewell, Split
    from tinyvex.sync.commands import OpenSession
    from tinyvex.sync.events import Peer
    from tinyvex.sync.session import SessionOpened, SyncSession
    from tinyvex.wire.transition_chunks import Piece

__all__ = ["Connection", "Host"]

log = logging.getLogger("tinyvex.server")

# The core logs each handshake at INFO.
core_log = logging.getLogger("tinyvex.websockets")
core_log.setLevel(logging.WARNING)

MALFORMED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 48\r\nConnection: close\r\n\r\n"
    b"This is not a well-formed HTTP upgrade request.\n"
)


class Host(SenderHost, Protocol):
    """The server, as its WebSockets see it."""

    def opened(self, connection: Connection) -> None:
        """Register a WebSocket."""

    def closed(self, connection: Connection) -> None:
        """Remove a WebSocket whose socket is closed."""

    def find_refusal(self, host_headers: list[str], origin_headers: list[str]) -> tuple[HTTPStatus, str] | None:
        """Return why an upgrade request with these headers is refused; None if it is allowed."""
        ...

    def log_refusal(self, sentence: str) -> None:
        """Log why an upgrade was refused."""

    def open_session(self, connection: Connection, command: OpenSession, peer: Peer) -> SessionOpened:
        """
        Open the session of a connection.

        Raises:
            TinyvexError: the client was refused.
        """
        ...

    def run_action(self, action: Callable[[], Any]) -> None:
        """Run a coroutine function in the server's task group."""


class Connection(Endpoint):
    """
    The server's end of one WebSocket.

    Args:
        host: the server.
        create_dialect: creates the dialect, when the upgrade is accepted.
        number: the connection's number.
        opened_at: when the socket was accepted, by `Runtime.awake_seconds`.
        chunk_bytes: a longer transition is sent in chunks.

    Attributes:
        session: the client's session, once it has connected.
        authorization: the `Authorization` headers of the upgrade request.
        bytes_received: the number of bytes that arrived.
    """

    def __init__(
        self,
        host: Host,
        create_dialect: CreateDialect,
        number: int,
        opened_at: float,
        chunk_bytes: int = limits.CHUNK_BYTES,
    ) -> None:
        self.number = number
        self.session: SyncSession | None = None
        self.authorization: list[str] = []
        self.bytes_received = 0
        self._host = host
        self._create_dialect = create_dialect
        self._dialect: Dialect  # from the upgrade on
        self._core = ServerProtocol(max_size=limits.MESSAGE_BYTES_MAX, logger=core_log)
        self._transport: asyncio.Transport | None = None
        self._fragments = bytearray()
        self._chunk_bytes = chunk_bytes
        # Times, by `Runtime.awake_seconds`.
        self.opened_at = opened_at
        self._received_at = opened_at
        self._close_by: float | None = None

    # The socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the front door hands the socket over."""
        self._transport = cast("asyncio.Transport", transport)
        self._sender = Sender(
            self._host, self._transport, self._chunk_bytes, self._drained, self._close_unread, self._hold
        )
        self._host.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the socket is closed, for whatever reason."""
        self._transport = None
        self._sender.end()
        if self.session is not None:
            self.session.close()
        self._host.closed(self)
        self._break_cycles()

    def _break_cycles(self) -> None:
        """Drop the references to this connection, so that it is freed now, and not by the garbage collector."""
        self.session = None
        vars(self).pop("_dialect", None)
        for error in (self._core.parser_exc, self._core.handshake_exc):
            _drop_tracebacks(error)  # they have frames that refer to the core

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes arrived."""
        self._received_at = self._host.runtime.awake_seconds()
        self.bytes_received += len(data)
        self._host.counters.bytes_received += len(data)
        if self.session is None and self.bytes_received - len(data) > limits.UNAUTHENTICATED_BYTES_MAX:
            return  # the error below was sent already
        self._core.receive_data(data)
        self._pump()
        if self.session is None and self.bytes_received > limits.UNAUTHENTICATED_BYTES_MAX:
            self.fail(
                errors.MessageTooLarge(
                    f"{self.bytes_received:,} bytes arrived before tinyvex/connect succeeded; "
                    f"the limit is {limits.UNAUTHENTICATED_BYTES_MAX:,}"
                )
            )

    def eof_received(self) -> bool:
        """Asyncio: the client sends no more; the transport closes."""
        self._core.receive_eof()
        self._pump()
        if self._close_by is None:  # for writing the rest
            self._close_by = self._host.runtime.awake_seconds() + limits.CLOSE_SECONDS
        return False

    def pause_writing(self) -> None:
        """Asyncio: the socket's buffer is full."""
        self._sender.socket_filled()

    def resume_writing(self) -> None:
        """Asyncio: the socket's buffer has drained."""
        self._sender.socket_drained()

    # Receiving.

    def _pump(self) -> None:
        """Handle the events that the core parsed, then write the frames that it wants to send."""
        try:
            for event in self._core.events_received():
                if isinstance(event, Request):
                    self._handshake(event)
                else:
                    self._frame(cast("Frame", event))
        except Exception:
            log.exception(
                "connection %d: a defect in handling a message", self.number, extra={"connection": self.number}
            )
            self.fail(errors.InternalError("the server failed to handle a message; its log has the reason"))
        if self._core.handshake_exc is not None and self._transport is not None:
            self._handshake_failed(self._core.handshake_exc, self._transport)
        if isinstance(self._core.parser_exc, PayloadTooBig) and self._close_by is None:
            self._send_farewell(errors.MessageTooLarge(f"a message has more than {limits.MESSAGE_BYTES_MAX:,} bytes"))
        self._write_core()

    def _handshake(self, request: Request) -> None:
        headers = request.headers
        refused = self._host.find_refusal(headers.get_all("Host"), headers.get_all("Origin"))
        if refused is None:
            self.authorization = headers.get_all("Authorization")
            self._dialect = self._create_dialect(self)
            response = self._core.accept(request)
            if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
                response.headers.update(RESPONSE_HEADERS)
        else:
            status, reason = refused
            self._host.log_refusal(reason)
            response = self._core.reject(status, f"{reason}\n")
            response.headers.update(RESPONSE_HEADERS)
        if not self._core.eof_sent:
            self._core.send_response(response)
        elif refused is not None and self._transport is not None:
            self._transport.write(response.serialize())  # the core has ended at bytes behind the request
        self._write_core()

    def _handshake_failed(self, error: Exception, transport: asyncio.Transport) -> None:
        """Log why the core refused the request; the client gets the same in the core's response."""
        self._host.log_refusal(f"A WebSocket upgrade is not valid: {printable(str(error))}.")
        if isinstance(error, InvalidMessage):
            transport.write(MALFORMED)  # the core would end without a byte

    def _frame(self, frame: Frame) -> None:
        if self._core.state is State.CONNECTING:
            return  # bytes behind a request that was not upgraded
        if frame.opcode is Opcode.BINARY:
            self.fail(errors.BinaryFrame("the protocol has text frames only"))
        elif frame.opcode is Opcode.TEXT or frame.opcode is Opcode.CONT:
            if frame.fin and not self._fragments:
                self._message(bytes(frame.data))
                return
            self._fragments += frame.data  # bounded: the core counts a message's size over its fragments
            if frame.fin:
                message = bytes(self._fragments)
                self._fragments.clear()
                self._message(message)

    def _message(self, text: bytes) -> None:
        if self._close_by is not None:
            return
        self._host.counters.messages_received += 1
        self._dialect.receive(text)

    # The dialect's outlet.

    def open_session(self, command: OpenSession, peer: Peer) -> SessionOpened:
        """Open the session of this connection; `peer` receives its events."""
        opened = self._host.open_session(self, command, peer)
        self.session = opened.session
        return opened

    def send(self, message: bytes) -> None:
        """Queue one message; everything queued in one loop iteration leaves in one write."""
        if self._transport is not None and self._core.state is State.OPEN:
            self._put(text_frame(message))

    def send_pieces(self, pieces: Sequence[Piece]) -> None:
        """Queue a long message, the concatenation of pieces; it leaves in slices."""
        if self._transport is not None and self._core.state is State.OPEN:
            self._sender.put_pieces(pieces)
            self._close_if_above_bound()

    def send_transition(self, pieces: Sequence[Piece], split: Split | None) -> None:
        """
        Queue a transition.

        A long one is split into chunks, if the dialect can split it. Each chunk is made when the socket has room for it,
        and other messages are sent between them.

        Args:
            pieces: their concatenation is the message; they must not change.
            split: splits a long transition; None if the client accepts no chunks.
        """
        if self._transport is not None and self._core.state is State.OPEN:
            self._sender.put_transition(pieces, split)

    def is_full(self) -> bool:
        """Return whether so many transitions wait that no further one should be computed."""
        return self._sender.is_full()

    def run_action(self, action: Callable[[], Any]) -> None:
        """Run a coroutine function that outlives this connection."""
        self._host.run_action(action)

    @property
    def waiting_bytes(self) -> int:
        """The number of bytes that wait for the client to read, here and in the transport."""
        unread = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._sender.waiting_bytes + unread

    @property
    def bytes_sent(self) -> int:
        """The number of bytes sent."""
        return self._sender.bytes_sent

    def _put(self, frame: bytes) -> None:
        self._sender.put(frame)
        self._close_if_above_bound()

    def _close_if_above_bound(self) -> None:
        if self._sender.waiting_bytes > limits.OUTBOX_BYTES_MAX:  # compared here, because this runs for every message
            self._close_if_slow(self._host.runtime.awake_seconds())

    def _drained(self) -> None:
        if self.session is not None:
            self.session.wake()

    def _hold(self, held: bool) -> None:
        if self.session is not None:
            self.session.hold_queries(held)

    def _write_core(self) -> None:
        """Write the core's own frames (handshake, pong, close), after the queued messages."""
        for data in self._core.data_to_send():
            if self._transport is None:
                return
            if self._core.state is not State.OPEN:
                self._sender.close()
                if data:
                    self._sender.write_last(data)
                else:
                    self._sender.end_writing()
            elif data and self._sender.must_wait:
                self._put(data)  # a pong waits its turn, and counts with the messages before it
            elif data:
                self._transport.write(data)
            else:
                self._transport.close()
        if self._core.close_expected() and self._close_by is None:
            self._close_by = self._host.runtime.awake_seconds() + limits.CLOSE_SECONDS

    # Closing.

    def fail(self, error: errors.TinyvexError) -> None:
        """Send the error and a close frame, then close; at most once."""
        if self._transport is None or self._close_by is not None:
            return
        if self._core.state is not State.OPEN:
            self._transport.abort()
            return
        farewell = self._send_farewell(error)
        self._core.send_close(farewell.close_code, farewell.close_reason)
        if self.session is not None:
            self.session.close()
        self._write_core()

    def _send_farewell(self, error: errors.TinyvexError) -> Farewell:
        farewell = self._dialect.farewell(error)
        # Not through send(): the core may have begun to close already.
        self._sender.close(text_frame(farewell.message) if farewell.message else b"")
        return farewell

    def _close_if_slow(self, now: float) -> bool:
        """Close a client that does not read; it can still read the reason within CLOSE_SECONDS."""
        reason = slow_clients.reason_to_close(self._sender.waiting_bytes, self._sender.unread_seconds(now))
        if reason is None:
            return False
        self._close_slow(reason)
        return True

    def _close_slow(self, reason: str) -> None:
        self._log_slow(reason)
        self.fail(errors.SlowConsumer(reason))

    def _log_slow(self, reason: str) -> None:
        log.warning(
            "connection %d: closing a client that does not read: %s", self.number, reason,
            extra={"connection": self.number, "error": errors.SlowConsumer.__name__},
        )  # fmt: skip

    def _close_unread(self, reason: str) -> None:
        """Close without the reason if much waits: it must be released now, and the reason would arrive behind it."""
        if self.waiting_bytes < limits.UNREAD_COUNTED_BYTES and self._close_by is None:
            self._close_slow(reason)
        else:
            self._log_slow(reason)
            self.abort()
        self._sender.end()

    def abort(self) -> None:
        """Close without another byte."""
        if self._transport is not None:
            self._transport.abort()

    # Time.

    def tick(self, now: float, *, heartbeat: bool) -> None:
        """Enforce the deadlines, and send the pings that are due."""
        if self._sender.reading_paused:
            self._received_at = now  # the server is not reading, so silence is not the client's
        if self._close_by is not None:
            if now > self._close_by:
                self.abort()
        elif not self._close_if_slow(now) and not self._close_if_late(now) and self.session is not None:
            self._ping(now, heartbeat=heartbeat)

    def _close_if_late(self, now: float) -> bool:
        """Close a client that sends nothing."""
        error = deadlines.websocket_error(
            now, opened_at=self.opened_at, received_at=self._received_at, is_connected=self.session is not None
        )
        if error is not None:
            self.fail(error)
        return error is not None

    def _ping(self, now: float, *, heartbeat: bool) -> None:
        if now - self._sender.sent_at >= limits.PING_SECONDS and not self._sender.socket_full:
            self.send(self._dialect.ping())
        if heartbeat and not self._sender.socket_full:
            self._core.send_ping(b"")
            # The core remembers pings to match pongs, but no caller waits for one.
            self._write_core()


def _drop_tracebacks(error: BaseException | None) -> None:
    """Drop the traceback of an exception and of those that led to it."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
