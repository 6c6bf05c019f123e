"""
Actions: coroutine functions on event loops of their own threads, so that one that blocks does not stop the server.

An action calls queries, mutations and other actions. Each such call crosses to the server's loop and back, and each
query or mutation is a transaction of its own::

    server's loop                         actions' loop
    Actions.run ── _ActionRun.run ──────► await function(ctx)
    run_function ◄── home ─────────────── await ctx.run_mutation(…)

`action_workers.py` chooses the thread, and handles actions that ignore their time limit.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from tinyvex import errors, forks, limits
from tinyvex.functions.run.action_workers import ActionWorkers
from tinyvex.functions.run.call import Call
from tinyvex.functions.run.forgotten_await import call_action
from tinyvex.functions.run.stuck_calls import ActionKey
from tinyvex.functions.schema.location import Location
from tinyvex.functions.system.system_functions import find_function
from tinyvex.functions.transaction.context import ActionCtx
from tinyvex.functions.transaction.execution import Execution, FunctionKind
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.storage.engine.time_limit import Stopped

if TYPE_CHECKING:
    from tinyvex.functions.app.function_spec import FunctionSpec
    from tinyvex.functions.app.registry import App
    from tinyvex.functions.run.code_switch import CodeSwitch
    from tinyvex.functions.run.failures import Failures
    from tinyvex.functions.run.stuck_calls import RunningRecord
    from tinyvex.runtime import LoopThread, Runtime
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.catalog import Catalog

__all__ = ["Actions", "RunFunction"]

log = logging.getLogger("tinyvex.functions")

RunFunction: TypeAlias = Callable[[FunctionKind, Call], Coroutine[Any, Any, tuple[bytes, tuple[str, ...]]]]
"""Runs a function of any kind on the server's loop; returns its result as JSON, and its log lines."""

JOIN_SECONDS = 0.5
"""The longest wait of `close` for actions that block their loops."""


class Actions:
    """
    Runs the app's actions; their threads start when they are needed.

    Args:
        store: provides the catalog and the time.
        runtime: starts the threads, and counts the time limit.
        code: the code that serves.
        failures: turns exceptions into errors.
        run_function: runs the functions that an action calls.
        record: records the running actions; None without a watchdog.
    """

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        code: CodeSwitch,
        failures: Failures,
        run_function: RunFunction,
        record: RunningRecord | None = None,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._code = code
        self._failures = failures
        self._run_function = run_function
        self._record = record
        self._workers = ActionWorkers(runtime, self._thread_abandoned)

    async def run(self, call: Call) -> tuple[bytes, tuple[str, ...]]:
        """
        Run an action and wait; return its result as JSON and its log lines.

        Cancelling the wait cancels the action at its next `await`.

        Raises:
            TinyvexError: the action failed.
        """
        app = self._code.newest
        spec = find_function(app, call.path, kind="action", internal_allowed=call.admin)
        # Not charged to the client: an action must not wait for its client's queries.
        catalog = await self._store.read(lambda snapshot: snapshot.catalog)
        arguments = spec.decode_arguments(call.args, catalog)
        execution = Execution(ReadSet(), echo=self._failures.echo_of(call))
        now = self._store.last_ts

        def create_context(thread: LoopThread) -> ActionCtx:
            caller = _LoopCaller(app, call, thread, self._run_function, execution)
            return ActionCtx(caller, call.identity, execution, now=now)

        action = _ActionRun(
            spec, create_context, arguments, catalog, execution,
            client=call.client, give_way=self._runtime.give_way, record=self._record,
        )  # fmt: skip
        value = b""
        try:
            with anyio.CancelScope() as scope:
                time_limit = self._runtime.call_after(limits.ACTION_SECONDS, scope.cancel)
                try:
                    value = await self._workers.run(action)
                finally:
                    time_limit.cancel()
            if scope.cancelled_caught:
                self._workers.limit_passed(action)
                raise errors.TimeLimitExceeded(f"`{call.path}` ran longer than {limits.ACTION_SECONDS:g} s")
        except Exception as raised:  # noqa: BLE001 - whatever users' code raises is the action's outcome
            error = self._failures.to_error(raised, call)
            error.log_lines = tuple(execution.log_lines)
            raise error from None
        return value, tuple(execution.log_lines)

    def _thread_abandoned(self, thread: LoopThread) -> None:
        self._store.thread_abandoned(thread)

    def close(self) -> None:
        """Cancel the running actions and end their threads."""
        self._workers.close(JOIN_SECONDS)


class _ActionRun:
    """A single run of an action; see `RunningAction`."""

    def __init__(
        self,
        spec: FunctionSpec,
        create_context: Callable[[LoopThread], ActionCtx],
        arguments: dict[str, Any],
        catalog: Catalog,
        execution: Execution,
        *,
        client: str,
        give_way: Callable[[], None],
        record: RunningRecord | None,
    ) -> None:
        self.path = spec.path
        self.client = client
        self.started = False
        self._spec = spec
        self._create_context = create_context
        self._arguments = arguments
        self._catalog = catalog
        self._execution = execution
        self._give_way = give_way
        self._record = record
        self._coroutine: Coroutine[Any, Any, Any] | None = None

    async def run(self, thread: LoopThread) -> bytes:
        """
        Run the action and encode its result.

        Raises:
            Exception: the action raised it; never an exception that would end the loop that all actions share.
        """
        task = asyncio.current_task()
        assert task is not None
        self._coroutine = self._call(self._create_context(thread))
        number = -1 if self._record is None else self._record.begin(ActionKey(self.path), self.path)
        try:
            result = await self._coroutine
            return self._spec.encode_result(result, self._catalog, self._give_way)
        except Stopped as stopped:
            log.error("%s was stopped at %s", self.path, Location.of_error(stopped))
            return b""  # its caller has received TimeLimitExceeded
        except (SystemExit, KeyboardInterrupt) as raised:
            raise RuntimeError(f"the action raised {type(raised).__name__}") from raised
        except asyncio.CancelledError as raised:
            if task.cancelling():
                raise
            raise RuntimeError("the action raised CancelledError") from raised
        finally:
            self._execution.ended = True
            if self._record is not None:
                self._record.end(number)
            del task  # it stores the exception, whose traceback has this frame

    async def _call(self, context: ActionCtx) -> Any:
        generation = forks.generation
        try:
            return await call_action(self._spec.function, context, self._arguments)
        finally:
            if forks.generation != generation:
                forks.end_child()

    def blocks_thread(self) -> bool:
        return self._coroutine is not None and self._coroutine.cr_running  # type: ignore[attr-defined]

    def stack(self) -> str:
        frames = []
        waits_for: Any = self._coroutine
        while (frame := getattr(waits_for, "cr_frame", None)) is not None:
            frames.append((frame, frame.f_lineno))
            waits_for = waits_for.cr_await
        return "".join(traceback.StackSummary.extract(iter(frames)).format())


class _LoopCaller:
    """Calls functions on behalf of an action, from the actions' loop; see `FunctionCaller`."""

    def __init__(
        self, app: App, action: Call, thread: LoopThread, run_function: RunFunction, execution: Execution
    ) -> None:
        self._app = app
        self._action = action
        self._thread = thread
        self._run_function = run_function
        self._execution = execution

    async def call(
        self, kind: FunctionKind, function: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = function if isinstance(function, str) else self._app.path_of(function)
        spec = find_function(self._app, path, kind=kind, internal_allowed=True)
        action = self._action
        arguments = spec.encode_arguments(*args, **kwargs)
        call = Call(path, arguments, action.identity, admin=True, client=action.client)
        try:
            value, log_lines = await self._thread.home(lambda: self._run_function(kind, call))
        except errors.TinyvexError as error:
            self._execution.include(error.log_lines)
            raise
        self._execution.include(log_lines)
        return spec.decode_result(value)
