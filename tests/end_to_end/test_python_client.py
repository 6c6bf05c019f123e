"""The Python client and the real server, on a real socket."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tinyvex as tv
from tinyvex import limits
from tinyvex.errors import ClientClosed, MessageTooLarge, RemoteError
from tinyvex.server.server import Server, ServerOptions

APP = """
import tinyvex as tv

@tv.table("things", indexes={"by_name": ["name"]})
class Thing(tv.Document):
    name: str
    size: tv.Int64
    data: bytes
    ratio: float

@tv.mutation
def add(ctx: tv.MutationCtx, name: str, size: tv.Int64, data: bytes, ratio: float) -> tv.Id[Thing]:
    return ctx.db.insert(Thing(name=name, size=size, data=data, ratio=ratio))

@tv.query
def things(ctx: tv.QueryCtx) -> tv.Rows[Thing]:
    return ctx.db.query(Thing).collect()

@tv.query
def only(ctx: tv.QueryCtx) -> Thing:
    things = ctx.db.query(Thing).take(2)
    if len(things) != 1:
        raise tv.AppError({"found": len(things)})
    return things[0]

@tv.query
def count(ctx: tv.QueryCtx) -> int:
    return ctx.db.query(Thing).count()

@tv.mutation
def clear(ctx: tv.MutationCtx) -> int:
    things = ctx.db.query(Thing).collect()
    for thing in things:
        ctx.db.delete(thing.id)
    return len(things)

@tv.query
def echo(ctx: tv.QueryCtx, text: str) -> str:
    return text

@tv.action
async def add_two(ctx: tv.ActionCtx) -> int:
    for name in ("one", "two"):
        await ctx.run_mutation(add, name=name, size=tv.Int64(1), data=b"", ratio=0.5)
    return 2
"""


class Thing(tv.Document):
    name: str
    size: tv.Int64
    data: bytes
    ratio: float


class PartOfThing(msgspec.Struct, frozen=True):
    name: str


THING: dict[str, Any] = {"name": "a", "size": tv.Int64(2**62), "data": b"\x00\xff", "ratio": math.inf}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return path


@asynccontextmanager
async def serving(app: Path, port: int = 0) -> AsyncIterator[Server]:
    """Run a server in this process. It is not a fixture, because it must be left in the task that entered it."""
    async with Server(ServerOptions(app=app, data=app.parent / "data", client_token="secret", port=port)) as server:
        yield server


@asynccontextmanager
async def connected(app: Path) -> AsyncIterator[tv.Client]:
    """Connect a client to a server of its own."""
    async with serving(app) as server, client_of(server) as client:
        yield client


def client_of(server: Server) -> tv.Client:
    return tv.connect(server.url, "secret")


async def test_every_kind_of_value_survives_the_round_trip(app: Path) -> None:
    """Values survive as documents, as parts of one, and untyped."""
    async with connected(app) as client:
        found_id = await client.mutation("app:add", THING, type=tv.Id[Thing])
        (thing,) = await client.query("app:things", type=list[Thing])
        assert (thing.name, thing.size, thing.data, thing.ratio) == tuple(THING.values())
        assert thing.id == found_id
        assert await client.query("app:things", type=list[PartOfThing]) == [PartOfThing("a")]
        (untyped,) = await client.query("app:things")
        assert untyped["size"] == 2**62
        assert type(untyped["size"]) is tv.Int64


async def test_two_clients_see_each_others_changes(app: Path) -> None:
    """A subscriber sees another client's writes."""
    async with serving(app) as server, client_of(server) as one, client_of(server) as other:
        counts = one.subscribe("app:count", type=int)
        assert await anext(counts) == 0
        await other.mutation("app:add", THING)
        assert await anext(counts) == 1
        assert await other.action("app:add_two", type=int) == 2
        while await anext(counts) != 3:
            pass


async def test_a_query_fails_and_recovers(app: Path) -> None:
    """The failure carries the app's data; values follow when the query succeeds again."""
    async with connected(app) as client:
        only = client.subscribe("app:only", type=Thing)
        with pytest.raises(RemoteError) as none:
            await anext(only)
        assert none.value.app_data == {"found": 0}
        await client.mutation("app:add", THING)
        assert (await anext(only)).name == "a"
        await client.action("app:add_two")
        with pytest.raises(RemoteError) as many:
            await anext(only)
        assert many.value.app_data == {"found": 2}
        await client.mutation("app:clear")
        await client.mutation("app:add", THING)
        while True:
            try:
                assert (await anext(only)).name == "a"
            except RemoteError:
                continue
            break


async def test_a_restarted_server_changes_nothing(app: Path) -> None:
    """Subscriptions continue, unchanged results cause no update, and mutations called meanwhile arrive."""
    async with serving(app) as first:
        port = first.port
        client = client_of(first)
        await client.__aenter__()
        counts = client.subscribe("app:count", type=int)
        assert await anext(counts) == 0
    waiting = asyncio.ensure_future(client.mutation("app:add", THING))
    async with serving(app, port):
        await waiting
        assert await anext(counts) == 1
        await client.__aexit__(None, None, None)
        with pytest.raises(ClientClosed):
            await anext(counts)


async def test_wrong_calls_raise_and_the_client_continues(app: Path) -> None:
    """Unknown functions, wrong arguments and wrong kinds raise errors; the client continues."""
    async with connected(app) as client:
        for path, args, name in (
            ("app:nothing", {}, "FunctionNotFound"),
            ("app:echo", {"text": 5}, "InvalidArguments"),
            ("app:clear", {}, "WrongFunctionKind"),
        ):
            with pytest.raises(RemoteError) as refused:
                await client.query(path, args)
            assert refused.value.name == name
            with pytest.raises(RemoteError) as failed:
                await anext(client.subscribe(path, args))
            assert failed.value.name == name
        assert await client.query("app:echo", {"text": "x"}) == "x"
        assert client.connection_state.retries == 0


async def test_a_request_too_large_never_leaves(app: Path) -> None:
    """An oversized request is refused locally, because the server would close the connection."""
    async with connected(app) as client:
        with pytest.raises(MessageTooLarge):
            await client.query("app:echo", {"text": "x" * limits.MESSAGE_BYTES_MAX})
        assert await client.query("app:echo", {"text": "x"}) == "x"


async def test_the_wrong_token_ends_the_client(app: Path) -> None:
    """A wrong token ends the client immediately, with the reason."""
    async with serving(app) as server, tv.connect(server.url, "wrong") as client:
        with pytest.raises(RemoteError) as refused:
            await client.query("app:count")
        assert refused.value.name == "Unauthenticated"
        assert client.connection_state.phase == "closed"


async def test_many_subscriptions_and_many_calls(app: Path) -> None:
    """More calls than one connection may have unanswered, and many queries, are all answered."""
    async with connected(app) as client:
        queries = [client.subscribe("app:echo", {"text": str(number)}, type=str) for number in range(500)]
        assert [await anext(query) for query in queries] == [str(number) for number in range(500)]
        calls = [client.query("app:echo", {"text": str(number)}) for number in range(3000)]
        assert await asyncio.gather(*calls) == [str(number) for number in range(3000)]
