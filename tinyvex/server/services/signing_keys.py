"""The service that fetches the issuer's public keys (`access/jwks.py`) and reports when they cannot be fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvex.server.services.service import ServiceHealth

if TYPE_CHECKING:
    from tinyvex.server.access.jwt import UserTokens
    from tinyvex.server.background_tasks import BackgroundTasks

__all__ = ["SigningKeys"]


class SigningKeys:
    """
    Fetches keys in the background from start to stop.

    Args:
        users: verifies users' tokens with the keys.
    """

    name = "signing-keys"

    def __init__(self, users: UserTokens) -> None:
        self._users = users
        self._is_running = False

    async def start(self, tasks: BackgroundTasks) -> None:
        """Begin to fetch; the first fetch is not waited for, because tokens may wait for it."""
        self._users.start()
        self._is_running = True

    async def stop(self) -> None:
        """Fetch no more keys."""
        self._users.close()
        self._is_running = False

    def health(self) -> ServiceHealth:
        """Return `failing` if the last fetch failed."""
        if not self._is_running:
            return ServiceHealth("stopped")
        error = self._users.keys_error
        return ServiceHealth("ok") if error is None else ServiceHealth("failing", error=error)
