"""One WebSocket against `websockets`' own server side, joined by bytes."""

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
    """Hands what is written to a server, and what the server says back."""

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
        """What the server has said."""
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
    """Then `on_open` is called, once."""
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
    """Until it says so."""
    joined = Joined().open()
    joined.link.pause_writing()
    assert not joined.link.writable
    joined.link.resume_writing()
    assert joined.link.writable
    assert joined.happened == ["open", "writable"]


def test_a_ping_is_answered_without_anybody_noticing() -> None:
    """The heartbeat is the library's business."""
    joined = Joined().open()
    joined.pipe.writes.clear()
    joined.pipe.server.send_ping(b"x")
    joined.pipe.deliver()
    assert (len(joined.pipe.writes), joined.texts) == (1, [])


def test_an_error_of_the_reader_closes_the_socket_for_that_reason() -> None:
    """What comes after it is not read."""
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


def test_a_message_that_is_too_large_ends_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken into memory."""
    monkeypatch.setattr(limits, "CLIENT_MESSAGE_BYTES_MAX", 100)
    joined = Joined().open()
    joined.pipe.server.send_text(b"x" * 101)
    joined.pipe.deliver()
    assert joined.texts == []
    assert "too large" in str(joined.lose())


def test_the_reason_of_a_broken_connection_is_kept() -> None:
    """As far as the system knows it."""
    error = Joined().open().lose(ConnectionResetError("reset by peer"))
    assert isinstance(error, ConnectionLost)
    assert "reset by peer" in str(error)


def test_a_port_that_speaks_something_else_is_named_as_such() -> None:
    """Some other program has the port."""
    joined = Joined()
    joined.link.connection_made(joined.pipe)
    joined.link.data_received(b"220 mail.example ESMTP\r\n")
    assert "is not a WebSocket server" in str(joined.lose())


def test_closing_before_the_handshake_drops_the_socket() -> None:
    """There is nobody to say goodbye to."""
    joined = Joined()
    joined.link.connection_made(joined.pipe)
    joined.link.close()
    assert joined.pipe.closed


def test_aborting_before_dialling_has_an_end() -> None:
    """Whoever waits for the link sees that it is gone."""
    joined = Joined()
    joined.link.abort(ConnectionLost("nobody answers"))
    assert joined.link.is_closed
