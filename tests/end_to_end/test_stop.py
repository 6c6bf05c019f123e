"""Stopping has one deadline, which no function of the app can exceed."""

import asyncio
import contextlib
from pathlib import Path

import anyio
import pytest

import tinyvex as tv
from tests.support.process import free_port
from tests.support.raw import RawClient
from tinyvex import errors, limits
from tinyvex.server.server import Server, ServerOptions

APP = """
import threading
import tinyvex as tv

begun = threading.Event()
marks_table = tv.table("marks")

@tv.mutation
def wait(ctx: tv.MutationCtx) -> None:
    begun.set()
    threading.Event().wait(4)

@tv.mutation
def mark(ctx: tv.MutationCtx) -> None:
    ctx.db.insert("marks", {})

@tv.query
def marks(ctx: tv.QueryCtx) -> int:
    return ctx.db.query("marks").count()

@tv.query
def has_begun(ctx: tv.QueryCtx) -> bool:
    return begun.wait(4)
"""


async def test_a_function_that_does_not_end_is_left_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stop` returns at SHUTDOWN_SECONDS, and the mutation is not acknowledged."""
    monkeypatch.setattr(limits, "SHUTDOWN_SECONDS", 0.5)
    (tmp_path / "app.py").write_text(APP, "utf-8")
    outcomes = []
    async with (
        Server(ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")) as server,
        tv.connect(server.url) as client,
        anyio.create_task_group() as tasks,
    ):

        async def call() -> None:
            try:
                outcomes.append(await client.mutation("app:wait"))
            except errors.ClientClosed:
                outcomes.append("closed")

        tasks.start_soon(call)
        assert await client.query("app:has_begun", type=bool)
        began = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - began < 3
        client.close()
    assert outcomes == ["closed"]


async def test_after_the_deadline_the_folder_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server of the same process can own the folder and write; the abandoned mutations have written nothing."""
    monkeypatch.setattr(limits, "SHUTDOWN_SECONDS", 0.5)
    (tmp_path / "app.py").write_text(APP, "utf-8")
    options = ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")
    async with Server(options) as server, tv.connect(server.url) as client, anyio.create_task_group() as tasks:
        for name in ("app:wait", "app:mark", "app:mark"):
            tasks.start_soon(_until_closed, client, name)
        assert await client.query("app:has_begun", type=bool)
        await server.stop()
        client.close()
    async with Server(options) as server, tv.connect(server.url) as client:
        assert await client.query("app:marks", type=int) == 0
        await client.mutation("app:mark")
        assert await client.query("app:marks", type=int) == 1


async def _until_closed(client: tv.Client, name: str) -> None:
    with contextlib.suppress(errors.ClientClosed):
        await client.mutation(name)


async def test_a_stop_continues_when_its_wait_is_cancelled(tmp_path: Path) -> None:
    """Leaving the server waits for the rest of the stop, and the folder is free."""
    (tmp_path / "app.py").write_text(APP, "utf-8")
    options = ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")
    with anyio.fail_after(20):
        async with Server(options) as server:
            silent = await RawClient.open(server.url, server.runtime)
            await silent.answer(silent.connect())
            silent.pause()  # so that stopping has to wait
            with anyio.move_on_after(0.05) as impatience:
                await server.stop()
            assert impatience.cancelled_caught
        silent.cut()
        async with Server(options):
            pass


async def test_a_start_that_fails_at_its_last_step_leaves_nothing(tmp_path: Path) -> None:
    """If the discovery file cannot be written, the folder and the port are free again."""
    (tmp_path / "app.py").write_text(APP, "utf-8")
    (tmp_path / "data" / "server.json").mkdir(parents=True)
    options = ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data", port=free_port())
    with pytest.raises(errors.DataFolderUnusable):
        await Server(options).__aenter__()
    (tmp_path / "data" / "server.json").rmdir()
    async with Server(options) as server:
        assert server.port == options.port
