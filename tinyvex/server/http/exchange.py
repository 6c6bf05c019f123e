"""An HTTP request and its response: ASGI's `receive` and `send` over h11."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import h11

from tinyvex import limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

    from tinyvex.runtime import Runtime

__all__ = ["Carrier", "Exchange", "Headers"]

log = logging.getLogger("tinyvex.server")

Headers = list[tuple[bytes, bytes]]


class ClientGone(ConnectionResetError):
    """The client closed its connection before the response was complete."""


class Carrier(Protocol):
    """A connection, as its exchange sees it."""

    number: int
    runtime: Runtime
    is_writable: asyncio.Event

    def response_headers(self) -> Headers:
        """Return the headers that the connection adds to a response."""
        ...

    def write(self, data: bytes) -> None:
        """Write bytes of the response."""

    def set_reading(self, *, reading: bool) -> None:
        """Pause or resume reading from the client."""

    def respond(self, status: HTTPStatus, sentence: str) -> None:
        """Answer in place of the application, then close."""


class Exchange:
    """
    A request under way.

    Args:
        carrier: the connection.
        core: h11's state of the connection.
        scope: the request, as ASGI describes it.

    Attributes:
        is_complete: whether all of the response was written.
        body_awaited_since: since when the application waits for bytes of the body; None while it does not.
    """

    def __init__(self, carrier: Carrier, core: h11.Connection, scope: dict[str, Any]) -> None:
        self.is_complete = False
        self.body_awaited_since: float | None = None
        self._carrier = carrier
        self._core = core
        self._scope = scope
        # The request.
        self._body = bytearray()  # received and not yet given to the application
        self._is_body_received = False
        self._is_body_delivered = False
        self._is_disconnected = False
        self._changed = asyncio.Event()  # one of the four above, or is_complete
        # The response.
        self._start: Message | None = None
        self._is_start_written = False

    async def run(self, get_application: Callable[[], ASGIApp]) -> None:
        """
        Let the application answer.

        Its defect is logged, and answered with 500 if nothing was written yet; so is a failure to import or create it.
        """
        try:
            await get_application()(self._scope, self._receive, self._send)
        except Exception as error:
            if not _is_client_gone(error):
                number = self._carrier.number
                log.exception("connection %d: a defect in an HTTP handler", number, extra={"connection": number})
        if not self.is_complete and not self._is_disconnected:
            self._carrier.respond(
                HTTPStatus.INTERNAL_SERVER_ERROR, "The request failed; the server's log has the reason."
            )

    # From the connection.

    def receive_body(self, data: bytes) -> None:
        """Buffer bytes of the request's body; reading pauses while the application is behind."""
        self._body += data
        if len(self._body) > limits.HTTP_BODY_BUFFER_BYTES:
            self._carrier.set_reading(reading=False)
        self._changed.set()

    def end_body(self) -> None:
        """Note that the request is complete."""
        self._is_body_received = True
        self._changed.set()

    def disconnect(self) -> None:
        """Note that no response can be sent: the application learns of it at its next `receive` or `send`."""
        self._is_disconnected = True
        self._changed.set()

    # To the application.

    async def _receive(self) -> Message:
        if self._core.they_are_waiting_for_100_continue and not self._is_start_written and not self._is_disconnected:
            # Only now, so that a request that is refused by its head never sends its body.
            proceed = h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[], reason=b"Continue")
            self._carrier.write(self._core.send(proceed) or b"")
        while not self._has_message():
            if not self._is_body_received:
                self.body_awaited_since = self._carrier.runtime.awake_seconds()
            self._changed.clear()
            await self._changed.wait()
        self.body_awaited_since = None
        if self._is_disconnected or self.is_complete:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        self._is_body_delivered = self._is_body_received
        self._carrier.set_reading(reading=True)
        return {"type": "http.request", "body": body, "more_body": not self._is_body_delivered}

    def _has_message(self) -> bool:
        has_body = bool(self._body) or (self._is_body_received and not self._is_body_delivered)
        return has_body or self._is_disconnected or self.is_complete

    async def _send(self, message: Message) -> None:
        await self._carrier.is_writable.wait()
        if self._is_disconnected:
            raise ClientGone("the client closed the connection")
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message  # ASGI: written with the first bytes of the body
        elif kind == "http.response.body" and self._start is not None and not self.is_complete:
            self._write_body(self._start, message.get("body", b""), is_last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} is out of order")

    def _write_body(self, start: Message, body: bytes, *, is_last: bool) -> None:
        events: list[h11.Event] = []
        if not self._is_start_written:
            events.append(self._response_head(start))
        if body and self._scope["method"] != "HEAD":
            events.append(h11.Data(data=body))
        if is_last:
            events.append(h11.EndOfMessage())
        data = b"".join([self._core.send(event) or b"" for event in events])
        self._is_start_written = True
        if is_last:
            self.is_complete = True
            self._changed.set()
        self._carrier.write(data)

    def _response_head(self, start: Message) -> h11.Response:
        status, headers = start["status"], start.get("headers", [])
        names = {name for name, _ in headers}
        added = [(name, value) for name, value in self._carrier.response_headers() if name.lower() not in names]
        named = [(name.title(), value) for name, value in headers]  # ASGI has lower case; `Content-Type` is customary
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = ""  # an application may use a status without a name
        return h11.Response(status_code=status, reason=phrase.encode(), headers=[*named, *added])


def _is_client_gone(error: BaseException | None) -> bool:
    """Return whether an exception comes from sending to a client that is gone; Starlette raises its own instead."""
    while error is not None:
        if isinstance(error, ClientGone):
            return True
        error = error.__cause__ or error.__context__
    return False
