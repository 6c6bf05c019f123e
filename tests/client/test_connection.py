"""The client's connection on an in-memory network in virtual time: dialling, waiting, timing out, closing."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.support.fake_server import Endpoint, error_object
from tests.support.fake_world import FakeWorld, in_fake_world
from tests.support.loop import VirtualLoop
from tinyvex import limits
from tinyvex.client.client import Client, connect
from tinyvex.client.connection import socket_uri
from tinyvex.client.connection_status import ConnectionState
from tinyvex.errors import Forbidden, InternalError, RemoteError, Unauthenticated, UpdateRejected


async def until(client: Client, phase: str) -> ConnectionState:
    async for state in client.connection_states():
        if state.phase == phase:
            return state
    raise AssertionError(f"never {phase}")


# URLs.


@pytest.mark.parametrize(
    ("url", "host", "port", "resource", "secure"),
    [
        ("ws://127.0.0.1:3210/sync", "127.0.0.1", 3210, "/sync", False),
        ("http://127.0.0.1:3210", "127.0.0.1", 3210, "/sync", False),
        ("http://127.0.0.1:3210/", "127.0.0.1", 3210, "/sync", False),
        ("https://hub.example", "hub.example", 443, "/sync", True),
        ("ws://[::1]:9/other?x=1", "::1", 9, "/other?x=1", False),
    ],
)
def test_urls(url: str, host: str, port: int, resource: str, secure: bool) -> None:
    """`http` and `https` are accepted; the default path is `/sync`."""
    uri = socket_uri(url)
    assert (uri.host, uri.port, uri.resource_name, uri.secure) == (host, port, resource, secure)


@pytest.mark.parametrize("url", ["127.0.0.1:3210", "ftp://x", "", "ws://", "/sync", "ws://a..b", f"ws://{'a' * 64}"])
def test_an_invalid_url_is_refused(url: str) -> None:
    """By `connect`, before any dialling."""
    with pytest.raises(ValueError, match="not the URL"):
        socket_uri(url)


# Connecting.


def test_the_states_of_a_connection() -> None:
    """Connecting, connected, disconnected, connecting, connected, closed."""

    async def scenario(world: FakeWorld) -> list[str]:
        phases = []
        client = world.client()
        async with client, anyio.create_task_group() as group:

            async def watch() -> None:
                phases.extend([state.phase async for state in client.connection_states()])

            group.start_soon(watch)
            await until(client, "connected")
            world.cut()
            await until(client, "disconnected")
            await until(client, "connected")
            client.close()
        return phases

    phases = in_fake_world(scenario)
    assert phases == ["connecting", "connected", "disconnected", "connecting", "connected", "closed"]


def test_retries_back_off_exponentially() -> None:
    """The delays double up to the maximum, each reduced by a random part of up to half."""

    async def scenario(world: FakeWorld) -> list[float]:
        world.stop()
        tries = []
        async with world.client() as client:
            async for state in client.connection_states():
                if state.phase == "disconnected":
                    tries.append(world.now)
                    assert state.retries == len(tries)
                    assert "no server answers" in str(state.last_error)
                if len(tries) == 14:
                    break
        return tries

    tries = in_fake_world(scenario)
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    for number, pause in enumerate(pauses):
        longest = min(limits.RECONNECT_SECONDS_MIN * 2**number, limits.RECONNECT_SECONDS_MAX)
        assert longest / 2 <= pause <= longest + 0.1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1"])
def test_a_server_of_this_machine_is_found_soon_after_it_starts(host: str) -> None:
    """While no server listens on loopback, the longest pause is short."""

    async def scenario(world: FakeWorld) -> float:
        world.stop()
        async with world.client(host=host) as client:
            await asyncio.sleep(100)
            world.start()
            started = world.now
            await client.wait_connected()
            return world.now - started

    assert in_fake_world(scenario) <= limits.RECONNECT_LOOPBACK_SECONDS_MAX + 0.1


def test_a_server_of_this_machine_that_fails_is_left_in_peace() -> None:
    """The pause grows as on other hosts if a server accepts the socket: each attempt costs it a resend."""

    async def scenario(world: FakeWorld) -> int:
        world.server.refusal = error_object("Overloaded", retry="later")
        async with world.client(host="127.0.0.1"):
            await asyncio.sleep(100)
            return len(world.endpoints)

    assert in_fake_world(scenario) < 25


def test_reconnect_now_ends_the_pause() -> None:
    """The next attempt follows at once, however long the pause would have been."""

    async def scenario(world: FakeWorld) -> float:
        world.stop()
        async with world.client() as client:
            await asyncio.sleep(200)
            await until(client, "disconnected")
            world.start()
            started = world.now
            client.reconnect_now()
            await client.wait_connected()
            return world.now - started

    assert in_fake_world(scenario) < 0.1


def test_reconnect_now_ends_the_pause_that_the_server_asked_for() -> None:
    """The program knows more than the hint did."""

    async def scenario(world: FakeWorld) -> float:
        async with world.client() as client:
            await client.wait_connected()
            world.endpoint.session.fatal(error_object("ServerStopping", retry="later", retryAfterMs=60_000))
            world.endpoint.flush()
            await until(client, "disconnected")
            started = world.now
            client.reconnect_now()
            await client.wait_connected()
            return world.now - started

    assert in_fake_world(scenario) < 0.1


def test_reconnect_now_during_an_attempt_skips_the_next_pause() -> None:
    """The server may have started just after the attempt began."""

    async def scenario(world: FakeWorld) -> float:
        world.stop()
        async with world.client() as client:
            await asyncio.sleep(200)
            await until(client, "connecting")
            client.reconnect_now()
            world.start()
            started = world.now
            await client.wait_connected()
            return world.now - started

    assert in_fake_world(scenario) < 0.1


def test_reconnect_now_while_connected_has_no_effect() -> None:
    """Neither now, nor on the pause after the connection is lost."""

    async def scenario(world: FakeWorld) -> tuple[int, float]:
        async with world.client() as client:
            await client.wait_connected()
            client.reconnect_now()
            await client.query("counters:get", {"name": "a"})
            sockets = len(world.endpoints)
            world.cut()
            await until(client, "disconnected")
            lost = world.now
            await client.wait_connected()
            return sockets, world.now - lost

    sockets, pause = in_fake_world(scenario)
    assert sockets == 1
    assert pause >= limits.RECONNECT_SECONDS_MIN / 2


def test_closing_does_not_wait_for_a_server_that_does_not_answer() -> None:
    """Closing cancels a dial that gets no answer, and a TLS handshake that gets none."""

    async def scenario(world: FakeWorld) -> float:
        async def dial(*_: object) -> None:
            await asyncio.Event().wait()

        world.runtime.dial = dial  # type: ignore[method-assign,assignment]
        async with world.client():
            await asyncio.sleep(1)
        return world.now

    assert in_fake_world(scenario) == pytest.approx(1)


def test_a_client_can_be_closed_at_any_time() -> None:
    """No callback of the event loop fails, and no task is left."""

    async def scenario(world: FakeWorld) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: messages.append(context))
        for steps in range(40):
            async with world.client() as client:
                client.subscribe("counters:get", {"name": "a"})
                for _ in range(steps):
                    await asyncio.sleep(0.0005)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return messages

    assert in_fake_world(scenario) == []


def test_the_backoff_restarts_once_a_connection_has_caught_up() -> None:
    """The next delay is short again."""

    async def scenario(world: FakeWorld) -> int:
        world.stop()
        async with world.client() as client:
            async for state in client.connection_states():
                if state.retries == 6:
                    break
            world.start()
            await until(client, "connected")
            await client.query("counters:echo", {"value": 1})
            assert client.connection_state.retries == 0
            world.cut()
            return (await until(client, "disconnected")).retries

    assert in_fake_world(scenario) == 1


def test_a_connection_that_breaks_before_it_has_caught_up_counts_as_a_retry() -> None:
    """The resent messages may be the cause, so the delays grow."""

    async def scenario(world: FakeWorld) -> int:
        def prepare(endpoint: Endpoint) -> None:
            endpoint.session.holds_transitions = True

        world.prepare = prepare
        async with world.client() as client:
            client.subscribe("counters:get", {"name": "a"})
            for _ in range(4):
                await until(client, "connected")
                world.cut()
                state = await until(client, "disconnected")
            return state.retries

    assert in_fake_world(scenario) == 4


@pytest.mark.parametrize("how", ["fatal", "answer"])
def test_the_servers_hint_is_respected(how: str) -> None:
    """No client returns before `retryAfterMs`, and the clients return at different times."""

    async def scenario(world: FakeWorld) -> float:
        error = error_object("ServerStopping", retry="later", retryAfterMs=30_000)
        async with world.client() as client:
            if how == "fatal":
                await until(client, "connected")
                world.endpoint.session.fatal(error)
                world.endpoint.flush()
            else:
                world.server.refusal = error
            await until(client, "disconnected")
            world.server.refusal = None
            lost_at = world.now
            await until(client, "connected")
            return world.now - lost_at

    assert 30 <= in_fake_world(scenario) <= 46


def test_retry_after_of_an_http_refusal_is_respected() -> None:
    """503 with Retry-After is a hint as well."""

    async def scenario(world: FakeWorld) -> float:
        def prepare(endpoint: Endpoint) -> None:
            endpoint.status = 503
            endpoint.headers["Retry-After"] = "20"

        world.prepare = prepare
        async with world.client() as client:
            await until(client, "disconnected")
            world.prepare = lambda _: None
            lost_at = world.now
            await until(client, "connected")
            return world.now - lost_at

    assert 20 <= in_fake_world(scenario) <= 31


@pytest.mark.parametrize("digits", [9, 400, 5000])
def test_an_absurd_hint_is_limited(digits: int) -> None:
    """The client uses its own backoff, or waits a day and a half at most."""

    async def scenario(world: FakeWorld) -> float:
        def prepare(endpoint: Endpoint) -> None:
            endpoint.status = 503
            endpoint.headers["Retry-After"] = "9" * digits

        world.prepare = prepare
        async with world.client() as client:
            await until(client, "disconnected")
            assert "503" in str(client.connection_state.last_error)
            world.prepare = lambda _: None
            await until(client, "connected")
            return world.now

    assert in_fake_world(scenario) < 37 * 3600


@pytest.mark.parametrize("hint", ["soon", -5, 10**400, None, [1]])
def test_an_absurd_hint_of_a_fatal_error_is_limited(hint: object) -> None:
    """As for a hint in an HTTP refusal."""

    async def scenario(world: FakeWorld) -> float:
        async with world.client() as client:
            await until(client, "connected")
            world.endpoint.session.fatal(error_object("ServerStopping", retry="later", details={"retryAfterMs": hint}))
            world.endpoint.flush()
            await until(client, "disconnected")
            lost_at = world.now
            await until(client, "connected")
            return world.now - lost_at

    assert in_fake_world(scenario) < 37 * 3600


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthenticated), (403, Forbidden)])
def test_a_refused_handshake_ends_the_client(status: int, kind: type[Exception]) -> None:
    """A retry cannot fix a wrong token or a forbidden host: every call gets the error."""

    async def scenario(world: FakeWorld) -> None:
        def prepare(endpoint: Endpoint) -> None:
            endpoint.status = status

        world.prepare = prepare
        async with world.client() as client:
            with pytest.raises(kind):
                await client.query("counters:echo", {"value": 1})
            with pytest.raises(kind):
                await client.wait_connected()
            assert (await until(client, "closed")).retries == 1
            assert len(world.endpoints) == 1

    in_fake_world(scenario)


# Silence and malformed messages.


def deafen(world: FakeWorld) -> None:
    world.endpoint.is_deaf = True


def test_a_silent_server_is_disconnected() -> None:
    """After CLIENT_INACTIVE_SECONDS without a byte, the client opens another socket."""

    async def scenario(world: FakeWorld) -> tuple[float, str]:
        async with world.client() as client:
            await until(client, "connected")
            deafen(world)
            since = world.now
            state = await until(client, "disconnected")
            return world.now - since, str(state.last_error)

    seconds, reason = in_fake_world(scenario)
    assert seconds == pytest.approx(limits.CLIENT_INACTIVE_SECONDS, abs=0.1)
    assert "sent nothing for 45 seconds" in reason


def test_a_ping_counts_as_activity() -> None:
    """It has no other effect."""

    async def scenario(world: FakeWorld) -> float:
        async with world.client() as client:
            await until(client, "connected")
            since = world.now
            for _ in range(4):
                await world.runtime.sleep(40)
                world.endpoint.send_text('{"jsonrpc":"2.0","method":"tinyvex/ping","params":{}}')
            assert client.connection_state.phase == "connected"
            await until(client, "disconnected")
            return world.now - since

    assert in_fake_world(scenario) == pytest.approx(160 + limits.CLIENT_INACTIVE_SECONDS, abs=0.1)


def test_a_suspended_client_keeps_its_connection() -> None:
    """Time in which the client could receive nothing is not the server's silence."""

    async def scenario(world: FakeWorld) -> list[str]:
        phases = []
        async with world.client() as client, anyio.create_task_group() as group:

            async def watch() -> None:
                phases.extend([state.phase async for state in client.connection_states()])

            group.start_soon(watch)
            await until(client, "connected")
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.skip(3600)
            await world.runtime.sleep(30)
            world.endpoint.send_text('{"jsonrpc":"2.0","method":"tinyvex/ping","params":{}}')
            await world.runtime.sleep(40)
            client.close()
        return phases

    assert in_fake_world(scenario) == ["connecting", "connected", "closed"]


def test_a_slow_handshake_times_out() -> None:
    """A port that accepts and sends nothing delays the client by HANDSHAKE_SECONDS only."""

    async def scenario(world: FakeWorld) -> float:
        def prepare(endpoint: Endpoint) -> None:
            endpoint.is_deaf = True

        world.prepare = prepare
        async with world.client() as client:
            await until(client, "disconnected")
            return world.now

    assert in_fake_world(scenario) == pytest.approx(limits.HANDSHAKE_SECONDS, abs=0.1)


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        '{"jsonrpc":"2.0","id":77,"result":{}}',
        '{"jsonrpc":"2.0","method":"tinyvex/transition","params":{"modifications":7}}',
        "\x00",
    ],
)
def test_a_malformed_message_closes_only_the_socket(text: str) -> None:
    """The client reconnects, and pending calls are answered."""

    async def scenario(world: FakeWorld) -> ConnectionState:
        async with world.client() as client:
            await until(client, "connected")
            world.endpoint.send_text(text)
            state = await until(client, "disconnected")
            assert await client.mutation("counters:add", {"name": "a", "by": 1}) == 1
            goodbye = world.endpoints[0].websocket.close_rcvd
            assert goodbye is not None
            assert goodbye.code == 1002
            return state

    state = in_fake_world(scenario)
    assert state.retries == 1
    assert isinstance(state.last_error, UpdateRejected)


def test_a_binary_frame_closes_the_socket() -> None:
    """The protocol uses text frames only."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            await until(client, "connected")
            world.endpoint.websocket.send_binary(b"{}")
            world.endpoint.flush()
            assert "binary" in str((await until(client, "disconnected")).last_error)
            await until(client, "connected")

    in_fake_world(scenario)


def test_a_message_in_fragments_is_one_message() -> None:
    """Servers and proxies may fragment messages."""

    async def scenario(world: FakeWorld) -> int:
        async with world.client() as client:
            await until(client, "connected")
            world.endpoint.session.holds_transitions = True
            async with client.subscribe("counters:get", {"name": "a"}, type=int) as values:
                with anyio.move_on_after(1):
                    await anext(values)
                world.endpoint.session.turn()
                (text,) = world.endpoint.session.out
                world.endpoint.session.out.clear()
                world.endpoint.websocket.send_text(text[:20].encode(), fin=False)
                world.endpoint.websocket.send_continuation(text[20:40].encode(), fin=False)
                world.endpoint.websocket.send_continuation(text[40:].encode(), fin=True)
                world.endpoint.flush()
                return await anext(values)

    assert in_fake_world(scenario) == 0


@pytest.mark.parametrize(
    "end",
    [
        lambda world: world.endpoint.close(1001, "going"),
        lambda world: world.endpoint.transport.close(),
        lambda world: world.cut(),
    ],
    ids=["close frame", "end of stream", "reset"],
)
def test_every_end_of_a_socket_is_followed_by_another(end: Callable[[FakeWorld], None]) -> None:
    """However the server closes it."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            await until(client, "connected")
            end(world)
            await until(client, "disconnected")
            await until(client, "connected")
            assert len(world.endpoints) == 2

    in_fake_world(scenario)


# Fatal errors.


def test_a_replaced_session_ends_the_client() -> None:
    """Waiting callers get the error, and no further socket is opened."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            await until(client, "connected")
            values = client.subscribe("counters:get", {"name": "a"})
            assert await anext(values) == 0
            world.endpoint.session.fatal(error_object("SessionReplaced", "another socket"))
            world.endpoint.flush()
            with pytest.raises(RemoteError, match="another socket"):
                await anext(values)
            with pytest.raises(RemoteError, match="another socket"):
                await client.mutation("counters:add", {"name": "a", "by": 1})
            state = await until(client, "closed")
            assert isinstance(state.last_error, RemoteError)
        assert len(world.endpoints) == 1

    in_fake_world(scenario)


def test_a_fatal_error_counts_if_it_arrives_with_the_close_frame() -> None:
    """Both may arrive in one read; the error is the reason, and its hint is used."""

    async def scenario(world: FakeWorld) -> tuple[ConnectionState, float]:
        async with world.client() as client:
            await until(client, "connected")
            endpoint = world.endpoint
            endpoint.session.fatal(error_object("ServerStopping", "stopping", retry="later", retryAfterMs=9000))
            (text,) = endpoint.session.out
            endpoint.session.out.clear()
            endpoint.websocket.send_text(text.encode())
            endpoint.websocket.send_close(1012, "ServerStopping")
            endpoint.transport.write(b"".join(endpoint.websocket.data_to_send()))
            state = await until(client, "disconnected")
            lost_at = world.now
            await until(client, "connected")
            return state, world.now - lost_at

    state, seconds = in_fake_world(scenario)
    assert isinstance(state.last_error, RemoteError)
    assert state.last_error.name == "ServerStopping"
    assert 9 <= seconds <= 14


# Writing.


def test_messages_of_one_loop_iteration_share_a_write() -> None:
    """A hundred calls are one write."""

    async def scenario(world: FakeWorld) -> int:
        async with world.client() as client:
            await until(client, "connected")
            client_transport = next(iter(world.network.transports))
            writes = []
            write = client_transport.write
            client_transport.write = lambda data: (writes.append(data), write(data))[1]  # type: ignore[method-assign]
            async with anyio.create_task_group() as group:
                for number in range(90):
                    group.start_soon(client.query, "counters:echo", {"value": number})
            return len(writes)

    assert in_fake_world(scenario) == 1


def test_a_slow_socket_is_not_flooded() -> None:
    """While the transport's buffer is full, messages stay in the session; they follow when it drains."""

    async def scenario(world: FakeWorld) -> int:
        world.network.delay_seconds_max = 0.001
        async with world.client() as client:
            await until(client, "connected")
            world.network.delay_seconds_max = 5
            async with anyio.create_task_group() as group:
                for number in range(40):
                    group.start_soon(client.query, "counters:echo", {"value": str(number) * 5000})
                while world.runtime.loop.time() < 0.05:
                    await world.runtime.sleep(0.01)
                waiting = sum(transport.get_write_buffer_size() for transport in world.network.transports)
        assert len(world.endpoints) == 1
        return waiting

    assert in_fake_world(scenario) < 300_000


def test_closing_sends_a_close_frame() -> None:
    """With code 1000."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            await until(client, "connected")
        assert world.endpoint.websocket.close_rcvd is not None
        assert world.endpoint.websocket.close_rcvd.code == 1000
        assert world.endpoint.lost

    in_fake_world(scenario)


def test_closing_does_not_wait_for_an_unresponsive_server() -> None:
    """After CLOSE_SECONDS the socket is aborted."""

    async def scenario(world: FakeWorld) -> float:
        async with world.client() as client:
            await until(client, "connected")
            deafen(world)
            since = world.now
        return world.now - since

    assert in_fake_world(scenario) == pytest.approx(limits.CLOSE_SECONDS, abs=0.1)


def test_closing_while_waiting_to_dial_is_immediate() -> None:
    """It cancels the backoff."""

    async def scenario(world: FakeWorld) -> float:
        world.stop()
        async with world.client() as client:
            async for state in client.connection_states():
                if state.retries == 8:
                    break
            since = world.now
        return world.now - since

    assert in_fake_world(scenario) < 0.01


def test_the_token_is_sent_in_the_first_message_only() -> None:
    """Not in the URL, which servers and proxies log."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client("secret") as client:
            await client.query("counters:echo", {"value": 1})
        first, second = world.endpoint.session.heard
        assert first["params"]["token"] == "secret"
        assert "secret" not in json.dumps(second)

    in_fake_world(scenario)


@pytest.mark.parametrize("defective", ["next_message", "receive"])
def test_a_defect_ends_the_client(defective: str) -> None:
    """Pending calls fail with the reason, and the client does not reconnect, because the defect would recur."""

    async def scenario(world: FakeWorld) -> tuple[str, str, int]:
        client = world.client()
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the defect is reported there, too
        async with client:
            await until(client, "connected")
            setattr(client._session, defective, lambda *_: 1 // 0)
            with pytest.raises(InternalError, match="ZeroDivisionError") as failed:
                await client.mutation("counters:add", {"name": "a", "by": 1})
            closed = await until(client, "closed")
            assert closed.last_error is not None
            return failed.value.name, closed.last_error.name, len(world.endpoints)

    assert in_fake_world(scenario) == ("InternalError", "InternalError", 1)


def test_a_wrong_address_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """As a warning with the reason; a lost connection that is restored is none."""

    async def scenario(world: FakeWorld) -> None:
        world.stop()
        async with world.client() as client:
            await world.runtime.sleep(120)
            assert client.connection_state.retries > 5
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert "no server answers at tinyvex.test:3210: the connection was refused" in caplog.text
            world.start()
            await client.query("counters:get", {"name": "a"})
            world.cut()
            await world.runtime.sleep(1)
            await client.query("counters:get", {"name": "a"})
        assert len(caplog.records) == 1

    with caplog.at_level("WARNING", "tinyvex.client.connection"):
        in_fake_world(scenario)


def test_the_last_error_is_cleared_after_recovery() -> None:
    """Once the connection has caught up."""

    async def scenario(world: FakeWorld) -> None:
        world.stop()
        async with world.client() as client:
            await world.runtime.sleep(1)
            assert client.connection_state.last_error is not None
            world.start()
            await client.query("counters:get", {"name": "a"})
            world.cut()
            await world.runtime.sleep(1)
            await client.query("counters:get", {"name": "a"})
            await world.runtime.sleep(1)
            state = client.connection_state
            assert (state.phase, state.retries, state.last_error) == ("connected", 0, None)

    in_fake_world(scenario)


@pytest.mark.parametrize(
    ("url", "options", "is_warned"),
    [
        ("ws://192.168.1.20:4800", {"token": "secret"}, True),
        ("http://db.example", {"token": "secret"}, True),
        ("ws://db.example", {"auth": lambda: None}, True),
        ("ws://db.example", {}, False),
        ("wss://db.example", {"token": "secret"}, False),
        ("ws://127.0.0.1:4800", {"token": "secret"}, False),
        ("ws://[::1]:4800", {"token": "secret"}, False),
        ("ws://LOCALHOST:4800", {"token": "secret"}, False),
    ],
)
def test_tokens_in_clear_are_warned_of(
    url: str, options: dict[str, Any], is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """On their way to another machine; the warning does not contain them."""
    connect(url, **options)
    assert ("without encryption" in caplog.text) is is_warned
    assert "secret" not in caplog.text
