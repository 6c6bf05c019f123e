"""The ordered list of services: start order, stop order, failures, deadlines."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import anyio
import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.errors import InternalError, StartError
from tinyvex.runtime import Runtime
from tinyvex.server.background_tasks import BackgroundTasks
from tinyvex.server.server import Server, ServerOptions
from tinyvex.server.services.background_service import BackgroundService, OnFailure
from tinyvex.server.services.service import Service, ServiceHealth, Services

APP = """
import tinyvex as tv

@tv.query
def word(ctx: tv.QueryCtx) -> str:
    return "one"
"""


class Recorded:
    """A service that records what happens to it."""

    def __init__(self, name: str, events: list[str], *, start_error: Exception | None = None) -> None:
        self.name = name
        self.events = events
        self.start_error = start_error
        self.running = False

    async def start(self, tasks: BackgroundTasks) -> None:
        if self.start_error is not None:
            raise self.start_error
        self.events.append(f"start {self.name}")
        self.running = True

    async def stop(self) -> None:
        self.events.append(f"stop {self.name}")
        self.running = False

    def health(self) -> ServiceHealth:
        return ServiceHealth("ok" if self.running else "stopped")


class Hanging(Recorded):
    """A service that never finishes stopping."""

    async def stop(self) -> None:
        await super().stop()
        await anyio.sleep_forever()


class Broken(Recorded):
    """A service that fails to stop."""

    async def stop(self) -> None:
        await super().stop()
        raise RuntimeError("no")


class Essential(BackgroundService):
    """A service that the server cannot work without, and that fails on demand."""

    name = "essential"
    on_failure = OnFailure.STOP_SERVER

    def __init__(self) -> None:
        super().__init__()
        self.fail = anyio.Event()

    async def run(self) -> None:
        await self.fail.wait()
        raise RuntimeError("broken")


@pytest.fixture
def tasks() -> BackgroundTasks:
    return BackgroundTasks(Runtime(), lambda *_: None)


@pytest.fixture
def options(tmp_path: Path) -> ServerOptions:
    (tmp_path / "app.py").write_text(APP, "utf-8")
    return ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data", port=4800)


def world_runtime() -> WorldRuntime:
    return WorldRuntime(Network(random.Random(1)), random.Random(2))


async def test_services_start_in_order_and_stop_in_reverse(tasks: BackgroundTasks) -> None:
    """A service may rely on those before it for its whole life."""
    events: list[str] = []
    services = Services()
    await services.start([Recorded(name, events) for name in "abc"], tasks)
    await services.stop()
    await services.stop()
    assert events == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]


async def test_a_service_that_cannot_start_stops_those_that_have(tasks: BackgroundTasks) -> None:
    """Its error is raised, and services after it never start."""
    events: list[str] = []
    failing = Recorded("b", events, start_error=StartError("no"))
    services = Services()
    with pytest.raises(StartError):
        await services.start([Recorded("a", events), failing, Recorded("c", events)], tasks)
    assert events == ["start a", "stop a"]


def test_a_service_that_does_not_stop_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """After SERVICE_STOP_SECONDS the next one is stopped."""

    async def main() -> None:
        events: list[str] = []
        services = Services()
        await services.start(
            [Recorded("a", events), Hanging("b", events)], BackgroundTasks(world_runtime(), lambda *_: None)
        )
        began = anyio.current_time()
        await services.stop()
        assert anyio.current_time() - began == pytest.approx(limits.SERVICE_STOP_SECONDS)
        assert events[2:] == ["stop b", "stop a"]

    with caplog.at_level(logging.WARNING):
        run_virtual(main())
    assert "service b did not stop in time" in caplog.text


def test_after_the_deadline_no_service_is_waited_for() -> None:
    """Every service is asked to stop, however many of them hang."""

    async def main() -> None:
        events: list[str] = []
        services = Services()
        hanging: list[Service] = [Hanging(name, events) for name in "abcdefgh"]
        await services.start(hanging, BackgroundTasks(world_runtime(), lambda *_: None))
        began = anyio.current_time()
        await services.stop(began + 3.0)
        assert anyio.current_time() - began == pytest.approx(3.0)
        assert events[-1] == "stop a"

    run_virtual(main())


async def test_a_service_that_fails_to_stop_does_not_keep_the_others(
    tasks: BackgroundTasks, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is logged."""
    events: list[str] = []
    services = Services()
    await services.start([Recorded("a", events), Broken("b", events)], tasks)
    await services.stop()
    assert events[-1] == "stop a"
    assert "service b failed to stop" in caplog.text


async def test_health_lists_services_in_order(tasks: BackgroundTasks) -> None:
    """By name, before and after the stop."""
    services = Services()
    await services.start([Recorded("b", []), Recorded("a", [])], tasks)
    assert list(services.health()) == ["b", "a"]
    await services.stop()
    assert services.health()["a"].state == "stopped"


def test_a_service_can_be_added_to_a_server(options: ServerOptions) -> None:
    """It starts before the discovery file appears, and stops after the file is gone."""
    events: list[str] = []
    discovery_file = options.data / "server.json"

    class Watching(Recorded):
        async def start(self, tasks: BackgroundTasks) -> None:
            await super().start(tasks)
            events.append(f"discovery file: {discovery_file.exists()}")

        async def stop(self) -> None:
            await super().stop()
            events.append(f"discovery file: {discovery_file.exists()}")

    async def main() -> None:
        server = Server(options, world_runtime())
        server.add_service(Watching("added", events))
        async with server:
            assert discovery_file.exists()
            assert server.services.health()["added"] == ServiceHealth("ok")
            assert {health.state for health in server.services.health().values()} == {"ok"}

    run_virtual(main())
    assert events == ["start added", "discovery file: False", "stop added", "discovery file: False"]


def test_an_added_service_that_cannot_start_keeps_the_server_from_starting(options: ServerOptions) -> None:
    """Folder and port are free again, and there is no discovery file."""

    async def main() -> None:
        runtime = world_runtime()
        server = Server(options, runtime)
        server.add_service(Recorded("added", [], start_error=StartError("not today")))
        with pytest.raises(StartError, match="not today"):
            await server.__aenter__()
        assert not (options.data / "server.json").exists()
        async with Server(options, runtime):
            pass

    run_virtual(main())


def test_the_failure_of_an_essential_service_stops_the_server(options: ServerOptions) -> None:
    """The server stops in order, and leaving it raises an error that names the service."""

    async def main() -> None:
        service = Essential()
        server = Server(options, world_runtime())
        server.add_service(service)
        with pytest.raises(InternalError, match="essential"):
            async with server:
                service.fail.set()
                await server.wait_stopped()
        assert not (options.data / "server.json").exists()
        assert server.services.health()["essential"].state == "failing"

    run_virtual(main())


def test_a_stop_requested_during_the_start_follows_it(options: ServerOptions) -> None:
    """A signal that arrives while the server starts is not lost."""

    async def main() -> None:
        server = Server(options, world_runtime())
        server.request_stop()
        async with server:
            await server.wait_stopped()

    run_virtual(main())


def test_services_stop_while_clients_close(options: ServerOptions) -> None:
    """A service that hangs costs no more than its bound, and the folder is free afterwards."""

    async def main() -> None:
        runtime = world_runtime()
        server = Server(options, runtime)
        server.add_service(Hanging("added", []))
        async with server:
            began = anyio.current_time()
            await server.stop()
            assert anyio.current_time() - began < limits.SHUTDOWN_SECONDS
        async with Server(options, runtime):
            pass

    run_virtual(main())
