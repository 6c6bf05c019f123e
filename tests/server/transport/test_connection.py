"""A socket: heartbeats, deadlines, closing, and a slow reader, in virtual time; frames byte for byte."""

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.raw import RawClient
from tests.support.world import WorldRuntime
from tinyvex import errors, limits
from tinyvex.server.server import Server, ServerOptions

APP = """
import tinyvex as tv
lines = tv.table("lines")

@tv.query
def all(ctx: tv.QueryCtx) -> list[str]:
    return [line["text"] for line in ctx.db.query("lines")]

@tv.mutation
def add(ctx: tv.MutationCtx, text: str) -> int:
    ctx.db.insert("lines", {"text": text})
    return ctx.db.query("lines").count()
"""

ADD_ALL = {"type": "Add", "queryId": 0, "udfPath": "app:all", "args": {}}

Scenario = Callable[[Server, WorldRuntime], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Run a scenario against a server on a virtual loop."""

    def play_scenario(scenario: Scenario, **options: Any) -> None:
        app = tmp_path / "app.py"
        app.write_text(APP, "utf-8")

        async def main() -> None:
            network = Network(random.Random(1))
            runtime = WorldRuntime(network, random.Random(2))
            async with Server(ServerOptions(app=app, data=tmp_path / "data", port=4800, **options), runtime) as server:
                await scenario(server, runtime)

        run_virtual(main())

    return play_scenario


async def connected(server: Server, runtime: WorldRuntime, **params: Any) -> RawClient:
    """Return a connected client."""
    client = await RawClient.open(server.url, runtime)
    answer = await client.answer(client.connect(**params))
    assert "result" in answer, answer
    return client


def test_a_websocket_ping_comes_every_five_seconds(play: Callable[..., None]) -> None:
    """A minute of silence has twelve pings, give or take one."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        await asyncio.sleep(60)
        assert 11 <= client.pings <= 13

    play(scenario)


def test_an_application_ping_comes_after_fifteen_silent_seconds(play: Callable[..., None]) -> None:
    """Browsers cannot see WebSocket pings, so a message is sent too."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        await asyncio.sleep(limits.PING_SECONDS + 2)
        assert [message["method"] for message in client.messages if "method" in message] == ["tinyvex/ping"]

    play(scenario)


def test_the_token_of_the_upgrade_request_admits_its_client(play: Callable[..., None]) -> None:
    """A client may send its token in `Authorization`, instead of in `tinyvex/connect`."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        headers = {"Authorization": f"Bearer {server.admin_token}"}
        client = await RawClient.open(server.url, runtime, headers=headers)
        await client.answer(client.connect())
        assert "result" in await client.ask("query", udfPath="_system:tables", args={})

    play(scenario)


def test_the_bytes_of_a_connection_are_counted(play: Callable[..., None]) -> None:
    """The dashboard shows them for each connection; those of the only one are those of the server."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        await connected(server, runtime)
        connection = server.sessions.connections[1]
        assert connection.bytes_sent == server.counters.bytes_sent > 0
        assert connection.bytes_received == server.counters.bytes_received > 0

    play(scenario)


def test_a_client_that_falls_silent_is_closed(play: Callable[..., None]) -> None:
    """Without even a pong for IDLE_SECONDS, IdleTimeout is sent and the connection closed with 1000."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        client._write = lambda: None  # type: ignore[method-assign]
        assert await client.end() == 1000
        assert client.messages[-1]["params"]["error"]["data"]["name"] == "IdleTimeout"
        assert limits.IDLE_SECONDS < runtime.monotonic() < limits.IDLE_SECONDS + 10

    play(scenario)


def test_a_client_that_answers_pings_stays(play: Callable[..., None]) -> None:
    """Pongs count as activity: ten quiet minutes change nothing."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        await asyncio.sleep(600)
        assert client.is_open

    play(scenario)


def test_a_socket_that_never_connects_is_closed(play: Callable[..., None]) -> None:
    """An upgrade without `tinyvex/connect` has HANDSHAKE_SECONDS."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await RawClient.open(server.url, runtime)
        await client.end()
        assert client.messages[-1]["params"]["error"]["data"]["name"] == "SlowHandshake"

    play(scenario)


def test_a_socket_that_never_asks_is_cut(play: Callable[..., None]) -> None:
    """A TCP connection that sends nothing has HANDSHAKE_SECONDS too."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        lost = asyncio.Event()

        class Silent(asyncio.Protocol):
            def connection_lost(self, exc: Exception | None) -> None:
                lost.set()

        await runtime.dial(Silent, "127.0.0.1", server.port)
        await lost.wait()
        assert runtime.monotonic() < limits.HANDSHAKE_SECONDS + 5

    play(scenario)


def test_a_stopping_server_sends_a_retry_hint(play: Callable[..., None]) -> None:
    """ServerStopping carries a retry hint; the close code is 1012."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        stopping = asyncio.ensure_future(server.stop())
        assert await client.end() == 1012
        await stopping
        data = client.messages[-1]["params"]["error"]["data"]
        assert data["name"] == "ServerStopping"
        assert data["retryAfterMs"] == limits.RETRY_AFTER_MS

    play(scenario)


def test_a_failed_connection_is_computed_for_no_longer(play: Callable[..., None]) -> None:
    """Its queries leave with its last message, although its socket stays open until the client has read that."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[ADD_ALL])
        assert server.counters.live_queries == 1
        (connection,) = server.sessions.connections.values()
        connection.fail(errors.Overloaded("for a test"))
        assert list(server.sessions.connections.values()) == [connection]
        assert server.counters.live_queries == 0
        assert await client.end() == 1013

    play(scenario)


def test_a_newer_socket_of_a_session_closes_the_older(play: Callable[..., None]) -> None:
    """One session has one socket."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        older = await connected(server, runtime)
        newer = await connected(server, runtime)
        assert await older.end() == 1008
        assert older.messages[-1]["params"]["error"]["data"]["name"] == "SessionReplaced"
        assert newer.is_open

    play(scenario)


def test_a_slow_reader_skips_states_and_gets_the_newest(play: Callable[..., None]) -> None:
    """Few transitions are made for a client that does not read; when it reads again, one leads to the newest state."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        slow = await connected(server, runtime, sessionId="slow-reader")
        await slow.ask(
            "modifyQuerySet", baseVersion=0, newVersion=1,
            modifications=[{"type": "Add", "queryId": 0, "udfPath": "app:all", "args": {}}],
        )  # fmt: skip
        await slow.notification("transition")
        slow.pause()
        writer = await connected(server, runtime, sessionId="a-quick-writer")
        for number in range(60):
            answer = await writer.ask(
                "mutation", requestId=number, udfPath="app:add", args={"text": str(number) * 50_000}
            )
            assert "result" in answer, answer
        made = server.counters.transitions_sent
        slow.resume()
        last = answer["result"]["ts"]
        await slow.message(lambda message: message.get("params", {}).get("endVersion", {}).get("ts", 0) >= last)
        transitions = [m["params"] for m in slow.messages if m.get("method") == "tinyvex/transition"]
        assert len(transitions[-1]["modifications"][0]["value"]) == 60
        assert len(transitions) < 30
        assert made < 60 + 30
        for before, after in itertools.pairwise(transitions):
            assert after["startVersion"] == before["endVersion"]

    play(scenario)


def test_a_client_that_reads_again_gets_its_answers_in_order_and_one_patch(play: Callable[..., None]) -> None:
    """Between the queued messages and the newest state there is one transition."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        slow = await connected(server, runtime, sessionId="slow-reader", capabilities=["patch"])
        await slow.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[ADD_ALL])
        await slow.notification("transition")
        writer = await connected(server, runtime, sessionId="a-quick-writer")
        slow.pause()
        asked = [slow.send("mutation", requestId=9, udfPath="app:add", args={"text": "mine"}), slow.send("ping")]
        for number in range(60):
            result = await writer.ask("mutation", requestId=number, udfPath="app:add", args={"text": "x" * 20_000})
        asked.append(slow.send("query", udfPath="app:nothing", args={}))
        computed = server.counters.recomputations
        slow.resume()
        assert [(await slow.answer(number))["id"] for number in asked] == asked
        last = result["result"]["ts"]
        await slow.message(lambda message: message.get("params", {}).get("endVersion", {}).get("ts", 0) >= last)
        answers = [message["id"] for message in slow.messages if message.get("id") in asked]
        assert answers.index(asked[0]) < answers.index(asked[2]), "what was asked first is answered first"
        transitions = [m["params"] for m in slow.messages if m.get("method") == "tinyvex/transition"]
        state: list[str] = []
        for transition in transitions:
            for change in transition["modifications"]:
                state = jsonpatch.apply_patch(state, change["patch"]) if "patch" in change else change["value"]
        assert len(state) == 61
        assert transitions[-1]["endVersion"]["ts"] == last
        assert len(transitions) < 40, "states were skipped"
        assert computed < 40, "and the skipped states were not computed"

    play(scenario)


def test_a_client_that_never_reads_again_is_cut(play: Callable[..., None]) -> None:
    """It is closed after SLOW_CONSUMER_SECONDS without reading pending data; others continue."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        slow = await connected(server, runtime, sessionId="slow-reader")
        await slow.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[ADD_ALL])
        slow.pause()
        writer = await connected(server, runtime, sessionId="a-quick-writer")
        for number in range(60):
            await writer.ask("mutation", requestId=number, udfPath="app:add", args={"text": "x" * 50_000})
        began = runtime.monotonic()
        while server.counters.connections > 1:
            await runtime.sleep(1.0)
            writer.send("ping")
        assert limits.SLOW_CONSUMER_SECONDS - 5 < runtime.monotonic() - began < limits.SLOW_CONSUMER_SECONDS + 10
        assert "result" in await writer.ask("ping")

    play(scenario)


def test_a_client_that_the_server_does_not_read_from_is_not_idle(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While unread answers stop the server from reading, the client's bytes cannot arrive: IDLE_SECONDS do not pass."""
    monkeypatch.setattr(limits, "RESPONSES_UNSENT_BYTES_MAX", 100_000)
    monkeypatch.setattr(limits, "SLOW_CONSUMER_SECONDS", 10 * limits.IDLE_SECONDS)

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        await client.ask("mutation", requestId=0, udfPath="app:add", args={"text": "x" * 500_000})
        client.pause()
        query_id = client.send("query", udfPath="app:all", args={})
        await asyncio.sleep(5 * limits.IDLE_SECONDS)
        assert server.counters.connections == 1
        client.resume()
        assert "result" in await client.answer(query_id)
        assert "result" in await client.ask("ping")
        client._write = lambda: None  # type: ignore[method-assign]
        began = runtime.monotonic()
        await client.end()
        assert client.messages[-1]["params"]["error"]["data"]["name"] == "IdleTimeout"
        assert runtime.monotonic() - began > limits.IDLE_SECONDS - 10

    play(scenario)


def test_invalid_json_is_answered_and_the_connection_lives(play: Callable[..., None]) -> None:
    """A parse error has id null."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        client.send_text("{")
        error = await client.message(lambda message: message.get("id", 0) is None)
        assert error["error"]["code"] == -32700
        assert "result" in await client.ask("ping")

    play(scenario)


def test_a_message_in_fragments_is_one_message(play: Callable[..., None]) -> None:
    """Continuation frames are joined."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        text = json.dumps({"jsonrpc": "2.0", "id": 77, "method": "tinyvex/ping", "params": {}}).encode()
        client.core.send_text(text[:10], fin=False)
        client.core.send_continuation(text[10:20], fin=False)
        client.core.send_continuation(text[20:], fin=True)
        client._write()
        assert "result" in await client.answer(77)

    play(scenario)


def test_a_message_over_the_limit_is_refused_and_closed_with_1009(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit applies to a message across its fragments."""
    monkeypatch.setattr(limits, "MESSAGE_BYTES_MAX", 10_000)

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        client.core.send_text(b"x" * 6_000, fin=False)
        client.core.send_continuation(b"x" * 6_000, fin=True)
        client._write()
        assert await client.end() == 1009
        assert client.messages[-1]["params"]["error"]["data"]["name"] == "MessageTooLarge"

    play(scenario)


def test_input_before_connect_is_bounded(play: Callable[..., None]) -> None:
    """A client that is not connected is closed with 1009 above UNAUTHENTICATED_BYTES_MAX."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await RawClient.open(server.url, runtime)
        client.core.send_text(b"x" * limits.UNAUTHENTICATED_BYTES_MAX, fin=False)
        client._write()
        last_word = await client.notification("fatalError")
        assert last_word["params"]["error"]["data"]["name"] == "MessageTooLarge"
        assert await client.end() == 1009

    play(scenario)


def test_input_right_behind_the_first_request_may_be_long(play: Callable[..., None]) -> None:
    """The client is connected by then, although everything arrives together."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await RawClient.open(server.url, runtime)
        first = client.connect()
        second = client.send(
            "mutation", requestId=0, udfPath="app:add", args={"text": "x" * 2 * limits.UNAUTHENTICATED_BYTES_MAX}
        )
        assert "result" in await client.answer(first)
        assert "result" in await client.answer(second)

    play(scenario)


def test_a_binary_frame_is_refused_and_closed_with_1003(play: Callable[..., None]) -> None:
    """The protocol has only text frames."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        client.core.send_binary(b"\x00")
        client._write()
        assert await client.end() == 1003

    play(scenario)


def test_stopping_waits_for_no_peer_longer_than_its_deadline(play: Callable[..., None]) -> None:
    """A peer that never closes is cut after CLOSE_SECONDS."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        client._write = lambda: None  # type: ignore[method-assign]
        began = runtime.monotonic()
        await server.stop()
        assert runtime.monotonic() - began < limits.CLOSE_SECONDS + 1
        assert await client.end() is not None

    play(scenario)


def test_a_connection_over_the_limit_gets_503(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Existing connections stay; a further client gets 503 and may retry."""
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 1)

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        first = await connected(server, runtime)
        second = await RawClient.open(server.url, runtime)
        await second.end()
        assert second.response is None or second.response.status_code == 503
        first.cut()
        await first.end()
        await asyncio.sleep(1)
        assert (await connected(server, runtime, sessionId="a-third-client")).is_open

    play(scenario)


def test_a_session_speaks_for_one_identity(play: Callable[..., None]) -> None:
    """Another identity needs its own session, because exactly-once records must not be disclosed to it."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await connected(server, runtime)
        secret = {"kind": "admin", "token": server.admin_token}
        assert "result" in await client.ask("authenticate", baseVersion=0, actingAs={"name": "a"}, **secret)
        refused = await client.ask("authenticate", baseVersion=1, actingAs={"name": "b"}, **secret)
        assert refused["error"]["data"]["name"] == "SessionIdentity"
        assert "result" in await client.ask("authenticate", baseVersion=1, kind="none")
        assert "result" in await client.ask("authenticate", baseVersion=2, actingAs={"name": "a"}, **secret)

    play(scenario)
