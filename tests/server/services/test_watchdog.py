"""The watchdog: armed while the loop runs and during shutdown, disarmed at the very end."""

from __future__ import annotations

import os
import random

import anyio
import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.server.background_tasks import BackgroundTasks
from tinyvex.server.services.watchdog import WATCHDOG_EXIT_CODE, Watchdog


class FakeTimer:
    """
    Records instead of ending the process.

    Attributes:
        times: when the timer was armed; -1 when it was disarmed.
    """

    def __init__(self) -> None:
        self.times: list[float] = []

    def arm(self, seconds: float) -> None:
        assert seconds == limits.WATCHDOG_SECONDS
        self.times.append(anyio.current_time())

    def disarm(self) -> None:
        self.times.append(-1)


def test_it_is_armed_again_at_every_heartbeat() -> None:
    """A loop that no longer runs is found WATCHDOG_SECONDS after the last time."""

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        watchdog = Watchdog(runtime, lambda: timer)
        async with BackgroundTasks(runtime, lambda *_: None) as tasks:
            await watchdog.start(tasks)
            await anyio.sleep(2.5 * limits.HEARTBEAT_SECONDS)
            await watchdog.stop()

    timer = FakeTimer()
    run_virtual(main())
    assert timer.times == pytest.approx([0, limits.HEARTBEAT_SECONDS, 2 * limits.HEARTBEAT_SECONDS])


def test_stopping_the_service_leaves_it_armed() -> None:
    """A stuck call may block the shutdown too; only `disarm` ends the watch."""

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        watchdog = Watchdog(runtime, lambda: timer)
        async with BackgroundTasks(runtime, lambda *_: None) as tasks:
            await watchdog.start(tasks)
            await watchdog.stop()
        assert timer.times == [0]
        watchdog.disarm()
        assert timer.times == [0, -1]

    timer = FakeTimer()
    run_virtual(main())


def test_the_process_ends_when_too_many_threads_are_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before THREADS_ABANDONED_MAX of them."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    watchdog = Watchdog(WorldRuntime(Network(random.Random(1)), random.Random(2)), FakeTimer)
    watchdog.thread_abandoned(limits.THREADS_ABANDONED_MAX - 1)
    assert codes == []
    watchdog.thread_abandoned(limits.THREADS_ABANDONED_MAX)
    assert codes == [WATCHDOG_EXIT_CODE]
