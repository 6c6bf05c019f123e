"""The schedule of retention sweeps: its interval, and a sweep that fails."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.world import WorldRuntime
from tinyvex.errors import DiskFull
from tinyvex.server.background_tasks import BackgroundTasks
from tinyvex.server.services.retention_schedule import RetentionSchedule
from tinyvex.storage.maintenance import retention
from tinyvex.storage.maintenance.retention_policy import Policy
from tinyvex.sync.counters import Counters


def test_a_sweep_that_fails_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is logged and shown in the health report until a sweep succeeds."""
    policy = Policy(seconds=600)
    sweeps: list[float] = []

    class Sweeper:
        def __init__(self, *_: object) -> None:
            """Ignore the store."""

        async def sweep(self) -> int:
            sweeps.append(anyio.current_time())
            if len(sweeps) == 1:
                raise DiskFull("the disk is full")
            return 3

    monkeypatch.setattr(retention, "Retention", Sweeper)

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        counters = Counters()
        store: Any = None
        service = RetentionSchedule(store, policy, runtime, counters)
        async with BackgroundTasks(runtime, lambda *_: None) as tasks:
            await service.start(tasks)
            await anyio.sleep(1.5 * policy.interval_seconds)
            assert service.health().error == "the disk is full"
            await anyio.sleep(policy.interval_seconds)
            assert service.health().state == "ok"
            assert counters.revisions_purged == 3
            await service.stop()

    run_virtual(main())
    assert sweeps == pytest.approx([policy.interval_seconds, 2 * policy.interval_seconds])
    assert "the disk is full" in caplog.text
