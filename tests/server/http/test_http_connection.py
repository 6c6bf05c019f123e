"""HTTP/1.1 on a socket: methods, bodies, keep-alive, refusals and deadlines; with real clients, and in virtual time."""

from __future__ import annotations

import asyncio
import http.client
import random
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.http import RawHttp, Served, serving
from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.errors import ServerStopping
from tinyvex.server.http.http_connection import HttpConnection, HttpHost

CHUNK = b"x" * (64 << 10)
HOST = b"Host: localhost\r\n"


class App:
    """Routes for tests, and a record of their calls."""

    def __init__(self) -> None:
        self.chunks_made = 0
        self.disconnected = asyncio.Event()
        self.begun = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.asgi = Starlette(
            routes=[
                Route("/hello", self.hello),
                Route("/size", self.size, methods=["POST", "PUT"]),
                Route("/ignore", self.ignore, methods=["POST"]),
                Route("/wait", self.wait),
                Route("/wait_then_read", self.wait_then_read, methods=["POST"]),
                Route("/endless", self.endless),
                Route("/two_parts", self.two_parts),
                Route("/teapot", self.teapot),
                Route("/fail", self.fail),
                Route("/fail_midway", self.fail_midway),
            ]
        )

    async def hello(self, _request: Request) -> Response:
        return PlainTextResponse("hello")

    async def size(self, request: Request) -> Response:
        """Return the size of the body, and that of its largest chunk."""
        sizes = [len(chunk) async for chunk in request.stream()]
        return PlainTextResponse(f"{sum(sizes)} {max(sizes)}")

    async def ignore(self, _request: Request) -> Response:
        return PlainTextResponse("ignored")

    async def wait(self, request: Request) -> Response:
        self.begun.set()
        await self.may_go_on.wait()
        return PlainTextResponse("waited")

    async def wait_then_read(self, request: Request) -> Response:
        self.begun.set()
        await self.may_go_on.wait()
        return PlainTextResponse(str(len(await request.body())))

    async def endless(self, _request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    self.chunks_made += 1
                    yield CHUNK
            finally:
                self.disconnected.set()

        return StreamingResponse(chunks())

    async def two_parts(self, _request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            await self.may_go_on.wait()
            yield b"two"

        return StreamingResponse(chunks())

    async def teapot(self, _request: Request) -> Response:
        return Response(status_code=299, headers={"Cross-Origin-Resource-Policy": "cross-origin"})

    async def fail(self, _request: Request) -> Response:
        raise LookupError("a defect")

    async def fail_midway(self, _request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise LookupError("a defect")

        return StreamingResponse(chunks(), headers={"Content-Length": "8"})


def request(served: Served, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
    """Return status, headers and body, through Python's own client."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


async def ask(served: Served, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
    return await anyio.to_thread.run_sync(lambda: request(served, method, path, body, **headers))


async def send(served: Served, data: bytes) -> bytes:
    """Send bytes; return everything that arrives until the server ends."""
    client = await served.dial()
    client.send(data)
    return await client.until_ended()


def reset(client: RawHttp) -> None:
    """Close a connection with a reset, because a FIN of the client's half does not mean that it is gone."""
    client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()


# Methods.


async def test_head_has_the_headers_of_get_and_no_body() -> None:
    """The second response follows immediately after the head of the first."""
    async with serving(App().asgi) as served:
        status, headers, body = await ask(served, "HEAD", "/hello")
        assert (status, headers["Content-Length"], body) == (200, "5", b"")
        client = await served.dial()
        client.send(b"HEAD /hello HTTP/1.1\r\n%b\r\nGET /hello HTTP/1.1\r\n%b\r\n" % (HOST, HOST))
        first, second, body = (await client.until(b"\r\n\r\nhello")).split(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert second.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == b"hello"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
async def test_a_method_that_a_path_does_not_have_is_405_with_allow(method: str) -> None:
    """The request's body is discarded, and the connection serves the next request."""
    async with serving(App().asgi) as served:
        status, headers, _ = await ask(served, method, "/hello", b"some bytes")
        assert (status, set(headers["Allow"].split(", "))) == (405, {"GET", "HEAD"})


# Bodies of requests.


async def test_a_body_streams_in() -> None:
    """A body of the maximum size needs no more memory than the buffer and one read of the socket."""
    async with serving(App().asgi) as served:
        body = bytes(limits.HTTP_BODY_BYTES_MAX)
        status, _, text = await ask(served, "POST", "/size", body)
        total, largest = map(int, text.split())
        assert (status, total) == (200, len(body))
        assert largest <= limits.HTTP_BODY_BUFFER_BYTES + (256 << 10)


async def test_reading_pauses_while_the_application_is_behind() -> None:
    """The client's own buffer fills, because the server does not read ahead."""
    app = App()
    async with serving(app.asgi) as served:
        client = await served.dial()
        size = limits.HTTP_BODY_BYTES_MAX
        client.send(b"POST /wait_then_read HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (HOST, size))
        client.send(bytes(size))
        await app.begun.wait()
        while served.door.counters.bytes_received <= limits.HTTP_BODY_BUFFER_BYTES:
            await anyio.lowlevel.checkpoint()
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert served.door.counters.bytes_received < 1 << 20
        app.may_go_on.set()
        await client.until(b"\r\n\r\n%d" % size)


async def test_a_longer_body_is_413_by_its_length() -> None:
    """The client receives the response although it is still sending: the connection is not reset before."""
    async with serving(App().asgi) as served:
        status, headers, body = await ask(served, "POST", "/size", bytes(limits.HTTP_BODY_BYTES_MAX + 1))
        assert (status, headers["Connection"]) == (413, "close")
        assert body == b"A request body may have 20,971,520 bytes; this one has 20,971,521.\n"


@pytest.mark.parametrize("path", ["/size", "/ignore"])
async def test_a_longer_body_is_413_without_its_length(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunked body is refused when it exceeds the bound; if the application ignores it, the connection ends."""
    monkeypatch.setattr(limits, "HTTP_BODY_BYTES_MAX", 1 << 20)
    async with serving(App().asgi) as served:
        chunk = b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK)
        head = b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (path.encode(), HOST)
        answer = await send(served, head + chunk * 32)
        assert answer.startswith(b"HTTP/1.1 413 " if path == "/size" else b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", [b"/size", b"/ignore"])
async def test_a_chunked_body_is_a_body(path: bytes) -> None:
    """The next request starts behind the body, whether or not the application reads it."""
    async with serving(App().asgi) as served:
        client = await served.dial()
        head = b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (path, HOST)
        client.send(head + b"3\r\nabc\r\n0\r\n\r\nGET /hello HTTP/1.1\r\n%b\r\n" % HOST)
        answer = await client.until(b"\r\n\r\nhello")
        assert (b"3 3" if path == b"/size" else b"ignored") in answer


@pytest.mark.parametrize(
    "head",
    [b"POST /size HTTP/1.1\r\n%bContent-Type: text/plain\r\n\r\n", b"PUT /size HTTP/1.0\r\n%b\r\n",
     b"POST /size HTTP/1.1\r\n%bExpect: 100-continue\r\n\r\n"],
)  # fmt: skip
async def test_a_body_without_a_length_is_411(head: bytes) -> None:
    """The end of such a body is unknown."""
    async with serving(App().asgi) as served:
        answer = await send(served, head % HOST + b"a body")
        assert answer.startswith(b"HTTP/1.1 411 ")
        assert answer.endswith(b"\r\n\r\nA request with a body needs a Content-Length or Transfer-Encoding: chunked.\n")


async def test_a_post_without_a_body_needs_no_length() -> None:
    """In HTTP/1.1 a missing length means an empty body, as `curl -X POST` sends it."""
    async with serving(App().asgi) as served:
        client = await served.dial()
        client.send(b"POST /ignore HTTP/1.1\r\n%b\r\n" % HOST)
        await client.until(b"\r\n\r\nignored")


async def test_a_client_that_expects_100_continue_is_asked_for_its_body() -> None:
    """`100 Continue` is sent when the application reads the body, and not before."""
    app = App()
    async with serving(app.asgi) as served:
        client = await served.dial()
        client.send(b"POST /wait_then_read HTTP/1.1\r\n%bContent-Length: 5\r\nExpect: 100-continue\r\n\r\n" % HOST)
        await app.begun.wait()
        assert client.received == b""
        app.may_go_on.set()
        await client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"hello")
        await client.until(b"\r\n\r\n5")


@pytest.mark.parametrize(("path", "status"), [(b"/ignore", b"200"), (b"/hello", b"405"), (b"/size", b"413")])
async def test_a_body_that_is_not_wanted_is_not_asked_for(path: bytes, status: bytes) -> None:
    """The response replaces `100 Continue`, and the connection ends, because the body may or may not follow."""
    size = limits.HTTP_BODY_BYTES_MAX + 1 if status == b"413" else 5
    async with serving(App().asgi) as served:
        head = b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (path, HOST, size)
        answer = await send(served, head)
        assert answer.startswith(b"HTTP/1.1 %b " % status)
        assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_uploads_with_100_continue() -> None:
    """curl sends Expect above a megabyte."""
    async with serving(App().asgi) as served:
        command = ["curl", "-sS", "--data-binary", "@-", f"http://127.0.0.1:{served.port}/size"]
        result = await anyio.run_process(command, input=bytes(2 << 20), stderr=subprocess.PIPE)
        assert result.stdout.split()[0] == str(2 << 20).encode()


# Responses.


async def test_a_response_streams_out_no_faster_than_it_is_read() -> None:
    """A client that reads nothing pauses the application, and one that disconnects ends it."""
    app = App()
    async with serving(app.asgi) as served:
        client = await served.dial()
        client.transport.pause_reading()
        client.send(b"GET /endless HTTP/1.1\r\n%b\r\n" % HOST)
        made = -1
        while made < app.chunks_made or made < 4:  # until it makes no more: the system's buffers are full
            made = app.chunks_made
            assert made * len(CHUNK) < 64 << 20
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
        client.transport.abort()
        with anyio.fail_after(20):
            await app.disconnected.wait()


async def test_an_application_chooses_status_and_headers() -> None:
    """Also a status without a name; its header replaces the one that every response has."""
    async with serving(App().asgi) as served:
        status, headers, _ = await ask(served, "GET", "/teapot")
        assert status == 299
        assert headers.get_all("Cross-Origin-Resource-Policy") == ["cross-origin"]
        assert headers.get_all("X-Content-Type-Options") == ["nosniff"]


async def test_a_defect_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The response reveals nothing about the defect; the connection's next request is served."""
    async with serving(App().asgi) as served:
        status, _, body = await ask(served, "GET", "/fail")
        assert status == 500
        assert b"a defect" not in body
        assert (await ask(served, "GET", "/hello"))[0] == 200
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


async def test_a_defect_in_the_middle_of_a_response_cuts_it(caplog: pytest.LogCaptureFixture) -> None:
    """A client cannot mistake the part for the whole."""
    async with serving(App().asgi) as served:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            await ask(served, "GET", "/fail_midway")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


async def test_a_client_that_disconnects_is_not_a_defect(caplog: pytest.LogCaptureFixture) -> None:
    """The application's further output is dropped, and nothing is logged."""
    app = App()
    async with serving(app.asgi) as served:
        client = await served.dial()
        client.send(b"GET /wait HTTP/1.1\r\n%b\r\n" % HOST)
        await app.begun.wait()
        reset(client)
        with anyio.fail_after(20):
            while served.door.endpoints:
                await anyio.lowlevel.checkpoint()
        app.may_go_on.set()
        assert (await ask(served, "GET", "/hello"))[0] == 200
    assert caplog.records == []


# Connections.


async def test_a_connection_serves_many_requests() -> None:
    """Sequential and pipelined requests are answered in order."""
    async with serving(App().asgi) as served:
        client = await served.dial()
        for count in range(1, 4):
            client.send(b"GET /hello HTTP/1.1\r\n%b\r\n" % HOST)
            while client.received.count(b"\r\n\r\nhello") < count:
                await client._wait()
        client.send(b"GET /hello HTTP/1.1\r\n%b\r\nGET /nothing HTTP/1.1\r\n%b\r\n" % (HOST, HOST))
        await client.until(b"404 Not Found")
        assert client.received.count(b"\r\n\r\nhello") == 4
        assert served.door.counters.connections_total == 1


@pytest.mark.parametrize(
    "head", [b"GET /hello HTTP/1.1\r\n%bConnection: close\r\n\r\n", b"GET /hello HTTP/1.0\r\n%b\r\n"]
)
async def test_a_connection_closes_when_its_client_asks_for_it(head: bytes) -> None:
    """This applies to `Connection: close` and to HTTP/1.0."""
    async with serving(App().asgi) as served:
        assert (await send(served, head % HOST)).endswith(b"\r\n\r\nhello")


async def test_a_client_that_has_ended_its_half_gets_its_answer() -> None:
    """`printf … | nc` ends its half before the response."""
    app = App()
    async with serving(app.asgi) as served:
        client = await served.dial()
        client.send(b"GET /wait HTTP/1.1\r\n%b\r\n" % HOST)
        client.transport.write_eof()
        await app.begun.wait()
        app.may_go_on.set()
        assert (await client.until_ended()).endswith(b"\r\n\r\nwaited")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", b"400"), (b"GET /hello\r\n\r\n", b"400"), (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
        (b"GET /hello HTTP/1.1\r\n\r\n", b"400"), (b"GET /hello HTTP/1.1\r\n%bX y: 1\r\n\r\n" % HOST, b"400"),
        (b"GET http://localhost/hello HTTP/1.1\r\n%b\r\n" % HOST, b"400"),
        (b"POST /size HTTP/1.1\r\n%bContent-Length: x\r\n\r\n" % HOST, b"400"),
        (b"POST /size HTTP/1.1\r\n%bContent-Length: 1\r\nContent-Length: 2\r\n\r\n" % HOST, b"400"),
        (b"POST /size HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\nzz\r\n" % HOST, b"400"),
        (b"POST /size HTTP/1.1\r\n%bTransfer-Encoding: gzip\r\n\r\n" % HOST, b"501"),
        (b"POST /size HTTP/1.1\r\n%bContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % HOST, b"400"),
        (b"GET /hello HTTP/1.1\r\n%bX: %b\r\n\r\n" % (HOST, b"x" * 20_000), b"431"),
        (b"GET /%b HTTP/1.1\r\n" % (b"x" * 20_000), b"431"),
    ],
)  # fmt: skip
async def test_a_bad_request_is_answered_in_one_sentence(
    data: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection ends, and the log has the sentence."""
    async with serving(App().asgi) as served:
        head, _, body = (await send(served, data)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %b " % status)
        assert b"Content-Type: text/plain" in head
        assert b"Connection: close" in head
        assert body.endswith(b".\n")
        assert body.count(b"\n") == 1
        assert f"refused a request: {body.decode().strip()}" in caplog.messages


async def test_rules_hold_for_every_request_of_a_connection() -> None:
    """A browser sends requests of several pages over one connection."""
    async with serving(App().asgi) as served:
        client = await served.dial()
        client.send(b"GET /hello HTTP/1.1\r\n%b\r\n" % HOST)
        await client.until(b"\r\n\r\nhello")
        client.send(b"GET /hello HTTP/1.1\r\n%bOrigin: https://evil.example\r\n\r\n" % HOST)
        assert b"HTTP/1.1 403 " in await client.until_ended()


# In virtual time.


Scenario = Callable[[Served, App], Awaitable[None]]


def play(scenario: Scenario) -> None:
    """Run a scenario against the application on a virtual loop and a network in memory."""

    async def main() -> None:
        app = App()
        async with serving(app.asgi, WorldRuntime(Network(random.Random(1)), random.Random(2))) as served:
            await scenario(served, app)

    run_virtual(main())


@pytest.mark.parametrize("head", [b"GET /hel", b"GET /hello HTTP/1.1\r\nHost: local", b"POST /size HTTP/1.1\r\n"])
@pytest.mark.parametrize("before", [b"", b"GET /hello HTTP/1.1\r\n%b\r\n" % HOST])
def test_slow_headers_are_408(head: bytes, before: bytes) -> None:
    """A head has HANDSHAKE_SECONDS from its first byte, also that of a later request, however its bytes arrive."""

    async def scenario(served: Served, _: App) -> None:
        client = await served.dial()
        if before:
            client.send(before)
            await client.until(b"\r\n\r\nhello")
        began = served.runtime.monotonic()
        client.send(head)
        while not client.has_ended:
            await asyncio.sleep(1.0)
            client.send(b"x")
        assert client.received.count(b"HTTP/1.1 408 ") == 1
        assert limits.HANDSHAKE_SECONDS <= served.runtime.monotonic() - began < limits.HANDSHAKE_SECONDS + 3

    play(scenario)


def test_an_idle_connection_is_closed() -> None:
    """It is closed silently after HTTP_IDLE_SECONDS without a request."""

    async def scenario(served: Served, _: App) -> None:
        client = await served.dial()
        client.send(b"GET /hello HTTP/1.1\r\n%b\r\n" % HOST)
        answer = await client.until(b"\r\n\r\nhello")
        began = served.runtime.monotonic()
        assert await client.until_ended() == answer
        assert limits.HTTP_IDLE_SECONDS <= served.runtime.monotonic() - began < limits.HTTP_IDLE_SECONDS + 3

    play(scenario)


def test_a_handler_may_take_its_time() -> None:
    """No deadline of the connection applies to a handler."""

    async def scenario(served: Served, app: App) -> None:
        client = await served.dial()
        client.send(b"GET /wait HTTP/1.1\r\n%b\r\n" % HOST)
        await asyncio.sleep(10 * limits.HTTP_IDLE_SECONDS)
        app.may_go_on.set()
        await client.until(b"\r\n\r\nwaited")

    play(scenario)


def test_a_body_that_stops_is_408() -> None:
    """The limit is HTTP_IDLE_SECONDS without a byte; a slow body arrives."""

    async def scenario(served: Served, _: App) -> None:
        client = await served.dial()
        client.send(b"POST /size HTTP/1.1\r\n%bContent-Length: 5\r\n\r\n" % HOST)
        for _ in range(4):
            await asyncio.sleep(limits.HTTP_IDLE_SECONDS - 2)
            client.send(b"x")
        assert client.received == b""
        assert (await client.until_ended()).startswith(b"HTTP/1.1 408 ")

    play(scenario)


def test_a_refused_client_that_goes_on_sending_is_cut() -> None:
    """The client has CLOSE_SECONDS to read its response."""

    async def scenario(served: Served, _: App) -> None:
        client = await served.dial()
        began = served.runtime.monotonic()
        client.send(b"nonsense\r\n\r\n")
        while served.door.endpoints:
            await asyncio.sleep(0.1)
            client.send(CHUNK)
        assert client.received.startswith(b"HTTP/1.1 400 ")
        assert served.runtime.monotonic() - began < limits.CLOSE_SECONDS + 2

    play(scenario)


def test_a_client_that_does_not_read_is_cut() -> None:
    """It is cut after SLOW_CONSUMER_SECONDS without reading a byte, and its handler ends."""

    async def scenario(served: Served, app: App) -> None:
        client = await served.dial()
        client.transport.pause_reading()
        client.send(b"GET /endless HTTP/1.1\r\n%b\r\n" % HOST)
        with anyio.fail_after(2 * limits.SLOW_CONSUMER_SECONDS):
            await app.disconnected.wait()
        assert served.runtime.monotonic() >= limits.SLOW_CONSUMER_SECONDS

    play(scenario)


class StuckTransport:
    """A transport whose peer reads nothing: its buffer is not full, and a close waits for it."""

    def __init__(self) -> None:
        self.is_aborted = False

    def get_write_buffer_size(self) -> int:
        return 1

    def close(self) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True


def test_a_client_that_leaves_the_end_of_a_response_unread_is_cut() -> None:
    """Also if the buffer was never full: closing alone would wait for the client forever."""
    transport: Any = StuckTransport()
    connection = HttpConnection(cast("HttpHost", SimpleNamespace(runtime=None)), 1, 0.0)
    connection.connection_made(transport)
    connection._head_since = None  # idle, after a response
    for now in range(int(limits.SLOW_CONSUMER_SECONDS) + 2):
        assert not transport.is_aborted
        connection.tick(float(now), heartbeat=False)
    assert transport.is_aborted


async def stop(served: Served) -> None:
    served.door.begin_close(ServerStopping("the server is stopping"))
    await served.door.wait_closed()


def test_stopping_closes_idle_connections_and_finishes_responses() -> None:
    """Idle connections close immediately; an active response is the last of its connection; a stuck handler is cut."""

    async def scenario(served: Served, app: App) -> None:
        idle, busy = await served.dial(), await served.dial()
        idle.send(b"GET /hello HTTP/1.1\r\n%b\r\n" % HOST)
        await idle.until(b"\r\n\r\nhello")
        busy.send(b"GET /wait HTTP/1.1\r\n%b\r\n" % HOST)
        await app.begun.wait()
        began = served.runtime.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop, served)
            await idle.until_ended()
            app.may_go_on.set()
            answer = await busy.until_ended()
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"\r\n\r\nwaited")
        assert served.runtime.monotonic() - began < 1

    play(scenario)


def test_a_socket_that_arrives_while_stopping_is_cut() -> None:
    """It waited in the system's queue when the listener closed, and the shutdown must not wait for it."""

    async def scenario(served: Served, _: App) -> None:
        served.door.begin_close(ServerStopping("the server is stopping"))
        late = await served.dial()
        await late.until_ended()
        assert served.runtime.monotonic() < 1
        assert not served.door.endpoints

    play(scenario)


def test_stopping_ends_a_connection_whose_response_had_begun() -> None:
    """Its head promised another request, and the connection closes nevertheless once the response is complete."""

    async def scenario(served: Served, app: App) -> None:
        client = await served.dial()
        client.send(b"GET /two_parts HTTP/1.1\r\n%b\r\n" % HOST)
        await client.until(b"one")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop, served)
            await asyncio.sleep(0.1)
            app.may_go_on.set()
            with anyio.fail_after(limits.CLOSE_SECONDS / 2):
                assert b"two" in await client.until_ended()

    play(scenario)


def test_stopping_waits_for_no_handler_longer_than_its_deadline() -> None:
    """A stuck handler is cut after CLOSE_SECONDS."""

    async def scenario(served: Served, app: App) -> None:
        busy = await served.dial()
        busy.send(b"GET /wait HTTP/1.1\r\n%b\r\n" % HOST)
        await app.begun.wait()
        began = served.runtime.monotonic()
        await stop(served)
        assert await busy.until_ended() == b""
        assert served.runtime.monotonic() - began < limits.CLOSE_SECONDS + 1

    play(scenario)
