"""The watch on the parent process, with real processes."""

import asyncio
import os
import queue
import select
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tinyvex import limits
from tinyvex.runtime import Runtime
from tinyvex.server.background_tasks import BackgroundTasks
from tinyvex.server.services import parent_watch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="starts POSIX process trees")

CHILD = """
import asyncio, os, sys
from tinyvex.runtime import Runtime
from tinyvex.server.services import parent_watch

async def main():
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    died = asyncio.Event()
    watch = parent_watch.ParentWatch(runtime, os.getppid(), died.set, getattr(parent_watch, sys.argv[1]))
    await watch.start(None)
    print("watching", flush=True)
    await died.wait()
    print("parent gone", flush=True)

asyncio.run(main())
"""

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
child.wait()
"""


@pytest.fixture(params=["parent_wait", "polling_wait"])
def family(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A parent whose child watches it and reports its end on the shared standard output."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, request.param],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_parent_is_noticed(family: subprocess.Popen[str]) -> None:
    """SIGKILL leaves the parent no chance to inform its child, which notices its end anyway."""
    assert family.stdout is not None
    assert family.stdout.readline() == "watching\n"
    family.kill()
    readable, _, _ = select.select([family.stdout], [], [], 30)
    assert readable, "the parent's death was not noticed"
    assert family.stdout.readline() == "parent gone\n"


def test_a_living_parent_is_not_gone() -> None:
    """The platform's wait returns False while the parent lives."""
    assert parent_watch.parent_wait(os.getppid())(0.01) is False


def test_a_parent_that_died_before_the_watch_began_is_noticed() -> None:
    """A process id that is no longer the parent's counts as a dead parent immediately."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert parent_watch.parent_wait(ended.pid)(0.01) is True


@pytest.mark.parametrize("make_wait", [parent_watch.parent_wait, parent_watch.polling_wait])
def test_a_process_that_is_not_the_direct_parent_is_watched(make_wait: Callable[[int], parent_watch.Wait]) -> None:
    """A launcher may run between the program and its server; the program passes its own process id."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        wait = make_wait(other.pid)
        assert wait(0.01) is False
        other.communicate()
        assert wait(0.01) is True


async def watch_with(make_wait: Callable[[int], parent_watch.Wait]) -> tuple[parent_watch.ParentWatch, asyncio.Event]:
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    died = asyncio.Event()
    watch = parent_watch.ParentWatch(runtime, os.getppid(), died.set, make_wait)
    await watch.start(BackgroundTasks(runtime, lambda *_: None))
    return watch, died


async def test_the_watch_calls_once() -> None:
    """The end of the parent is reported once, although every further wait would report it again."""
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    calls: list[None] = []
    died = asyncio.Event()

    def on_death() -> None:
        calls.append(None)
        died.set()

    watch = parent_watch.ParentWatch(runtime, os.getppid(), on_death, lambda _pid: lambda _seconds: True)
    await watch.start(BackgroundTasks(runtime, lambda *_: None))
    await asyncio.wait_for(died.wait(), 5)
    assert watch._step() is False
    await asyncio.sleep(0)
    assert calls == [None]
    await watch.stop()


async def test_a_watch_that_fails_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is logged, and the end of the parent is still noticed."""
    monkeypatch.setattr(limits, "SERVICE_RESTART_SECONDS_MIN", 0.0)
    attempts: list[int] = []

    def make_wait(pid: int) -> parent_watch.Wait:
        attempts.append(pid)
        if len(attempts) == 1:
            raise OSError(24, "Too many open files")
        return lambda _seconds: True

    watch, died = await watch_with(make_wait)
    await asyncio.wait_for(died.wait(), 5)
    assert attempts == [os.getppid()] * 2
    assert "cannot be watched" in caplog.text
    assert watch.health().restarts == 1
    await watch.stop()


async def test_a_stopped_watch_reports_nothing() -> None:
    """After `stop` the thread waits no more, and `on_death` is not called."""
    waits: queue.SimpleQueue[float] = queue.SimpleQueue()

    def wait(seconds: float) -> bool:
        waits.put(seconds)
        return False

    watch, died = await watch_with(lambda _pid: wait)
    await asyncio.to_thread(waits.get)
    worker = watch._worker
    await watch.stop()
    assert watch.health().state == "stopped"
    assert worker is not None
    assert worker.stop()
    assert not died.is_set()
