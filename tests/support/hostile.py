"""Hostile clients: each attack opens a connection, misbehaves, checks the answers, and leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from tests.support.fuzz import REQUESTS, Fuzzer, error_fault, example_messages
from tinyvex.dialects.tinyvex.dialect import CLOSE_CODES
from tinyvex.runtime import Runtime

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA

UPGRADE = (
    b"GET /sync HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGlueXZleC1iZW5jaG1hcg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

WRONG_REQUESTS = (
    b"", b"\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /sync HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", b"GET /sync HTTP/9.9\r\n\r\n",
    b"GET " + b"/x" * 50_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"x" * 100_000,
    b"GET /sync HTTP/1.1\r\nHost: localhost\r\n" + b"X-Header: 1\r\n" * 5_000 + b"\r\n",
    b"GET /sync HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"GET /\xff\x00 HTTP/1.1\r\nHost: [::1\r\n\r\n",
    b"GET /healthz?x HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3,
    b"GET /sync HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n",
)  # fmt: skip

SCRAPES = (
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n\x81\x85\x00\x00\x00\x00hello\x82\x80\x00\x00\x00\x00",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3,
)
"""Answered by a thread, which a virtual clock does not wait for."""

WRONG_HOSTS = (
    b"evil.example",
    b"127.0.0.1.evil.example",
    b"[::2]",
    b"",
    b"localhost@evil.example",
    b"local host",
    b"\xff",
)
WRONG_ORIGINS = (b"https://evil.example", b"null", b"http://127.0.0.1:1", b"file://", b"http://[", b"\xfe")


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    """Build a frame, masked with the key 0."""
    size = len(payload)
    head = bytes([0x80 * fin | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


class Wire(asyncio.Protocol):
    """
    A socket that sends arbitrary bytes and records everything it receives.

    Attributes:
        status: status of the server's HTTP answer.
        messages: the server's messages.
        close_code: code of its close frame.
        ended: whether the connection has ended.
        silent: whether it leaves pings unanswered.
        fault: bytes that no server should send.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.messages: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.ended = False
        self.silent = False
        self.fault: Exception | None = None
        self.transport: asyncio.Transport
        self._rest = b""
        self._said_all = False
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        try:
            self._take(self._rest + data)
        except (AssertionError, ValueError) as fault:
            self.fault = fault  # a loop only logs it
        self._wake()

    def _take(self, data: bytes) -> None:
        if self.status is None:
            head, separator, rest = data.partition(b"\r\n\r\n")
            if not separator:
                self._rest = data
                return
            assert head.startswith(b"HTTP/1.1 "), head
            self.status, data = int(head[9:12]), rest
        self._rest = data if self.status != 101 else self._cut(data)

    def _cut(self, data: bytes) -> bytes:
        """Consume complete frames; return the rest."""
        at = 0
        while at + 2 <= len(data):
            length, start = data[at + 1], at + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2 : start], "big")
            if start + length > len(data):
                break
            self._frame(data[at], data[start : start + length])
            at = start + length
        return data[at:]

    def _frame(self, head: int, payload: bytes) -> None:
        assert head in (0x81, 0x88, 0x89, 0x8A), f"a server sends no frame {head:#x}"
        if head == 0x81:
            self.messages.append(json.loads(payload))
        elif head == 0x88:
            self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
            if not self.silent:
                self.write(frame(payload, CLOSE))
        elif head == 0x89 and not self.silent:
            self.write(frame(payload, PONG))

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection has ended."""
        if not self.ended and not self.transport.is_closing() and not self._said_all:
            self.transport.write(data)

    def end(self) -> None:
        """Send a FIN."""
        self._said_all = True
        with contextlib.suppress(OSError):  # the server was quicker
            if not self.ended:
                self.transport.write_eof()

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until the condition holds, or the connection ends."""
        async with asyncio.timeout(seconds):
            while not (self.ended or self.fault or condition()):
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def answers(self) -> int:
        """Count the server's messages that answer a request."""
        return sum("id" in message for message in self.messages)


def errors_of(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every error object in a server's message."""
    params = message.get("params", {})
    for holder in (message, params, *params.get("modifications", [])):
        if "error" in holder:
            yield holder["error"]


def check(wire: Wire) -> None:
    """Check that a server's message follows the protocol and reports no internal error."""
    assert wire.fault is None, wire.fault
    for message in wire.messages:
        assert ("method" in message) != ("result" in message or "error" in message), message
        for error in errors_of(message):
            assert error_fault(error) is None, error
            assert error["data"]["name"] != "InternalError", error
    fatal = [message for message in wire.messages if message.get("method") == "tinyvex/fatalError"]
    if fatal:
        assert wire.messages[-1] is fatal[0], "nothing follows a fatal error"
        name = fatal[0]["params"]["error"]["data"]["name"]
        codes = {kind.__name__: code for kind, code in CLOSE_CODES.items()}
        assert wire.close_code in (None, codes.get(name, 1008)), (name, wire.close_code)
    assert wire.status != 500


class Attacker:
    """
    Attacks a server, one connection at a time, in ways that a seed chooses.

    Attributes:
        sent: number of messages, frames or HTTP requests sent.
        attacks: number of attacks of each kind.
    """

    def __init__(self, runtime: Runtime, port: int, seed: int, *, patience_seconds: float) -> None:
        """
        Create an attacker.

        Args:
            runtime: opens connections; one without threads has a virtual clock, so that deadlines can be waited for.
            port: the server's port.
            seed: chooses everything.
            patience_seconds: deadline of the server's answers.
        """
        self.random = random.Random(seed)
        self.sent = 0
        self.attacks: dict[str, int] = {}
        self._runtime = runtime
        self._port = port
        self._seconds = patience_seconds
        self._strangers = Fuzzer(seed, example_messages(*REQUESTS))
        calls = ("Query", "Query", "Mutation", "Mutation", "Action", "Ping", "ModifyQuerySet", "Authenticate")
        self._members = Fuzzer(seed, [message for name in calls for message in example_messages(name)])
        self._ways = [self.messages] * 24 + [self.before_connect] * 3 + [self.frames] * 6 + [self.http] * 5
        self._ways += [self.foreign, self.binary, self.huge, self.half_open, self.deaf]
        self._requests: tuple[bytes, ...] = (*WRONG_REQUESTS, UPGRADE % port, UPGRADE % port)
        if runtime.threaded:
            self._requests += SCRAPES
        else:
            self._ways += [self.silent, self.half_request]

    async def attack(self) -> None:
        """Run one connection to its end."""
        way = self.random.choice(self._ways)
        self.attacks[way.__name__] = self.attacks.get(way.__name__, 0) + 1
        _, protocol = await self._runtime.dial(Wire, "127.0.0.1", self._port)
        wire = cast("Wire", protocol)
        try:
            await way(wire)
        finally:
            wire.transport.abort()
        check(wire)

    def _say(self, wire: Wire, data: bytes) -> None:
        self.sent += 1
        wire.write(data)

    async def _upgrade(self, wire: Wire) -> None:
        wire.write(UPGRADE % self._port)
        await wire.until(lambda: wire.status is not None, self._seconds)
        assert wire.status == 101

    async def _connect(self, wire: Wire) -> None:
        await self._upgrade(wire)
        params = {"protocolVersion": 1, "sessionId": self.random.randbytes(8).hex(), "capabilities": ["patch", "chunk"]}
        request = {"jsonrpc": "2.0", "id": 0, "method": "tinyvex/connect", "params": params}
        wire.write(frame(json.dumps(request).encode()))
        await wire.until(lambda: wire.answers > 0, self._seconds)
        assert "result" in wire.messages[0], wire.messages

    async def _ended(self, wire: Wire, *codes: int) -> None:
        """Wait until the server has closed, with one of these codes."""
        await wire.until(lambda: wire.close_code is not None, self._seconds)
        assert wire.close_code in codes, wire.close_code

    # Messages.

    async def messages(self, wire: Wire) -> None:
        """Send wrong messages as a connected client: each gets one answer, until one is fatal."""
        await self._connect(wire)
        await self._exchange(wire, [self._members.message() for _ in range(self.random.choice((1, 10, 60)))])

    async def before_connect(self, wire: Wire) -> None:
        """Send wrong messages before `tinyvex/connect`."""
        await self._upgrade(wire)
        await self._exchange(wire, [self._strangers.message() for _ in range(10)])

    async def _exchange(self, wire: Wire, texts: Sequence[bytes]) -> None:
        before = wire.answers
        packed = self.random.choice((self._whole, self._whole, self._in_fragments, self._in_bytes))
        for text in texts:
            self.sent += 1
            packed(wire, text)
        await wire.until(lambda: wire.close_code is not None or wire.answers - before >= len(texts), self._seconds)
        assert wire.answers - before <= len(texts)
        assert wire.ended or wire.close_code is not None or wire.answers - before == len(texts)

    def _whole(self, wire: Wire, text: bytes) -> None:
        wire.write(frame(text))

    def _in_fragments(self, wire: Wire, text: bytes) -> None:
        """Send in frames of a few bytes or none, with pings and pongs in between."""
        size = max(1, len(text) // self.random.randrange(1, 6))
        pieces = [text[at : at + size] for at in range(0, len(text), size)] or [b""]
        pieces.insert(self.random.randrange(len(pieces) + 1), b"")
        for number, piece in enumerate(pieces):
            wire.write(frame(piece, CONTINUATION if number else TEXT, fin=number == len(pieces) - 1))
            if number < len(pieces) - 1:
                wire.write(frame(self.random.randbytes(self.random.choice((0, 125))), self.random.choice((PING, PONG))))

    def _in_bytes(self, wire: Wire, text: bytes) -> None:
        """
        Send a short message byte by byte now and then, else in a few writes, each of which is an event of the virtual
        clock.
        """
        data = frame(text)
        size = max(1, len(data) // self.random.choice((20, 20, 20, 200)))
        for at in range(0, len(data), size):
            wire.write(data[at : at + size])

    # Frames.

    async def frames(self, wire: Wire) -> None:
        """Send frames that violate RFC 6455, or only appear to: no internal error, and every close has a code."""
        await (self._connect if self.random.random() < 0.7 else self._upgrade)(wire)
        for _ in range(self.random.choice((1, 3, 10))):
            self._say(wire, self._odd_frame())
        self._say(wire, frame(b"", CLOSE))
        with contextlib.suppress(TimeoutError):  # the last frame may have announced more than has come
            await wire.until(lambda: wire.close_code is not None, 0.02)
        assert wire.close_code is None or 1000 <= wire.close_code < 5000, "one of the server's own, or an echo"

    def _odd_frame(self) -> bytes:
        chance = self.random
        payload = chance.randbytes(chance.choice((0, 1, 2, 5, 125, 126, 70_000)))
        match chance.randrange(6):
            case 0:
                return frame(payload, chance.randrange(16), fin=chance.random() < 0.5)
            case 1:
                return bytes([chance.randrange(256), chance.randrange(256)]) + payload
            case 2:
                return frame(
                    chance.choice((b"", b"\x03", b"\x03\xe8ok", b"\x03\xed", b"\xff\xff", b"\x03\xe8\xff")), CLOSE
                )
            case 3:
                return b"\x81\xff" + chance.choice((b"\xff" * 8, b"\0" * 8, (2**31).to_bytes(8, "big"))) + payload
            case 4:
                return self._members.noise(frame(self._members.message()))
            case _:
                return payload

    async def binary(self, wire: Wire) -> None:
        """Send a binary message, possibly in fragments: BinaryFrame, 1003."""
        await self._connect(wire)
        self._say(wire, frame(self.random.randbytes(20), BINARY, fin=self.random.random() < 0.5))
        await self._ended(wire, 1003)

    async def huge(self, wire: Wire) -> None:
        """Announce a message beyond the limit: MessageTooLarge, 1009, before its bytes arrive."""
        await self._connect(wire)
        self._say(
            wire, b"\x81\xff" + (self.random.choice((32 << 20, 2**40, 2**63 - 1)) + 1).to_bytes(8, "big") + b"\0\0\0\0"
        )
        await self._ended(wire, 1009)
        assert wire.messages[-1]["params"]["error"]["data"]["name"] == "MessageTooLarge"

    # The connection.

    async def http(self, wire: Wire) -> None:
        """Send a request that is not an upgrade; no answer, 200, or a client error."""
        request = self.random.choice(self._requests)
        if self.random.random() < 0.5:
            request = self._strangers.noise(request)
        self._say(wire, request + (b"\r\n\r\n" if self.random.random() < 0.5 else b""))
        wire.write(frame(b"{}"))
        wire.end()
        await wire.until(lambda: False, self._seconds)
        assert wire.status in (None, 101, 200) or 400 <= wire.status < 500, wire.status

    async def foreign(self, wire: Wire) -> None:
        """Send a wrong Host or Origin: 403, or 400 if it is not a valid header; never an upgrade."""
        request = UPGRADE % self._port
        if self.random.random() < 0.5:
            request = request.replace(b"127.0.0.1:%d" % self._port, self.random.choice(WRONG_HOSTS))
        else:
            request = request.replace(
                b"Upgrade: ", b"Origin: " + self.random.choice(WRONG_ORIGINS) + b"\r\nUpgrade: ", 1
            )
        self._say(wire, request)
        await wire.until(lambda: False, self._seconds)
        assert wire.status in (400, 403), (wire.status, request)

    async def half_open(self, wire: Wire) -> None:
        """Send half a message, then a FIN or an abort."""
        await self._connect(wire)
        data = frame(self._members.message())
        self._say(wire, data[: self.random.randrange(len(data))])
        if self.random.random() < 0.5:
            wire.end()
            await wire.until(lambda: False, self._seconds)

    async def deaf(self, wire: Wire) -> None:
        """Request much data, read none of it, and leave."""
        await self._connect(wire)
        wire.transport.pause_reading()
        params = {"udfPath": "accounts:echo", "args": {"value": "x" * 9_000}}
        request = frame(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tinyvex/query", "params": params}).encode())
        for _ in range(30):
            self._say(wire, (request + frame(b"x" * 125, PING)) * 3)
        await asyncio.sleep(0)

    async def silent(self, wire: Wire) -> None:
        """Send half a message and answer no ping: IdleTimeout, 1000."""
        await self._connect(wire)
        wire.silent = True
        self._say(wire, frame(b'{"jsonrpc"', fin=False))
        await self._ended(wire, 1000)

    async def half_request(self, wire: Wire) -> None:
        """Send an incomplete upgrade byte by byte: the server closes the socket."""
        request = UPGRADE % self._port
        for at in range(self.random.randrange(len(request) - 1)):
            wire.write(request[at : at + 1])
        self.sent += 1
        await wire.until(lambda: False, self._seconds)
        assert wire.ended
