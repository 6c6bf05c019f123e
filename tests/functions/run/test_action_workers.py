"""Actions that block their thread delay no other, within the number of threads; time limits end what they can."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

import tinyvex as tv
from tinyvex import errors, limits
from tinyvex.server.server import Server, ServerOptions

APP = """
import asyncio
import threading
import tinyvex as tv

GATE = threading.Event()
BLOCKED = []

@tv.action
async def block(ctx: tv.ActionCtx) -> str:
    BLOCKED.append(ctx)
    GATE.wait(60)
    return "released"

@tv.action
async def blocked(ctx: tv.ActionCtx) -> int:
    return len(BLOCKED)

@tv.action
async def release(ctx: tv.ActionCtx) -> None:
    GATE.set()

@tv.action
async def wait(ctx: tv.ActionCtx) -> str:
    while not GATE.is_set():
        await asyncio.sleep(0.01)
    return "waited"

@tv.action
async def spin(ctx: tv.ActionCtx) -> None:
    while True:
        pass

@tv.action
async def ignore_cancellation(ctx: tv.ActionCtx) -> None:
    while not GATE.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass

@tv.action
async def block_in_a_task(ctx: tv.ActionCtx) -> None:
    async def block_later() -> None:
        GATE.wait(60)

    await asyncio.create_task(block_later())
"""


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[tuple[Server, tv.Client]]:
    """Run a server and a client; the actions that still block are released at the end."""
    (tmp_path / "app.py").write_text(APP, "utf-8")
    options = ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")
    async with Server(options) as server, tv.connect(server.url) as client:
        with anyio.fail_after(30):
            yield server, client
            await client.action("app:release")


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await anyio.lowlevel.checkpoint()


async def until_blocked(client: tv.Client, count: int) -> None:
    """Wait until this many actions block their threads; each question is an action itself."""
    while await client.action("app:blocked") < count:
        pass


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACTION_SECONDS", 0.2)
    monkeypatch.setattr(limits, "FUNCTION_GRACE_SECONDS", 0.1)


async def test_an_action_that_blocks_delays_no_other(tmp_path: Path) -> None:
    """Another one runs on a thread of its own."""
    results: list[str] = []
    async with serving(tmp_path) as (_, client), anyio.create_task_group() as tasks:

        async def block() -> None:
            results.append(await client.action("app:block"))

        tasks.start_soon(block)
        with anyio.fail_after(10):
            await until_blocked(client, 1)
        assert results == []
        await client.action("app:release")
    assert results == ["released"]


async def test_all_threads_but_one_may_be_blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many actions there are, they share the threads that answer."""
    monkeypatch.setattr(limits, "ACTION_THREADS", 3)
    monkeypatch.setattr(limits, "ACTION_THREADS_PER_CLIENT_MAX", 3)
    results: list[str] = []
    async with serving(tmp_path) as (_, client), anyio.create_task_group() as tasks:

        async def run(path: str) -> None:
            results.append(await client.action(path))

        for number in (1, 2):
            tasks.start_soon(run, "app:block")
            with anyio.fail_after(10):
                await until_blocked(client, number)
        for _ in range(20):
            tasks.start_soon(run, "app:wait")
        with anyio.fail_after(10):
            await until_blocked(client, 2)
            await client.action("app:release")
    assert sorted(results) == ["released"] * 2 + ["waited"] * 20


async def test_one_client_never_blocks_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of its actions block, another client's run."""
    monkeypatch.setattr(limits, "ACTION_THREADS", 3)
    monkeypatch.setattr(limits, "ACTION_THREADS_PER_CLIENT_MAX", 2)
    async with (
        serving(tmp_path) as (server, client),
        tv.connect(server.url) as other,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(10):
            tasks.start_soon(client.action, "app:block")
        with anyio.fail_after(10):
            await until_blocked(other, 2)
            await other.action("app:release")


async def test_threads_start_when_they_are_needed(tmp_path: Path) -> None:
    """Actions that follow each other share one."""
    async with serving(tmp_path) as (_, client):
        for _ in range(5):
            await client.action("app:blocked")
        threads = [thread for thread in threading.enumerate() if thread.name == "tinyvex-actions"]
    assert len(threads) == 1


@pytest.mark.usefixtures("short_limits")
async def test_code_that_never_awaits_ends_at_its_time_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped as queries are, and its thread is used again."""
    monkeypatch.setattr(limits, "FUNCTION_GRACE_SECONDS", 1.0)  # a stopped thread may wait so long for a busy processor
    async with serving(tmp_path) as (server, client):
        with caplog.at_level(logging.ERROR), pytest.raises(errors.RemoteError, match=r"ran longer than 0\.2 s"):
            await client.action("app:spin")
        await until(lambda: "app:spin was stopped at" in caplog.text)
        assert await client.action("app:blocked") == 0
        assert server.store.statistics().threads_abandoned == 0


@pytest.mark.usefixtures("short_limits")
@pytest.mark.parametrize(("path", "text"), [("app:block", "in block"), ("app:block_in_a_task", "in block_later")])
async def test_a_thread_that_cannot_be_stopped_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str, text: str
) -> None:
    """The log names the line that blocks it."""
    stuck: list[int] = []
    async with serving(tmp_path) as (server, client):
        server.store.on_abandoned = stuck.append
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                with pytest.raises(errors.RemoteError, match=r"ran longer than 0\.2 s"):
                    await client.action(path)
            await until(lambda: len(stuck) == 2)
        assert stuck == [1, 2]
        assert f"{path} ignores its time limit of 0.2 s and blocks its thread" in caplog.text
        assert f"{text}\n    GATE.wait(60)" in caplog.text
        await client.action("app:release")
        await until(lambda: server.store.statistics().threads_stuck == 0)


@pytest.mark.usefixtures("short_limits")
async def test_an_action_that_ignores_its_cancellation_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It blocks no other, so its thread stays in use."""
    async with serving(tmp_path) as (server, client):
        with caplog.at_level(logging.ERROR), pytest.raises(errors.RemoteError, match=r"ran longer than 0\.2 s"):
            await client.action("app:ignore_cancellation")
        await until(lambda: "app:ignore_cancellation ignores its time limit of 0.2 s, but blocks no" in caplog.text)
        assert "in ignore_cancellation" in caplog.text
        assert server.store.statistics().threads_abandoned == 0
