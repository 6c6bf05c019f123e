"""A client is called from other threads and loops: the call raises immediately and changes nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.fake_server import Endpoint, FakeServer
from tests.support.fake_world import FakeWorld, in_fake_world
from tinyvex.client.client import Client, connect
from tinyvex.client.client_loop import ClientLoop, Waiters
from tinyvex.client.subscription import Subscription
from tinyvex.errors import ClientClosed, TinyvexError

GET, ADD = "counters:get", "counters:add"
A = {"name": "a"}


def in_thread(function: Callable[[], object]) -> Exception | None:
    """Call a function in a thread named `worker` without a loop; return what it raised."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            function()
        except (RuntimeError, TinyvexError) as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="worker")
    thread.start()
    thread.join()
    return raised[0] if raised else None


Call = Callable[[Client, Subscription[Any]], object]

CALLS: dict[str, Call] = {
    "subscribe": lambda client, _: client.subscribe(GET, {"name": "b"}),
    "set_auth": lambda client, _: client.set_auth(lambda: "token"),
    "close": lambda client, _: client.close(),
    "connection_states": lambda client, _: client.connection_states(),
    "subscription.close": lambda _, values: values.close(),
}
AWAITED: dict[str, Call] = {
    "query": lambda client, _: client.query(GET, A),
    "mutation": lambda client, _: client.mutation(ADD, {"name": "a", "by": 1}),
    "action": lambda client, _: client.action("counters:echo", {"value": 1}),
    "wait_connected": lambda client, _: client.wait_connected(),
    "anext": lambda _, values: anext(values),
    "subscription.aclose": lambda _, values: values.aclose(),
    "leaving": lambda client, _: client.__aexit__(None, None, None),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_from_another_thread_raises_and_changes_nothing(name: str) -> None:
    """The error names both threads; the client and its subscription continue."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client, client.subscribe(GET, A, type=int) as values:
            assert await anext(values) == 0
            heard = len(world.endpoint.session.heard)
            error = in_thread(lambda: CALLS[name](client, values))
            assert isinstance(error, RuntimeError)
            assert "the event loop of thread `MainThread`" in str(error)
            assert "from thread `worker`" in str(error)
            assert await client.mutation(ADD, {"name": "a", "by": 1}) == 1
            assert await anext(values) == 1
            assert len(world.endpoint.session.heard) == heard + 1

    in_fake_world(scenario)


@pytest.mark.parametrize("name", CALLS | AWAITED)
def test_a_call_from_another_loop_raises_and_changes_nothing(name: str) -> None:
    """Also if the other loop runs in a thread; nothing is sent."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client, client.subscribe(GET, A, type=int) as values:
            assert await anext(values) == 0
            heard = len(world.endpoint.session.heard)

            async def call() -> None:
                result: Any = (CALLS | AWAITED)[name](client, values)
                if name in AWAITED:
                    async with asyncio.timeout(10):
                        await result

            error = in_thread(lambda: asyncio.run(call()))
            assert isinstance(error, RuntimeError), error
            assert "from another event loop, in thread `worker`" in str(error)
            assert await client.mutation(ADD, {"name": "a", "by": 1}) == 1
            assert await anext(values) == 1
            assert len(world.endpoint.session.heard) == heard + 1

    in_fake_world(scenario)


def test_reading_the_state_from_another_thread_is_allowed() -> None:
    """The properties change nothing."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            await client.wait_connected()
            seen: list[object] = []
            assert in_thread(lambda: seen.extend([client.connection_state.phase, client.epoch])) is None
            assert seen == ["connected", "first"]

    in_fake_world(scenario)


def test_a_client_that_was_left_may_be_closed_from_anywhere() -> None:
    """Cleaning up has no effect, and a call raises ClientClosed."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            values = client.subscribe(GET, A)
        assert in_thread(values.close) is None
        assert in_thread(client.close) is None
        error = in_thread(lambda: asyncio.run(client.query(GET, A)))  # type: ignore[arg-type]
        assert isinstance(error, ClientClosed)

    in_fake_world(scenario)


@pytest.fixture
def url() -> Iterator[str]:
    """Run a fake server on a loopback port, with its loop on a thread."""
    from anyio.from_thread import start_blocking_portal

    server = FakeServer()
    endpoints: list[Endpoint] = []

    async def listen() -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Endpoint(server, endpoints.append), "127.0.0.1", 0)

    with start_blocking_portal() as portal:
        listener = portal.call(listen)
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        portal.call(listener.close)
        portal.call(lambda: [endpoint.transport.abort() for endpoint in endpoints])


def test_a_client_lives_in_one_asyncio_run(url: str) -> None:
    """In a second one every call raises: the loop that it belongs to was closed."""
    client = connect(url)

    async def first() -> object:
        await client.__aenter__()
        return await client.query(GET, A)

    async def second() -> object:
        async with asyncio.timeout(10):
            return await client.query(GET, A)

    assert asyncio.run(first()) == 0
    with pytest.raises(RuntimeError, match="closed; use a client only inside the asyncio.run"):
        asyncio.run(second())
    with pytest.raises(RuntimeError, match="only once"):
        asyncio.run(client.__aenter__())  # type: ignore[arg-type]


def test_a_client_whose_task_was_cancelled_is_closed() -> None:
    """A program may cancel all tasks: pending and later calls raise ClientClosed instead of waiting forever."""

    async def scenario(world: FakeWorld) -> None:
        client = world.client()
        await client.__aenter__()
        values = client.subscribe(GET, A)
        assert await anext(values) == 0
        pending = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0)
        for task in asyncio.all_tasks():
            if task.get_name() == "tinyvex-client":
                task.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(ClientClosed, match="was cancelled"):
                await pending
            with pytest.raises(ClientClosed, match="was cancelled"):
                await client.query(GET, A)
            await client.__aexit__(None, None, None)

    in_fake_world(scenario)


def test_an_unbound_loop_accepts_every_caller() -> None:
    """Before a client is entered and after it was left."""
    loop = ClientLoop()
    assert in_thread(loop.check) is None

    async def bind() -> None:
        loop.bind()

    asyncio.run(bind())
    assert isinstance(in_thread(loop.check), RuntimeError)
    loop.unbind()
    assert in_thread(loop.check) is None


async def test_a_cancelled_waiter_is_not_woken() -> None:
    """The others are, each by the next change only."""
    changes = Waiters()
    waiting = [asyncio.ensure_future(changes.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    changes.wake()
    changes.wake()
    await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [True, False, False]
    again = asyncio.ensure_future(changes.wait())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
