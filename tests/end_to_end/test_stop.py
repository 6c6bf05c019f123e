"""Stopping has one deadline, whatever functions do."""

import asyncio
from pathlib import Path

import anyio
import pytest

import tinyvex as tv
from tinyvex import errors, limits
from tinyvex.server.server import Server, ServerOptions

APP = """
import threading
import tinyvex as tv

begun = threading.Event()

@tv.mutation
def wait(ctx: tv.MutationCtx) -> None:
    begun.set()
    threading.Event().wait(4)

@tv.query
def has_begun(ctx: tv.QueryCtx) -> bool:
    return begun.wait(4)
"""


async def test_a_function_that_does_not_end_is_left_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stop` returns at SHUTDOWN_SECONDS, and the mutation was not acknowledged."""
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
