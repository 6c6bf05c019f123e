"""
The tasks that run alongside a server's connections: services, actions, slow HTTP answers.

All run in one task group, so none outlives the server. Each has a cancel scope of its own: the group's scope belongs to
the task that entered the server, so cancelling that scope would cancel the caller as well.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from tinyvex.runtime import Runtime

__all__ = ["BackgroundTasks", "TaskFunction"]

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
        self._group: TaskGroup
        self._scopes: set[anyio.CancelScope] = set()
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
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
        return len(self._scopes)

    def start(self, run: TaskFunction, name: str | None = None) -> anyio.CancelScope:
        """
        Start a task; an exception that it raises ends the server.

        Returns:
            The scope to cancel the task with. After `cancel`, the task does not run at all.
        """
        scope = anyio.CancelScope()
        if self._is_open:
            self._scopes.add(scope)
            self._group.start_soon(self._run, run, scope, name=name)
        return scope

    def start_for_client(self, run: TaskFunction) -> None:
        """Start a task that serves one client; an exception that it raises is logged and harms no other client."""

        async def contained() -> None:
            try:
                await run()
            except Exception:
                log.exception("a task of a client failed with an unexpected error")

        self.start(contained)

    def start_shielded(self, run: TaskFunction, name: str) -> None:
        """Start a task that neither `cancel` nor a cancelled caller ends; the group waits for it."""

        async def shielded() -> None:
            with anyio.CancelScope(shield=True):
                await run()

        self._group.start_soon(shielded, name=name)

    def cancel(self) -> None:
        """Cancel the tasks that run and start no more; idempotent."""
        self._is_open = False
        for scope in list(self._scopes):
            scope.cancel()

    async def _run(self, run: TaskFunction, scope: anyio.CancelScope) -> None:
        try:
            if not scope.cancel_called:
                with scope:
                    await run()
        finally:
            self._scopes.discard(scope)
