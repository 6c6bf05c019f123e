"""Child processes of an action that outlive a killed server hold nothing of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.process import ENVIRONMENT, START_SECONDS, ServerProcess, free_port
from tests.support.raw import RawClient
from tinyvex.runtime import Runtime
from tinyvex.storage.file.data_folder import lock_holder
from tinyvex.storage.maintenance.check import check_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")

APP = """
import multiprocessing, os, subprocess, time
import tinyvex as tv

@tv.query
def ready(ctx: tv.QueryCtx) -> bool:
    return True

def live_on() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    time.sleep(600)

@tv.action
async def fork(ctx: tv.ActionCtx, how: str) -> float:
    if how == "os.fork":
        child = os.fork()
        if child == 0:
            live_on()
            os._exit(0)
        return float(child)
    if how == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=live_on)
        process.start()
        return float(process.pid)
    null = subprocess.DEVNULL
    return float(subprocess.Popen(["sleep", "600"], close_fds=False, stdout=null, stderr=null).pid)
"""

RETURN = """
import asyncio, os, sys
import tinyvex as tv

@tv.table("notes")
class Note(tv.Document):
    text: str

def code_of_child(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def fork(how: str) -> int:
    child = os.fork()
    if child != 0:
        return code_of_child(child)
    if how == "raise":
        os.execv("/nonexistent", ["nonexistent"])
    if how == "exit":
        sys.exit(7)
    return 0

@tv.query
def query(ctx: tv.QueryCtx, how: str) -> int:
    return fork(how)

@tv.mutation
def mutation(ctx: tv.MutationCtx, how: str) -> int:
    ctx.db.insert(Note(text=how))
    return fork(how)

@tv.action
async def action(ctx: tv.ActionCtx, how: str) -> int:
    if how != "await":
        return fork(how)
    child = os.fork()
    if child != 0:
        return await asyncio.to_thread(code_of_child, child)
    waits = asyncio.Event()
    await waits.wait()
    return 0

@tv.query
def notes(ctx: tv.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note)]
"""

HOW = ["os.fork", "multiprocessing", "subprocess"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "app.py").write_text(APP)
    options = ["--no-token", "--port", str(free_port())]
    with ServerProcess(tmp_path / "app.py", tmp_path / "data", *options) as process:
        yield process


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Return a list of processes that end with the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


async def child_of(server: ServerProcess, how: str, children: list[int]) -> RawClient:
    """Create a child by an action; return the connection."""
    client = await RawClient.open(server.url, Runtime())
    await client.answer(client.connect())
    answer: dict[str, Any] = await client.ask("action", requestId=0, udfPath="app:fork", args={"how": how})
    children.append(int(answer["result"]["value"]))
    return client


@pytest.mark.parametrize("how", HOW)
async def test_a_child_of_a_killed_server_does_not_block_the_next(
    server: ServerProcess, children: list[int], how: str
) -> None:
    """Folder and port are free at once, and the new server works."""
    with anyio.fail_after(2 * START_SECONDS):
        client = await child_of(server, how, children)
        await anyio.to_thread.run_sync(server.kill)
        await anyio.to_thread.run_sync(server.start)
        await client.end()
        os.kill(children[0], 0)
        client = await RawClient.open(server.url, Runtime())
        await client.answer(client.connect())
        assert (await client.ask("query", udfPath="app:ready", args={}))["result"]["value"] is True
        client.cut()
        await client.end()


@pytest.mark.parametrize("how", HOW)
async def test_a_child_does_not_keep_a_killed_servers_connections_open(
    server: ServerProcess, children: list[int], how: str
) -> None:
    """The system closes them, so clients notice the end of the server."""
    with anyio.fail_after(2 * START_SECONDS):
        client = await child_of(server, how, children)
        await anyio.to_thread.run_sync(server.kill)
        await client.until(lambda: client.ended)
        await client.end()


def output(program: str, folder: Path) -> str:
    """Run a Python program that owns a data folder as `lock`; return what it prints."""
    start = (
        "import ctypes, os, signal\nfrom pathlib import Path\nfrom tinyvex.storage.file.data_folder import DataFolder\n"
        f"lock = DataFolder(Path({str(folder)!r})).lock()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start + program], stdout=subprocess.PIPE, check=True, env=ENVIRONMENT, text=True
    ).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the open files of other processes")
def test_the_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    """A child that was forked without Python's knowledge holds the lock after the death of the one that took it."""
    program = """
child = ctypes.PyDLL(None).fork()
if child == 0:
    os.close(1)
    signal.pause()
print(child, flush=True)
os._exit(0)
"""
    child = int(output(program, tmp_path))
    try:
        assert lock_holder(tmp_path) == child
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_keeps_the_numbers_of_withheld_descriptors_occupied(tmp_path: Path) -> None:
    """SQLite in the child still knows them; a file that the child opens must not get one."""
    program = """
if os.fork() == 0:
    print(os.path.samestat(os.fstat(lock._descriptor), os.stat(os.devnull)), flush=True)
    os._exit(0)
os.wait()
"""
    assert output(program, tmp_path) == "True\n"


@pytest.mark.parametrize("kind", ["query", "mutation", "action"])
async def test_a_child_that_leaves_the_function_ends(tmp_path: Path, kind: str) -> None:
    """A child that returns, raises or awaits would otherwise commit, or take wake-ups of the server's loops."""
    (tmp_path / "app.py").write_text(RETURN)
    expected = {"return": 1, "raise": 1, "exit": 7} | ({"await": 1} if kind == "action" else {})
    with anyio.fail_after(60), ServerProcess(tmp_path / "app.py", tmp_path / "data", "--no-token") as server:
        client = await RawClient.open(server.url, Runtime())
        await client.answer(client.connect())
        for number, (how, code) in enumerate(expected.items()):
            requests = {} if kind == "query" else {"requestId": number}
            answer = await client.ask(kind, udfPath=f"app:{kind}", args={"how": how}, **requests)
            assert answer["result"]["value"] == code, how
        answer = await client.ask("query", udfPath="app:notes", args={})
        assert answer["result"]["value"] == (list(expected) if kind == "mutation" else [])
        client.cut()
        await client.end()
    assert check_folder(tmp_path / "data") == []
