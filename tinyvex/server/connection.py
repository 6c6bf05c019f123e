"""
One socket: bytes to messages and messages to bytes; nothing here decides what they mean.

`websockets`' sans-I/O core parses and checks; this asyncio protocol moves its bytes.
Three roles, all callbacks on the loop:

- *receive*: `data_received` feeds the core and hands whole messages on;
- *worker*: `SyncWorker` (after `tinyvex/connect`) answers and computes transitions;
- *send*: `send` queues, `_flush` writes once per loop turn what the turn has queued,
  and holds everything back while the socket is full.

Closing::

    open ──fail(error)──► fatalError sent ──► close frame sent ──► closed by the peer, or cut after CLOSE_SECONDS
    open ──close frame received──► echoed ──► closed
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from tinyvex import errors, limits
from tinyvex.wire import codec, messages
from tinyvex.wire.faults import to_object

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.sync.counters import Counters
    from tinyvex.sync.worker import SyncWorker

__all__ = ["Answer", "Connection", "Host"]

log = logging.getLogger("tinyvex.server")

# The core logs each handshake at INFO; our own log line says more.
core_log = logging.getLogger("tinyvex.websockets")
core_log.setLevel(logging.WARNING)

CLOSE_CODES: dict[type[errors.TinyvexError], int] = {
    errors.BinaryFrame: 1003,
    errors.MessageTooLarge: 1009,
    errors.InternalError: 1011,
    errors.ServerStopping: 1012,
    errors.Overloaded: 1013,
    errors.IdleTimeout: 1000,
}
"""Close codes by error; all others 1008 (policy violation)."""


Answer: TypeAlias = Response | Callable[[], Awaitable[Response]] | None
"""To an HTTP request: at once, when a coroutine function has made it, or none because it is a WebSocket's."""


class Host(Protocol):
    """What a connection needs of its server."""

    runtime: Runtime
    counters: Counters

    def opened(self, connection: Connection) -> None:
        """A socket was accepted."""

    def closed(self, connection: Connection) -> None:
        """It ended."""

    def answer_http(self, request: Request) -> Answer:
        """The answer to a request that is no WebSocket, or that is refused; None when the upgrade may go on."""
        ...

    def connect(self, connection: Connection, params: messages.ConnectParams) -> messages.ConnectResult:
        """Let a client in: sets `connection.worker`."""
        ...

    def run_action(self, action: Callable[[], Any]) -> None:
        """Run a coroutine function in the server's task group."""


class Connection(asyncio.Protocol):
    """A server's end of one socket."""

    def __init__(self, host: Host, number: int) -> None:
        self.number = number
        self.worker: SyncWorker | None = None
        self.authorization: list[str] = []
        """The upgrade request's `Authorization` headers."""
        self._host = host
        self._core = ServerProtocol(max_size=limits.MESSAGE_BYTES_MAX, logger=core_log)
        self._transport: asyncio.Transport | None = None
        self._fragments = bytearray()
        # Sending. Frames wait here until the end of the loop turn, or as long as the socket is full.
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._transitions_waiting = 0
        self._flush_scheduled = False
        self._socket_full = False
        self._reading_paused = False
        # Times, by the runtime's monotonic clock.
        now = host.runtime.monotonic()
        self._opened_at = now
        self._received_at = now
        self._sent_at = now
        self._full_since: float | None = None
        self._close_by: float | None = None

    # The socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the socket is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.OUTBOX_BYTES_HIGH)
        self._host.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the socket is gone, for whatever reason."""
        self._transport = None
        self._waiting.clear()
        if self.worker is not None:
            self.worker.close()
        self._host.closed(self)

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes came."""
        self._received_at = self._host.runtime.monotonic()
        self._host.counters.bytes_received += len(data)
        self._core.receive_data(data)
        self._pump()

    def eof_received(self) -> bool:
        """Asyncio: the peer sends no more; the transport closes."""
        self._core.receive_eof()
        self._pump()
        if self._close_by is None:  # what waits is still written, but not for ever
            self._close_by = self._host.runtime.monotonic() + limits.CLOSE_SECONDS
        return False

    def pause_writing(self) -> None:
        """Asyncio: the socket's buffer is full."""
        self._socket_full = True
        self._full_since = self._host.runtime.monotonic()

    def resume_writing(self) -> None:
        """Asyncio: the socket's buffer has drained."""
        self._socket_full = False
        self._full_since = None
        self._flush()

    # Receiving.

    def _pump(self) -> None:
        """Handle what the core made of the bytes, then write what it wants written."""
        try:
            for event in self._core.events_received():
                if isinstance(event, Request):
                    self._handshake(event)
                else:
                    self._frame(cast("Frame", event))
        except Exception:
            log.exception("connection %d: a defect in handling a message", self.number)
            self.fail(errors.InternalError("a defect in the server; its log has the reason"))
        if isinstance(self._core.parser_exc, PayloadTooBig):
            self._send_fatal(errors.MessageTooLarge(f"a message is over {limits.MESSAGE_BYTES_MAX} bytes"))
        self._write_core()

    def _handshake(self, request: Request) -> None:
        answer = self._host.answer_http(request)
        if answer is None:
            self.authorization = request.headers.get_all("Authorization")
            answer = self._core.accept(request)
        if isinstance(answer, Response):
            self._core.send_response(answer)
        else:
            self._host.run_action(partial(self._answer_later, answer))

    async def _answer_later(self, make: Callable[[], Awaitable[Response]]) -> None:
        try:
            response = await make()
        except Exception:
            log.exception("connection %d: an HTTP answer could not be made", self.number)
            response = self._core.reject(HTTPStatus.INTERNAL_SERVER_ERROR, "The server's log has the reason.\n")
        if self._transport is not None:
            self._core.send_response(response)
            self._write_core()

    def _frame(self, frame: Frame) -> None:
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
        request_id = None
        try:
            request = codec.decode_request(text)
            request_id = request.id
            if self.worker is not None:
                self.worker.receive(request)
            elif isinstance(request, messages.Connect):
                result = self._host.connect(self, request.params)
                self.send(codec.encode_response(request.id, result))
            else:
                raise errors.NotConnected("tinyvex/connect comes first")
        except errors.TinyvexError as error:
            if request_id is None:
                request_id = getattr(error, "request_id", None)
            self.send(codec.encode_error_response(request_id, error))
            if error.fatal:
                self.fail(error)

    # Sending.

    def send(self, message: bytes, *, transition: bool = False) -> None:
        """Queue one message; what a loop turn queues leaves in one write."""
        if self._transport is None or self._core.state is not State.OPEN:
            return
        frame = text_frame(message)
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        self._transitions_waiting += transition
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._host.runtime.loop.call_soon(self._flush)
        self._bound_waiting()

    def send_transition(self, pieces: Sequence[bytes]) -> None:
        """Queue a transition."""
        self.send(b"".join(pieces), transition=True)

    def _bound_waiting(self) -> None:
        """What a client does not read: above one bound nothing more is read from it, above the other it is cut."""
        if self._transport is None:
            return
        if self._waiting_bytes > limits.OUTBOX_BYTES_MAX:
            log.warning("connection %d: %d bytes wait unread; closing it", self.number, self._waiting_bytes)
            self.fail(errors.SlowConsumer("too much waits to be read"))
            self.abort()
        elif self._waiting_bytes > limits.RESPONSES_UNSENT_BYTES_MAX and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def is_full(self) -> bool:
        """Whether so many transitions wait that no further one should be computed."""
        return self._transitions_waiting >= limits.TRANSITIONS_UNSENT_MAX

    def run_action(self, action: Callable[[], Any]) -> None:
        """Run a coroutine function that outlives this connection."""
        self._host.run_action(action)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._transport is None or self._socket_full or not self._waiting:
            return
        was_full = self.is_full()
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = self._transitions_waiting = 0
        self._sent_at = self._host.runtime.monotonic()
        self._host.counters.bytes_sent += len(data)
        self._transport.write(data)
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        if was_full and self.worker is not None:
            self.worker.wake()

    def _write_core(self) -> None:
        """Write the core's own frames (handshake, pong, close), after what is queued."""
        for data in self._core.data_to_send():
            if self._transport is None:
                return
            if (self._waiting or self._socket_full) and self._close_by is None and self._core.state is State.OPEN:
                # Pongs keep their place behind what waits, and are counted with it.
                self._waiting.append(data)
                self._waiting_bytes += len(data)
                self._bound_waiting()
                continue
            self._flush()
            if data:
                self._transport.write(data)
            else:
                self._transport.close()
        if self._core.close_expected() and self._close_by is None:
            self._close_by = self._host.runtime.monotonic() + limits.CLOSE_SECONDS

    # Closing.

    def fail(self, error: errors.TinyvexError) -> None:
        """Tell the client why, then close; at most once."""
        if self._transport is None or self._close_by is not None:
            return
        if self._core.state is not State.OPEN:
            self._transport.abort()
            return
        self._send_fatal(error)
        self._core.send_close(CLOSE_CODES.get(type(error), 1008), error.name)
        if self.worker is not None:
            self.worker.close()
        self._write_core()

    def _send_fatal(self, error: errors.TinyvexError) -> None:
        notice = messages.FatalError(jsonrpc="2.0", params=messages.FatalErrorParams(error=to_object(error)))
        frame = text_frame(codec.encode_notification(notice))
        # Not through send(): the core may have begun to close already. A full socket gets no more of what waits.
        if self._socket_full:
            self._waiting.clear()
        self._waiting.append(frame)
        if self._transport is not None:
            self._transport.write(b"".join(self._waiting))
        self._waiting.clear()

    def abort(self) -> None:
        """Cut the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    # Time.

    def tick(self, now: float, *, heartbeat: bool) -> None:
        """Called once a second: deadlines, and pings when `heartbeat` is set (every HEARTBEAT_SECONDS)."""
        if self._close_by is not None:
            if now > self._close_by:
                self.abort()
        elif self.worker is None and now - self._opened_at > limits.HANDSHAKE_SECONDS:
            self.fail(errors.SlowHandshake(f"no tinyvex/connect within {limits.HANDSHAKE_SECONDS:g} s"))
        elif now - self._received_at > limits.IDLE_SECONDS:
            self.fail(errors.IdleTimeout(f"nothing received for {limits.IDLE_SECONDS:g} s"))
        elif self._full_since is not None and now - self._full_since > limits.SLOW_CONSUMER_SECONDS:
            self.fail(errors.SlowConsumer(f"nothing read for {limits.SLOW_CONSUMER_SECONDS:g} s"))
            self.abort()
        elif self.worker is not None:
            self._ping(now, heartbeat=heartbeat)

    def _ping(self, now: float, *, heartbeat: bool) -> None:
        if now - self._sent_at >= limits.PING_SECONDS and not self._waiting:
            self.send(codec.encode_notification(messages.ServerPing(jsonrpc="2.0")))
        if heartbeat and not self._socket_full:
            self._core.send_ping(b"")
            # The core remembers pings only to match pongs, which nobody waits for.
            self._write_core()


def text_frame(payload: bytes) -> bytes:
    """
    An unmasked final text frame (RFC 6455, 5.2).

    The core's `send_text` gives the same bytes for three times the time, and a payload here goes to many sockets.
    """
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload
