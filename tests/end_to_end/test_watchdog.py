"""
Functions that cannot be stopped end the process; a new process has all the data. A suspension does not end it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.process import START_SECONDS, ServerProcess, free_port
from tests.support.raw import RawClient
from tinyvex import limits
from tinyvex.runtime import Runtime
from tinyvex.server.services.watchdog import WATCHDOG_EXIT_CODE
from tinyvex.storage.maintenance.check import check_folder

APP = """
import asyncio
import time
import tinyvex as tv

@tv.table("notes")
class Note(tv.Document):
    text: str

@tv.query
def texts(ctx: tv.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note)]

@tv.mutation
def add(ctx: tv.MutationCtx, text: str) -> None:
    ctx.db.insert(Note(text=text))

@tv.mutation
def hold_the_interpreter(ctx: tv.MutationCtx) -> int:
    ctx.db.insert(Note(text="half done"))
    return sum(range(10**13))

def read_when_written(started: str, go: str) -> str:
    with open(started, "w"):
        pass
    with open(go) as pipe:
        return pipe.read()

@tv.query
def hold_in_a_query(ctx: tv.QueryCtx, until: int) -> int:
    return sum(range(until))

@tv.query
def wait_for(ctx: tv.QueryCtx, started: str, go: str) -> str:
    return read_when_written(started, go)

@tv.action
async def wait_in_an_action(ctx: tv.ActionCtx, started: str, go: str) -> str:
    return await asyncio.to_thread(read_when_written, started, go)

@tv.mutation
def read_pipe(ctx: tv.MutationCtx, path: str) -> str:
    with open(path) as pipe:
        return pipe.read()

@tv.action
async def hold_in_an_action(ctx: tv.ActionCtx, in_thread: bool) -> int:
    if in_thread:
        return await asyncio.to_thread(sum, range(10**13))
    return sum(range(10**13))

@tv.query
def sleep(ctx: tv.QueryCtx) -> None:
    time.sleep(1000)
"""

PROGRAM = """
import sys
from tinyvex import limits
limits.WATCHDOG_SECONDS, limits.HEARTBEAT_SECONDS = 3.0, 1.0
limits.IDLE_SECONDS, limits.ACTION_SECONDS = 5.0, 4.0
from tinyvex import runtime
runtime.AWAKE_TICK_SECONDS = 1.5
from tinyvex.storage.engine import time_limit
time_limit.FUNCTION_GRACE_SECONDS = 0.1
from tinyvex.cli.main import main
main()
"""
"""`tinyvex` with shorter time limits."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "app.py").write_text(APP)
    options = ["--no-token", "--function-seconds", "0.2", "--port", str(free_port())]
    process = ServerProcess(tmp_path / "app.py", tmp_path / "data", *options)
    assert process.command[:3] == [sys.executable, "-m", "tinyvex"]
    process.command[1:3] = ["-c", PROGRAM]
    with process:
        yield process


async def connected(server: ServerProcess, session_id: str) -> RawClient:
    client = await RawClient.open(server.url, Runtime())
    assert "result" in await client.answer(client.connect(sessionId=session_id))
    return client


async def call(client: RawClient, kind: str, path: str, **args: Any) -> Any:
    """Return the result of a call."""
    number = {"requestId": client._next_id} if kind == "mutation" else {}
    return (await client.ask(kind, udfPath=path, args=args, **number))["result"]["value"]


async def ended(server: ServerProcess, client: RawClient, code: int) -> str:
    """Wait until the process has ended by itself; return the content of stderr."""
    await client.end()
    assert await anyio.to_thread.run_sync(server.process.wait, START_SECONDS) == code
    await anyio.to_thread.run_sync(server.kill)
    return b"".join(server.errors).decode()


async def recovers(server: ServerProcess, data: Path) -> None:
    """Check that the file is intact, and that a new process has the acknowledged data, and only that, and works."""
    assert check_folder(data) == []
    await anyio.to_thread.run_sync(server.start)
    client = await connected(server, "session-afterwards")
    assert await call(client, "query", "app:texts") == ["acknowledged"]
    await call(client, "mutation", "app:add", text="afterwards")
    assert await call(client, "query", "app:texts") == ["acknowledged", "afterwards"]
    client.cut()
    await client.end()


async def test_a_call_that_holds_the_interpreter_ends_the_process(server: ServerProcess, tmp_path: Path) -> None:
    """No other thread runs meanwhile, so no time limit can act; the trace on stderr names the line."""
    with anyio.fail_after(60):
        client = await connected(server, "session-of-the-watchdog")
        await call(client, "mutation", "app:add", text="acknowledged")
        client.send("mutation", requestId=99, udfPath="app:hold_the_interpreter", args={})
        output = await ended(server, client, -signal.SIGALRM)
        assert re.search(r"app\.py\", line \d+ in hold_the_interpreter", output), output
        await recovers(server, tmp_path / "data")


async def test_a_mutation_that_ended_the_process_is_refused_when_it_is_resent(server: ServerProcess) -> None:
    """The restarted server lives on, runs the session's other mutations, and names the function in its log."""
    with anyio.fail_after(60):
        client = await connected(server, "session-of-the-watchdog")
        client.send("mutation", requestId=99, udfPath="app:hold_the_interpreter", args={})
        await ended(server, client, -signal.SIGALRM)
        for _ in range(2):
            await anyio.to_thread.run_sync(server.start)
            client = await connected(server, "session-of-the-watchdog")
            refused = await client.ask("mutation", requestId=99, udfPath="app:hold_the_interpreter", args={})
            assert refused["error"]["data"]["name"] == "MutationStuck"
            await call(client, "mutation", "app:add", text="another")
            client.cut()
            await client.end()
            await anyio.to_thread.run_sync(server.terminate)
        assert b"mutation `app:hold_the_interpreter` held the interpreter" not in b"".join(server.errors)


async def test_a_query_that_ended_the_process_is_refused_when_it_is_sent_again(server: ServerProcess) -> None:
    """The restarted server lives on, and runs the same function with other arguments."""
    with anyio.fail_after(60):
        client = await connected(server, "session-of-the-watchdog")
        client.send("query", udfPath="app:hold_in_a_query", args={"until": 10**13})
        await ended(server, client, -signal.SIGALRM)
        await anyio.to_thread.run_sync(server.start)
        client = await connected(server, "session-of-the-watchdog")
        refused = await client.ask("query", udfPath="app:hold_in_a_query", args={"until": 10**13})
        assert refused["error"]["data"]["name"] == "QueryStuck"
        assert await call(client, "query", "app:hold_in_a_query", until=10) == 45
        client.cut()
        await client.end()


@pytest.mark.parametrize("in_thread", [False, True], ids=["on its loop", "in a thread"])
async def test_a_mutation_that_runs_alongside_an_action_that_ended_the_process_is_not_refused(
    tmp_path: Path, server: ServerProcess, in_thread: bool
) -> None:
    """It waited in the app's code, where the mutation itself might have held the interpreter."""
    server.terminate()
    server.command += ["--function-seconds", "30"]
    server.start()
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with anyio.fail_after(60):
        client = await connected(server, "session-of-the-watchdog")
        client.send("mutation", requestId=99, udfPath="app:read_pipe", args={"path": str(path)})
        with await anyio.to_thread.run_sync(path.open, "w"):  # when it is open, the mutation reads
            client.send("action", requestId=100, udfPath="app:hold_in_an_action", args={"in_thread": in_thread})
            await ended(server, client, -signal.SIGALRM)
        await anyio.to_thread.run_sync(server.start)
        client = await connected(server, "session-of-the-watchdog")
        request = client.send("mutation", requestId=99, udfPath="app:read_pipe", args={"path": str(path)})
        await anyio.to_thread.run_sync(path.write_text, "returned")
        assert (await client.answer(request))["result"]["value"] == "returned"
        client.cut()
        await client.end()


async def test_too_many_stuck_threads_end_the_process(server: ServerProcess, tmp_path: Path) -> None:
    """Each one is abandoned and replaced, up to the limit."""
    with anyio.fail_after(60):
        client = await connected(server, "session-of-the-watchdog")
        await call(client, "mutation", "app:add", text="acknowledged")
        request_ids = [client.send("query", udfPath="app:sleep", args={}) for _ in range(limits.THREADS_ABANDONED_MAX)]
        for request_id in request_ids[:4]:
            assert (await client.answer(request_id))["error"]["data"]["name"] == "TimeLimitExceeded"
        assert f"{limits.THREADS_ABANDONED_MAX} threads are stuck" in await ended(server, client, WATCHDOG_EXIT_CODE)
        await recovers(server, tmp_path / "data")


def suspend(server: ServerProcess, seconds: float) -> None:
    """Stop the process for a time, as a debugger, a paused container or a closed lid does."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(seconds)
    finally:
        server.process.send_signal(signal.SIGCONT)


async def test_a_suspended_process_lives_on_and_keeps_its_connections(server: ServerProcess) -> None:
    """The suspension is longer than the watchdog's limit and than the time in which a client must send something."""
    with anyio.fail_after(60):
        client = await connected(server, "session-of-the-suspended")
        await anyio.to_thread.run_sync(suspend, server, 7.0)
        await call(client, "mutation", "app:add", text="awake")
        assert await call(client, "query", "app:texts") == ["awake"]
        assert server.process.poll() is None
        client.cut()
        await client.end()


@pytest.mark.parametrize(("kind", "path"), [("query", "app:wait_for"), ("action", "app:wait_in_an_action")])
async def test_a_suspension_does_not_count_as_a_functions_time(
    tmp_path: Path, server: ServerProcess, kind: str, path: str
) -> None:
    """The function was suspended for longer than its time limit, and returns."""
    server.terminate()
    server.command += ["--function-seconds", "4"]
    server.start()
    started, go = tmp_path / "started", tmp_path / "go"
    os.mkfifo(started)
    os.mkfifo(go)
    with anyio.fail_after(60):
        client = await connected(server, "session-of-the-suspended")
        number = {} if kind == "query" else {"requestId": 99}
        request = client.send(kind, udfPath=path, args={"started": str(started), "go": str(go)}, **number)
        await anyio.to_thread.run_sync(started.read_text)
        await anyio.to_thread.run_sync(suspend, server, 7.0)
        await call(client, "mutation", "app:add", text="awake")
        await anyio.to_thread.run_sync(go.write_text, "returned")
        assert (await client.answer(request))["result"]["value"] == "returned"
        client.cut()
        await client.end()


def test_the_readme_documents_the_exit_code() -> None:
    """The table of exit codes has it."""
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
    assert re.search(rf"^\| {WATCHDOG_EXIT_CODE} \|.*stuck threads", readme, re.MULTILINE)
    assert f"SIGALRM, which a shell reports as {128 + signal.SIGALRM}" in readme
