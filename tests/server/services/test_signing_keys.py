"""The service that fetches public keys: its health is that of the last fetch."""

from __future__ import annotations

from typing import Any

from tinyvex.server.services.service import ServiceHealth
from tinyvex.server.services.signing_keys import SigningKeys


class FakeUsers:
    """Records calls; its error is set by the test."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.keys_error: str | None = None

    def start(self) -> None:
        self.calls.append("start")

    def close(self) -> None:
        self.calls.append("close")


async def test_health_is_that_of_the_last_fetch() -> None:
    """A fetch that fails is reported until one succeeds; the service itself keeps running."""
    users: Any = FakeUsers()
    tasks: Any = None
    service = SigningKeys(users)
    assert service.health() == ServiceHealth("stopped")
    await service.start(tasks)
    assert service.health() == ServiceHealth("ok")
    users.keys_error = "the issuer answered 500"
    assert service.health() == ServiceHealth("failing", error="the issuer answered 500")
    users.keys_error = None
    assert service.health() == ServiceHealth("ok")
    await service.stop()
    assert users.calls == ["start", "close"]
    assert service.health() == ServiceHealth("stopped")
