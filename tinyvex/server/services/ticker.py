"""The server's ticker: once a second it checks every connection's deadlines and sends heartbeats that are due."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Protocol

from tinyvex import limits
from tinyvex.server.access.token_auth import Admitted
from tinyvex.server.services.background_service import BackgroundService, OnFailure

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.server.access.token_auth import TokenAuth

__all__ = ["Ticker", "every_second"]

log = logging.getLogger("tinyvex.server")


class TickedConnection(Admitted, Protocol):
    """The parts of a connection that the ticker uses."""

    number: int

    def tick(self, now: float, *, heartbeat: bool) -> None:
        """Check deadlines as of `now`, on the clock that skips suspensions; send a heartbeat if it is due."""

    def abort(self) -> None:
        """Close the socket without a close frame."""


class Ticker(BackgroundService):
    """
    Heartbeats, deadlines, and the end of connections whose token was revoked or has expired.

    It also keeps the runtime's clock of the time in which the process can run: what a client could not send, or a function
    could not do, while the process was suspended is not counted against it.

    Without it no deadline holds and clients lose the server after CLIENT_INACTIVE_SECONDS: if it fails, the server stops.

    Args:
        runtime: the clock.
        connections: the open connections by number.
        token_auth: closes those whose token was revoked or has expired.
    """

    name = "ticker"
    on_failure = OnFailure.STOP_SERVER

    def __init__(self, runtime: Runtime, connections: Mapping[int, TickedConnection], token_auth: TokenAuth) -> None:
        super().__init__()
        self._runtime = runtime
        self._connections = connections
        self._token_auth = token_auth

    async def run(self) -> None:
        """Tick once a second."""
        try:
            async for count in every_second(self._runtime):
                skipped = self._runtime.tick()
                if skipped:
                    log.warning("the process could not run for %.0f s, which no deadline and no limit counts", skipped)
                self._token_auth.tick(self._connections.values())
                self._tick(count)
        finally:
            self._runtime.end_ticks()
            self._token_auth.end()

    def _tick(self, count: int) -> None:
        now = self._runtime.awake_seconds()
        heartbeat_every = int(limits.HEARTBEAT_SECONDS)
        for connection in list(self._connections.values()):
            try:
                # The number spreads the heartbeats of all connections over the seconds of the interval.
                connection.tick(now, heartbeat=(count + connection.number) % heartbeat_every == 0)
            except Exception:
                number = connection.number
                log.exception("connection %d: its tick failed; closing it", number, extra={"connection": number})
                connection.abort()


async def every_second(runtime: Runtime) -> AsyncIterator[int]:
    """
    Yield 0 immediately, then 1, 2, 3 …, one a second.

    The pauses are measured against the clock: a busy loop returns late from a pause, and the delays would add up until
    heartbeats miss their deadline. Seconds that passed while the machine was suspended are skipped.
    """
    count = 0
    due = runtime.monotonic()
    while True:
        yield count
        count += 1
        due = max(due + 1.0, runtime.monotonic())
        await runtime.sleep(due - runtime.monotonic())
