"""With Python's garbage collector disabled, reference counting frees everything that belonged to a client."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tests.support.storage import bound_runtime
from tinyvex import limits

APP = Path(__file__).parents[1] / "support" / "cyclic.py"
QUERIES = ["written", "inspected", "page", "me", "refused", "crashed"]
ROUNDS = 20
PASSES_MAX = 200
"""Requests after which the server has certainly noticed the end of a connection."""
LIVE_QUERIES = 2_000

numbers = itertools.count(1).__next__


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server."""
    with ServerProcess(APP, tmp_path_factory.mktemp("data"), "--no-token") as process:
        yield process


@asynccontextmanager
async def connected(server: ServerProcess, **params: Any) -> AsyncIterator[RawClient]:
    """Open a session."""
    client = await RawClient.open(server.url, bound_runtime())
    await client.answer(client.connect(**{"sessionId": f"session-number-{numbers()}", **params}))
    yield client
    client.cut()
    await client.end()


async def call(client: RawClient, method: str, function: str, **args: Any) -> dict[str, Any]:
    """Call a function of the app."""
    number = {} if method == "query" else {"requestId": numbers()}
    return await client.ask(method, udfPath=f"cyclic:{function}", args=args, **number)


async def act(client: RawClient, function: str, **args: Any) -> Any:
    """Run an action and return its value."""
    return (await call(client, "action", function, **args))["result"]["value"]


async def subscribe(client: RawClient, author: str) -> None:
    """Subscribe to every query and wait for the results."""
    adds = [
        {"type": "Add", "queryId": number, "udfPath": f"cyclic:{name}", "args": {"author": author}}
        for number, name in enumerate(QUERIES)
    ]
    await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=adds)
    await client.notification("transition")


async def cuts_the_connection(server: ServerProcess) -> None:
    async with connected(server) as client:
        await subscribe(client, "Ann")


async def unsubscribes(server: ServerProcess) -> None:
    async with connected(server) as client:
        await subscribe(client, "Ann")
        removes = [{"type": "Remove", "queryId": number} for number in range(len(QUERIES))]
        await client.ask("modifyQuerySet", baseVersion=1, newVersion=2, modifications=removes)


async def writes(server: ServerProcess) -> None:
    async with connected(server) as client:
        await subscribe(client, "Ann")
        for function in ("write", "write_and_fail", "crash"):
            await call(client, "mutation", function, author="Ann")


async def acts(server: ServerProcess) -> None:
    async with connected(server) as client:
        for function in ("act", "act_and_crash"):
            await call(client, "action", function, author="Ann")


async def queries_once(server: ServerProcess) -> None:
    async with connected(server) as client:
        for function in QUERIES:
            await call(client, "query", function, author="Ann")


async def sends_invalid_messages(server: ServerProcess) -> None:
    async with connected(server) as client:
        await subscribe(client, "Ann")
        client.send_text("{")
        await client.message(lambda message: "error" in message)
        client.send("modifyQuerySet", baseVersion=7, newVersion=8, modifications=[])  # fatal
        await client.end()


async def sends_a_wrong_credential(server: ServerProcess) -> None:
    async with connected(server) as client:
        await client.ask("authenticate", baseVersion=0, kind="admin", token="wrong")


async def is_replaced(server: ServerProcess) -> None:
    async with connected(server, sessionId="the-same-session") as first:
        await subscribe(first, "Ann")
        async with connected(server, sessionId="the-same-session"):
            await first.end()


async def is_refused(server: ServerProcess) -> None:
    client = await RawClient.open(server.url, bound_runtime(), headers={"Host": "elsewhere.example"})
    client.cut()
    await client.end()


async def is_no_websocket(server: ServerProcess) -> None:
    client = await RawClient.open(server.url, bound_runtime(), headers={"Sec-WebSocket-Key": "wrong"})
    client.cut()
    await client.end()


@pytest.mark.parametrize(
    "scenario",
    [cuts_the_connection, unsubscribes, writes, acts, queries_once, sends_invalid_messages, sends_a_wrong_credential,
     is_replaced, is_refused, is_no_websocket],
)  # fmt: skip
async def test_no_cycle_of_a_client_remains(
    server: ServerProcess, scenario: Callable[[ServerProcess], Awaitable[None]]
) -> None:
    """Neither its connection, nor its session and queries, nor the traceback of a function that failed."""
    async with connected(server) as control:
        await scenario(server)
        await act(control, "stop_collecting")
        for _ in range(ROUNDS):
            await scenario(server)
        names = ["Connection", "SyncSession", "LiveQuery", "SyncedQuery"]
        expected = {"Connection": 1, "LiveQuery": 0, "SyncedQuery": 0}
        for _ in range(PASSES_MAX):
            alive = await act(control, "alive", names=names)
            # The writer's last group holds a session; a reader may still be leaving its last query.
            if alive["SyncSession"] <= 2 and alive | expected == alive:
                break
        sessions = alive.pop("SyncSession")
        assert sessions <= 2  # this one's, and that of the mutation that the writer executed last
        assert alive == expected
        garbage = await act(control, "garbage")
    # asyncio's own transport refers to itself.
    ours = ("tinyvex.", "websockets.", "builtins.frame", "builtins.traceback", "builtins.ValueError")
    assert {name: count for name, count in garbage.items() if name.startswith(ours)} == {}


async def test_a_live_query_has_few_tracked_objects(server: ServerProcess) -> None:
    """As many as LIVE_QUERY_OBJECTS allows for; each would make collections of all objects longer."""
    async with connected(server) as control, connected(server) as client:
        before = await act(control, "tracked")
        adds = [
            {"type": "Add", "queryId": number, "udfPath": "cyclic:written", "args": {"author": f"author {number}"}}
            for number in range(LIVE_QUERIES)
        ]
        await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=adds)
        await client.notification("transition")
        assert 1 < (await act(control, "tracked") - before) / LIVE_QUERIES < limits.LIVE_QUERY_OBJECTS
