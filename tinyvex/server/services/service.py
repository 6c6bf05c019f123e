"""
Services: the parts of a server that run alongside its connections.

A service starts, stops and reports its health. The server keeps one ordered list of them, starts them in order when it
can serve, and stops them in reverse order during shutdown. In this order:

===================  ======================================  =======================  ==============================
service              purpose                                 fails at start           fails while running
===================  ======================================  =======================  ==============================
`watchdog`           ends a process that cannot recover      cannot                   the server stops
`ticker`             heartbeats and deadlines of clients     cannot                   the server stops: no deadline
                                                                                      would hold any more
`recent-activity`    log and figures of the dashboard        cannot                   restarts
`retention`          purges expired history                  cannot                   restarts; so does a sweep
`reload`             loads app and certificate on request    cannot                   restarts; the last good version
                                                                                      keeps serving
`signing-keys`       fetches the issuer's public keys        cannot                   fetches again when a token
                                                                                      needs them
`parent-watch`       stops with the parent process           cannot                   restarts
`garbage-collector`  bounds its pauses; added by a process   cannot                   restarts
                     that runs nothing but the server
added services       `Server.add_service`                    the server does not      as the service decides
                                                             start
`mdns`               announces the server on the network     the server does not      restarts: the network may
                                                             start without zeroconf   come back
`discovery-file`     gives local programs the address and    the server does not      does not run
                     the secrets                             start
===================  ======================================  =======================  ==============================

A failure while running is logged, and `health` reports it. A restart waits between SERVICE_RESTART_SECONDS_MIN and
SERVICE_RESTART_SECONDS_MAX, twice as long after each failure in a row (`background_service`).

The discovery file is the last to start and the first to stop, because a program that finds it connects.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from tinyvex import limits
from tinyvex.server.background_tasks import shielded

if TYPE_CHECKING:
    from tinyvex.server.background_tasks import BackgroundTasks

__all__ = ["Service", "ServiceHealth", "Services"]

log = logging.getLogger("tinyvex.server")


class ServiceHealth(Struct, frozen=True):
    """
    The state of a service.

    Attributes:
        state: `failing`: its last attempt failed, and it will try again or the server is stopping.
        restarts: how many times it was restarted after a failure.
        error: the sentence that describes the last failure; None when the service is not failing. It may contain paths
            and other details that only an administrator should see.
    """

    state: Literal["ok", "failing", "stopped"]
    restarts: int = 0
    error: str | None = None


class Service(Protocol):
    """A part of the server that runs alongside its connections."""

    @property
    def name(self) -> str:
        """The name in log lines and in the health report."""
        ...

    async def start(self, tasks: BackgroundTasks) -> None:
        """
        Start, and return as soon as the service works.

        Args:
            tasks: runs what the service does in the background.

        Raises:
            TinyvexError: the server cannot serve without the service; it does not start.
        """

    async def stop(self) -> None:
        """Stop and release everything; called once, and only if `start` succeeded. It may be cancelled at a deadline."""

    def health(self) -> ServiceHealth:
        """Return the current state; called on the loop at any time, also before `start`."""
        ...


class Services:
    """The ordered list of a server's services."""

    def __init__(self) -> None:
        self._services: list[Service] = []
        self._started: list[Service] = []

    async def start(self, services: list[Service], tasks: BackgroundTasks) -> None:
        """
        Start services in order. If one fails, stop those that have started and raise its error.

        Raises:
            TinyvexError: as the service that failed raised it.
        """
        names = [service.name for service in services]
        assert len(set(names)) == len(names), f"two services have the same name: {names}"
        self._services = services
        try:
            for service in services:
                await service.start(tasks)
                self._started.append(service)
        except BaseException:
            with shielded():
                await self.stop()
            raise

    async def stop(self, deadline: float = math.inf) -> None:
        """
        Stop the services in reverse order; idempotent.

        A service that does not stop within SERVICE_STOP_SECONDS, or fails to, is logged and left.

        Args:
            deadline: on the loop's clock; after it, services are still asked to stop but no longer waited for.
        """
        while self._started:
            service = self._started.pop()
            timeout = asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + limits.SERVICE_STOP_SECONDS))
            try:
                async with timeout:
                    await service.stop()
            except Exception:
                if timeout.expired():
                    log.warning("service %s did not stop in time", service.name)
                else:
                    log.exception("service %s failed to stop", service.name)

    def health(self) -> dict[str, ServiceHealth]:
        """Return the health of every service by name, in the order of the list."""
        return {service.name: service.health() for service in self._services}
