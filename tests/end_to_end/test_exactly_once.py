"""Promise 5: a mutation resent after its answer was lost runs once; frame by frame to a real server process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.process import ServerProcess, free_port
from tests.support.raw import RawClient
from tinyvex.client.client import connect
from tinyvex.errors import RequestIdReused
from tinyvex.runtime import Runtime
from tinyvex.storage.maintenance.check import check_folder

PATIENCE_SECONDS = 30.0
SESSION = "session-that-comes-back"

APP = """
import tinyvex as tv

@tv.table("runs")
class Run(tv.Document):
    name: str

@tv.mutation
def run(ctx: tv.MutationCtx, name: str) -> list[object]:
    ctx.db.insert(Run(name=name))
    ctx.log(f"running {name}")
    return [ctx.db.query(Run).count(), ctx.random.random()]

@tv.mutation
def look(ctx: tv.MutationCtx) -> int:
    return ctx.db.query(Run).count()

@tv.mutation
def run_once_there_are(ctx: tv.MutationCtx, count: int) -> int:
    ctx.db.insert(Run(name="perhaps"))
    if ctx.db.query(Run).count() < count:
        raise tv.AppError("too early")
    return ctx.db.query(Run).count()

@tv.query
def names(ctx: tv.QueryCtx) -> list[str]:
    return [run.name for run in ctx.db.query(Run)]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "app.py").write_text(APP)
    with ServerProcess(tmp_path / "app.py", tmp_path / "data", "--no-token", "--port", str(free_port())) as process:
        yield process


@asynccontextmanager
async def client_of(server: ServerProcess, session_id: str = SESSION) -> AsyncIterator[RawClient]:
    """Open a socket of a session; leaving cuts it without a close frame. The whole test has a deadline."""
    with anyio.fail_after(PATIENCE_SECONDS):
        client = await RawClient.open(server.url, Runtime())
        try:
            assert "result" in await client.answer(client.connect(sessionId=session_id))
            yield client
        finally:
            client.cut()
            await client.end()


async def mutate(client: RawClient, request_id: int, path: str, below: int = 0, **args: Any) -> dict[str, Any]:
    """Return a mutation's answer, without the socket's request number; it acknowledges the ids below `below`."""
    answer = await client.ask("mutation", requestId=request_id, udfPath=path, args=args, acknowledgedBelow=below)
    return {key: part for key, part in answer.items() if key != "id"}


async def names(server: ServerProcess) -> list[str]:
    """Return the names of the mutations that ran, as any client sees them."""
    async with client_of(server, "session-of-an-onlooker") as client:
        ran: list[str] = (await client.ask("query", udfPath="app:names", args={}))["result"]["value"]
        return ran


async def restart(server: ServerProcess) -> None:
    """Send SIGKILL, and start a new process on the same port."""
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


@pytest.mark.parametrize("killed", [False, True], ids=["cut", "killed"])
async def test_a_mutation_sent_again_has_its_first_answer(server: ServerProcess, killed: bool) -> None:
    """
    A resent mutation returns its first result, ts and log lines without running again, although others ran in between.
    """
    async with client_of(server) as client:
        first = await mutate(client, 7, "app:run", name="once")
        await mutate(client, 8, "app:run", name="another")
    if killed:
        await restart(server)
    async with client_of(server) as client:
        assert await mutate(client, 7, "app:run", name="once") == first
        later = await mutate(client, 9, "app:run", name="later")
        assert later["result"]["ts"] > first["result"]["ts"]
    assert await names(server) == ["once", "another", "later"]


async def test_a_mutation_whose_answer_was_lost_runs_once(server: ServerProcess) -> None:
    """The socket is cut right behind the request; resent, the mutation has run once, whether or not it had arrived."""
    for number in range(20):
        async with client_of(server) as client:
            client.send("mutation", requestId=number, udfPath="app:run", args={"name": str(number)})
            for _ in range(number % 5):
                await asyncio.sleep(0)
        async with client_of(server) as client:
            answer = await mutate(client, number, "app:run", name=str(number))
            assert answer["result"]["value"][0] == number + 1
    assert await names(server) == [str(number) for number in range(20)]


async def test_mutations_cut_off_by_sigkill_run_once(server: ServerProcess, tmp_path: Path) -> None:
    """A pipeline of requests is interrupted by SIGKILL; after resending, each has run once and the file is sound."""
    sent = [f"run {number}" for number in range(800)]
    async with client_of(server) as client:
        for number, name in enumerate(sent):
            client.send("mutation", requestId=number, udfPath="app:run", args={"name": name})
        await client.until(lambda: sum("result" in message for message in client.messages) > 20)
        await restart(server)
        heard = {message["id"] - 2: message["result"] for message in client.messages if message.get("id", 0) > 1}
    assert heard
    async with client_of(server) as client:
        asked = [
            client.send("mutation", requestId=number, udfPath="app:run", args={"name": name})
            for number, name in enumerate(sent)
        ]
        answers = [(await client.answer(number))["result"] for number in asked]
    assert {number: answers[number] for number in heard} == heard
    assert await names(server) == sent
    await asyncio.to_thread(server.kill)
    assert check_folder(tmp_path / "data") == []


async def test_a_mutation_that_wrote_nothing_is_recorded_too(server: ServerProcess) -> None:
    """A mutation without writes is recorded: its result depended on the data at that time."""
    async with client_of(server) as client:
        first = await mutate(client, 1, "app:look")
        await mutate(client, 2, "app:run", name="later")
    await restart(server)
    async with client_of(server) as client:
        assert await mutate(client, 1, "app:look") == first
        assert (await mutate(client, 3, "app:look"))["result"]["value"] == 1


@pytest.mark.parametrize("killed", [False, True], ids=["cut", "killed"])
async def test_an_id_used_for_something_else_is_refused(server: ServerProcess, killed: bool) -> None:
    """RequestIdReused for other arguments and for another function; nothing runs, and the first record remains."""
    async with client_of(server) as client:
        first = await mutate(client, 1, "app:run", name="once")
    if killed:
        await restart(server)
    async with client_of(server) as client:
        for path, args in (("app:run", {"name": "other"}), ("app:look", {})):
            answer = await mutate(client, 1, path, **args)
            assert answer["error"]["data"]["name"] == "RequestIdReused"
        assert await mutate(client, 1, "app:run", name="once") == first
    assert await names(server) == ["once"]


async def test_the_same_id_in_another_session_is_another_request(server: ServerProcess) -> None:
    """Request ids belong to their session."""
    for session_id in ("one-session", "other-session"):
        async with client_of(server, session_id) as client:
            assert "result" in await mutate(client, 1, "app:run", name=session_id)
    assert await names(server) == ["one-session", "other-session"]


@pytest.mark.parametrize("killed", [False, True], ids=["cut", "killed"])
async def test_a_failed_mutation_runs_again(server: ServerProcess, killed: bool) -> None:
    """Failures are not recorded: a mutation that failed can succeed when resent."""
    async with client_of(server) as client:
        answer = await mutate(client, 1, "app:run_once_there_are", count=2)
        assert answer["error"]["data"]["appData"] == "too early"
        await mutate(client, 2, "app:run", name="first")
    if killed:
        await restart(server)
    async with client_of(server) as client:
        assert (await mutate(client, 1, "app:run_once_there_are", count=2))["result"]["value"] == 2
    assert await names(server) == ["first", "perhaps"]


@pytest.mark.parametrize("killed", [False, True], ids=["cut", "killed"])
async def test_an_acknowledged_mutation_never_runs_again(server: ServerProcess, tmp_path: Path, killed: bool) -> None:
    """RequestAcknowledged, whatever the order of the repetitions; the file keeps only what may still be asked for."""
    async with client_of(server) as client:
        for number in range(5):
            await mutate(client, number, "app:run", below=max(0, number - 1), name=str(number))
    if killed:
        await restart(server)
    async with client_of(server) as client:
        for number in (2, 0, 1):
            answer = await mutate(client, number, "app:run", name=str(number))
            assert answer["error"]["data"]["name"] == "RequestAcknowledged"
        for number in (4, 3):
            assert (await mutate(client, number, "app:run", name=str(number)))["result"]["value"][0] == number + 1
    assert await names(server) == [str(number) for number in range(5)]
    with closing(sqlite3.connect(f"file:{tmp_path / 'data' / 'data.sqlite3'}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT request_id FROM requests ORDER BY request_id").fetchall() == [(3,), (4,)]


async def test_a_failed_mutation_acknowledges_nothing(server: ServerProcess) -> None:
    """Nothing of it is committed: what it acknowledged still has its first answer."""
    async with client_of(server) as client:
        first = await mutate(client, 1, "app:run", name="once")
        assert "error" in await mutate(client, 2, "app:run_once_there_are", below=2, count=9)
        assert await mutate(client, 1, "app:run", name="once") == first


@pytest.mark.parametrize("killed", [False, True], ids=["other-session", "restarted"])
async def test_a_key_of_the_caller_runs_once_in_all_sessions(server: ServerProcess, killed: bool) -> None:
    """S-96. Another client that repeats it gets the first result, also after a restart of the server."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async with connect(server.url) as client:
            first = await client.mutation("app:run", {"name": "once"}, idempotency_key="invoice-1")
            assert await client.mutation("app:run", {"name": "once"}, idempotency_key="invoice-1") == first
        if killed:
            await restart(server)
        async with connect(server.url) as client:
            assert await client.mutation("app:run", {"name": "once"}, idempotency_key="invoice-1") == first
            other = await client.mutation("app:run", {"name": "once"}, idempotency_key="invoice-2")
            assert other != first
    assert await names(server) == ["once", "once"]


async def test_a_key_of_the_caller_stands_for_one_call(server: ServerProcess) -> None:
    """Other arguments are refused and write nothing."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async with connect(server.url) as client:
            await client.mutation("app:run", {"name": "once"}, idempotency_key="invoice-1")
            with pytest.raises(RequestIdReused, match="this idempotency key was already used"):
                await client.mutation("app:run", {"name": "twice"}, idempotency_key="invoice-1")
    assert await names(server) == ["once"]
