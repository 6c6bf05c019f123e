"""The tasks of a server: each ends alone, and none outlives the server."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import sys

import anyio
import anyio.lowlevel
import pytest

from tinyvex.runtime import Runtime
from tinyvex.server.background_tasks import BackgroundTasks, shielded


def background_tasks() -> BackgroundTasks:
    return BackgroundTasks(Runtime(), lambda *_: None)


async def test_leaving_cancels_every_task() -> None:
    """None is left, and none is waited for longer than its own cleanup takes."""
    ended = []

    async def forever() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async with background_tasks() as tasks:
        tasks.start(forever)
        tasks.start_for_client(forever)
        await anyio.wait_all_tasks_blocked()
        assert len(tasks) == 2
    assert ended == [True, True]
    assert len(tasks) == 0


async def test_a_task_is_cancelled_alone() -> None:
    """Neither the other tasks nor the one that entered the group."""
    async with background_tasks() as tasks:
        first, _second = tasks.start(anyio.sleep_forever), tasks.start(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        assert first is not None
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        assert len(tasks) == 1


@pytest.mark.skipif(importlib.util.find_spec("sniffio") is None, reason="sniffio is not installed")
async def test_a_task_starts_from_a_callback() -> None:
    """No task is current in a callback of a protocol; with sniffio installed, a group of anyio starts none there."""
    started = asyncio.get_running_loop().create_future()

    async def run() -> None:
        started.set_result(True)

    async with background_tasks() as tasks:
        asyncio.get_running_loop().call_soon(tasks.start_for_client, run, context=contextvars.Context())
        with anyio.fail_after(5):
            assert await started


async def test_a_task_cancelled_before_its_first_step_does_not_run() -> None:
    """A server that stops begins nothing."""
    ran = []

    async def run() -> None:
        ran.append(True)

    async with background_tasks() as tasks:
        first = tasks.start(run)
        assert first is not None
        first.cancel()
        tasks.cancel()
        assert tasks.start(run) is None
        await anyio.wait_all_tasks_blocked()
    assert ran == []


async def test_the_failure_of_a_task_of_a_client_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It harms no other task."""

    async def fail() -> None:
        raise ValueError

    async with background_tasks() as tasks:
        tasks.start(anyio.sleep_forever)
        tasks.start_for_client(fail)
        await anyio.wait_all_tasks_blocked()
        assert len(tasks) == 1
    assert "a task of a client failed" in caplog.text


async def test_a_shielded_task_is_waited_for() -> None:
    """`cancel` does not end it."""
    steps = []

    async def run() -> None:
        await anyio.wait_all_tasks_blocked()
        steps.append("done")

    async with background_tasks() as tasks:
        tasks.start_uncancelled(run, name="last")
        tasks.cancel()
    assert steps == ["done"]


@pytest.mark.parametrize("start", ["start", "start_uncancelled"])
async def test_the_failure_of_a_task_of_the_server_is_fatal(start: str) -> None:
    """It is reported, so that the server stops in order; it cancels neither other tasks nor the one that entered."""
    failures = []

    async def fail() -> None:
        raise ValueError("broken")

    async with BackgroundTasks(Runtime(), lambda description, error: failures.append((description, error))) as tasks:
        tasks.start(anyio.sleep_forever)
        getattr(tasks, start)(fail, name="test")
        await anyio.wait_all_tasks_blocked()
        assert len(tasks) == 1
    ((description, error),) = failures
    assert description == "the task test"
    assert str(error) == "broken"


async def test_a_shielded_block_ends_in_a_cancelled_scope() -> None:
    """A caller that leaves a server inside a scope of anyio that has expired still stops it completely."""
    steps = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        with shielded():
            await anyio.lowlevel.checkpoint()
            steps.append("shielded")
        await anyio.lowlevel.checkpoint()
        steps.append("not shielded")
    assert steps == ["shielded"]


async def test_shielding_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller without anyio cannot be in one of its scopes."""
    monkeypatch.delitem(sys.modules, "anyio")
    with shielded():
        pass
    assert "anyio" not in sys.modules
