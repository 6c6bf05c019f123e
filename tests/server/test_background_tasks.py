"""The tasks of a server: each ends alone, and none outlives the server."""

from __future__ import annotations

import anyio
import pytest

from tinyvex.runtime import Runtime
from tinyvex.server.background_tasks import BackgroundTasks


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


async def test_a_scope_cancels_its_task_alone() -> None:
    """Neither the other tasks nor the one that entered the group."""
    async with background_tasks() as tasks:
        first, _second = tasks.start(anyio.sleep_forever), tasks.start(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        assert len(tasks) == 1


async def test_a_task_cancelled_before_its_first_step_does_not_run() -> None:
    """A server that stops begins nothing."""
    ran = []

    async def run() -> None:
        ran.append(True)

    async with background_tasks() as tasks:
        tasks.start(run).cancel()
        tasks.cancel()
        tasks.start(run)
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
        tasks.start_shielded(run, name="last")
        tasks.cancel()
    assert steps == ["done"]
