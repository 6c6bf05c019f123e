"""Services that restart: backoff, health, and what is logged."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.server.background_tasks import BackgroundTasks
from tinyvex.server.services.background_service import BackgroundService, OnFailure, ServiceFailed
from tinyvex.server.services.service import ServiceHealth


class Scripted(BackgroundService):
    """A service whose runs follow a script: one entry per run, then it waits forever."""

    name = "scripted"

    def __init__(self, *script: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._script = list(script)
        self.began: list[float] = []

    async def run(self) -> None:
        self.began.append(anyio.current_time())
        if self._script:
            await self._script.pop(0)()
        else:
            await anyio.sleep_forever()


class Essential(Scripted):
    """The same, but the server cannot work without it."""

    name = "essential"
    on_failure = OnFailure.STOP_SERVER


def failing(error: Exception, after_seconds: float = 0.0) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        if after_seconds:
            await anyio.sleep(after_seconds)
        raise error

    return run


async def end() -> None:
    """Return, as a run that has nothing left to do."""


def play(service: Scripted, scenario: Callable[[BackgroundTasks], Awaitable[None]]) -> list[str]:
    """Run a scenario with a started service on a virtual loop; return the fatal failures."""
    fatal: list[str] = []

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        runtime.bind(asyncio.get_running_loop())
        async with BackgroundTasks(runtime, lambda description, _error: fatal.append(description)) as tasks:
            await service.start(tasks)
            await scenario(tasks)
            await service.stop()
            assert service.health().state != "ok"

    run_virtual(main())
    return fatal


def test_pauses_double_up_to_the_bound() -> None:
    """A service that always fails is restarted ever more rarely, but never abandoned."""
    service = Scripted(*[failing(ServiceFailed("no"))] * 9)

    async def scenario(_tasks: BackgroundTasks) -> None:
        await anyio.sleep(600)

    play(service, scenario)
    pauses = [later - earlier for earlier, later in zip(service.began, service.began[1:], strict=False)]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])


def test_a_long_run_resets_the_pause() -> None:
    """A failure once a day is answered as promptly as the first one."""
    long = limits.SERVICE_RESTART_SECONDS_MAX + 1
    service = Scripted(failing(ServiceFailed("a")), failing(ServiceFailed("b")), failing(ServiceFailed("c"), long))

    async def scenario(_tasks: BackgroundTasks) -> None:
        await anyio.sleep(300)

    play(service, scenario)
    assert service.began[3] - service.began[2] == pytest.approx(long + limits.SERVICE_RESTART_SECONDS_MIN)


def test_health_names_the_failure_until_the_service_has_run_for_a_while() -> None:
    """A restart alone does not make it healthy; SERVICE_RESTART_SECONDS_MAX of work do."""
    service = Scripted(failing(ServiceFailed("the network is down")))

    async def scenario(_tasks: BackgroundTasks) -> None:
        assert service.health() == ServiceHealth("failing", 0, "the network is down")
        await anyio.sleep(2)
        assert service.health() == ServiceHealth("failing", 1, "the network is down")
        await anyio.sleep(limits.SERVICE_RESTART_SECONDS_MAX)
        assert service.health() == ServiceHealth("ok", 1)

    play(service, scenario)


def test_a_reported_failure_lasts_until_success_is_reported() -> None:
    """A service that handles its failures itself decides when it is healthy."""
    service = Scripted()

    async def scenario(_tasks: BackgroundTasks) -> None:
        service.report_failure("the disk is full")
        await anyio.sleep(1000)
        assert service.health().error == "the disk is full"
        service.report_ok()
        assert service.health() == ServiceHealth("ok")

    play(service, scenario)


def test_an_expected_failure_is_logged_once_and_without_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """A network that stays down does not fill the log; another failure is logged again."""
    service = Scripted(*[failing(ServiceFailed("down"))] * 3, failing(ServiceFailed("out")))

    async def scenario(_tasks: BackgroundTasks) -> None:
        await anyio.sleep(100)

    with caplog.at_level(logging.WARNING):
        play(service, scenario)
    assert [record.getMessage() for record in caplog.records] == ["service scripted: down", "service scripted: out"]
    assert all(record.exc_info is None for record in caplog.records)


def test_a_defect_is_logged_with_its_traceback_and_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    """Its text may quote anything, so the health report names only its class."""
    service = Scripted(failing(ValueError("the-secret")))

    async def scenario(_tasks: BackgroundTasks) -> None:
        assert service.health().error == "unexpected ValueError; the log has the traceback"

    play(service, scenario)
    assert caplog.records[0].exc_info is not None
    assert "the-secret" not in caplog.records[0].getMessage()


def test_an_essential_service_is_not_restarted() -> None:
    """Its failure is reported as fatal, once."""
    service = Essential(failing(RuntimeError("no")))

    async def scenario(_tasks: BackgroundTasks) -> None:
        await anyio.sleep(100)

    assert play(service, scenario) == ["service essential"]
    assert len(service.began) == 1


def test_a_run_that_returns_is_not_restarted() -> None:
    """The service counts as stopped, and stopping it again is fine."""
    service = Scripted(end)

    async def scenario(_tasks: BackgroundTasks) -> None:
        await anyio.sleep(100)
        assert service.health() == ServiceHealth("stopped")

    play(service, scenario)
    assert len(service.began) == 1


def test_a_stop_during_the_pause_ends_the_service() -> None:
    """It does not run again."""
    service = Scripted(failing(ServiceFailed("no")))

    async def scenario(_tasks: BackgroundTasks) -> None:
        await service.stop()
        await anyio.sleep(100)

    play(service, scenario)
    assert len(service.began) == 1
