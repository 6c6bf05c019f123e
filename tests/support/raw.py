"""A client that sends exactly what a test specifies, in frames, and records everything it receives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from tinyvex.runtime import Runtime

SESSION = "session-of-a-test"


class RawClient(asyncio.Protocol):
    """A WebSocket."""

    def __init__(self, url: str) -> None:
        self.core = ClientProtocol(parse_uri(url), max_size=None)
        self.messages: list[dict[str, Any]] = []
        self.pings = 0
        self.response: Response | None = None
        self.ended = False
        self._transport: asyncio.Transport | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._next_id = 0

    @classmethod
    async def open(cls, url: str, runtime: Runtime, *, headers: dict[str, str] | None = None) -> RawClient:
        """Connect and request the upgrade."""
        host, _, port = url.removeprefix("ws://").partition("/")[0].partition(":")
        _, protocol = await runtime.dial(lambda: cls(f"{url.rstrip('/')}/sync"), host, int(port))
        client = cast("RawClient", protocol)
        request = client.core.connect()
        for name, value in (headers or {}).items():
            if name in request.headers:
                del request.headers[name]  # else it would be sent twice
            request.headers[name] = value
        client.core.send_request(request)
        client._write()
        await client.until(lambda: client.response is not None or client.ended)
        return client

    # Sending.

    def send(self, method: str, **params: Any) -> int:
        """Send a request; return its JSON-RPC id."""
        self._next_id += 1
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": f"tinyvex/{method}", "params": params}
        self.send_text(json.dumps(message))
        return self._next_id

    def send_text(self, text: str | bytes) -> None:
        """Send a text frame."""
        self.core.send_text(text if isinstance(text, bytes) else text.encode())
        self._write()

    def connect(self, **params: Any) -> int:
        """Send `tinyvex/connect`."""
        return self.send("connect", **{"protocolVersion": 1, "sessionId": SESSION, **params})

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        return await self.answer(self.send(method, **params))

    async def answer(self, request_id: int) -> dict[str, Any]:
        """Wait for the answer to a request."""
        return await self.message(lambda message: message.get("id") == request_id)

    # Receiving.

    async def answer_unless_ended(self, request_id: int) -> dict[str, Any] | None:
        """Wait for the answer to a request; return None if the connection ended before."""
        await self.until(lambda: self.ended or any(message.get("id") == request_id for message in self.messages))
        return next((message for message in self.messages if message.get("id") == request_id), None)

    async def message(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for the first matching message, including those already received."""
        await self.until(lambda: self.ended or any(map(wanted, self.messages)))
        return next(message for message in self.messages if wanted(message))

    async def notification(self, method: str) -> dict[str, Any]:
        """Wait for a notification."""
        return await self.message(lambda message: message.get("method") == f"tinyvex/{method}")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the received messages make the condition true."""
        while not condition():
            future = asyncio.get_running_loop().create_future()
            self._waiters.append(future)
            await future

    async def end(self) -> int | None:
        """Wait for the end of the connection; return the server's close code."""
        await self.until(lambda: self.ended)
        return self.core.close_rcvd.code if self.core.close_rcvd else None

    # The socket.

    def pause(self) -> None:
        """Stop reading."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume(self) -> None:
        """Resume reading."""
        assert self._transport is not None
        self._transport.resume_reading()

    def cut(self) -> None:
        """Drop the connection without a close frame."""
        assert self._transport is not None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.core.receive_data(data)
        for event in self.core.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.messages.append(json.loads(bytes(event.data)))
            elif isinstance(event, Frame) and event.opcode is Opcode.PING:
                self.pings += 1
        self._write()
        self._wake()

    def eof_received(self) -> bool:
        self.core.receive_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._wake()

    def _write(self) -> None:
        assert self._transport is not None
        for data in self.core.data_to_send():
            if data:
                self._transport.write(data)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    @property
    def is_open(self) -> bool:
        """Return whether the WebSocket is open."""
        return self.core.state is State.OPEN and not self.ended
