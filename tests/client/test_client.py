"""The public interface of the client, against a fake server in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import anyio
import msgspec
import pytest

from tests.support.fake_server import error_object
from tests.support.fake_world import FakeWorld, in_fake_world
from tinyvex import limits
from tinyvex.client.client import Client
from tinyvex.errors import (
    AppError,
    ClientClosed,
    ConnectionLost,
    DecodeError,
    InvalidParams,
    InvalidValue,
    RemoteError,
    TooManyQueries,
)

ECHO, GET, ADD, FAIL, SLOW = (f"counters:{name}" for name in ("echo", "get", "add", "fail", "slow"))
A = {"name": "a"}


# Calls.


def test_the_three_kinds_of_calls() -> None:
    """Each returns the value of its function."""

    async def scenario(world: FakeWorld) -> tuple[Any, Any, Any]:
        async with world.client() as client:
            return (
                await client.mutation(ADD, {"name": "a", "by": 3}),
                await client.query(GET, A),
                await client.action(ECHO, {"value": [1, None, "x"]}),
            )

    assert in_fake_world(scenario) == (3, 3, [1, None, "x"])


def test_results_are_decoded_to_the_requested_type() -> None:
    """Structs, dataclasses, typed dictionaries, and lists of them."""

    class Struct(msgspec.Struct):
        x: int

    @dataclass
    class Data:
        x: float

    class Typed(TypedDict):
        x: int

    async def scenario(world: FakeWorld) -> list[Any]:
        async with world.client() as client:
            return [
                await client.query(ECHO, {"value": [{"x": 1, "more": 2}]}, type=kind)
                for kind in (list[Struct], list[Data], list[Typed], Any)
            ]

    assert in_fake_world(scenario) == [[Struct(1)], [Data(1.0)], [{"x": 1}], [{"x": 1, "more": 2}]]


def test_a_query_can_read_an_older_snapshot() -> None:
    """`at` is the snapshot's `ts`."""

    async def scenario(world: FakeWorld) -> tuple[int, int]:
        before = world.server.ts
        world.commit("a", 5)
        async with world.client() as client:
            return await client.query(GET, A, at=before), await client.query(GET, A)

    assert in_fake_world(scenario) == (0, 5)


def test_a_failed_call_raises_the_servers_error() -> None:
    """With name, message and the app's data."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            with pytest.raises(AppError, match="refused") as caught:
                await client.mutation(FAIL)
            assert isinstance(caught.value, RemoteError)
            assert caught.value.name == "AppError"
            assert caught.value.app_data == {"why": "because"}
            with pytest.raises(RemoteError):
                await client.query(FAIL)
            with pytest.raises(RemoteError):
                await client.action(FAIL)
            assert await client.query(ECHO, {"value": 1}) == 1

    in_fake_world(scenario)


def test_a_result_of_another_type_is_a_decode_error() -> None:
    """The error names the function, and the client can be used further."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            with pytest.raises(DecodeError, match=r"counters:echo.*Expected `int`, got `str`"):
                await client.query(ECHO, {"value": "x"}, type=int)
            assert await client.query(ECHO, {"value": 1}, type=int) == 1

    in_fake_world(scenario)


@pytest.mark.parametrize(
    ("path", "args", "kind"),
    [
        ("", {}, InvalidParams),
        ("x" * 513, {}, InvalidParams),
        (print, {}, TypeError),
        ("a:b", {"x": object()}, InvalidValue),
        ("a:b", [1], TypeError),
    ],
)
def test_invalid_calls_are_refused_before_they_are_sent(path: Any, args: Any, kind: type[Exception]) -> None:
    """A mistake of one caller does not disturb others."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            with pytest.raises(kind):
                await client.query(path, args)
            with pytest.raises(kind):
                client.subscribe(path, args)
            await client.wait_connected()
            assert [message["method"] for message in world.endpoint.session.heard] == ["tinyvex/connect"]

    in_fake_world(scenario)


def test_a_client_must_be_entered() -> None:
    """Calls before that would wait forever; a closed client raises ClientClosed."""

    async def scenario(world: FakeWorld) -> None:
        client = world.client()
        with pytest.raises(RuntimeError, match=r"async with tv\.connect"):
            await client.query(GET, A)
        with pytest.raises(RuntimeError, match=r"async with tv\.connect"):
            client.subscribe(GET, A)
        client.close()
        with pytest.raises(ClientClosed):
            await client.query(GET, A)

    in_fake_world(scenario)


def test_calls_wait_for_the_server() -> None:
    """A client may be created before its server runs."""

    async def scenario(world: FakeWorld) -> int:
        world.stop()
        async with world.client() as client, anyio.create_task_group() as group:

            async def start_later() -> None:
                await world.runtime.sleep(20)
                world.start()

            group.start_soon(start_later)
            return await client.mutation(ADD, {"name": "a", "by": 1}, type=int)

    assert in_fake_world(scenario) == 1


def test_callers_wait_when_too_many_requests_are_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above CLIENT_REQUESTS_MAX, callers wait in order."""
    monkeypatch.setattr(limits, "CLIENT_REQUESTS_MAX", 3)

    async def scenario(world: FakeWorld) -> list[int]:
        done: list[int] = []
        async with world.client() as client, anyio.create_task_group() as group:

            async def call(number: int) -> None:
                done.append(await client.query(ECHO, {"value": number}, type=int))

            for number in range(10):
                group.start_soon(call, number)
        return done

    assert in_fake_world(scenario) == list(range(10))


# Mutations and subscriptions.


def test_a_mutation_returns_after_its_effect_was_shown() -> None:
    """The subscription's reader continues before the mutation's caller."""

    async def scenario(world: FakeWorld) -> list[str]:
        happened: list[str] = []
        async with world.client() as client, anyio.create_task_group() as group:

            async def read() -> None:
                async with client.subscribe(GET, A, type=int) as values:
                    async for value in values:
                        happened.append(f"read {value}")  # noqa: PERF401 - one at a time is the point

            group.start_soon(read)
            for _ in range(3):
                value = await client.mutation(ADD, {"name": "a", "by": 1}, type=int)
                happened.append(f"wrote {value}")
            group.cancel_scope.cancel()
        return happened

    happened = in_fake_world(scenario)
    assert happened[-4:] == ["read 2", "wrote 2", "read 3", "wrote 3"]


def test_a_mutation_in_flight_survives_a_lost_connection() -> None:
    """It runs once, and the caller gets the first result."""

    async def scenario(world: FakeWorld) -> int:
        world.prepare = lambda endpoint: setattr(endpoint.session, "holds_transitions", len(world.endpoints) == 1)
        async with world.client() as client, anyio.create_task_group() as group:

            async def cut_when_committed() -> None:
                while not world.server.records:
                    await world.runtime.sleep(0.001)
                world.cut()

            group.start_soon(cut_when_committed)
            value = await client.mutation(ADD, {"name": "a", "by": 1}, type=int)
        assert len(world.endpoints) == 2
        return value

    assert in_fake_world(scenario) == 1


def test_an_action_in_flight_fails_when_the_connection_is_lost() -> None:
    """The error says that its outcome is unknown."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client, anyio.create_task_group() as group:

            async def cut_when_running() -> None:
                while not (world.endpoints and world.endpoint.session.actions):
                    await world.runtime.sleep(0.001)
                world.cut()

            group.start_soon(cut_when_running)
            with pytest.raises(ConnectionLost, match="its outcome is unknown"):
                await client.action(SLOW)

    in_fake_world(scenario)


def test_an_optimistic_update_is_seen_by_readers_before_the_server_answers() -> None:
    """The server's value follows, without the old value in between."""

    async def scenario(world: FakeWorld) -> list[int]:
        seen: list[int] = []
        async with world.client() as client, anyio.create_task_group() as group:
            values = client.subscribe(GET, A, type=int)
            seen.append(await anext(values))

            async def read() -> None:
                async for value in values:
                    seen.append(value)  # noqa: PERF401 - one at a time is the point

            group.start_soon(read)
            await client.mutation(ADD, {"name": "a", "by": 5}, optimistic=lambda store: store.set(GET, A, 4))
            group.cancel_scope.cancel()
        return seen

    assert in_fake_world(scenario) == [0, 4, 5]


# Subscriptions.


def test_a_slow_reader_gets_the_newest_value_only() -> None:
    """Values do not queue up."""

    async def scenario(world: FakeWorld) -> list[int]:
        async with world.client() as client, client.subscribe(GET, A, type=int) as values:
            seen = [await anext(values)]
            for _ in range(5):
                world.commit("a")
            await world.runtime.sleep(1)
            seen.append(await anext(values))
            with anyio.move_on_after(1):
                seen.append(await anext(values))
            return seen

    assert in_fake_world(scenario) == [0, 5]


async def _ended_queries(world: FakeWorld) -> int:
    """Wait until the server has no query; return the number of queries that were removed."""
    session = world.endpoint.session
    async with asyncio.timeout(10):
        while session.queries:
            await asyncio.sleep(0.001)
    changes = [change for message in session.heard for change in message["params"].get("modifications", ())]
    return sum(change["type"] == "Remove" for change in changes)


@pytest.mark.parametrize("error", [None, KeyError])
def test_leaving_an_iteration_ends_its_subscription(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    """By `break` or an exception, however many iterations there are."""
    monkeypatch.setattr(limits, "CLIENT_QUERIES_MAX", 3)

    async def read(client: Client, name: str) -> None:
        async for value in client.subscribe(GET, {"name": name}, type=int):
            assert value == 0
            if error is not None:
                raise error
            break

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            for number in range(10):
                with contextlib.suppress(KeyError):
                    await read(client, f"name {number}")
            assert await _ended_queries(world) == 10

    in_fake_world(scenario)


def test_a_subscription_that_is_still_referred_to_continues() -> None:
    """After `break` with another loop, and while a task waits for a value."""

    async def scenario(world: FakeWorld) -> list[int]:
        async with world.client() as client:
            values = client.subscribe(GET, A, type=int)
            async for _ in values:
                break
            waiting = asyncio.ensure_future(anext(client.subscribe(GET, {"name": "b"}, type=int)))
            assert await waiting == 0
            subscription = client.subscribe(GET, {"name": "c"}, type=int)
            await anext(subscription)
            waiting = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0)
            del subscription
            gc.collect()
            world.commit("a")
            world.commit("c", 2)
            return [await anext(values), await waiting]

    assert in_fake_world(scenario) == [1, 2]


def test_a_subscription_may_be_dropped_in_another_thread_or_after_the_client() -> None:
    """It ends on the client's loop, if there still is one."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            held = [client.subscribe(GET, A), client.subscribe(GET, {"name": "b"})]
            await anext(held[0])
            late = client.subscribe(GET, A)
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
            late.close()
            assert await _ended_queries(world) == 2
            late = client.subscribe(GET, A)
        del late

    in_fake_world(scenario)


def test_a_failure_is_raised_and_the_next_value_arrives() -> None:
    """The iteration ends with the error; another iteration continues."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client, client.subscribe(FAIL) as values:
            with pytest.raises(RemoteError, match="failed 0"):
                await anext(values)
            world.commit("failures")
            with pytest.raises(RemoteError, match="failed 1"):
                async for _ in values:
                    pass

    in_fake_world(scenario)


def test_a_value_that_does_not_decode_is_an_error_for_that_update_only() -> None:
    """The next value arrives."""

    async def scenario(world: FakeWorld) -> int:
        world.commit("a", -1)
        async with world.client() as client:
            values = client.subscribe(GET, A, type=Annotated[int, msgspec.Meta(ge=0)])
            with pytest.raises(DecodeError):
                await anext(values)
            world.commit("a", 5)
            return await anext(values)

    assert in_fake_world(scenario) == 4


def test_two_readers_of_one_query_both_get_every_change() -> None:
    """Closing one subscription does not affect the other."""

    async def scenario(world: FakeWorld) -> tuple[list[int], list[int]]:
        async with world.client() as client:
            one, other = client.subscribe(GET, A, type=int), client.subscribe(GET, A, type=int)
            first = [await anext(one), await anext(other)]
            one.close()
            one.close()
            world.commit("a")
            second = [await anext(other)]
            with pytest.raises(StopAsyncIteration):
                await anext(one)
            assert len(world.endpoint.session.queries) == 1
            return first, second

    assert in_fake_world(scenario) == ([0, 0], [1])


def test_closing_a_subscription_ends_its_iteration_and_removes_the_query() -> None:
    """Including an iteration that waits."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client, anyio.create_task_group() as group:
            values = client.subscribe(GET, A, type=int)

            async def close_later() -> None:
                await world.runtime.sleep(1)
                values.close()

            group.start_soon(close_later)
            assert [value async for value in values] == [0]
            await client.query(ECHO, {"value": 1})
            assert world.endpoint.session.queries == {}

    in_fake_world(scenario)


def test_a_subscription_survives_lost_connections() -> None:
    """An unchanged result is not returned again; a changed one is."""

    async def scenario(world: FakeWorld) -> list[int]:
        async with world.client() as client, client.subscribe(GET, A, type=int) as values:
            seen = [await anext(values)]
            for by in (0, 2, 0, 3):
                world.cut()
                if by:
                    world.commit("a", by)
                    seen.append(await anext(values))
                else:
                    await client.wait_connected()
            return seen

    assert in_fake_world(scenario) == [0, 2, 5]


def test_too_many_subscriptions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Existing subscriptions continue."""
    monkeypatch.setattr(limits, "CLIENT_QUERIES_MAX", 2)

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            values = client.subscribe(GET, A)
            client.subscribe(GET, {"name": "b"})
            with pytest.raises(TooManyQueries):
                client.subscribe(GET, {"name": "c"})
            assert await anext(values) == 0

    in_fake_world(scenario)


def test_another_epoch_is_seen_by_the_reader_as_a_new_value() -> None:
    """After a restore, earlier results are void."""

    async def scenario(world: FakeWorld) -> list[Any]:
        world.commit("a", 5)
        async with world.client() as client, client.subscribe(GET, A) as values:
            seen = [client.epoch, await anext(values), client.epoch]
            world.server.restore("second")
            world.cut()
            return [*seen, await anext(values), client.epoch]

    assert in_fake_world(scenario) == [None, 5, "first", 0, "second"]


# Closing and cancelling.


def test_closing_ends_every_wait() -> None:
    """Calls, readers, and callers that wait for a free slot or for the connection."""

    async def scenario(world: FakeWorld) -> list[type[BaseException]]:
        ends: list[type[BaseException]] = []
        async with world.client() as client, anyio.create_task_group() as group:
            values = client.subscribe(GET, A)
            await anext(values)
            world.endpoint.is_deaf = True

            async def expect_end(wait: Any) -> None:
                try:
                    await wait
                except Exception as error:  # noqa: BLE001 - which one is asked
                    ends.append(type(error))

            for wait in (
                anext(values),
                client.mutation(ADD, {"name": "a", "by": 1}),
                client.query(GET, A),
                client.action(SLOW),
            ):
                group.start_soon(expect_end, wait)
            await world.runtime.sleep(1)
            client.close()
        with pytest.raises(ClientClosed):
            client.subscribe(GET, A)
        return ends

    assert in_fake_world(scenario) == [ClientClosed] * 4


def test_an_error_in_the_body_is_not_wrapped() -> None:
    """`except KeyError` around the client works."""

    async def scenario(world: FakeWorld) -> None:
        async with world.client() as client:
            await client.wait_connected()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        in_fake_world(scenario)


def test_a_client_is_entered_once() -> None:
    """Its session has ended when it was left."""

    async def scenario(world: FakeWorld) -> None:
        client = world.client()
        async with client:
            pass
        with pytest.raises(RuntimeError):
            async with client:
                pass

    in_fake_world(scenario)


def test_a_client_can_be_left_in_another_task() -> None:
    """As pytest-asyncio fixtures and start-up hooks of web frameworks do, even out of order."""

    async def scenario(world: FakeWorld) -> int:
        first, second = world.client(), world.client()
        for client in (first, second):
            await asyncio.create_task(client.__aenter__())
        value = await first.mutation(ADD, {"name": "a", "by": 1}, type=int)
        for client in (first, second):
            await asyncio.create_task(client.__aexit__(None, None, None))
        assert len(world.network.transports) == 0
        return value

    assert in_fake_world(scenario) == 1


def test_open_and_aclose_do_what_the_block_does() -> None:
    """They may be called in different tasks; closing again, also concurrently, has no effect."""

    async def scenario(world: FakeWorld) -> int:
        client = await asyncio.create_task(world.client().open())
        value = await client.mutation(ADD, {"name": "a", "by": 1}, type=int)
        await asyncio.gather(client.aclose(), client.aclose())
        await client.aclose()
        assert len(world.network.transports) == 0
        assert len(asyncio.all_tasks()) == 1
        with pytest.raises(ClientClosed):
            await client.query(GET, A)
        return value

    assert in_fake_world(scenario) == 1


def test_a_client_is_opened_once() -> None:
    """The error says what to do instead, also if the client was not opened at all."""

    async def scenario(world: FakeWorld) -> None:
        client = world.client()
        with pytest.raises(RuntimeError, match=r"call `await client\.open\(\)`"):
            await client.query(GET, A)
        async with client:
            with pytest.raises(RuntimeError, match="only once"):
                await client.open()
            assert await client.query(GET, A) == 0

    in_fake_world(scenario)


def test_a_client_that_was_never_opened_can_be_closed() -> None:
    """Its calls raise ClientClosed."""

    async def scenario(world: FakeWorld) -> None:
        client = world.client()
        await client.aclose()
        with pytest.raises(ClientClosed):
            await client.query(GET, A)

    in_fake_world(scenario)


def test_waiting_for_the_connection_has_a_timeout() -> None:
    """The error has the reason, and the client continues to try."""

    async def scenario(world: FakeWorld) -> None:
        world.stop()
        async with world.client() as client:
            with pytest.raises(ConnectionLost, match="within 2 seconds: no server answers"):
                await client.wait_connected(timeout=2)
            world.start()
            await client.wait_connected(timeout=60)

    in_fake_world(scenario)


def test_cancelling_the_wait_does_not_cancel_the_mutation() -> None:
    """It commits, and its slot is free again."""

    async def scenario(world: FakeWorld) -> int:
        async with world.client() as client:
            await client.wait_connected()
            with anyio.move_on_after(0):
                await client.mutation(ADD, {"name": "a", "by": 1})
            return await client.mutation(ADD, {"name": "a", "by": 1}, type=int)

    assert in_fake_world(scenario) == 2


def test_cancelling_a_reader_loses_no_value() -> None:
    """A value that arrived after the cancellation is returned by the next iteration."""

    async def scenario(world: FakeWorld) -> list[int]:
        async with world.client() as client, client.subscribe(GET, A, type=int) as values:
            seen = [await anext(values)]
            for _ in range(20):
                world.commit("a")
                with anyio.move_on_after(0.0005):
                    seen.append(await anext(values))
            seen.append(await anext(values))
            return seen

    seen = in_fake_world(scenario)
    assert seen == sorted(set(seen))
    assert seen[-1] <= 20


def test_cancelling_an_unsent_action_withdraws_it() -> None:
    """It was never sent, so it never runs."""

    async def scenario(world: FakeWorld) -> list[str]:
        world.stop()
        async with world.client() as client:
            with anyio.move_on_after(1):
                await client.action(ECHO, {"value": 1})
            world.start()
            await client.query(ECHO, {"value": 2})
            return [message["method"] for message in world.endpoint.session.heard]

    assert in_fake_world(scenario) == ["tinyvex/connect", "tinyvex/query"]


def test_cancelling_an_unsent_mutation_does_not_withdraw_it() -> None:
    """It runs once the server is there."""

    async def scenario(world: FakeWorld) -> int:
        world.stop()
        async with world.client() as client:
            with anyio.move_on_after(1):
                await client.mutation(ADD, {"name": "a", "by": 1})
            world.start()
            return await client.mutation(ADD, {"name": "a", "by": 1}, type=int)

    assert in_fake_world(scenario) == 2


@pytest.mark.parametrize("steps", range(0, 240, 3))
def test_a_client_cancelled_anywhere_leaves_nothing_behind(steps: int) -> None:
    """After any number of loop iterations: no socket, no task, and every mutation ran at most once."""

    async def scenario(world: FakeWorld) -> None:
        acknowledged = 0

        async def work() -> None:
            nonlocal acknowledged
            async with world.client() as client, client.subscribe(GET, A) as values:
                await anext(values)
                for _ in range(3):
                    await client.mutation(ADD, {"name": "a", "by": 1})
                    acknowledged += 1
                    await client.query(GET, A)
                    await client.action(ECHO, {"value": 1})
                world.cut()
                await client.mutation(ADD, {"name": "a", "by": 1})
                acknowledged += 1

        task = asyncio.get_running_loop().create_task(work())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
        await world.runtime.sleep(60)
        assert acknowledged <= world.server.counters.get("a", 0) <= acknowledged + 1
        assert len(world.network.transports) == 0
        assert len(asyncio.all_tasks()) == 1

    in_fake_world(scenario)


def test_errors_that_end_the_client_reach_wait_connected() -> None:
    """It does not wait forever."""

    async def scenario(world: FakeWorld) -> None:
        world.server.refusal = error_object("Unauthenticated", "wrong token", retry="after-fix")
        async with world.client() as client:
            with pytest.raises(RemoteError, match="wrong token"):
                await client.wait_connected()

    in_fake_world(scenario)
