"""A client that signs in, renews its token and signs out, with a server that verifies tokens; in virtual time."""

from __future__ import annotations

import asyncio
import itertools
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
from tinyvex.errors import RemoteError, SessionIdentity, Unauthenticated
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
    """A server, and a source of tokens for Ada that counts its calls."""

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
    """Return a function that runs a scenario in a world."""

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
    """Make the client's runtime know the time without being bound to the loop."""
    monkeypatch.setattr(WorldRuntime, "loop", property(lambda _self: asyncio.get_running_loop()))


@pytest.mark.parametrize("source", ["source", "slow_source"])
def test_the_first_call_is_the_users(play: Callable[..., None], source: str) -> None:
    """S-83: calls and subscriptions wait for the token, even if the source is slow."""

    async def scenario(world: World) -> None:
        async with world.client(getattr(world, source)) as client:
            values = client.subscribe("app:me")
            assert await client.mutation("app:write") == "ada"
            assert await anext(values) == "ada"
            assert world.asked == 1

    play(scenario)


def test_a_source_that_raises_a_cancellation_of_its_own_has_failed(play: Callable[..., None]) -> None:
    """Calls wait, and it is asked again."""

    async def scenario(world: World) -> None:
        async def source() -> str | None:
            if world.asked < 2:
                world.asked += 1
                raise asyncio.CancelledError
            return world.source()

        async with world.client(source) as client:
            await client.wait_connected()
            await asyncio.sleep(0.01)
            assert "CancelledError" in str(client.connection_state.auth_error)
            assert await client.query("app:me") == "ada"
            assert world.asked == 3

    play(scenario)


def test_a_source_that_suppresses_its_cancellation_does_not_delay_closing(play: Callable[..., None]) -> None:
    """Leaving the client ends it."""

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


def test_no_token_is_not_a_failure(play: Callable[..., None]) -> None:
    """The source may return None."""

    async def scenario(world: World) -> None:
        async with world.client(lambda: None) as client:
            assert await client.query("app:me") is None
            assert client.connection_state.auth_error is None

    play(scenario)


def test_every_socket_is_signed_in(play: Callable[..., None]) -> None:
    """After a reconnect the source is asked again, and resent mutations are the user's."""

    async def scenario(world: World) -> None:
        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            for transport in list(world.network.transports):
                world.network.cut(transport)
            assert await client.mutation("app:write") == "ada"
            assert world.asked == 2

    play(scenario)


def test_a_token_is_renewed_before_it_expires(play: Callable[..., None]) -> None:
    """A subscription never becomes anonymous."""

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


def test_a_token_that_expires_unexpectedly_is_replaced(play: Callable[..., None]) -> None:
    """If the client's clock is wrong, the server's notice makes it ask the source."""

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


def test_calls_wait_while_a_source_fails(play: Callable[..., None]) -> None:
    """The state has the reason; the source is asked again with growing delays, and then forgets the failure."""

    async def scenario(world: World) -> None:
        asked_at: list[float] = []

        def flaky() -> str:
            asked_at.append(world.runtime.monotonic())
            if len(asked_at) < 12:
                raise RuntimeError("no keyring")
            return world.token()

        async with world.client(flaky) as client:
            call = asyncio.ensure_future(client.query("app:me"))
            await client.wait_connected()
            await asyncio.sleep(1)
            assert str(client.connection_state.auth_error) == "the auth callable raised RuntimeError: no keyring"
            assert await call == "ada"
            assert client.connection_state.auth_error is None
        pauses = [after - before for before, after in itertools.pairwise(asked_at)]
        least, most = limits.AUTH_CALLABLE_RETRY_SECONDS_MIN, limits.AUTH_CALLABLE_RETRY_SECONDS_MAX
        assert least / 2 <= pauses[0] <= least
        assert all(most / 2 <= pause <= most for pause in pauses[-3:])

    play(scenario)


def test_a_source_that_fails_at_a_reconnect_delays_the_users_mutation(play: Callable[..., None]) -> None:
    """It waits for the user, and is not run anonymously."""

    async def scenario(world: World) -> None:
        failing: list[bool] = []

        def flaky() -> str | None:
            if failing:
                failing.pop()
                raise OSError("no network")
            return world.source()

        async with world.client(flaky) as client:
            assert await client.query("app:me") == "ada"
            failing.append(True)
            for transport in list(world.network.transports):
                world.network.cut(transport)
            assert await client.mutation("app:write") == "ada"
            assert await client.query("app:writers") == ["ada"]

    play(scenario)


def test_a_renewal_that_fails_is_repeated(play: Callable[..., None]) -> None:
    """Before the token expires, so that the user stays signed in."""

    async def scenario(world: World) -> None:
        world.lasts = 60

        def flaky() -> str | None:
            world.asked += 1
            if world.asked == 2:
                raise OSError("no network")
            return world.token()

        async with world.client(flaky) as client:
            values = client.subscribe("app:me")
            assert await anext(values) == "ada"
            reading = asyncio.ensure_future(anext(values))
            await asyncio.sleep(100)
            assert world.asked >= 3
            assert not reading.done()
            reading.cancel()

    play(scenario)


def test_a_source_that_never_returns_times_out(play: Callable[..., None]) -> None:
    """After AUTH_CALLABLE_SECONDS it has failed, and is asked again."""

    async def scenario(world: World) -> None:
        async def late() -> str | None:
            if world.asked == 0:
                world.asked += 1
                await asyncio.get_running_loop().create_future()
            return world.source()

        async with world.client(late) as client:
            call = asyncio.ensure_future(client.query("app:me"))
            await asyncio.sleep(limits.AUTH_CALLABLE_SECONDS + 0.1)
            assert "did not return within 30 seconds" in str(client.connection_state.auth_error)
            assert await call == "ada"

    play(scenario)


@pytest.mark.parametrize("given", [7, b"x", ""])
def test_a_token_that_is_not_a_string_is_a_failure(play: Callable[..., None], given: object) -> None:
    """Calls raise it, because asking again would not help; the state names the type."""

    async def scenario(world: World) -> None:
        async with world.client(lambda: given) as client:
            for _ in range(2):
                with pytest.raises(Unauthenticated, match=type(given).__name__):
                    await client.query("app:me")
            assert type(given).__name__ in str(client.connection_state.auth_error)

    play(scenario)


def test_a_refused_token_is_reported(play: Callable[..., None]) -> None:
    """S-84: the source is asked once more; then calls raise the refusal, and subscriptions continue without a user."""

    async def scenario(world: World) -> None:
        def forged() -> str:
            world.asked += 1
            return world.token(OTHER_SECRET)

        async with world.client(forged) as client:
            for _ in range(2):
                with pytest.raises(RemoteError, match="the token's signature is wrong"):
                    await client.mutation("app:write")
            assert await anext(client.subscribe("app:me")) is None
            assert str(client.connection_state.auth_error) == "the token's signature is wrong"
            assert world.asked == 2

    play(scenario)


def test_a_second_token_may_be_accepted(play: Callable[..., None]) -> None:
    """A source that cached an old token returns a new one; nothing was sent anonymously."""

    async def scenario(world: World) -> None:
        kept = [signed(claims(world.runtime.now_us(), lasts=-3600))]
        async with world.client(lambda: kept.pop() if kept else world.source()) as client:
            assert await client.mutation("app:write") == "ada"
            assert client.connection_state.auth_error is None

    play(scenario)


def test_signing_out_and_in(play: Callable[..., None]) -> None:
    """After `set_auth(None)` calls are anonymous; another callable signs in again."""

    async def scenario(world: World) -> None:
        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            client.set_auth(None)
            assert await client.query("app:me") is None
            client.set_auth(world.slow_source)
            assert await client.query("app:me") == "ada"

    play(scenario)


def test_signing_out_does_not_wait_for_a_source(play: Callable[..., None]) -> None:
    """A pending call of the previous source is cancelled."""

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
    """A callable that does not return is cancelled."""

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


def test_a_mutation_sent_again_after_signing_out_waits_for_its_user(play: Callable[..., None]) -> None:
    """S-41: it is repeated under no other identity, and it ran once; anonymous calls do not wait for it."""

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
            writing = asyncio.ensure_future(client.mutation("app:write"))
            while client.connection_state.phase != "disconnected":
                await asyncio.sleep(0.001)
            assert await client.query("app:writers") == ["ada"]
            assert await client.mutation("app:write") is None
            await asyncio.sleep(60)
            assert not writing.done()
            client.set_auth(world.source)
            assert await writing == "ada"
            assert await client.query("app:writers") == ["ada", None]

    play(scenario)


def test_calls_that_were_queued_offline_run_under_their_own_identities(play: Callable[..., None]) -> None:
    """Ada's wait for Ada, anonymous ones run before anyone signs in, those of another user fail."""

    async def scenario(world: World) -> None:
        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            for transport in list(world.network.transports):
                world.network.cut(transport)
            calls = [asyncio.ensure_future(client.mutation("app:write"))]
            await asyncio.sleep(0)
            client.set_auth(None)
            calls.append(asyncio.ensure_future(client.mutation("app:write")))
            await asyncio.sleep(0)
            client.set_auth(lambda: world.token(subject="bob"))
            calls.append(asyncio.ensure_future(client.mutation("app:write")))
            async with asyncio.timeout(60):
                await asyncio.wait(calls[1:])
            assert calls[1].result() is None
            assert isinstance(calls[2].exception(), SessionIdentity)
            assert not calls[0].done()
            client.set_auth(world.source)
            assert await calls[0] == "ada"
            assert await client.query("app:writers") == [None, "ada"]

    play(scenario)


def test_another_user_needs_another_client(play: Callable[..., None]) -> None:
    """S-86: calls raise the reason, and the state has it."""

    async def scenario(world: World) -> None:
        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            client.set_auth(lambda: world.token(subject="bob"))
            with pytest.raises(SessionIdentity, match="connect another client"):
                await client.query("app:me")
            assert client.connection_state.auth_error is not None
            assert client.connection_state.auth_error.name == "SessionIdentity"

    play(scenario)


def test_another_users_source_is_asked_once_per_socket(play: Callable[..., None]) -> None:
    """S-86: not repeatedly; every call raises the reason."""

    async def scenario(world: World) -> None:
        def bob() -> str:
            world.asked += 1
            return world.token(subject="bob")

        async with world.client(world.source) as client:
            assert await client.query("app:me") == "ada"
            client.set_auth(bob)
            for asked in (2, 3):
                with pytest.raises(SessionIdentity, match="connect another client"):
                    await client.mutation("app:write")
                await asyncio.sleep(60)
                assert world.asked == asked
                for transport in list(world.network.transports):
                    world.network.cut(transport)
                async with asyncio.timeout(10):
                    while client._session.phase.name != "OFFLINE":
                        await asyncio.sleep(0.0001)

    play(scenario)


def test_a_renewal_for_another_user_is_not_used(play: Callable[..., None]) -> None:
    """The first user stays signed in until the token expires; then the source is asked once more."""

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
            with pytest.raises(SessionIdentity):
                await client.query("app:me")

    play(scenario)


def test_closing_does_not_wait_for_a_source(play: Callable[..., None]) -> None:
    """Not even for a callable that never returns."""

    async def scenario(world: World) -> None:
        async with world.client(lambda: asyncio.get_running_loop().create_future()) as client:
            await client.wait_connected()

    play(scenario)
