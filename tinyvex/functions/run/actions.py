"""
Running actions: on an event loop of their own thread, so that one that blocks does not stop the server.

An action reaches queries, mutations and other actions through the executor, on the server's loop;
each of them is a transaction of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from tinyvex import errors, limits
from tinyvex.functions.run.call import Call, encode_result
from tinyvex.functions.transaction.context import ActionCtx, Execution
from tinyvex.functions.transaction.read_set import ReadSet

if TYPE_CHECKING:
    from tinyvex.functions.run.executor import Executor
    from tinyvex.functions.transaction.context import Identity
    from tinyvex.runtime import LoopThread

__all__ = ["Actions"]


JOIN_SECONDS = 0.5
"""How long closing waits for an action that blocks its loop."""


class Actions:
    """Runs the app's actions; the thread begins with the first one."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._thread: LoopThread | None = None

    async def run(self, call: Call) -> tuple[bytes, tuple[str, ...]]:
        """
        Run an action and wait: its result as JSON, and its log lines.

        Cancelling the wait cancels the action at its next `await`.

        Raises:
            TinyvexError: what the function failed with.
        """
        executor = self._executor
        app = executor.app
        spec = app.lookup(call.path, kind="action", internal_allowed=call.admin)
        catalog = await executor.store.read(lambda snapshot: snapshot.catalog)
        arguments = spec.decode_arguments(call.args, catalog)
        execution = Execution(ReadSet())
        thread = self._loop_thread()
        calls = _Calls(executor, thread, call.identity)
        context = ActionCtx(calls, app, call.identity, execution, now=executor.store.last_ts)

        async def act() -> bytes:
            task = asyncio.current_task()
            assert task is not None
            try:
                return encode_result(spec, await spec.function(context, **arguments), catalog)
            except (SystemExit, KeyboardInterrupt) as raised:
                # They would end the loop that all actions share.
                raise RuntimeError(f"the action raised {type(raised).__name__}") from raised
            except asyncio.CancelledError as raised:
                if task.cancelling():
                    raise
                raise RuntimeError("the action raised CancelledError") from raised

        value = b""
        try:
            with anyio.move_on_after(limits.ACTION_SECONDS) as scope:
                value = await thread.run(act)
            if scope.cancelled_caught:
                raise errors.TimeLimitExceeded(f"{call.path} ran longer than {limits.ACTION_SECONDS:g} s")
        except Exception as raised:  # noqa: BLE001 - whatever users' code raises is the action's outcome
            raise executor.to_error(raised, call) from None
        return value, tuple(execution.log_lines)

    def _loop_thread(self) -> LoopThread:
        if self._thread is None:
            self._thread = self._executor.runtime.start_loop("tinyvex-actions")
        return self._thread

    def close(self) -> None:
        """Cancel what runs and end the thread."""
        if self._thread is not None:
            self._thread.stop(JOIN_SECONDS)


class _Calls:
    """How an action reaches queries, mutations and other actions: from its loop to the server's and back."""

    def __init__(self, executor: Executor, thread: LoopThread, identity: Identity) -> None:
        self._executor = executor
        self._thread = thread
        self._identity = identity

    async def query(self, path: str, args: bytes) -> bytes:
        call = Call(path, args, self._identity, admin=True)
        return (await self._thread.home(lambda: self._executor.query(call))).value

    async def mutation(self, path: str, args: bytes) -> bytes:
        call = Call(path, args, self._identity, admin=True)
        return (await self._thread.home(lambda: self._executor.mutation(call))).value

    async def action(self, path: str, args: bytes) -> bytes:
        call = Call(path, args, self._identity, admin=True)
        return (await self._thread.home(lambda: self._executor.action(call)))[0]
