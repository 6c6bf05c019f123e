"""The reload service: requests are joined, and a failure changes nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from tinyvex.errors import AppInvalid, SchemaRejected, StartError
from tinyvex.runtime import Runtime
from tinyvex.server.background_tasks import BackgroundTasks
from tinyvex.server.services.reload import Reload


class FakeServer:
    """A server as far as a reload needs it."""

    def __init__(self) -> None:
        self.options: Any = SimpleNamespace(app=Path("app.py"), app_name="app.py")
        self.certificate_fingerprint: str | None = "sha256:00"
        self.loads: list[str] = []
        self.app_error: Exception | None = None
        self.certificate_error: Exception | None = None
        self.while_loading = lambda: None

    async def reload(self) -> None:
        self.loads.append("app")
        self.while_loading()
        if self.app_error is not None:
            raise self.app_error

    def reload_certificate(self) -> None:
        self.loads.append("certificate")
        if self.certificate_error is not None:
            raise self.certificate_error


async def loaded(server: FakeServer, service: Reload, *, certificate: bool) -> None:
    """Request one reload of a running service and wait until it is done."""
    async with BackgroundTasks(Runtime(), lambda *_: None) as tasks:
        await service.start(tasks)
        service.request(certificate=certificate)
        await anyio.wait_all_tasks_blocked()
        await service.stop()


async def test_requests_during_a_reload_are_served_by_one_more() -> None:
    """A save during a reload is not lost, and many of them make one reload."""
    server = FakeServer()
    service = Reload(server)

    def request_again() -> None:
        if len(server.loads) == 1:
            for _ in range(5):
                service.request(certificate=False)

    server.while_loading = request_again
    await loaded(server, service, certificate=False)
    assert server.loads == ["app", "app"]


async def test_a_request_before_the_start_is_served() -> None:
    """A signal may arrive while the server starts."""
    server = FakeServer()
    service = Reload(server)
    service.request(certificate=False)
    async with BackgroundTasks(Runtime(), lambda *_: None) as tasks:
        await service.start(tasks)
        await anyio.wait_all_tasks_blocked()
        assert server.loads == ["app"]
        await service.stop()


async def test_the_certificate_is_loaded_on_request() -> None:
    """Not on every save."""
    server = FakeServer()
    await loaded(server, Reload(server), certificate=False)
    await loaded(server, Reload(server), certificate=True)
    assert server.loads == ["app", "app", "certificate"]


async def test_a_broken_app_fails_the_service_until_the_next_good_one(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the error and what keeps serving."""
    server = FakeServer()
    service = Reload(server)
    server.app_error = AppInvalid("app.py:6: invalid syntax")
    async with BackgroundTasks(Runtime(), lambda *_: None) as tasks:
        await service.start(tasks)
        service.request(certificate=False)
        await anyio.wait_all_tasks_blocked()
        assert service.health().state == "failing"
        assert service.health().error == "app.py:6: invalid syntax"
        server.app_error = None
        service.request(certificate=True)
        await anyio.wait_all_tasks_blocked()
        assert service.health().state == "ok"
        await service.stop()
    assert "the last good version keeps serving" in caplog.text


async def test_a_rejected_schema_lists_the_problems(caplog: pytest.LogCaptureFixture) -> None:
    """One line per problem, with the number of its documents."""
    server = FakeServer()
    kinds = [{"table": "notes", "id": "x1", "problem": "$.text: missing", "documents": 60}]
    server.app_error = SchemaRejected("60 documents do not fit", kinds=kinds)
    await loaded(server, Reload(server), certificate=False)
    assert "notes: $.text: missing (document x1, and 59 more)" in caplog.text


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(StartError("the key is not the certificate's"), "the old certificate stays in use"),
     (OSError(28, "No space left on device", "server.json"), "server.json cannot be written: No space left")],
)  # fmt: skip
async def test_a_certificate_that_cannot_be_used_is_logged(
    error: Exception, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server continues, also when the discovery file cannot be written."""
    server = FakeServer()
    server.certificate_error = error
    service = Reload(server)
    await loaded(server, service, certificate=True)
    assert sentence in caplog.text


async def test_a_new_certificate_is_logged_with_its_fingerprint(caplog: pytest.LogCaptureFixture) -> None:
    """An unchanged one is not."""
    server = FakeServer()

    def replace() -> None:
        server.certificate_fingerprint = "sha256:ff"

    with caplog.at_level(logging.INFO):
        await loaded(server, Reload(server), certificate=True)
        assert "sha256" not in caplog.text
        server.reload_certificate = replace  # type: ignore[method-assign]
        await loaded(server, Reload(server), certificate=True)
    assert "sha256:ff" in caplog.text
