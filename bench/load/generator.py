"""
The load generator: many clients in one process, on plain sockets, cheap enough not to dominate the measurement.

- Requests are encoded and framed before the clock starts.
  Frames are masked, as RFC 6455 requires, with the key 0: the server does its normal work, and the generator does none.
- Received frames are delimited by their length and inspected only by prefix and search, never decoded.
- All clients receive into one buffer, and the requests that a client sends in response to one read leave in one write.

`README.md` states its cost, and each load benchmark reports its load.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from bisect import bisect_left
from collections.abc import Coroutine, Sequence
from typing import Any, cast

__all__ = ["Client", "Crowd", "Deliveries", "Windowed", "frame", "mutation", "request", "run", "wait"]

WAIT_SECONDS_MAX = 120.0
"""Time limit of any phase of a benchmark; a longer one is stuck."""

CALLS_FIRST = 1 << 24
"""First number of unmeasured requests, above the numbers of prepared ones."""

UNACKNOWLEDGED_MAX = 16
"""Prepared mutations of a client that the next one does not acknowledge; more than any client has in flight."""

RECEIVE_BYTES = 1 << 20
_RESPONSE = b'{"jsonrpc":"2.0","id":'
_TRANSITION = b'{"jsonrpc":"2.0","method":"tinyvex/transition"'
_HANDSHAKE = (
    b"GET /sync HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGlueXZleC1iZW5jaG1hcg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """Build a final frame, masked with the key 0."""
    size = len(payload)
    head = bytes([0x80 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def request(number: int, method: str, **params: Any) -> bytes:
    """Build a framed JSON-RPC request."""
    message = {"jsonrpc": "2.0", "id": number, "method": f"tinyvex/{method}", "params": params}
    return frame(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode())


def mutation(number: int, path: str, **args: Any) -> bytes:
    """Build a framed mutation request; its JSON-RPC id is its request id. It acknowledges those long before it."""
    below = max(0, number - UNACKNOWLEDGED_MAX)
    return request(number, "mutation", requestId=number, udfPath=path, args=args, acknowledgedBelow=below)


async def wait(future: asyncio.Future[Any]) -> Any:
    """
    Wait for a phase to end.

    Raises:
        TimeoutError: the phase is stuck.
    """
    return await asyncio.wait_for(future, WAIT_SECONDS_MAX)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a benchmark's coroutine, on uvloop if it is installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


class Client(asyncio.BufferedProtocol):
    """A connection; subclasses handle responses and transitions."""

    capabilities: tuple[str, ...] = ("patch",)

    # Shared by all: a read is fully processed before the loop turns to the next socket.
    _buffer = memoryview(bytearray(RECEIVE_BYTES))

    def __init__(self, port: int, session_id: str) -> None:
        self._port = port
        self._session_id = session_id
        self._transport: asyncio.Transport
        self._rest = b""
        self._open = False
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._next_call = itertools.count(CALLS_FIRST).__next__
        self._closing = False

    @classmethod
    async def dial(cls, *arguments: Any) -> Any:
        """Connect, shake hands, and send `tinyvex/connect`."""
        loop = asyncio.get_running_loop()
        client = cls(*arguments)
        opened = client._calls[-1] = loop.create_future()
        await loop.create_connection(lambda: client, "127.0.0.1", client._port)
        await wait(opened)
        await client.call(
            "connect", protocolVersion=1, sessionId=client._session_id, capabilities=list(cls.capabilities)
        )
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_HANDSHAKE % self._port)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self.fail(exc or ConnectionError("the server closed the connection"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self._rest + self._buffer[:nbytes] if self._rest else bytes(self._buffer[:nbytes])
        if not self._open:
            data = self._shake_hands(data)
        offset, size = 0, len(data)
        while offset + 2 <= size:
            length = data[offset + 1]
            start = offset + 2
            if length == 126:
                start = offset + 4
                length = int.from_bytes(data[offset + 2 : start], "big")
            elif length == 127:
                start = offset + 10
                length = int.from_bytes(data[offset + 2 : start], "big")
            if start + length > size:
                break
            self._frame(data[offset], data[start : start + length])
            offset = start + length
        self._rest = data[offset:]
        self.received()

    def _shake_hands(self, data: bytes) -> bytes:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            return b""
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._open = True
        self._calls.pop(-1).set_result(b"")
        return rest

    def _frame(self, head: int, payload: bytes) -> None:
        if head == 0x81:
            if payload.startswith(_RESPONSE):
                end = payload.index(b",", len(_RESPONSE))
                number = int(payload[len(_RESPONSE) : end])
                if not payload.startswith(b',"result":', end):
                    self.fail(RuntimeError(payload.decode()))
                elif number in self._calls:
                    self._calls.pop(number).set_result(payload[end + 10 : -1])
                else:
                    self.response(number, payload)
            elif payload.startswith(_TRANSITION):
                self.transition(payload)
            elif b"fatalError" in payload[:80]:
                self.fail(RuntimeError(payload.decode()))
        elif head == 0x89:
            self._transport.write(frame(payload, 0xA))

    def response(self, number: int, payload: bytes) -> None:
        """Handle the response to a prepared request."""

    def transition(self, payload: bytes) -> None:
        """Handle a transition."""

    def received(self) -> None:
        """Handle the end of a read, after all of its frames."""

    def fail(self, error: BaseException) -> None:
        """Raise an error in every pending call, so that it ends the benchmark."""
        for future in self._calls.values():
            if not future.done():
                future.set_exception(error)

    def write(self, data: bytes) -> None:
        """Send framed bytes."""
        self._transport.write(data)

    async def call(self, method: str, **params: Any) -> Any:
        """Send one request outside of any measurement; return its result."""
        number = self._next_call()
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        self.write(request(number, method, **params))
        return json.loads(await wait(future))

    async def mutate(self, path: str, **args: Any) -> Any:
        """Run one mutation outside of any measurement; return its value."""
        return (await self._mutation(path, args))["value"]

    async def commit(self, path: str, **args: Any) -> int:
        """Run one mutation outside of any measurement; return its `ts`."""
        return int((await self._mutation(path, args))["ts"])

    async def _mutation(self, path: str, args: dict[str, Any]) -> Any:
        return await self.call("mutation", requestId=self._next_call(), udfPath=path, args=args)

    async def query(self, path: str, **args: Any) -> Any:
        """Run one query outside of any measurement; return its value."""
        return (await self.call("query", udfPath=path, args=args))["value"]

    async def subscribe(self, path: str, *, resume: dict[str, Any] | None = None, **args: Any) -> None:
        """Subscribe to a query; return when the request is accepted, before its transition."""
        add = {"type": "Add", "queryId": 0, "udfPath": path, "args": args, "resume": resume}
        await self.call("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])

    async def subscribe_many(self, path: str, many: Sequence[dict[str, Any]]) -> None:
        """Subscribe to a query with many argument sets in one request."""
        adds = [{"type": "Add", "queryId": number, "udfPath": path, "args": args} for number, args in enumerate(many)]
        await self.call("modifyQuerySet", baseVersion=0, newVersion=1, modifications=adds)

    def stall(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close without a close frame."""
        self._closing = True
        self._transport.abort()


class Windowed(Client):
    """
    A client that sends prepared requests, one more for each answer, so that `window` are always in flight.

    Attributes:
        sent_us: time at which each request was written to the socket, in microseconds, by request.
        commits: the `ts` of each answer, by request.
    """

    def __init__(self, port: int, session_id: str) -> None:
        super().__init__(port, session_id)
        self.sent_us: dict[int, int] = {}
        self.commits: dict[int, int] = {}
        self._prepared: Sequence[bytes] = ()
        self._first = self._sent = self._answered = self._refilled = 0
        self._paced = False
        self._ended: asyncio.Future[None] | None = None

    async def run(self, prepared: Sequence[bytes], first: int, window: int) -> None:
        """
        Send all requests and wait for all answers.

        Args:
            prepared: framed requests.
            first: the number of the first one; the others follow.
            window: the maximum number of unanswered requests.
        """
        ended = self._begin(prepared, first)
        self._send(window)
        await wait(ended)

    async def run_paced(self, prepared: Sequence[bytes], first: int, *, interval: float, offset: float) -> None:
        """
        Send one every `interval` seconds, the first after `offset`, regardless of the answers; wait for all answers.
        """
        ended = self._begin(prepared, first)
        self._paced = True
        loop = asyncio.get_running_loop()
        start = loop.time() + offset
        for position in range(len(prepared)):
            loop.call_at(start + position * interval, self._send, 1)
        await wait(ended)

    def _begin(self, prepared: Sequence[bytes], first: int) -> asyncio.Future[None]:
        self._prepared, self._first = prepared, first
        self._sent = self._answered = self._refilled = 0
        self._paced = False
        self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    def _send(self, count: int) -> None:
        requests = self._prepared[self._sent : self._sent + count]
        if requests:
            now = time.time_ns() // 1000
            for number in range(self._first + self._sent, self._first + self._sent + len(requests)):
                self.sent_us[number] = now
            self._sent += len(requests)
            self.write(b"".join(requests))

    def response(self, number: int, payload: bytes) -> None:
        self._answered += 1
        start = payload.rindex(b'"ts":') + 5
        self.commits[number] = int(payload[start : payload.index(b",", start)])

    def received(self) -> None:
        if self._answered > self._refilled:
            if not self._paced:
                self._send(self._answered - self._refilled)
            self._refilled = self._answered
            if self._answered == len(self._prepared) and self._ended is not None and not self._ended.done():
                self._ended.set_result(None)

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)


class Crowd:
    """A counter of the watchers that hold a version: a single wait for all of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: dict[int, int] = {}
        self._awaited = 0
        self._all: asyncio.Future[None] | None = None

    def arrived(self, ts: int) -> None:
        """Record that one more watcher moved to this version."""
        count = self._counts[ts] = self._counts.get(ts, 0) + 1
        if ts == self._awaited and count == self._size and self._all is not None:
            self._all.set_result(None)

    async def all_hold(self, ts: int) -> None:
        """Wait until every watcher has moved to exactly this version."""
        self._awaited, self._all = ts, None
        if self._counts.get(ts, 0) < self._size:
            self._all = asyncio.get_running_loop().create_future()
            await wait(self._all)
        self._counts.clear()


class Deliveries(Client):
    """
    A watcher of a query that records its versions and their arrival.

    Attributes:
        arrived: version and arrival, in microseconds, of each transition, in order.
        latest: the newest transition, as received.
    """

    def __init__(self, port: int, session_id: str, crowd: Crowd | None = None) -> None:
        super().__init__(port, session_id)
        self.arrived: list[tuple[int, int]] = []
        self.latest = b""
        self._crowd = crowd
        self._awaited: tuple[int, asyncio.Future[None]] | None = None

    def transition(self, payload: bytes) -> None:
        start = payload.index(b'"ts":', payload.index(b'"endVersion"')) + 5
        ts = int(payload[start : payload.index(b"}", start)])
        self.latest = payload
        self.arrived.append((ts, time.time_ns() // 1000))
        if self._crowd is not None:
            self._crowd.arrived(ts)
        if self._awaited is not None and ts >= self._awaited[0]:
            if not self._awaited[1].done():
                self._awaited[1].set_result(None)
            self._awaited = None

    async def held(self, ts: int) -> None:
        """Wait until this client holds the state at `ts` or a later one; a commit at `ts` must have touched it."""
        if self.ts < ts:
            self._awaited = (ts, asyncio.get_running_loop().create_future())
            await wait(self._awaited[1])

    @property
    def ts(self) -> int:
        """Return the version this client holds; 0 before the first."""
        return self.arrived[-1][0] if self.arrived else 0

    def arrival_us(self, ts: int) -> int | None:
        """Return the time at which this client held the state at `ts` or a later one; None if it never did."""
        position = bisect_left(self.arrived, (ts, 0))
        return self.arrived[position][1] if position < len(self.arrived) else None

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        if self._awaited is not None and not self._awaited[1].done():
            self._awaited[1].set_exception(error)
