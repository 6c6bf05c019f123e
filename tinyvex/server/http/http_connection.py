"""
HTTP/1.1 on one socket: h11 parses, an ASGI application answers, and this asyncio protocol moves the bytes.

Each request becomes an `Exchange`, which runs in the server's task group. A connection has one at a time::

    idle ──request──► exchange ──response written──► discarding the rest of the body ──► idle
      │                  │
      │                  └── `Connection: close`, or an error ──► lingering ──► closed
      ├── HTTP_IDLE_SECONDS ──► closed
      └── a WebSocket's upgrade ──► the dialect's connection

*Lingering*: an error is answered while the client may still be sending. Closing a socket with unread bytes resets the
connection, and a reset can destroy the response before the client reads it. So the server first ends its own half and
discards what arrives until the client ends its half, for at most CLOSE_SECONDS.

uvicorn's protocol over h11 is not used, because it answers every malformed request with 400, bounds neither the time of
a head nor the size of a body, and runs handlers outside the server's task group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import unquote

import h11

from tinyvex import errors, limits
from tinyvex.server.access.origin_rules import RESPONSE_HEADERS
from tinyvex.server.http.exchange import Exchange, Headers
from tinyvex.server.transport import deadlines, slow_clients
from tinyvex.server.transport.endpoint import Endpoint

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tinyvex.runtime import Runtime
    from tinyvex.server.access.token_auth import Caller
    from tinyvex.sync.counters import Counters

__all__ = ["HttpConnection", "HttpHost"]

log = logging.getLogger("tinyvex.server")

METHODS_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})

HEAD_TOO_LARGE = f"The request line and headers may have {limits.HTTP_HEAD_BYTES_MAX:,} bytes together."

Refused = tuple[HTTPStatus, str]
"""A status and the sentence that explains it."""


class HttpHost(Protocol):
    """The front door, as its HTTP connections see it."""

    runtime: Runtime
    counters: Counters
    is_stopping: bool

    def application(self) -> ASGIApp:
        """Return the application that answers."""
        ...

    def find_refusal(self, host_headers: list[str], origin_headers: list[str]) -> Refused | None:
        """Return why a request with these headers is refused; None if it is allowed."""
        ...

    def caller(self, connection: Endpoint, authorization_headers: list[str]) -> Caller:
        """Return the sender of a request with these headers."""
        ...

    def log_refusal(self, sentence: str) -> None:
        """Log why a request was refused."""

    def run(self, task: Callable[[], Coroutine[Any, Any, None]], /) -> None:
        """Run a coroutine function in the server's task group."""

    def create_upgraded(self, head: bytes, number: int) -> Endpoint | None:
        """Make the protocol that takes over if this head asks for a WebSocket; None if it does not."""
        ...

    def closed(self, number: int) -> None:
        """Note that a socket is closed."""


class HttpConnection(Endpoint):
    """
    The server's end of a socket that speaks HTTP.

    Args:
        host: the front door.
        number: the connection's number.
        opened_at: when the socket was accepted, by the runtime's monotonic clock.
    """

    def __init__(self, host: HttpHost, number: int, opened_at: float) -> None:
        self.number = number
        self.runtime = host.runtime
        self.is_writable = asyncio.Event()
        self.is_writable.set()
        self._host = host
        self._core = h11.Connection(h11.SERVER, limits.HTTP_HEAD_BYTES_MAX)
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._method = b""  # of the current request
        self._body_bytes = 0  # received of it
        self._unread = slow_clients.UnreadWatch()
        self._is_reading = True
        # Times, by the runtime's monotonic clock.
        self._head_since: float | None = opened_at  # while a request's head is being received
        self._received_at = opened_at
        self._close_by: float | None = None  # while lingering

    # The socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the socket is open; the front door calls this when it hands one over."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the socket is closed."""
        self._drop_exchange()
        self.is_writable.set()
        self._host.closed(self.number)

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes arrived."""
        self._host.counters.bytes_received += len(data)
        if self._close_by is not None:
            return
        self._received_at = self.runtime.awake_seconds()
        if self._core.their_state is h11.IDLE and self._head_since is None:
            self._head_since = self._received_at
        self._core.receive_data(data)
        self._pump()

    def eof_received(self) -> bool:
        """Asyncio: the client sends no more, but may still read a response."""
        if self._close_by is not None:
            return False
        self._core.receive_data(b"")
        self._pump()
        return self._exchange is not None

    def pause_writing(self) -> None:
        """Asyncio: the socket's buffer is full."""
        self.is_writable.clear()

    def resume_writing(self) -> None:
        """Asyncio: the socket's buffer has room again."""
        self.is_writable.set()

    def set_reading(self, *, reading: bool) -> None:
        """Pause or resume reading from the client."""
        if reading is not self._is_reading and not self._transport.is_closing():
            self._is_reading = reading
            self._transport.resume_reading() if reading else self._transport.pause_reading()

    # Requests.

    def _pump(self) -> None:
        """Handle every event that h11 makes of the received bytes."""
        while self._close_by is None and not self._transport.is_closing():
            try:
                event = self._core.next_event()
            except h11.RemoteProtocolError as error:
                self.refuse(*_malformed(error))
                return
            if isinstance(event, h11.Request):
                if self._upgrade(event):
                    return
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._receive_body(event.data)
            elif isinstance(event, h11.EndOfMessage):
                if self._exchange is not None:
                    self._exchange.end_body()
                self._end_cycle()
            elif event is h11.PAUSED:  # the client sent another request before the response to this one
                self.set_reading(reading=False)
                return
            else:
                if isinstance(event, h11.ConnectionClosed) and self._exchange is None:
                    self._transport.close()
                return

    def _upgrade(self, request: h11.Request) -> bool:
        """
        Hand the socket over if a request asks for a WebSocket, and return whether it did.

        A reverse proxy sends the upgrade on a connection that it has used before.
        """
        # After a response that the client has not read, the successor would not learn that the socket is full.
        if not _values(request, b"upgrade") or not self.is_writable.is_set():
            return False
        line = b"%b %b HTTP/%b" % (request.method, request.target, request.http_version)
        headers = [b"%b: %b" % header for header in request.headers.raw_items()]
        head = b"\r\n".join([line, *headers, b"", b""])
        successor = self._host.create_upgraded(head, self.number)
        if successor is not None:
            self._transport.set_protocol(successor)
            successor.connection_made(self._transport)
            successor.data_received(head + self._core.trailing_data[0])
        return successor is not None

    def _begin(self, request: h11.Request) -> None:
        self._head_since = None
        self._method = request.method
        self._body_bytes = 0
        host_headers, origin_headers = _values(request, b"host"), _values(request, b"origin")
        refused = self._host.find_refusal(host_headers, origin_headers) or _bad_request(request)
        if refused is not None:
            self.refuse(*refused)
        else:
            self._exchange = Exchange(self, self._core, self._scope(request))
            self._host.run(self._run)

    async def _run(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return  # the client was gone before its turn came
        try:
            await exchange.run(self._host.application)
        finally:
            if self._exchange is exchange:  # it was not refused meanwhile
                self._exchange = None
                if exchange.is_complete:
                    self._end_cycle()
                    self._pump()
                else:
                    self._transport.abort()  # the client must not take a part of the response for all of it

    def _scope(self, request: h11.Request) -> dict[str, Any]:
        raw_path, _, query = request.target.partition(b"?")
        transport = self._transport
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "http" if transport.get_extra_info("ssl_object") is None else "https",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "root_path": "",
            "query_string": query,
            "headers": list(request.headers),
            "client": _address(transport.get_extra_info("peername")),
            "server": _address(transport.get_extra_info("sockname")),
            "state": {"caller": self._host.caller(self, _values(request, b"authorization"))},
        }

    def _receive_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > limits.HTTP_BODY_BYTES_MAX:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _body_too_large("this one has more"))
        elif self._exchange is not None:
            self._exchange.receive_body(data)

    def _end_cycle(self) -> None:
        """Wait for the next request or close, once a request and its response are complete."""
        if self._exchange is not None:
            return
        self.set_reading(reading=True)
        if self._core.our_state is not h11.DONE or self._host.is_stopping:
            self._close()
        elif self._core.their_state is h11.DONE:
            self._core.start_next_cycle()
            self._method = b""
            self._received_at = self.runtime.awake_seconds()
            self._head_since = self._received_at if self._core.trailing_data[0] else None

    # Responses.

    def response_headers(self, *, close: bool = False) -> Headers:
        """Return the headers of every response, and `Connection: close` for the last one."""
        date = formatdate(self.runtime.now_us() // 1_000_000, usegmt=True)
        headers = [(b"Date", date.encode()), *_ISOLATION]
        # A client that waits for `100 Continue` may or may not send its body: its next request could not be recognised.
        if close or self._host.is_stopping or self._core.they_are_waiting_for_100_continue:
            headers.append((b"Connection", b"close"))
        return headers

    def write(self, data: bytes) -> None:
        """Write bytes of a response."""
        self._host.counters.bytes_sent += len(data)
        self._transport.write(data)

    def refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Log and answer a request that is refused, then close."""
        self._host.log_refusal(sentence)
        self.respond(status, sentence)

    def respond(self, status: HTTPStatus, sentence: str) -> None:
        """Answer in place of the application, then close."""
        self._drop_exchange()
        if self._core.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = f"{sentence}\n".encode()
            headers = [
                (b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"%d" % len(body)),
                (b"Cache-Control", b"no-store"), *self.response_headers(close=True),
            ]  # fmt: skip
            response = h11.Response(status_code=status, reason=status.phrase.encode(), headers=headers)
            content = [] if self._method == b"HEAD" else [h11.Data(data=body)]
            self.write(b"".join([self._core.send(event) or b"" for event in [response, *content, h11.EndOfMessage()]]))
            self._close()
        elif self._core.our_state is h11.SEND_BODY:
            self._transport.abort()  # the client must not take a part of the response for all of it
        else:
            self._close()  # only the rest of the request was refused

    def _drop_exchange(self) -> None:
        if self._exchange is not None:
            self._exchange.disconnect()
            self._exchange = None

    # Closing.

    def _close(self) -> None:
        """Close after what was written; linger first if the client may still be sending."""
        theirs = self._core.their_state
        if theirs in {h11.SEND_BODY, h11.ERROR} or (theirs is h11.IDLE and self._core.trailing_data[0]):
            self._close_by = self.runtime.awake_seconds() + limits.CLOSE_SECONDS
            self.set_reading(reading=True)
            if self._transport.can_write_eof():
                self._transport.write_eof()
        else:
            self._transport.close()

    def fail(self, error: errors.TinyvexError) -> None:
        """Close, because the server stops: now, or after the response under way."""
        if self._exchange is None and self._close_by is None:
            self._close()

    def abort(self) -> None:
        """Close without another byte."""
        self._transport.abort()

    def tick(self, now: float, *, heartbeat: bool) -> None:
        """Enforce the deadlines."""
        # Any unread byte counts, not only a full buffer: a close waits until the client has read the last one.
        unread_seconds = self._unread.observe(now, self._transport.get_write_buffer_size())
        if self._close_by is not None:
            if now > self._close_by:
                self.abort()
        elif (reason := slow_clients.reason_to_close(0, unread_seconds)) is not None:
            log.warning("connection %d: closing an HTTP client that does not read: %s", self.number, reason)
            self.abort()
        elif self._exchange is None and self._head_since is None:
            if deadlines.is_http_idle(now, self._received_at):
                self._transport.close()
        elif (reason := self._lateness(now)) is not None:
            self.refuse(HTTPStatus.REQUEST_TIMEOUT, reason)

    def _lateness(self, now: float) -> str | None:
        """Return why the request under way is refused; None while its client is in time."""
        if self._head_since is not None:
            return deadlines.late_head(now, self._head_since)
        awaited_since = None if self._exchange is None else self._exchange.body_awaited_since
        return None if awaited_since is None else deadlines.late_body(now, max(awaited_since, self._received_at))


_ISOLATION = [(name.encode(), value.encode()) for name, value in RESPONSE_HEADERS]


def _values(request: h11.Request, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in request.headers if header == name]


def _address(name: object) -> tuple[str, int] | None:
    """Return host and port; None for a transport without a socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def _bad_request(request: h11.Request) -> Refused | None:
    """Return why a request is refused whatever the application would answer; None if it is not."""
    if not request.target.startswith(b"/"):
        return HTTPStatus.BAD_REQUEST, "The request target must begin with a slash."
    size = len(request.target) + sum(len(name) + len(value) for name, value in request.headers)
    if size > limits.HTTP_HEAD_BYTES_MAX:  # h11 bounds a head only while it is incomplete
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HEAD_TOO_LARGE
    lengths, codings = _values(request, b"content-length"), _values(request, b"transfer-encoding")
    if lengths and codings:  # a proxy in front may use the other one, and see other requests (RFC 9112, 11.2)
        return HTTPStatus.BAD_REQUEST, "A request has either a Content-Length or a Transfer-Encoding."
    if not lengths and not codings and _announces_body(request):
        return HTTPStatus.LENGTH_REQUIRED, "A request with a body needs a Content-Length or Transfer-Encoding: chunked."
    if lengths and int(lengths[0]) > limits.HTTP_BODY_BYTES_MAX:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _body_too_large(f"this one has {int(lengths[0]):,}")
    return None


def _announces_body(request: h11.Request) -> bool:
    """
    Return whether a request without a length has a body nevertheless.

    In HTTP/1.1 it has none, and the bytes that follow are the next request. A client that sends the type of a body means
    otherwise. In HTTP/1.0 the body could end with the connection.
    """
    if request.method not in METHODS_WITH_BODY:
        return False
    return request.http_version < b"1.1" or bool(_values(request, b"content-type") or _values(request, b"expect"))


def _body_too_large(size: str) -> str:
    return f"A request body may have {limits.HTTP_BODY_BYTES_MAX:,} bytes; {size}."


def _malformed(error: h11.RemoteProtocolError) -> Refused:
    """Return the response to bytes that h11 cannot parse, without h11's own words, which name its internals."""
    status = HTTPStatus(error.error_status_hint)
    sentences = {
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: HEAD_TOO_LARGE,
        HTTPStatus.NOT_IMPLEMENTED: "The only supported Transfer-Encoding is chunked.",
    }
    return status, sentences.get(status, "This is not a well-formed HTTP/1.1 request.")
