"""
The watchdog: ends a process that cannot recover by itself, so that a supervisor starts a new one.

Two cases, both caused by functions of the app:

- *The interpreter is stuck.* A C call that never releases the interpreter lock stops every thread, the event loop
  included. A timer of the operating system (`stuck_timer.py`) prints the stack of every thread and ends the process,
  unless this service postpones it every HEARTBEAT_SECONDS. It counts only time in which the process is not suspended.
- *Too many threads are stuck.* A function that ignores its time limit keeps its thread; the server continues with
  another. At THREADS_ABANDONED_MAX of them the process ends.

Nothing is lost: what was not committed was not acknowledged either.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.server.services.background_service import BackgroundService, OnFailure

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.server.services.stuck_timer import StuckTimer

__all__ = ["WATCHDOG_EXIT_CODE", "Watchdog"]

log = logging.getLogger("tinyvex.server")

WATCHDOG_EXIT_CODE = 1
"""The exit code if too many threads are stuck. If the interpreter is, SIGALRM ends the process."""


class Watchdog(BackgroundService):
    """
    Postpones the end of the process while the event loop runs.

    Stopping the service does not disarm it: a stuck call may block the shutdown as well. `disarm` comes last.
    """

    name = "watchdog"
    on_failure = OnFailure.STOP_SERVER

    def __init__(self, runtime: Runtime, make_timer: Callable[[], StuckTimer]) -> None:
        super().__init__()
        self._runtime = runtime
        self._make_timer = make_timer
        self._timer: StuckTimer | None = None

    async def run(self) -> None:
        """Postpone the end of the process every HEARTBEAT_SECONDS."""
        if self._timer is None:
            self._timer = self._make_timer()
        while True:
            self._timer.arm(limits.WATCHDOG_SECONDS)
            await self._runtime.sleep(limits.HEARTBEAT_SECONDS)

    def disarm(self) -> None:
        """Let the process live on, whatever it does from now on."""
        if self._timer is not None:
            self._timer.disarm()

    def thread_abandoned(self, stuck_threads: int) -> None:
        """End the process if too many threads are stuck in functions that ignored their time limit."""
        if stuck_threads >= limits.THREADS_ABANDONED_MAX:
            log.critical("%d threads are stuck: ending the process", stuck_threads)
            os._exit(WATCHDOG_EXIT_CODE)
