"""An import that dies at any of its steps leaves either the old or the new documents, and the next import works."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ENVIRONMENT, ServerProcess
from tinyvex.cli import import_session as importing_module
from tinyvex.cli import session
from tinyvex.cli.import_session import INTERRUPTED
from tinyvex.cli.main import run
from tinyvex.client.client import Client
from tinyvex.errors import ConnectionLost
from tinyvex.storage.maintenance.check import check_folder

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"
ROWS = 40
OLD, NEW = ["A", "B"], [f"new {n}" for n in range(ROWS)]
CALLS = 1 + ROWS // 10 + 1
"""Begin, the portions, finish."""

AT_A_CALL = """
from tinyvex.client.client import Client
original = Client.mutation
async def mutation(self, *arguments, **options):
    step()
    return await original(self, *arguments, **options)
Client.mutation = mutation
"""
AT_A_COMMIT = """
from tinyvex.runtime import Runtime
original = Runtime.point
def point(self, label):
    if label in ("writer:before-commit", "writer:after-commit"):
        step()
    original(self, label)
Runtime.point = point
"""
COMMAND = """
import os, sys
from tinyvex import limits
limits.IMPORT_STEP_ROWS = 10
left, number = int(sys.argv[1]), int(sys.argv[2])
def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), number)
{where}
from tinyvex.cli.main import main
main(sys.argv[3:])
"""


def interrupted(where: str, step: int, number: signal.Signals, *arguments: str) -> tuple[int, str]:
    """Run a command that receives a signal at one of its steps; return its exit code and output."""
    command = [sys.executable, "-c", COMMAND.format(where=where), str(step), str(int(number)), *arguments]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, timeout=60, check=False)
    assert done.returncode in (0, -signal.SIGKILL, 130), done.stderr.decode()
    return done.returncode, done.stderr.decode()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Create a database with two books."""
    folder = tmp_path / "data"
    for title in OLD:
        assert run(["run", "shelf:add", json.dumps({"title": title}), "--app", str(APP), "--data", str(folder)]) == 0
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a file of forty other books, which are sent in four portions."""
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps({"title": title}) + "\n" for title in NEW))
    return path


def importing(file: Path, data: Path) -> list[str]:
    """Return the import command."""
    return ["import", str(file), "--table", "books", "--replace", "--yes", "--app", str(APP), "--data", str(data)]


def titles(data: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the titles of all books, oldest first."""
    capsys.readouterr()
    assert run(["run", "shelf:titles", "--app", str(APP), "--data", str(data)]) == 0
    names: list[str] = json.loads(capsys.readouterr().out)
    return names


def until_done(where: str, number: signal.Signals, arguments: list[str]) -> Iterator[tuple[int, str]]:
    """Interrupt at the first step, at the second, and so on, until one run completes."""
    for step in range(1, 200):
        code, output = interrupted(where, step, number, *arguments)
        yield code, output
        if code == 0:
            return
    raise AssertionError("it never ends")


@pytest.mark.slow
@pytest.mark.parametrize("where", [AT_A_CALL, AT_A_COMMIT], ids=["calls", "commits"])
def test_a_killed_import_leaves_the_old_or_the_new(
    where: str, data: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a server, the process is killed at every call, and before and after every commit."""
    changed = 0
    runs = 0
    for code, _ in until_done(where, signal.SIGKILL, importing(file, data)):
        assert check_folder(data) == []
        books = titles(data, capsys)
        assert books in (sorted(OLD), sorted(NEW))
        runs += 1
        changed += books == sorted(NEW)
        assert code != 0 or books == sorted(NEW)
        assert changed == 0 or books == sorted(NEW)
    assert runs > 6


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_with_a_server_the_command_may_end_at_any_call(
    number: signal.Signals, data: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The server continues with the old documents, and the next import works; Ctrl-C at the last call is reported as too
    late.
    """
    with ServerProcess(APP, data):
        codes = []
        for code, output in until_done(AT_A_CALL, number, importing(file, data)):
            codes.append(code)
            books = titles(data, capsys)
            if code == 130 and len(codes) > 1:  # it had begun
                assert f"interrupted: {INTERRUPTED[books == sorted(OLD)]}\n" in output
            if len(codes) == CALLS and number == signal.SIGINT:
                assert books in (sorted(OLD), sorted(NEW))
            else:
                assert books == (sorted(NEW) if code == 0 else sorted(OLD))
    assert set(codes[:-1]) == {-signal.SIGKILL if number == signal.SIGKILL else 130}
    assert len(codes) == CALLS + 1
    assert check_folder(data) == []


@pytest.mark.slow
async def test_a_server_that_dies_at_any_commit_has_the_old_or_the_new(
    data: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server has the old or the new documents, at whichever commit of the import it dies."""
    for step in range(1, 40):
        done = await with_a_server_that_dies(step, importing(file, data), data)
        assert check_folder(data) == []
        books = await asyncio.to_thread(titles, data, capsys)
        assert books in (sorted(OLD), sorted(NEW))
        if done:
            assert books == sorted(NEW)
            return
    raise AssertionError("no import came to its end")


async def with_a_server_that_dies(step: int, arguments: list[str], data: Path) -> bool:
    """Run a command until it ends, or the server dies at one of its commits; return whether the command succeeded."""
    serve = [COMMAND.format(where=AT_A_COMMIT), str(step), "9", "serve", str(APP), "--data", str(data)]
    start = partial(asyncio.create_subprocess_exec, sys.executable, stderr=DEVNULL, stdin=DEVNULL, env=ENVIRONMENT)
    server = await start("-c", *serve, stdout=PIPE)
    assert server.stdout is not None
    command = None
    try:
        if not await server.stdout.readline():
            return False  # it died at its start
        command = await start("-m", "tinyvex", *arguments, stdout=DEVNULL)
        ends = [asyncio.create_task(process.wait()) for process in (server, command)]
        async with asyncio.timeout(60):
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return command.returncode == 0
    finally:
        for process in (server, command):
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def test_a_command_ends_when_its_server_is_gone(
    data: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command reports the lost connection and exits with its code; nothing was changed."""
    monkeypatch.setattr(session, "CONNECT_SECONDS", 0.2)
    with ServerProcess(APP, data) as server:
        original = Client.mutation

        async def mutation(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
            if path == "_system:import_finish":
                await asyncio.to_thread(server.kill)
            return await original(self, path, *arguments, **options)

        monkeypatch.setattr(Client, "mutation", mutation)
        code = run(importing(file, data))
        monkeypatch.undo()
    assert "stopped answering (ConnectionLost)" in capsys.readouterr().err
    assert code == ConnectionLost.exit_code
    assert titles(data, capsys) == OLD


@pytest.mark.parametrize("seed", range(4))
def test_broken_connections_import_each_document_once(
    seed: int, data: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost before, during and after calls; the client reconnects and continues."""
    pick = random.Random(seed)
    original = Client.mutation
    cuts = 0

    def cut(client: Any) -> None:
        nonlocal cuts
        if client._connection is not None and client._connection._transport is not None:
            cuts += 1
            client._connection._transport.abort()

    async def mutation(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
        asyncio.get_running_loop().call_later(pick.choice((0.0, 0.001, 0.003, 0.01)), cut, self)
        return await original(self, path, *arguments, **options)

    monkeypatch.setattr(Client, "mutation", mutation)
    monkeypatch.setattr(importing_module, "IMPORT_STEP_ROWS", 10)
    with ServerProcess(APP, data):
        assert run(importing(file, data)) == 0, f"seed {seed}"
        monkeypatch.undo()
        assert titles(data, capsys) == sorted(NEW), f"seed {seed}"
    assert cuts
