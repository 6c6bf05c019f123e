"""Clients during `tinyvex import`: they see the old documents, then the new, and correct results afterwards."""

from __future__ import annotations

import asyncio
import json
import zipfile
from pathlib import Path

import pytest

import tinyvex as tv
from tests.support.process import ServerProcess
from tests.support.watching import Watcher
from tinyvex.cli.main import run
from tinyvex.storage.maintenance.check import check_folder

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"
TITLES = ("shelf:titles", None)


async def test_clients_see_the_old_and_then_the_new(tmp_path: Path) -> None:
    """Several tables change in one step, never in a mixture; live queries continue afterwards."""
    app = tmp_path / "app.py"
    app.write_text(TWO_TABLES)
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
        for table, count in {"left": 3000, "right": 2500}.items():
            archive.writestr(f"{table}/documents.jsonl", "".join(f'{{"n":{n}}}\n' for n in range(count)))
    calls = [("app:count", {"table": "left"}), ("app:count", {"table": "right"}), ("app:both", None)]
    with ServerProcess(app, tmp_path / "data") as server:
        async with tv.connect(server.url, server.ready["token"]) as client:
            await client.mutation("app:add", {"table": "left", "n": 1})
            watcher = Watcher(client, calls)
            await watcher.until([1, 0, [1, 0]])
            command = ["import", str(tmp_path / "new.zip"), "--replace-all", "--yes", "--data", str(tmp_path / "data")]
            assert await asyncio.to_thread(run, command) == 0
            await watcher.until([3000, 2500, [3000, 2500]])
            await client.mutation("app:add", {"table": "right", "n": 1})
            await watcher.until([3000, 2501, [3000, 2501]])
        assert watcher.views == [[1, 0, [1, 0]], [3000, 2500, [3000, 2500]], [3000, 2501, [3000, 2501]]]


TWO_TABLES = """
import tinyvex as tv

left = tv.table("left", indexes={"by_n": ["n"]})
right = tv.table("right", indexes={"by_n": ["n"]})


@tv.query
def count(ctx: tv.QueryCtx, table: str) -> int:
    return len(ctx.db.query(table).with_index("by_n").collect())


@tv.query
def both(ctx: tv.QueryCtx) -> list[int]:
    return [ctx.db.query(table).count() for table in ("left", "right")]


@tv.mutation
def add(ctx: tv.MutationCtx, table: str, n: int) -> None:
    ctx.db.insert(table, {"n": n})
"""


async def test_mutations_concurrent_with_an_append_survive(tmp_path: Path) -> None:
    """Concurrent writes and appended documents are all present, and watchers saw the appended ones in one step."""
    (tmp_path / "new.jsonl").write_text("".join(f'{{"title":"new {n}"}}\n' for n in range(3000)))
    with ServerProcess(APP, tmp_path / "data") as server:
        async with tv.connect(server.url, server.ready["token"]) as client:
            watcher = Watcher(client, [TITLES])
            done = asyncio.Event()
            written = 0

            async def write() -> None:
                nonlocal written
                while not done.is_set():
                    await client.mutation("shelf:add", {"title": f"old {written}"})
                    written += 1

            writer = asyncio.create_task(write())
            command = [
                "import", str(tmp_path / "new.jsonl"), "--table", "books", "--append", "--data", str(tmp_path / "data"),
            ]  # fmt: skip
            assert await asyncio.to_thread(run, command) == 0
            done.set()
            await writer
            titles = await client.query("shelf:titles")
    assert len(titles) == 3000 + written
    for (view,) in watcher.views:
        assert sum(title.startswith("new") for title in view) in (0, 3000)
    assert check_folder(tmp_path / "data") == []


KEPT_ROWS = """
import tinyvex as tv


@tv.table("books", indexes={"by_n": ["n"]})
class Book(tv.Document):
    n: int
    text: str = "as long as it takes for a patch to be the smaller one"


@tv.query
def ranked(ctx: tv.QueryCtx) -> tv.Rows[Book]:
    return ctx.db.query(Book).with_index("by_n").collect()


@tv.query
def newest(ctx: tv.QueryCtx) -> tv.Rows[Book]:
    return ctx.db.query(Book).order("desc").take(20)


@tv.query
def numbers(ctx: tv.QueryCtx) -> list[int]:
    return [book.n for book in ctx.db.query(Book).with_index("by_n")]


@tv.mutation
def add(ctx: tv.MutationCtx, n: int) -> None:
    ctx.db.insert(Book(n=n))
"""


@pytest.mark.parametrize("cut", [False, True], ids=["connected", "coming back"])
async def test_cached_rows_are_correct_after_each_change(tmp_path: Path, cut: bool) -> None:
    """After replace, append and wipe, patched and resumed results are verified."""
    app, data = tmp_path / "app.py", tmp_path / "data"
    app.write_text(KEPT_ROWS)
    files = {name: tmp_path / f"{name}.jsonl" for name in ("one", "two")}
    files["one"].write_text("".join(f'{{"n": {n}}}\n' for n in range(0, 600, 2)))
    files["two"].write_text("".join(f'{{"n": {n}}}\n' for n in range(1, 600, 2)))
    evens, odds = list(range(0, 600, 2)), list(range(1, 600, 2))
    steps: list[tuple[list[str], list[int]]] = [
        (["import", str(files["one"]), "--table", "books", "--replace"], evens),
        (["import", str(files["two"]), "--table", "books", "--append"], [*sorted([*evens, *odds]), 1000]),
        (["import", str(files["two"]), "--table", "books", "--replace"], odds),
        (["wipe"], []),
        (["import", str(files["one"]), "--table", "books", "--append"], [*evens, 1000]),
    ]
    with ServerProcess(app, data) as server:
        async with tv.connect(server.url, server.ready["token"], verify=True) as client:
            subscriptions = [client.subscribe(f"app:{name}") for name in ("ranked", "newest", "numbers")]
            for command, expected in steps:
                await client.wait_connected()
                if cut:
                    assert client._connection is not None
                    assert client._connection._transport is not None
                    client._connection._transport.abort()
                assert await asyncio.to_thread(run, [*command, "--yes", "--data", str(data)]) == 0
                assert await client.query("app:numbers") == expected
                await client.mutation("app:add", {"n": 1000})
                wanted = sorted([*expected, 1000])
                ranked, newest, numbers = [json.loads(s._query.shown.json) for s in subscriptions]  # type: ignore[union-attr]
                assert [book["n"] for book in ranked] == numbers == wanted
                assert newest[0]["n"] == 1000
                assert len(newest) == min(20, len(wanted))
