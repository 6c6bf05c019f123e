"""`timeout` of a call and of a client, against a fake server in virtual time."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from tests.support.fake_world import FakeWorld, in_fake_world
from tinyvex import limits
from tinyvex.client.client import Client
from tinyvex.client.timeouts import check_timeout
from tinyvex.errors import CallTimeout

ECHO, GET, ADD, SLOW = (f"counters:{name}" for name in ("echo", "get", "add", "slow"))
A = {"name": "a"}
ADD_A = {"name": "a", "by": 1}


async def call(client: Client, kind: str, **options: Any) -> Any:
    arguments = {"mutation": (ADD, ADD_A), "query": (GET, A), "action": (SLOW, {})}
    return await getattr(client, kind)(*arguments[kind], **options)


def silence(world: FakeWorld) -> None:
    """Let no answer arrive: the server accepts sockets and reads, but answers only the greeting."""
    for kind in ("_mutation", "_query", "_action"):
        setattr(world.endpoint.session, kind, lambda *_: None)


@pytest.mark.parametrize("kind", ["mutation", "query", "action"])
def test_a_call_that_was_not_sent_is_withdrawn(kind: str) -> None:
    """The error says so, comes at the timeout, and the server never receives the call."""

    async def scenario(world: FakeWorld) -> list[str]:
        world.stop()
        async with world.client() as client:
            with pytest.raises(CallTimeout, match=r"within 2 seconds; it was not sent, and never runs") as caught:
                await call(client, kind, timeout=2)
            assert not caught.value.was_sent
            assert world.now == pytest.approx(2)
            world.start()
            await client.query(ECHO, {"value": 2})
            return [message["method"] for message in world.endpoint.session.heard]

    assert in_fake_world(scenario) == ["tinyvex/connect", "tinyvex/query"]


@pytest.mark.parametrize("kind", ["mutation", "query", "action"])
def test_the_outcome_of_a_call_that_was_sent_is_unknown(kind: str) -> None:
    """The error says so, and the client can be used further."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            await client.wait_connected()
            silence(world)
            with pytest.raises(
                CallTimeout, match=r"within 0\.5 seconds; it was sent.*its outcome is unknown"
            ) as caught:
                await call(client, kind, timeout=0.5)
            assert caught.value.was_sent
            world.cut()
            assert await client.query(ECHO, {"value": 2}) == 2

    in_fake_world(scenario)


def test_a_mutation_that_was_sent_runs_once_after_its_timeout() -> None:
    """The client sends it again on the next socket, and the server runs it once."""

    async def scenario(world: FakeWorld) -> int:
        async with world.client() as client:
            await client.wait_connected()
            silence(world)
            with pytest.raises(CallTimeout):
                await client.mutation(ADD, ADD_A, timeout=1)
            world.cut()
            return await client.mutation(ADD, ADD_A, type=int)

    assert in_fake_world(scenario) == 2


def test_a_mutation_that_waits_to_be_sent_again_is_not_withdrawn() -> None:
    """It may have run on the lost socket, so the error says that it was sent."""

    async def scenario(world: FakeWorld) -> int:
        async with world.client() as client:
            await client.wait_connected()
            silence(world)
            mutation = asyncio.ensure_future(client.mutation(ADD, ADD_A, timeout=5))
            await asyncio.sleep(1)
            world.stop()
            with pytest.raises(CallTimeout) as caught:
                await mutation
            assert caught.value.was_sent
            world.start()
            return await client.mutation(ADD, ADD_A, type=int)

    assert in_fake_world(scenario) == 2


def test_the_optimistic_update_of_a_withdrawn_mutation_ends() -> None:
    """Subscriptions show the server's result again."""

    async def scenario(world: FakeWorld) -> list[int]:
        async with world.client() as client, client.subscribe(GET, A, type=int) as values:
            seen = [await anext(values)]
            world.stop()
            mutation = asyncio.ensure_future(
                client.mutation(ADD, ADD_A, timeout=1, optimistic=lambda store: store.set(GET, A, 7))
            )
            seen.append(await anext(values))
            with pytest.raises(CallTimeout):
                await mutation
            return [*seen, await anext(values)]

    assert in_fake_world(scenario) == [0, 7, 0]


def test_a_call_that_waits_for_a_free_slot_is_withdrawn() -> None:
    """The waiting counts, and a slot is free again after each withdrawn call."""

    async def scenario(world: FakeWorld) -> int:
        world.stop()
        async with world.client() as client:
            calls = [client.mutation(ADD, ADD_A, timeout=1) for _ in range(limits.CLIENT_REQUESTS_MAX + 2)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, CallTimeout) and not error.was_sent for error in results)
            world.start()
            return await client.mutation(ADD, ADD_A, type=int)

    assert in_fake_world(scenario) == 1


def test_the_clients_timeout_is_that_of_calls_without_one() -> None:
    """A call may have a shorter or longer one, and `math.inf` is none."""

    async def scenario(world: FakeWorld) -> list[float]:
        world.stop()
        seen = []
        async with world.client(timeout=3) as client:
            for options in ({}, {"timeout": 1}, {"timeout": 5}):
                before = world.now
                with pytest.raises(CallTimeout):
                    await client.query(GET, A, **options)
                seen.append(world.now - before)
            endless = asyncio.ensure_future(client.query(GET, A, timeout=math.inf))
            await asyncio.sleep(1000)
            world.start()
            assert await endless == 0
        return seen

    assert in_fake_world(scenario) == pytest.approx([3, 1, 5])


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_timeout_that_has_passed_sends_nothing(seconds: float) -> None:
    """As a deadline of the caller may have passed; the connected client withdraws the call too."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            await client.wait_connected()
            with pytest.raises(CallTimeout, match="within 0 seconds") as caught:
                await client.mutation(ADD, ADD_A, timeout=seconds)
            assert not caught.value.was_sent
            assert await client.query(GET, A) == 0

    in_fake_world(scenario)


def test_an_answer_in_time_is_returned() -> None:
    """A call with a timeout returns like any other."""

    async def scenario(world: FakeWorld) -> int:
        async with world.client() as client:
            return await client.mutation(ADD, ADD_A, type=int, timeout=10)

    assert in_fake_world(scenario) == 1


@pytest.mark.parametrize(("seconds", "error"), [("1", TypeError), (True, TypeError), (math.nan, ValueError)])
def test_only_numbers_are_timeouts(seconds: Any, error: type[Exception]) -> None:
    """The error names the type, or that it is not a number."""
    with pytest.raises(error, match="`timeout` is a number of seconds, not"):
        check_timeout(seconds)
