"""
The driver's side of a connection, the same for every peer except for a few bytes.

As cheap as `bench.load.generator`: requests are prepared, answers are counted and never decoded,
and one write follows all answers of one read.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Self, cast

from bench.load.generator import RECEIVE_BYTES, wait
from bench.peers.peer import Arrived

__all__ = ["Connection", "MarkedStream", "PreparedWriter", "marks"]

_MARK = b"#~#"
"""Bytes that never occur in the head of a WebSocket frame or an HTTP chunk."""

_MARK_BYTES = 11


def marks(data: bytes) -> tuple[list[int], bytes]:
    """Return the numbers of the marked messages in these bytes, and an incomplete mark at their end."""
    numbers = []
    start = data.find(_MARK)
    while start >= 0 and start + _MARK_BYTES <= len(data):
        numbers.append(int(data[start + len(_MARK) : start + _MARK_BYTES]))
        start = data.find(_MARK, start + _MARK_BYTES)
    if start < 0:
        start = len(data) - (2 if data.endswith(_MARK[:2]) else 1 if data.endswith(_MARK[:1]) else 0)
    return numbers, data[start:]


class Connection(asyncio.BufferedProtocol):
    """A socket whose bytes go to `received`."""

    _buffer = memoryview(bytearray(RECEIVE_BYTES))

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._closing = False

    async def open(self, port: int, greeting: bytes = b"") -> Self:
        """Connect; send a greeting first if the protocol needs one."""
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        if greeting:
            self.write(greeting)
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self.fail(exc or ConnectionError("the peer closed the connection"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received(bytes(self._buffer[:nbytes]))

    @abstractmethod
    def received(self, data: bytes) -> None:
        """Handle received bytes."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """End the benchmark with an error."""

    def write(self, data: bytes) -> None:
        """Send prepared bytes."""
        self._transport.write(data)

    def close(self) -> None:
        """Close without a goodbye."""
        self._closing = True
        self._transport.abort()


class PreparedWriter(Connection):
    """A writer of prepared requests, one more for each answer; the counterpart of `Windowed`."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_us: dict[int, int] = {}
        self._prepared: Sequence[bytes] = ()
        self._first = self._sent = self._answered = 0
        self._paced = False
        self._ended: asyncio.Future[None] | None = None

    @abstractmethod
    def answers(self, data: bytes) -> int:
        """
        Count the requests that these bytes finish answering; buffer an incomplete answer.

        Raises:
            RuntimeError: a request was refused.
        """

    async def run(self, prepared: Sequence[bytes], first: int, window: int) -> None:
        ended = self._begin(prepared, first)
        self._send(window)
        await wait(ended)

    async def run_paced(self, prepared: Sequence[bytes], first: int, *, interval: float, offset: float) -> None:
        ended = self._begin(prepared, first)
        self._paced = True
        loop = asyncio.get_running_loop()
        start = loop.time() + offset
        for position in range(len(prepared)):
            loop.call_at(start + position * interval, self._send, 1)
        await wait(ended)

    def _begin(self, prepared: Sequence[bytes], first: int) -> asyncio.Future[None]:
        self._prepared, self._first = prepared, first
        self._sent = self._answered = 0
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

    def received(self, data: bytes) -> None:
        try:
            finished = self.answers(data)
        except RuntimeError as error:
            self.fail(error)
            return
        if finished and self._ended is not None:
            self._answered += finished
            if not self._paced:
                self._send(finished)
            if self._answered == len(self._prepared) and not self._ended.done():
                self._ended.set_result(None)

    def fail(self, error: BaseException) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)


class MarkedStream(Connection):
    """
    A reader that finds marked messages in whatever a peer pushes, once `opened` has returned.

    Attributes:
        received_bytes: bytes received since then.
    """

    def __init__(self, arrived: Arrived) -> None:
        super().__init__()
        self.received_bytes = 0
        self._arrived = arrived
        self._rest = b""
        self._needle: bytes | None = b""
        self._seen: asyncio.Future[None] | None = None

    async def opened(self, needle: bytes) -> bytes:
        """Wait until the peer has sent these bytes; return everything received so far."""
        self._needle, self._seen = needle, asyncio.get_running_loop().create_future()
        self._look_for_needle()
        await wait(self._seen)
        head, self._rest, self._needle = self._rest, b"", None
        return head

    def received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        if self._needle is not None:
            self._rest = data
            self._look_for_needle()
            return
        self.received_bytes += len(data) - len(self._rest)
        numbers, self._rest = marks(data)
        for number in numbers:
            self._arrived(number)

    def _look_for_needle(self) -> None:
        if self._needle and self._needle in self._rest and self._seen is not None and not self._seen.done():
            self._seen.set_result(None)

    def fail(self, error: BaseException) -> None:
        if self._seen is not None and not self._seen.done():
            self._seen.set_exception(error)
        else:
            raise error  # logged by the loop; the waiting measure then reaches its time limit
