"""One WebSocket against the server side of `websockets`, joined in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from tinyvex import limits
from tinyvex.client.websocket_transport import WebSocketTransport
from tinyvex.errors import ConnectionLost, TinyvexError, UpdateRejected
from tinyvex.runtime import Runtime


class Pipe(asyncio.Transport):
    """A transport that passes written bytes to a server, and the server's bytes back."""

    def __init__(self, link: WebSocketTransport) -> None:
        super().__init__()
        self.link = link
        self.server = ServerProtocol()
        self.closed = False
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))
        self.server.receive_data(bytes(data))
        for event in self.server.events_received():
            if isinstance(event, Request):
                self.server.send_response(self.server.accept(event))

    def deliver(self) -> None:
        """Pass the server's bytes to the client."""
        data = b"".join(self.server.data_to_send())
        if data:
            self.link.data_received(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Joined:
    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.happened: list[str] = []
        self.refuse: TinyvexError | None = None
        self.link = WebSocketTransport(
            parse_uri("ws://tinyvex.test/sync"),
            Runtime(),
            on_open=lambda: self.happened.append("open"),
            on_text=self.take,
            on_writable=lambda: self.happened.append("writable"),
            on_end=lambda: self.happened.append("end"),
        )
        self.pipe = Pipe(self.link)

    def take(self, text: bytes) -> None:
        self.texts.append(text)
        if self.refuse is not None:
            raise self.refuse

    def open(self) -> Joined:
        self.link.connection_made(self.pipe)
        self.pipe.deliver()
        return self

    def lose(self, error: Exception | None = None) -> TinyvexError:
        self.link.connection_lost(error)
        assert self.link.is_closed
        assert self.link.error is not None
        return self.link.error


def test_nothing_can_be_sent_before_the_handshake_is_done() -> None:
    """After it, `on_open` is called once."""
    joined = Joined()
    assert not joined.link.writable
    joined.open()
    assert joined.link.writable
    assert joined.happened == ["open"]


def test_messages_of_one_flush_are_one_write() -> None:
    """The server reads them one by one."""
    joined = Joined().open()
    joined.pipe.writes.clear()
    for text in (b"one", b"two", b"three"):
        joined.link.send(text)
    joined.link.flush()
    assert len(joined.pipe.writes) == 1


def test_a_paused_transport_is_not_writable() -> None:
    """Until it resumes."""
    joined = Joined().open()
    joined.link.pause_writing()
    assert not joined.link.writable
    joined.link.resume_writing()
    assert joined.link.writable
    assert joined.happened == ["open", "writable"]


def test_a_ping_is_answered_by_the_transport() -> None:
    """Pings are handled by `websockets`."""
    joined = Joined().open()
    joined.pipe.writes.clear()
    joined.pipe.server.send_ping(b"x")
    joined.pipe.deliver()
    assert (len(joined.pipe.writes), joined.texts) == (1, [])


def test_an_error_of_the_reader_closes_the_socket_for_that_reason() -> None:
    """Later messages are not read."""
    joined = Joined().open()
    joined.refuse = UpdateRejected("makes no sense " + "ä" * 200)
    for text in (b"one", b"two"):
        joined.pipe.server.send_text(text)
    joined.pipe.deliver()
    assert joined.texts == [b"one"]
    assert joined.happened == ["open", "end"]
    received = joined.pipe.server.close_rcvd
    assert received is not None
    assert received.code == 1002
    assert received.reason.startswith("makes no sense")
    assert joined.lose() is joined.refuse


def test_a_message_that_is_too_large_closes_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not buffered."""
    monkeypatch.setattr(limits, "CLIENT_MESSAGE_BYTES_MAX", 100)
    joined = Joined().open()
    joined.pipe.server.send_text(b"x" * 101)
    joined.pipe.deliver()
    assert joined.texts == []
    assert "too large" in str(joined.lose())


def test_the_reason_of_a_lost_connection_is_recorded() -> None:
    """As the operating system reports it."""
    error = Joined().open().lose(ConnectionResetError("reset by peer"))
    assert isinstance(error, ConnectionLost)
    assert "reset by peer" in str(error)


def test_a_server_of_another_protocol_is_reported() -> None:
    """Another program may use the port."""
    joined = Joined()
    joined.link.connection_made(joined.pipe)
    joined.link.data_received(b"220 mail.example ESMTP\r\n")
    assert "is not a WebSocket server" in str(joined.lose())


def test_a_server_that_ends_during_the_handshake_is_reported_as_closed() -> None:
    """It was killed or is too busy, and may well be a WebSocket server."""
    joined = Joined()
    joined.link.connection_made(joined.pipe)
    reason = str(joined.lose(ConnectionResetError("reset by peer")))
    assert "the connection was closed during the handshake" in reason
    assert "not a WebSocket server" not in reason


def test_closing_before_the_handshake_aborts_the_socket() -> None:
    """There is no WebSocket to close yet."""
    joined = Joined()
    joined.link.connection_made(joined.pipe)
    joined.link.close()
    assert joined.pipe.closed


def test_aborting_before_dialling_closes_the_transport() -> None:
    """Callers that wait for it continue."""
    joined = Joined()
    joined.link.abort(ConnectionLost("nobody answers"))
    assert joined.link.is_closed
