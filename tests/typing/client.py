"""The types of the client as type checkers infer them. Checked, never executed."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypedDict, assert_type

import tinyvex as tv
from tinyvex.client.blocking import BlockingSubscription
from tinyvex.client.connection_status import ConnectionState
from tinyvex.client.subscription import Subscription


class Message(tv.Document):
    body: str


class Row(TypedDict):
    body: str


async def calls(client: tv.Client) -> None:
    assert_type(await client.query("m:f"), Any)
    assert_type(await client.query("m:f", {"x": 1}, type=int), int)
    assert_type(await client.query("m:f", type=list[Message], at=5), list[Message])
    assert_type(await client.mutation("m:f", {}, type=Row), Row)
    assert_type(await client.mutation("m:f", {}, optimistic=lambda store: store.set("m:g", None, [1])), Any)
    assert_type(await client.action("m:f", type=tv.Id[Message], timeout=2.5), tv.Id[Message])
    assert_type(await client.query("m:f", type=int, timeout=1), int)
    assert_type(await client.mutation("m:f", type=int, timeout=None, idempotency_key="k"), int)


async def subscriptions(client: tv.Client) -> None:
    assert_type(client.subscribe("m:f"), Subscription[Any])
    assert_type(client.subscribe("m:f", type=list[Message]), Subscription[list[Message]])
    async with client.subscribe("m:f", {}, type=int) as numbers:
        assert_type(await anext(numbers), int)
        async for number in numbers:
            assert_type(number, int)


async def connecting() -> None:
    async with tv.connect("ws://127.0.0.1:4800", token=None) as client:
        assert_type(client, tv.Client)
        assert_type(client.epoch, str | None)
        assert_type(client.connection_state, ConnectionState)
        assert_type(client.connection_states(), AsyncIterator[ConnectionState])
        client.subscribe(calls)  # type: ignore[call-overload]
        await client.query("m:f", ["x"])  # type: ignore[call-overload]


async def opening_and_closing() -> None:
    client = await tv.connect("ws://127.0.0.1:4800").open()
    assert_type(client, tv.Client)
    await client.drain(timeout=1)
    await client.aclose()
    blocking = tv.connect_blocking("ws://127.0.0.1:4800").open()
    assert_type(blocking, tv.BlockingClient)
    blocking.close()


async def failing(client: tv.Client) -> None:
    try:
        await client.query("m:f")
    except tv.AppError as refused:
        assert_type(refused.app_data, Any)
    except tv.CallTimeout as late:
        assert_type(late.was_sent, bool)
    except (tv.errors.Overloaded, tv.RemoteError) as error:
        assert_type(error.name, str)


def blocking() -> None:
    with tv.connect_blocking("ws://127.0.0.1:4800") as client:
        assert_type(client, tv.BlockingClient)
        assert_type(client.query("m:f", type=list[Row]), list[Row])
        assert_type(client.mutation("m:f", timeout=2.5), Any)
        assert_type(client.connection_states(), Iterator[ConnectionState])
        client.wait_connected(timeout=1)
        client.drain(timeout=1)
        client.reconnect_now()
        with client.subscribe("m:f", type=str) as values:
            assert_type(values, BlockingSubscription[str])
            for value in values:
                assert_type(value, str)
