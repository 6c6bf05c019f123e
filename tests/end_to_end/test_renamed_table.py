"""A table is renamed in the app: clients, ids, history, exports and the log of commits continue."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import tinyvex as tv
from tinyvex.cli.main import run
from tinyvex.errors import AppInvalid
from tinyvex.functions.app.loader import load_app
from tinyvex.server.options import ServerOptions
from tinyvex.server.server import Server
from tinyvex.storage.maintenance.check import check_folder

PATIENCE_SECONDS = 20.0

APP = """
import tinyvex as tv

@tv.table("TABLE", indexes={"by_n": ["n"]}OPTIONS)
class Card(tv.Document):
    n: int
    next: tv.Id["Card"] | None = None

@tv.mutation
def add(ctx: tv.MutationCtx, n: int, next: tv.Id[Card] | None = None) -> tv.Id[Card]:
    return ctx.db.insert(Card(n=n, next=next))

@tv.mutation
def change(ctx: tv.MutationCtx, card: tv.Id[Card], n: int) -> None:
    ctx.db.patch(card, n=n)

@tv.query
def all(ctx: tv.QueryCtx) -> tv.Rows[Card]:
    return ctx.db.query(Card).with_index("by_n").collect()

@tv.query
def find(ctx: tv.QueryCtx, card: tv.Id[Card]) -> int:
    return ctx.db.get(card).n
"""


def app(table: str, options: str = "") -> str:
    """Return the app with this name of its table."""
    return APP.replace("TABLE", table).replace("OPTIONS", options)


RENAMED = app("cards", ', renamed_from="card"')


@asynccontextmanager
async def served(folder: Path, source: str) -> AsyncIterator[tuple[Server, tv.Client]]:
    """Serve this app, and connect a client."""
    (folder / "app.py").write_text(source)
    options = ServerOptions(folder / "app.py", folder / "data", port=0, dev=True)
    async with asyncio.timeout(PATIENCE_SECONDS), Server(options) as server, tv.connect(server.url) as client:
        yield server, client
    assert check_folder(folder / "data") == []


async def save(server: Server, source: str) -> None:
    """Save the app and reload it."""
    server.options.app.write_text(source)
    await server.reload()


async def test_a_subscribed_client_sees_the_same_documents(tmp_path: Path) -> None:
    """Before and after, with the same ids, which still work as arguments and in fields."""
    async with served(tmp_path, app("card")) as (server, client):
        first = await client.mutation("app:add", {"n": 1})
        await client.mutation("app:add", {"n": 2, "next": first})
        async with client.subscribe("app:all") as results:
            before = await anext(results)
            await save(server, RENAMED)
            await client.mutation("app:change", {"card": first, "n": 5})
            after = await anext(results)
        second = before[1]["_id"]
        assert [(row["_id"], row["n"]) for row in before] == [(first, 1), (second, 2)]
        assert [(row["_id"], row["n"]) for row in after] == [(second, 2), (first, 5)]
        assert await client.query("app:find", {"card": first}) == 5


async def test_an_older_timestamp_is_read_with_the_new_code(tmp_path: Path) -> None:
    """Also after a restart, when no older code is loaded."""
    async with served(tmp_path, app("card")) as (server, client):
        first = await client.mutation("app:add", {"n": 1})
        ts = server.store.last_ts
        await client.mutation("app:change", {"card": first, "n": 7})
    async with served(tmp_path, RENAMED) as (_, client):
        assert await client.query("app:find", {"card": first}, at=ts) == 1
        assert [row["n"] for row in await client.query("app:all", at=ts)] == [1]
        assert await client.query("app:find", {"card": first}) == 7


async def test_a_forgotten_name_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The documents seem to be gone; the warning tells how to get them back, and doing so does."""
    caplog.set_level(logging.WARNING, "tinyvex.app")
    async with served(tmp_path, app("card")) as (server, client):
        await client.mutation("app:add", {"n": 1})
        await save(server, app("cards"))
        assert await client.query("app:all") == []
        assert "table `card` has documents, but the app does not declare it any more" in caplog.text
        assert 'renamed_from="card"' in caplog.text
        await save(server, RENAMED)
        assert [row["n"] for row in await client.query("app:all")] == [1]
    assert len(caplog.records) == 1


async def test_a_rename_that_is_impossible_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both tables have documents, and none may be lost."""
    caplog.set_level(logging.WARNING, "tinyvex.app")
    async with served(tmp_path, app("card")) as (server, client):
        await client.mutation("app:add", {"n": 1})
        await save(server, app("cards"))
        await client.mutation("app:add", {"n": 2})
        caplog.clear()
        await save(server, RENAMED)
        assert [row["n"] for row in await client.query("app:all")] == [2]
    assert "table `card` was not renamed to `cards`, because `cards` has documents of its own" in caplog.text


def test_an_export_from_before_is_imported_under_the_new_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the ids that it has."""
    file = tmp_path / "app.py"
    options = ["--data", str(tmp_path / "data"), "--app", str(file)]
    file.write_text(app("card"))
    assert run(["run", "app:add", '{"n": 1}', *options]) == 0
    assert run(["run", "app:all", *options]) == 0
    before = capsys.readouterr().out.partition("\n")[2]
    assert run(["export", "--path", str(tmp_path / "old.zip"), *options[:2]]) == 0
    file.write_text(RENAMED)
    assert run(["wipe", "--yes", *options]) == 0
    assert run(["import", str(tmp_path / "old.zip"), *options]) == 0
    assert "`card` is imported as `cards`, because the table was renamed" in capsys.readouterr().err
    assert run(["run", "app:all", *options]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(before)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (app("cards", ', renamed_from="cards"'), "`cards` cannot be its earlier name; write the former name"),
        (app("cards", ', renamed_from="no name"'), "`no name` cannot be its earlier name"),
        (RENAMED + '\ncard = tv.table("card")\n', "`card` cannot be its earlier name, because table `card` at .* has that name"),
        (RENAMED + '\nmore = tv.table("more", renamed_from="card")\n', "`card` cannot be its earlier name, .* has it as an earlier name too; rename one of them"),
    ],
    ids=["its own", "none", "another table's", "two tables'"],
)  # fmt: skip
def test_an_impossible_earlier_name_is_refused(tmp_path: Path, source: str, message: str) -> None:
    """With file and line."""
    (tmp_path / "app.py").write_text(source)
    with pytest.raises(AppInvalid, match=rf"app\.py:\d+: table `\w+`: {message}"):
        load_app(tmp_path / "app.py")
