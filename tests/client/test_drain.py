"""`drain`: waiting until every call has finished, against a fake server in virtual time."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tests.support.fake_world import FakeWorld, in_fake_world
from tinyvex import limits
from tinyvex.errors import CallTimeout, ClientClosed

ADD, SLOW, GET = (f"counters:{name}" for name in ("add", "slow", "get"))
ADD_A = {"name": "a", "by": 1}


def test_it_waits_for_mutations_that_were_cancelled() -> None:
    """They have committed when it returns, although the server was away when they were called."""

    async def scenario(world: FakeWorld) -> int:
        world.stop()
        async with world.client() as client:
            for _ in range(3):
                with anyio.move_on_after(0.1):
                    await client.mutation(ADD, ADD_A)
            drained = asyncio.ensure_future(client.drain())
            await asyncio.sleep(100)
            assert not drained.done()
            world.start()
            await drained
            return world.server.counters["a"]

    assert in_fake_world(scenario) == 3


def test_it_waits_for_calls_that_wait_for_a_free_slot() -> None:
    """They were made before it."""

    async def scenario(world: FakeWorld) -> int:
        world.stop()
        async with world.client() as client:
            count = limits.CLIENT_REQUESTS_MAX + 5
            calls = [asyncio.ensure_future(client.mutation(ADD, ADD_A)) for _ in range(count)]
            await asyncio.sleep(0)
            drained = asyncio.ensure_future(client.drain())
            world.start()
            await drained
            assert world.server.counters["a"] == count
            await asyncio.gather(*calls)
            return len(calls) - count

    assert in_fake_world(scenario) == 0


def test_it_does_not_wait_for_later_calls() -> None:
    """A program that calls again and again does not delay it forever."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            await client.mutation(ADD, ADD_A)
            drained = asyncio.ensure_future(client.drain())
            await asyncio.sleep(0)
            later = asyncio.ensure_future(client.action(SLOW))
            await drained
            assert not later.done()
            later.cancel()

    in_fake_world(scenario)


def test_it_returns_immediately_if_there_are_no_calls() -> None:
    """Even without a server."""

    async def scenario(world: FakeWorld) -> float:
        world.stop()
        async with world.client() as client:
            await client.drain()
            with pytest.raises(CallTimeout):
                await client.query(GET, {"name": "a"}, timeout=1)
            await client.drain()
            return world.now

    assert in_fake_world(scenario) == pytest.approx(1)


def test_its_timeout_counts_the_unfinished_calls() -> None:
    """They stay pending, and finish when the server is back."""

    async def scenario(world: FakeWorld) -> int:
        world.stop()
        async with world.client() as client:
            calls = [asyncio.ensure_future(client.mutation(ADD, ADD_A)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(CallTimeout, match="2 calls have not finished within 5 seconds"):
                await client.drain(timeout=5)
            world.start()
            await asyncio.gather(*calls)
            return world.server.counters["a"]

    assert in_fake_world(scenario) == 2


def test_closing_the_client_ends_it() -> None:
    """It raises ClientClosed, because the outcome of the calls is unknown."""

    async def scenario(world: FakeWorld) -> None:
        world.stop()
        async with world.client() as client:
            call = asyncio.ensure_future(client.mutation(ADD, ADD_A))
            drained = asyncio.ensure_future(client.drain())
            await asyncio.sleep(1)
            client.close()
            for waiting in (drained, call):
                with pytest.raises(ClientClosed):
                    await waiting
            with pytest.raises(ClientClosed):
                await client.drain()

    in_fake_world(scenario)
