"""Promise 6: no client and no function can end anything for the others."""

import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.error import HTTPError

import anyio
import pytest

import tinyvex as tv
from tests.support.raw import RawClient
from tinyvex import errors, limits
from tinyvex.dialects.tinyvex import encoding
from tinyvex.server.server import Server, ServerOptions
from tinyvex.sync import events

APP = """
import asyncio
import sys
import tinyvex as tv

@tv.action
async def fine(ctx: tv.ActionCtx) -> str:
    return "fine"

@tv.action
async def logs_half_a_character(ctx: tv.ActionCtx) -> str:
    ctx.log("\\udc80")
    return "logged"

@tv.action
async def is_cancelled(ctx: tv.ActionCtx) -> None:
    raise asyncio.CancelledError

@tv.action
async def waits(ctx: tv.ActionCtx) -> None:
    await asyncio.Event().wait()

@tv.action
async def exits(ctx: tv.ActionCtx) -> None:
    sys.exit(2)

@tv.action
async def raises_what_is_no_exception(ctx: tv.ActionCtx) -> None:
    raise type("Odd", (BaseException,), {})

@tv.action
async def cancels_itself(ctx: tv.ActionCtx) -> None:
    asyncio.current_task().cancel()
    await asyncio.sleep(0)

@tv.action
async def leaves_a_task_that_exits(ctx: tv.ActionCtx) -> str:
    async def exit_soon() -> None:
        sys.exit(2)

    task = asyncio.create_task(exit_soon())
    await asyncio.wait([task])
    return str(type(task.exception()))

@tv.action
async def times_out_itself(ctx: tv.ActionCtx) -> None:
    raise TimeoutError("mine")

@tv.mutation
def logs_too(ctx: tv.MutationCtx) -> str:
    ctx.log("\\udc80")
    return "logged"

class OwnError(tv.TinyvexError):
    pass

class UnfinishedError(tv.AppError):
    def __init__(self, what: str) -> None:
        self.what = what

RAISED = {
    "own": OwnError("mine"),
    "unfinished": UnfinishedError("mine"),
    "half a character": tv.AppError("\\udc80"),
    "no value": tv.AppError({"what": object()}),
}

@tv.query
def ask_for_error(ctx: tv.QueryCtx, which: str) -> None:
    raise RAISED[which]

@tv.mutation
def write_error(ctx: tv.MutationCtx, which: str) -> None:
    raise RAISED[which]

@tv.action
async def do_error(ctx: tv.ActionCtx, which: str) -> None:
    raise RAISED[which]

sizes = []

@tv.query
def big(ctx: tv.QueryCtx, size: int) -> str:
    sizes.append(size)
    return "x" * size

@tv.query
def computed(ctx: tv.QueryCtx) -> int:
    return len(sizes)

@tv.action
async def does_much(ctx: tv.ActionCtx, size: int) -> str:
    return "x" * size
"""


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Server]:
    """Run a real server on a real socket. Not a fixture: a task group must be left in the task that entered it."""
    (tmp_path / "app.py").write_text(APP, "utf-8")
    async with Server(ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")) as running:
        yield running


@pytest.mark.parametrize(
    "name", ["is_cancelled", "cancels_itself", "exits", "raises_what_is_no_exception", "times_out_itself"]
)
async def test_an_action_fails_alone(tmp_path: Path, name: str) -> None:
    """Whatever it raises, its caller gets FunctionFailed, and the next action runs."""
    async with serving(tmp_path) as server, tv.connect(server.url) as client:
        with anyio.fail_after(10):
            with pytest.raises(errors.RemoteError) as caught:
                await client.action(f"app:{name}")
            assert caught.value.name == "FunctionFailed"
            assert await client.action("app:fine") == "fine"


async def test_a_task_that_an_action_leaves_behind_exits_alone(tmp_path: Path) -> None:
    """A task that raises SystemExit does not end the loop of all actions."""
    async with serving(tmp_path) as server, tv.connect(server.url) as client:
        with anyio.fail_after(10):
            assert await client.action("app:leaves_a_task_that_exits") == "<class 'SystemExit'>"
            assert await client.action("app:fine") == "fine"


@pytest.mark.parametrize(
    ("which", "name"),
    [
        ("own", "FunctionFailed"),
        ("unfinished", "FunctionFailed"),
        ("half a character", "AppError"),
        ("no value", "AppError"),
    ],
)
async def test_an_error_class_of_the_app_reaches_every_caller(tmp_path: Path, which: str, name: str) -> None:
    """However malformed the class is, no caller and no subscriber waits forever."""
    async with serving(tmp_path) as server, tv.connect(server.url) as client:
        names = []
        with anyio.fail_after(10):
            for call in (
                client.query("app:ask_for_error", {"which": which}),
                anext(client.subscribe("app:ask_for_error", {"which": which})),
                client.mutation("app:write_error", {"which": which}),
                client.action("app:do_error", {"which": which}),
            ):
                with pytest.raises(errors.RemoteError) as caught:
                    await call
                names.append(caught.value.name)
        assert names == [name] * 4


async def test_actions_of_clients_that_left_still_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions outlive their connections, so ACTIONS_MAX bounds the whole server; one more is Overloaded."""
    monkeypatch.setattr(limits, "ACTIONS_MAX", 2)
    async with serving(tmp_path) as server:
        for _ in range(2):
            leaving = await RawClient.open(server.url, server.runtime)
            await leaving.answer(leaving.connect())
            leaving.send("action", requestId=0, udfPath="app:waits", args={})
            await leaving.answer(leaving.send("ping"))
            leaving.cut()
        async with tv.connect(server.url) as client:
            with anyio.fail_after(10), pytest.raises(errors.RemoteError) as caught:
                await client.action("app:fine")
        assert caught.value.name == "Overloaded"
        assert server.counters.actions_running == 2


async def test_actions_that_ended_no_longer_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed ones included."""
    monkeypatch.setattr(limits, "ACTIONS_MAX", 1)
    async with serving(tmp_path) as server, tv.connect(server.url) as client:
        with anyio.fail_after(10):
            for _ in range(2):
                assert await client.action("app:fine") == "fine"
                with pytest.raises(errors.RemoteError, match="`app:exits` failed"):
                    await client.action("app:exits")


async def test_a_log_line_with_half_a_character_is_answered(tmp_path: Path) -> None:
    """A lone surrogate cannot be sent, so it is escaped."""
    async with serving(tmp_path) as server, tv.connect(server.url) as client:
        with anyio.fail_after(10):
            assert await client.action("app:logs_half_a_character") == "logged"
            assert await client.mutation("app:logs_too") == "logged"


async def test_metrics_that_cannot_be_made_are_a_500(tmp_path: Path) -> None:
    """The file is missing for a while, and the server continues."""
    async with serving(tmp_path) as server:
        database = server.store.folder.database
        elsewhere = database.rename(database.with_suffix(".away"))

        def scrape() -> int:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as response:
                    return int(response.status)
            except HTTPError as error:
                with error:
                    return error.code

        assert await anyio.to_thread.run_sync(scrape) == 500
        elsewhere.rename(database)
        assert await anyio.to_thread.run_sync(scrape) == 200


async def test_a_transition_that_cannot_be_encoded_ends_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client gets an error and reconnects instead of waiting for the transition; others are served."""
    async with serving(tmp_path) as server:
        unlucky = await RawClient.open(server.url, server.runtime)
        await unlucky.answer(unlucky.connect(sessionId="one-without-luck"))
        with monkeypatch.context() as broken:
            broken.setitem(encoding._ENCODERS, events.Failure, lambda *_: 1 / 0)
            add = {"type": "Add", "queryId": 0, "udfPath": "app:nothing", "args": {}}
            unlucky.send("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
            with anyio.fail_after(10):
                fatal_error = await unlucky.notification("fatalError")
                assert fatal_error["params"]["error"]["data"]["name"] == "InternalError"
                assert await unlucky.end() == 1011
        async with tv.connect(server.url) as client:
            assert await client.action("app:fine") == "fine"


async def test_results_that_are_too_long_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would refuse the transition and reconnect for the same one, again and again."""
    monkeypatch.setattr(limits, "TRANSITION_BYTES_MAX", 1 << 20)
    async with serving(tmp_path) as server:
        greedy = await RawClient.open(server.url, server.runtime)
        await greedy.answer(greedy.connect())
        add = [
            {"type": "Add", "queryId": number, "udfPath": "app:big", "args": {"size": 600_000 + number}}
            for number in range(2)
        ]
        greedy.send("modifyQuerySet", baseVersion=0, newVersion=1, modifications=add)
        with anyio.fail_after(10):
            fatal_error = await greedy.notification("fatalError")
        assert fatal_error["params"]["error"]["data"]["name"] == "MessageTooLarge"
        assert "together" in fatal_error["params"]["error"]["message"]


async def test_results_are_refused_before_all_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All results of a transition are in memory until it is sent, so one that is too long must not be completed first."""
    monkeypatch.setattr(limits, "TRANSITION_BYTES_MAX", 8 << 20)
    async with serving(tmp_path) as server:
        greedy = await RawClient.open(server.url, server.runtime)
        await greedy.answer(greedy.connect())
        add = [
            {"type": "Add", "queryId": number, "udfPath": "app:big", "args": {"size": (2 << 20) + number}}
            for number in range(100)
        ]
        greedy.send("modifyQuerySet", baseVersion=0, newVersion=1, modifications=add)
        with anyio.fail_after(10):
            fatal_error = await greedy.notification("fatalError")
        assert fatal_error["params"]["error"]["data"]["name"] == "MessageTooLarge"
        async with tv.connect(server.url) as client:
            assert await client.query("app:computed") <= 8


async def test_clients_that_never_read_stay_under_a_common_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above UNREAD_BYTES_MAX, those that do not read are closed, until the rest fits; a client that reads is served."""
    monkeypatch.setattr(limits, "UNREAD_BYTES_MAX", 24 << 20)
    async with serving(tmp_path) as server:
        greedy = [await RawClient.open(server.url, server.runtime) for _ in range(4)]
        for client in greedy:
            await client.answer(client.connect())
            client.pause()
            client.send("query", udfPath="app:big", args={"size": 16 << 20})
        with anyio.fail_after(20):
            while server.counters.connections > 2:
                await anyio.lowlevel.checkpoint()
        async with tv.connect(server.url) as client:
            assert len(await client.query("app:big", {"size": 6 << 20})) == 6 << 20
        for raw in greedy:
            raw.cut()
            await raw.end()


async def test_the_queries_of_a_client_that_does_not_read_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above RESPONSES_UNSENT_BYTES_MAX they are not run until the client reads; then all are answered, in order."""
    monkeypatch.setattr(limits, "RESPONSES_UNSENT_BYTES_MAX", 4 << 20)
    async with serving(tmp_path) as server:
        slow = await RawClient.open(server.url, server.runtime)
        await slow.answer(slow.connect())
        slow.pause()
        sizes = [(1 << 20) + number for number in range(40)]
        numbers = [slow.send("query", udfPath="app:big", args={"size": size}) for size in sizes]
        connection = next(iter(server.sessions.connections.values()))
        most = 0
        async with tv.connect(server.url) as client:
            for number in range(80):
                assert len(await client.query("app:big", {"size": number})) == number
                most = max(most, connection.waiting_bytes)
        assert 4 << 20 < most < 8 << 20
        slow.resume()
        with anyio.fail_after(30):
            assert [len((await slow.answer(number))["result"]["value"]) for number in numbers] == sizes
        slow.cut()
        await slow.end()


async def test_a_client_that_never_reads_is_closed_at_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above OUTBOX_BYTES_MAX the connection ends; others are served."""
    monkeypatch.setattr(limits, "RESPONSES_UNSENT_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(limits, "OUTBOX_BYTES_MAX", 8 << 20)
    async with serving(tmp_path) as server:
        greedy = await RawClient.open(server.url, server.runtime)
        await greedy.answer(greedy.connect())
        greedy.pause()
        for number in range(40):
            greedy.send("action", requestId=number, udfPath="app:does_much", args={"size": 1 << 20})
        with anyio.fail_after(20):
            while server.counters.connections:
                await anyio.lowlevel.checkpoint()
        async with tv.connect(server.url) as client:
            assert await client.query("app:big", {"size": 3}) == "xxx"
        greedy.cut()
        await greedy.end()
