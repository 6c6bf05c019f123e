"""The first signal requests a stop, the second ends the process."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from tests.support.process import ENVIRONMENT, as_process_1
from tinyvex.runtime import Runtime
from tinyvex.server.services.signals import stop_on_signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


async def stopped_by(number: int) -> None:
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    stop = asyncio.Event()
    with stop_on_signals(runtime, stop.set):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_requests_a_stop(number: int) -> None:
    """SIGTERM, SIGINT and SIGHUP call the stop function on the loop."""
    await stopped_by(number)


async def test_a_hangup_reloads_if_the_command_reloads() -> None:
    """SIGHUP calls the reload function, each time, and does not count as a signal to stop."""
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    calls: list[str] = []
    stop = asyncio.Event()
    with stop_on_signals(runtime, stop.set, lambda: calls.append("reload")):
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)
        await asyncio.sleep(0)
    assert calls == ["reload"] * 3


async def test_handlers_are_restored() -> None:
    """Leaving the context restores the previous handlers."""
    before = signal.getsignal(signal.SIGTERM)
    await stopped_by(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


async def test_an_ignored_signal_stays_ignored() -> None:
    """A process started by nohup continues when its terminal closes."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        runtime = Runtime()
        runtime.bind(asyncio.get_running_loop())
        with stop_on_signals(runtime, lambda: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


TWICE = """
import asyncio, os, signal
from tinyvex.runtime import Runtime
from tinyvex.server.services.signals import stop_on_signals

async def main():
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    with stop_on_signals(runtime, lambda: None):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

asyncio.run(main())
"""


FORKED = """
import asyncio, os, signal, time
from tinyvex.runtime import Runtime
from tinyvex.server.services.signals import stop_on_signals

async def main():
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    with stop_on_signals(runtime, lambda: None, lambda: None):
        for number in (signal.SIGTERM, signal.SIGHUP):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(writer, b"x")  # Python discards a signal that arrives during the fork
                time.sleep(20)
                os._exit(0)
            os.read(reader, 1)
            os.kill(child, number)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number

asyncio.run(main())
"""


def test_a_signal_ends_a_forked_child() -> None:
    """A process pool ends its workers by SIGTERM, and waits for their end."""
    subprocess.run([sys.executable, "-c", FORKED], env=ENVIRONMENT, timeout=30, check=True)


BLOCKED = """
import asyncio, os, signal
from tinyvex.runtime import Runtime
from tinyvex.server.services.signals import stop_on_signals

async def main():
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    stop = asyncio.Event()
    with stop_on_signals(runtime, stop.set):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 5)

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
asyncio.run(main())
assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


def test_a_signal_that_the_parent_blocked_is_accepted() -> None:
    """The thread's mask is restored afterwards."""
    subprocess.run([sys.executable, "-c", BLOCKED], env=ENVIRONMENT, timeout=30, check=True)


def test_the_second_signal_ends_the_process() -> None:
    """A server that hangs while stopping can still be ended from the keyboard."""
    ended = subprocess.run([sys.executable, "-c", TWICE], timeout=30, check=False)
    assert ended.returncode == -signal.SIGTERM


def test_the_second_signal_ends_process_1() -> None:
    """The default action of a signal does not end the first process of a container."""
    command = as_process_1([sys.executable, "-c", TWICE])
    ended = subprocess.run(command, env=ENVIRONMENT, timeout=30, check=False)
    assert ended.returncode == 128 + signal.SIGTERM
