"""
A WebSocket to the server, as an asyncio protocol.

The sans-I/O core of `websockets` implements the handshake, framing and closing; this class moves its bytes. Messages
sent in one iteration of the event loop leave in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State

from tinyvex import limits
from tinyvex.errors import ConnectionLost, Forbidden, MessageTooLarge, TinyvexError, Unauthenticated, UpdateRejected
from tinyvex.runtime import bound_reads

if TYPE_CHECKING:
    from websockets.uri import WebSocketURI

    from tinyvex.runtime import Runtime

__all__ = ["WebSocketTransport"]

_CLOSE_REASON_BYTES_MAX = 123
_CLOSE_NORMAL = 1000
_CLOSE_PROTOCOL_ERROR = 1002


class WebSocketTransport(asyncio.Protocol):
    """
    The client's end of a WebSocket.

    Args:
        uri: the server.
        runtime: the clock.
        on_open: called once, after the handshake.
        on_text: called with each message; a `TinyvexError` from it closes the socket for that reason.
        on_writable: called when writing may resume.
        on_end: called when the socket should be closed, and when it is closed.
        check: called with the transport before anything is sent; a `TinyvexError` from it aborts the socket.

    Attributes:
        is_closed: whether the socket is closed.
        error: why it was closed, if known.
        received_at: the monotonic time when the last bytes were received.
    """

    def __init__(
        self,
        uri: WebSocketURI,
        runtime: Runtime,
        *,
        on_open: Callable[[], None],
        on_text: Callable[[bytes], None],
        on_writable: Callable[[], None],
        on_end: Callable[[], None],
        check: Callable[[asyncio.BaseTransport], None] = lambda _: None,
    ) -> None:
        self.is_closed = False
        self.error: TinyvexError | None = None
        self.received_at = runtime.monotonic()
        self._runtime = runtime
        self._on_open, self._on_text, self._on_writable, self._on_end = on_open, on_text, on_writable, on_end
        self._check = check
        self._websocket = ClientProtocol(uri, max_size=limits.CLIENT_MESSAGE_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._fragments: list[bytes] = []

    # Sending.

    @property
    def writable(self) -> bool:
        """Return whether the socket is open and the transport's buffer is below its high-water mark."""
        return self._websocket.state is State.OPEN and not self._paused

    def send(self, text: bytes) -> None:
        """Add a message to the next `flush`."""
        self._websocket.send_text(text)

    def flush(self) -> None:
        """Write the messages added since the last `flush`."""
        if self._transport is None or self._transport.is_closing():
            return
        chunks = self._websocket.data_to_send()
        if data := b"".join(chunks):
            self._transport.write(data)
        if b"" in chunks:  # marks the end of the stream
            self._transport.close()

    def close(self, reason: TinyvexError | None = None) -> None:
        """Start the closing handshake. The connection waits for the server's close frame, with a timeout."""
        self.error = self.error or reason
        if self._websocket.state is State.OPEN:
            sentence = "" if reason is None else reason.message
            code = _CLOSE_NORMAL if reason is None else _CLOSE_PROTOCOL_ERROR
            text = sentence.encode()[:_CLOSE_REASON_BYTES_MAX].decode(errors="ignore")
            self._websocket.send_close(code, text)
            self.flush()
        elif self._websocket.state is State.CONNECTING:
            self.abort()
        self._on_end()

    def abort(self, reason: TinyvexError | None = None) -> None:
        """Close the socket without a closing handshake."""
        self.error = self.error or reason
        if self._transport is not None:
            self._transport.abort()
        else:
            self.is_closed = True

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check the server, then request the upgrade to a WebSocket."""
        self._transport = cast("asyncio.Transport", transport)
        bound_reads(transport)
        try:
            self._check(transport)
        except TinyvexError as error:
            self.abort(error)
            return
        self._websocket.send_request(self._websocket.connect())
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Process received bytes: pass messages on, and send the pongs and close frames that `websockets` produces."""
        self.received_at = self._runtime.monotonic()
        self._websocket.receive_data(data)
        for event in self._websocket.events_received():
            if isinstance(event, Response):
                self._receive_handshake()
            elif isinstance(event, Frame):
                self._receive_frame(event)
        self.flush()

    def eof_received(self) -> bool | None:
        """Process the end of the server's stream."""
        self._websocket.receive_eof()
        self.flush()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Record why the socket was closed."""
        self._websocket.receive_eof()
        self.error = self.error or self._reason(exc)
        self.is_closed = True
        self._on_end()

    def pause_writing(self) -> None:
        """Stop writing: the transport's buffer is above its high-water mark."""
        self._paused = True

    def resume_writing(self) -> None:
        """Resume writing."""
        self._paused = False
        self._on_writable()

    # Receiving.

    def _receive_handshake(self) -> None:
        if self._websocket.handshake_exc is None:
            self._on_open()
        elif self._transport is not None:
            self._transport.close()

    def _receive_frame(self, frame: Frame) -> None:
        # After an error of our own, ignore further messages. Messages before the server's close frame still count,
        # because a fatal error among them has the reason.
        if self.error is not None:
            return
        if frame.opcode is Opcode.BINARY:
            self.close(UpdateRejected("the server sent a binary frame; the protocol uses text frames only"))
        elif frame.opcode in {Opcode.TEXT, Opcode.CONT}:
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                text = self._fragments[0] if len(self._fragments) == 1 else b"".join(self._fragments)
                self._fragments.clear()
                self._receive_text(text)

    def _receive_text(self, text: bytes) -> None:
        try:
            self._on_text(text)
        except TinyvexError as error:
            self.close(error)

    def _reason(self, exc: Exception | None) -> TinyvexError:
        failure = self._websocket.handshake_exc
        if isinstance(failure, InvalidStatus):
            return _refusal(failure.response)
        if failure is not None:
            hint = "" if self._websocket.uri.secure else "; if the server uses TLS, connect with wss://"
            if isinstance(failure.__cause__, EOFError):  # also what a server does that is killed or too busy
                return ConnectionLost(f"the connection was closed during the handshake{hint}")
            return ConnectionLost(f"the peer is not a WebSocket server: {failure}{hint}")
        if isinstance(self._websocket.parser_exc, PayloadTooBig):
            return MessageTooLarge(f"a message from the server is too large: {self._websocket.parser_exc}")
        received = self._websocket.close_rcvd
        if received is not None:
            return ConnectionLost(f"the server closed the connection: {received.code} {received.reason}".rstrip())
        return ConnectionLost(f"the connection was lost: {_text(exc)}" if exc else "the connection was lost")


def _text(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _refusal(response: Response) -> TinyvexError:
    """Return the error for an HTTP response other than 101."""
    body = bytes(response.body or b"")[:200].decode(errors="replace").strip()
    sentence = f"the server refused the WebSocket: {response.status_code} {response.reason_phrase} {body}".rstrip()
    if response.status_code == 401:
        return Unauthenticated(sentence)
    if response.status_code == 403:
        return Forbidden(sentence)
    seconds = response.headers.get("Retry-After", "")
    hint = {"retryAfterMs": int(seconds) * 1000} if seconds.isdecimal() and len(seconds) < 10 else {}
    return ConnectionLost(sentence, **hint)
