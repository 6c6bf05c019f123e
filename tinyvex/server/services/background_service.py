"""
A service whose work is one coroutine, run again with backoff when it fails.

::

    stopped ──start──► ok ──run() raises──► failing ──pause──► run() again ──ok()─────────► ok
                                               ▲                   │
                                               └────run() raises───┘
    with OnFailure.STOP_SERVER: ok ──run() raises──► failing, and the server stops

A restarted service counts as failing until it has either called `report_ok` or run for SERVICE_RESTART_SECONDS_MAX: a
service that fails after some seconds of work, again and again, is not healthy in between.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from tinyvex import limits
from tinyvex.errors import TinyvexError
from tinyvex.server.services.service import ServiceHealth

if TYPE_CHECKING:
    from tinyvex.server.background_tasks import BackgroundTasks

__all__ = ["BackgroundService", "OnFailure", "ServiceFailed"]

log = logging.getLogger("tinyvex.server")


class ServiceFailed(Exception):
    """An expected failure of a service, logged as one sentence and without a traceback."""


class OnFailure(enum.Enum):
    """The consequence of an exception in a service's `run`."""

    RESTART = enum.auto()
    STOP_SERVER = enum.auto()


class BackgroundService(ABC):
    """
    Base class of services that run until they are cancelled.

    Subclasses set `name`, set `on_failure` unless a restart is right, and implement `run`.
    """

    name: ClassVar[str]
    on_failure: ClassVar[OnFailure] = OnFailure.RESTART

    def __init__(self) -> None:
        self._tasks: BackgroundTasks | None = None  # set by start, as are the two below
        self._task: asyncio.Task[None] | None = None
        self._ended: asyncio.Event
        self._is_running = False
        self._restarts = 0
        self._error: str | None = None
        self._recovers_at: float | None = None  # on the monotonic clock: the error is forgiven from then on

    @abstractmethod
    async def run(self) -> None:
        """
        Do the work, until cancelled.

        A normal return ends the service, which then counts as stopped.

        Raises:
            ServiceFailed, TinyvexError: an expected failure, logged as one sentence.
            Exception: a defect, logged with its traceback.
        """

    async def start(self, tasks: BackgroundTasks) -> None:
        """Start `run` in a task, and return after its first step."""
        self._tasks = tasks
        self._ended = asyncio.Event()
        self._task = tasks.start(self._run_until_stopped, f"tinyvex-{self.name}")
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Cancel `run` and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await self._ended.wait()

    def health(self) -> ServiceHealth:
        """Return the state of the service."""
        if self._error is not None and not self._has_recovered():
            return ServiceHealth("failing", self._restarts, self._error)
        return ServiceHealth("ok" if self._is_running else "stopped", self._restarts)

    def report_ok(self) -> None:
        """Report that the service works: for `run` to call after a step that may have failed before."""
        self._error = None

    def report_failure(self, error: str) -> None:
        """Report a failure that `run` handles itself, for example by trying again later; `report_ok` withdraws it."""
        self._error, self._recovers_at = error, None

    def _has_recovered(self) -> bool:
        assert self._tasks is not None
        return self._recovers_at is not None and self._tasks.runtime.monotonic() >= self._recovers_at

    async def _run_until_stopped(self) -> None:
        try:
            await self._run_with_restarts()
        finally:
            self._is_running = False
            self._ended.set()

    async def _run_with_restarts(self) -> None:
        assert self._tasks is not None
        runtime = self._tasks.runtime
        pause_seconds = limits.SERVICE_RESTART_SECONDS_MIN
        while True:
            self._is_running = True
            try:
                await self.run()
                return
            except Exception as error:  # noqa: BLE001 - it is logged and reported, and the service does not go on as it was
                if self._has_recovered():
                    pause_seconds = limits.SERVICE_RESTART_SECONDS_MIN
                self._record(error)
                if self.on_failure is OnFailure.STOP_SERVER:
                    self._tasks.on_fatal(f"service {self.name}", error)
                    return
            self._is_running = False
            await runtime.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, limits.SERVICE_RESTART_SECONDS_MAX)
            self._restarts += 1
            self._recovers_at = runtime.monotonic() + limits.SERVICE_RESTART_SECONDS_MAX

    def _record(self, error: Exception) -> None:
        """Log a failure, and keep it for `health`. An expected one that repeats is logged once."""
        if not isinstance(error, ServiceFailed | TinyvexError):
            log.error("service %s failed", self.name, exc_info=error)
            self.report_failure(f"unexpected {type(error).__name__}; the log has the traceback")
            return
        if str(error) != self._error:
            log.warning("service %s: %s", self.name, error)
        self.report_failure(str(error))
