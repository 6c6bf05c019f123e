"""
The tasks that run alongside a server's connections: services, actions, slow HTTP answers.

All run in one task group, so none outlives the server. Each is cancelled on its own, and none raises into the group: a
group that aborts would cancel the task that entered the server, and with it the orderly stop.

The group is asyncio's. The one of anyio would take a tenth of each start to import (`bench start`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime

__all__ = ["BackgroundTasks", "TaskFunction", "shielded"]

log = logging.getLogger("tinyvex.server")

TaskFunction = Callable[[], Awaitable[object]]


class BackgroundTasks:
    """
    The task group of a server.

    Args:
        runtime: the clock of the tasks.
        on_fatal: called with a description and the error when a task that the server depends on has failed.
    """

    def __init__(self, runtime: Runtime, on_fatal: Callable[[str, Exception], None]) -> None:
        self.runtime = runtime
        self.on_fatal = on_fatal
        self._group: asyncio.TaskGroup
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        await self._group.__aexit__(None, None, None)

    def __len__(self) -> int:
        """Return the number of tasks that have not ended."""
        return sum(not task.done() for task in self._tasks)

    def start(self, run: TaskFunction, name: str | None = None) -> asyncio.Task[None] | None:
        """
        Start a task; an exception that it raises ends the server.

        Returns:
            The task, to cancel it; a task that is cancelled before its first step does not run at all. None after
            `cancel`, when no further task starts.
        """
        if not self._is_open:
            return None
        task = self._group.create_task(self._contained(run, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def start_for_client(self, run: TaskFunction) -> None:
        """Start a task that serves one client; an exception that it raises is logged and harms no other client."""

        async def contained() -> None:
            try:
                await run()
            except Exception:
                log.exception("a task of a client failed with an unexpected error")

        self.start(contained)

    def start_uncancelled(self, run: TaskFunction, name: str) -> None:
        """Start a task that neither `cancel` nor a cancelled caller ends; the group waits for it."""
        self._group.create_task(self._contained(run, name), name=name)

    def cancel(self) -> None:
        """Cancel the tasks that run and start no more; idempotent."""
        self._is_open = False
        for task in list(self._tasks):
            task.cancel()

    async def _contained(self, run: TaskFunction, name: str | None) -> None:
        try:
            await run()
        except Exception as error:
            log.exception("the task %s failed with an unexpected error", name)
            self.on_fatal(f"the task {name}", error)


def shielded() -> AbstractContextManager[object]:
    """
    Protect a block from the cancel scopes of anyio that its caller may be in; from them alone.

    Only a caller that has imported anyio can be in one, so this imports anyio for no other.
    """
    if "anyio" not in sys.modules:
        return nullcontext()
    import anyio

    return anyio.CancelScope(shield=True)
