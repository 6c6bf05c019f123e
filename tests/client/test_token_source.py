"""A client that signs in, renews and signs out, with a server that checks its tokens; in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.tokens import OTHER_SECRET, claims, secret_options, signed
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.client.client import Client, connect
from tinyvex.errors import RemoteError
from tinyvex.server.server import Server, ServerOptions

APP = """
import tinyvex as tv
notes = tv.table("notes")

@tv.query
def me(ctx: tv.QueryCtx) -> str | None:
    return None if ctx.auth is None else ctx.auth["subject"]

@tv.mutation
def write(ctx: tv.MutationCtx) -> str | None:
    who = None if ctx.auth is None else ctx.auth["subject"]
    ctx.db.insert("notes", {"by": who})
    return who

@tv.query
def writers(ctx: tv.QueryCtx) -> list[str | None]:
    return [note["by"] for note in ctx.db.query("notes")]
"""


@dataclass
class World:
    """A server, and a source of tokens for Ada that counts."""

    server: Server
    runtime: WorldRuntime
    network: Network
    lasts: float = 3600
    asked: int = 0

    def source(self) -> str | None:
        self.asked += 1
        return self.token()

    async def slow_source(self) -> str | None:
        await asyncio.sleep(2)
        return self.source()

    def token(self, secret: str | None = None, **others: Any) -> str:
        said = claims(self.runtime.now_us(), lasts=self.lasts, n=self.asked, **others)
        return signed(said) if secret is None else signed(said, secret)

    def client(self, auth: Any) -> Client:
        return connect(self.server.url, auth=auth, runtime=self.runtime)


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs a scenario in a world."""

    def play_scenario(scenario: Scenario) -> None:
        app = tmp_path / "app.py"
        app.write_text(APP, "utf-8")
        options = ServerOptions(app=app, data=tmp_path / "data", port=4800, auth=secret_options(tmp_path))

        async def main() -> None:
            network = Network(random.Random(1))
            runtime = WorldRuntime(network, random.Random(2))
            async with Server(options, runtime) as server:
                await scenario(World(server, WorldRuntime(network, random.Random(3)), network))

        run_virtual(main())

    return play_scenario


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's runtime needs no binding to know the time."""
    monkeypatch.setattr(WorldRuntime, "loop", property(lambda _self: asyncio.get_running_loop()))


@pytest.mark.parametrize("source", ["source", "slow_source"])
def test_the_first_call_is_the_users(play: Callable[..., None], source: str) -> None:
    """S-83: calls and subscriptions wait for the token, also where giving it takes a while."""

    async def scenario(world: World) -> None:
        async with world.client(getattr(world, source)) as client:
            values = client.subscribe("app:me")
            assert await client.mutation("app:write") == "ada"
            assert await anext(values) == "ada"
            assert world.asked == 1

    play(scenario)


def test_a_source_that_raises_a_cancellation_of_its_own_has_failed(play: Callable[..., None]) -> None:
    """What it waited for was cancelled: the client goes on as nobody, and asks again on the next socket."""

    async def scenario(world: World) -> None:
        async def source() -> str | None:
            world.asked += 1
            raise asyncio.CancelledError

        async with world.client(source) as client:
            assert await client.query("app:me") is None
            assert "CancelledError" in str(client.connection_state.auth_error)
            for transport in list(world.network.transports):
                world.network.cut(transport)
            assert await client.mutation("app:write") is None
            assert world.asked == 2

    play(scenario)


def test_a_source_that_swallows_its_cancellation_does_not_hold_up_closing(play: Callable[..., None]) -> None:
    """Leaving the client ends, whatever the source makes of that."""

    async def scenario(world: World) -> None:
        async def source() -> str | None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                world.asked += 1
            return None

        async with asyncio.timeout(60):
            async with world.client(source) as client:
                await client.wait_connected()
                await asyncio.sleep(1)
        assert world.asked == 1

    play(scenario)


def test_nobody_is_nobody(play: Callable[..., None]) -> None:
    """A source that has no token is no failure."""

    async def scenario(world: World) -> None:
        async with world.client(lambda: None) as client:
            assert await client.query("app:me") is None
            assert client.connection_state.auth_error is None

    play(scenario)


def test_every_socket_is_signed_in(play: Callable[..., None]) -> None:
    """After a reconnect the source is asked again, and what is resent is the user's."""

    async def scenario(world: World) -> None:
        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            for transport in list(world.network.transports):
                world.network.cut(transport)
            assert await client.mutation("app:write") == "ada"
            assert world.asked == 2

    play(scenario)


def test_a_token_is_renewed_before_it_ends(play: Callable[..., None]) -> None:
    """Whoever watches never sees nobody, however long it goes on."""

    async def scenario(world: World) -> None:
        world.lasts = 60
        async with world.client(world.source) as client:
            values = client.subscribe("app:me")
            seen = [await anext(values)]
            reading = asyncio.ensure_future(anext(values))
            await asyncio.sleep(600)
            reading.cancel()
            assert seen == ["ada"]
            assert not reading.done() or reading.cancelled()
            assert 10 <= world.asked <= 15
            assert client.connection_state.auth_error is None

    play(scenario)


def test_a_token_that_ends_unseen_is_replaced(play: Callable[..., None]) -> None:
    """Where the client does not know when a token ends, as its clock is wrong, the server's notice makes it ask."""

    async def scenario(world: World) -> None:
        world.lasts = 60
        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            renewed = world.asked
            client._tokens._runtime = type("Slow", (), {"now_us": lambda _: 0, "monotonic": lambda _: 0.0})()
            client._tokens._renew_at = None
            await asyncio.sleep(61 + limits.AUTH_LEEWAY_SECONDS)
            assert world.asked == renewed + 1
            assert await client.query("app:me") == "ada"

    play(scenario)


def test_a_source_that_fails_leaves_nobody(play: Callable[..., None]) -> None:
    """The state says why, and calls go on."""

    def broken() -> str:
        raise RuntimeError("no keyring")

    async def scenario(world: World) -> None:
        async with world.client(broken) as client:
            assert await client.query("app:me") is None
            assert str(client.connection_state.auth_error) == "the auth callable raised RuntimeError: no keyring"
            assert client.connection_state.phase == "connected"

    play(scenario)


def test_a_source_that_never_answers_holds_up_for_a_while(play: Callable[..., None]) -> None:
    """After AUTH_CALLABLE_SECONDS the client goes on as nobody."""

    async def never() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    async def scenario(world: World) -> None:
        async with world.client(never) as client:
            assert await client.query("app:me") is None
            assert "did not return within 30 seconds" in str(client.connection_state.auth_error)

    play(scenario)


@pytest.mark.parametrize("given", [7, b"x", ""])
def test_what_is_no_text_is_a_failure(play: Callable[..., None], given: object) -> None:
    """The state names the type."""

    async def scenario(world: World) -> None:
        async with world.client(lambda: given) as client:
            assert await client.query("app:me") is None
            assert type(given).__name__ in str(client.connection_state.auth_error)

    play(scenario)


def test_a_refused_token_is_told(play: Callable[..., None]) -> None:
    """S-84: the source is asked once more, then the client goes on as nobody and says why."""

    async def scenario(world: World) -> None:
        def forged() -> str:
            world.asked += 1
            return world.token(OTHER_SECRET)

        async with world.client(forged) as client:
            assert await client.query("app:me") is None
            assert str(client.connection_state.auth_error) == "the token's signature is wrong"
            assert world.asked == 2

    play(scenario)


def test_a_second_token_may_be_taken(play: Callable[..., None]) -> None:
    """A source that had kept an old token gives a new one when it is asked again; nothing was said by nobody."""

    async def scenario(world: World) -> None:
        kept = [signed(claims(world.runtime.now_us(), lasts=-3600))]
        async with world.client(lambda: kept.pop() if kept else world.source()) as client:
            assert await client.mutation("app:write") == "ada"
            assert client.connection_state.auth_error is None

    play(scenario)


def test_signing_out_and_in(play: Callable[..., None]) -> None:
    """`set_auth(None)` is nobody from the next call on; another callable signs in again."""

    async def scenario(world: World) -> None:
        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            client.set_auth(None)
            assert await client.query("app:me") is None
            client.set_auth(world.slow_source)
            assert await client.query("app:me") == "ada"

    play(scenario)


def test_signing_out_does_not_wait_for_a_source(play: Callable[..., None]) -> None:
    """What the source before would still give is not waited for."""

    async def never() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    async def scenario(world: World) -> None:
        async with world.client(never) as client:
            await client.wait_connected()
            began = world.runtime.monotonic()
            client.set_auth(None)
            assert await client.query("app:me") is None
            assert world.runtime.monotonic() - began < 1

    play(scenario)


def test_another_source_does_not_wait_for_the_one_before(play: Callable[..., None]) -> None:
    """A callable that does not answer is given up for one that does."""

    async def never() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    async def scenario(world: World) -> None:
        async with world.client(never) as client:
            await client.wait_connected()
            await asyncio.sleep(0.1)
            began = world.runtime.monotonic()
            client.set_auth(world.source)
            assert await client.query("app:me") == "ada"
            assert world.runtime.monotonic() - began < 1

    play(scenario)


def test_a_mutation_sent_again_after_signing_out_did_commit(play: Callable[..., None]) -> None:
    """S-41: its result is told to nobody else, and it ran once, for who had sent it."""

    async def scenario(world: World) -> None:
        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            publish = world.server.store.on_commits

            def lose_the_answer(records: Any) -> None:
                world.server.store.on_commits = publish
                client.set_auth(None)
                for transport in list(world.network.transports):
                    world.network.cut(transport)
                publish(records)

            world.server.store.on_commits = lose_the_answer
            with pytest.raises(RemoteError) as caught:
                await client.mutation("app:write")
            assert caught.value.name == "RequestIdReused"
            assert await client.query("app:writers") == ["ada"]

    play(scenario)


def test_another_user_needs_another_client(play: Callable[..., None]) -> None:
    """S-86: the state says so, and the client is nobody."""

    async def scenario(world: World) -> None:
        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            client.set_auth(lambda: world.token(subject="bob"))
            assert await client.query("app:me") is None
            assert client.connection_state.auth_error is not None
            assert client.connection_state.auth_error.name == "SessionIdentity"

    play(scenario)


def test_another_users_token_is_tried_once_on_each_socket(play: Callable[..., None]) -> None:
    """S-86: it is not asked for again and again; each new socket asks once, and the state says why in clear words."""

    async def scenario(world: World) -> None:
        def bob() -> str:
            world.asked += 1
            return world.token(subject="bob")

        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            client.set_auth(bob)
            for asked in (2, 3):
                assert await client.mutation("app:write") is None
                await asyncio.sleep(3600)
                assert world.asked == asked
                assert "connect another client" in str(client.connection_state.auth_error)
                for transport in list(world.network.transports):
                    world.network.cut(transport)

    play(scenario)


def test_a_renewal_that_names_another_user_is_not_taken(play: Callable[..., None]) -> None:
    """The first user speaks until the token ends, then nobody; the source is asked when it ends, and then no more."""

    async def scenario(world: World) -> None:
        world.lasts = 60
        users = ["ada"]

        def turncoat() -> str:
            world.asked += 1
            return world.token(subject=users.pop() if users else "bob")

        async with world.client(turncoat) as client:
            assert await client.query("app:me") == "ada"
            await asyncio.sleep(57)
            assert world.asked == 2
            assert client.connection_state.auth_error is not None
            assert await client.query("app:me") == "ada"
            await asyncio.sleep(3600)
            assert world.asked == 3
            assert await client.query("app:me") is None

    play(scenario)


def test_closing_does_not_wait_for_a_source(play: Callable[..., None]) -> None:
    """A callable that never answers holds up no end."""

    async def scenario(world: World) -> None:
        async with world.client(lambda: asyncio.get_running_loop().create_future()) as client:
            await client.wait_connected()

    play(scenario)
