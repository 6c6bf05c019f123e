"""The complete reset of `docs/data-operations.md`, on a large app with watching clients."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

import tinyvex as tv
from tests.support.process import ENVIRONMENT, ServerProcess
from tests.support.watching import Watcher
from tinyvex.cli.main import group
from tinyvex.storage.maintenance.check import check_folder

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data-operations.md"
MODULES = 79
ROWS = 7
MODULE = """
import tinyvex as tv


@tv.table("lefts_{number}", indexes={{"by_n": ["n"]}})
class Left{number}(tv.Document):
    n: int
    name: str = "left"


@tv.table("rights_{number}", indexes={{"by_left": ["left"], "by_size": ["size", "left"]}})
class Right{number}(tv.Document):
    left: tv.Id[Left{number}]
    size: tv.Int64 = tv.Int64(0)
    data: bytes = b""


@tv.mutation
def fill(ctx: tv.MutationCtx, count: int) -> None:
    for n in range(count):
        left = ctx.db.insert(Left{number}(n=n))
        ctx.db.insert(Right{number}(left=left, size=tv.Int64(n), data=bytes([n])))


@tv.query
def count(ctx: tv.QueryCtx) -> list[int]:
    return [ctx.db.query(Left{number}).count(), len(ctx.db.query(Right{number}).with_index("by_size").collect())]


@tv.query
def names(ctx: tv.QueryCtx) -> list[str]:
    return [left.name for left in ctx.db.query(Left{number}).with_index("by_n")]


@tv.internal_query
def sizes(ctx: tv.QueryCtx) -> list[tv.Int64]:
    return [right.size for right in ctx.db.query(Right{number})]


@tv.action
async def refill(ctx: tv.ActionCtx, count: int) -> None:
    await ctx.run_mutation(fill, count=count)
"""
TABLES = [f"{side}_{number}" for number in range(MODULES) for side in ("lefts", "rights")]
FULL, EMPTY = [[ROWS, ROWS]] * MODULES, [[0, 0]] * MODULES


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Write an app with 158 tables and 395 functions."""
    folder = tmp_path / "app"
    folder.mkdir()
    for number in range(MODULES):
        (folder / f"m{number}.py").write_text(MODULE.format(number=number))
    return folder


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the duration; visible if the test fails, or with `-s`."""
    started = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - started:.2f} s")


async def tinyvex(*arguments: str) -> str:
    """Run a command as users do; return its output."""
    with timed(" ".join(arguments)[:60]):
        command = [sys.executable, "-m", "tinyvex", *arguments]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def documents(file: Path) -> dict[str, bytes]:
    """Return an export's documents of each table."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.endswith("/documents.jsonl")}


def commands_of_the_docs() -> list[str]:
    """Return the commands in the document's code blocks."""
    blocks = re.findall(r"```\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("tinyvex ")]


@pytest.mark.parametrize("line", commands_of_the_docs())
def test_the_docs_commands_and_options_exist(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document's commands parse; they are not run."""
    monkeypatch.chdir(tmp_path)
    for name in ("before.zip", "empty.zip", "cards.jsonl"):
        (tmp_path / name).touch()
    _, name, *arguments = shlex.split(line.partition(" > ")[0])
    command = group.get_command(click.Context(group), name)
    assert command is not None
    command.make_context(name, arguments).close()


COUNT_ALL = f"{{name: ctx.db.query(name).count() for name in {TABLES!r}}}"


@pytest.mark.slow
async def test_all_tables_are_emptied_and_restored_with_a_server(app: Path, tmp_path: Path) -> None:
    """
    Tables are emptied by `wipe` and by importing empty tables, verified, and restored; clients see each state in full.
    """
    data = tmp_path / "data"
    here = ("--data", str(data))
    before, empty, after = (str(tmp_path / f"{name}.zip") for name in ("before", "empty", "after"))
    server = ServerProcess(app, data)
    with timed("start"):
        await asyncio.to_thread(server.start)
    try:
        async with (
            tv.connect(server.url, server.ready["token"]) as one,
            tv.connect(server.url, server.ready["token"]) as two,
        ):
            for number in range(MODULES):
                await one.mutation(f"m{number}:fill", {"count": ROWS})
            calls = [(f"m{number}:count", None) for number in range(MODULES)]
            watchers = [Watcher(one, calls), Watcher(two, calls[::-1])]

            async def all_see(view: list[list[int]]) -> None:
                await asyncio.gather(*(watcher.until(view) for watcher in watchers))

            await all_see(FULL)
            for watcher in watchers:
                watcher.views[:-1] = []  # while they connected

            await tinyvex("export", "--path", before, *here)

            await tinyvex("wipe", "--yes", *here)
            await all_see(EMPTY)
            counts = json.loads(await tinyvex("run", "--inline-query", COUNT_ALL, *here))
            assert counts == dict.fromkeys(TABLES, 0)
            spec = json.loads(await tinyvex("function-spec", str(app), "--format", "json", *here))
            assert len(spec["functions"]) == 5 * MODULES == 395
            await tinyvex("export", "--path", empty, *here)
            assert set(documents(Path(empty)).values()) - {documents(Path(before))["_tables/documents.jsonl"]} == {b""}

            await tinyvex("import", before, "--replace-all", "--yes", *here)
            await all_see(FULL)
            await tinyvex("export", "--path", after, *here)
            assert documents(Path(after)) == documents(Path(before))
            assert len(documents(Path(after))) == len(TABLES) + 1 == 159

            await tinyvex("import", empty, "--replace-all", "--yes", *here)
            await all_see(EMPTY)
            await tinyvex("import", before, "--replace-all", "--yes", *here)
            await all_see(FULL)
            await tinyvex("export", "--path", after, "--replace", *here)
            assert documents(Path(after)) == documents(Path(before))

            assert [watcher.views for watcher in watchers] == [[FULL, EMPTY, FULL, EMPTY, FULL]] * 2
            await one.mutation("m3:fill", {"count": 1})
            assert await two.query("m3:count") == [ROWS + 1, ROWS + 1]
    finally:
        await asyncio.to_thread(server.terminate)
    assert check_folder(data) == []
