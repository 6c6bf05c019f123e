"""The watch on the parent process, with real processes."""

import asyncio
import os
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tinyvex.runtime import Runtime
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
    parent_watch.watch_parent(runtime, died.set, getattr(parent_watch, sys.argv[1])(os.getppid()))
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
    """A parent whose child watches it and says on the shared standard output when it is gone."""
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
    """SIGKILL leaves the parent no chance to tell its child, which notices all the same."""
    assert family.stdout is not None
    assert family.stdout.readline() == "watching\n"
    family.kill()
    told, _, _ = select.select([family.stdout], [], [], 30)
    assert told, "the parent's death was not noticed"
    assert family.stdout.readline() == "parent gone\n"


def test_a_living_parent_is_not_gone() -> None:
    """The platform's wait ends without a finding while the parent lives."""
    assert parent_watch.parent_wait(os.getppid())(0.01) is False


def test_a_parent_that_died_before_the_watch_began_is_noticed() -> None:
    """An id that is the parent's no more counts as a dead parent at once."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert parent_watch.parent_wait(ended.pid)(0.01) is True


async def test_the_watch_calls_once() -> None:
    """However often the wait would say so, the parent's death is told once."""
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    calls: list[None] = []
    told = asyncio.Event()

    def on_death() -> None:
        calls.append(None)
        told.set()

    watch = parent_watch.watch_parent(runtime, on_death, lambda _seconds: True)
    await asyncio.wait_for(told.wait(), 5)
    watch.wake()
    assert watch.stop()
    assert calls == [None]
