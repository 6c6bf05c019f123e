"""
Running functions: the way of a call to the thread that runs it, and of its outcome back to the loop.

=========  =========================================  ==============================================================
kind       thread                                     transaction
=========  =========================================  ==============================================================
query      a reader's                                 one read transaction; the query learns its `ts` there
mutation   the writer's, as one unit of work          writes are buffered until it has returned a valid result
action     one with an event loop (`actions.py`)      none; it calls queries and mutations
=========  =========================================  ==============================================================

`code_switch.py` decides which code a call runs, `exactly_once.py` whether a mutation runs at all, `failures.py` what
the client receives of an exception.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from tinyvex import errors, limits
from tinyvex.functions.run.call import Call, MutationOutcome, QueryOutcome
from tinyvex.functions.run.failures import Failures
from tinyvex.functions.run.function_runner import FunctionRunner
from tinyvex.functions.run.slow_log import SlowLog, Stopwatch
from tinyvex.functions.transaction.execution import Execution
from tinyvex.functions.transaction.read_set import ReadSet

if TYPE_CHECKING:
    from tinyvex.functions.app.registry import App
    from tinyvex.functions.run.actions import Actions
    from tinyvex.functions.run.code_switch import CodeSwitch
    from tinyvex.functions.run.idempotency_key import IdempotencyKey
    from tinyvex.functions.run.stuck_calls import StuckCalls
    from tinyvex.functions.transaction.execution import FunctionKind
    from tinyvex.functions.transaction.range_cache import RangeCache
    from tinyvex.runtime import Runtime
    from tinyvex.storage.engine.readers import Job
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.commit_record import Outcome
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["Executor"]

log = logging.getLogger("tinyvex.functions")

QueryDone: TypeAlias = Callable[[QueryOutcome], None]
MutationDone: TypeAlias = Callable[[MutationOutcome | None, errors.TinyvexError | None], None]


class Executor:
    """
    Runs the app's functions against a store.

    Args:
        store: the documents.
        runtime: loop, clock and threads.
        code: the code that serves at each timestamp.
        function_seconds: the time limit of queries and mutations.
        slow_ms: queries and mutations that run this long are logged; 0 logs all.
        reveal: whether clients receive messages and tracebacks of unexpected exceptions (dev mode).
        stuck: the calls that ended the process before; None without a watchdog.

    Attributes:
        runner: runs a function on a snapshot.
    """

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        code: CodeSwitch,
        *,
        function_seconds: float = limits.FUNCTION_SECONDS,
        slow_ms: int = limits.SLOW_MS,
        reveal: bool = False,
        stuck: StuckCalls | None = None,
    ) -> None:
        self.store = store
        self.runtime = runtime
        self.function_seconds = function_seconds
        self.reveal = reveal
        self.code = code
        self.failures = Failures(reveal)
        self.runner = FunctionRunner(runtime, self.code, self.failures, audit=reveal, stuck=stuck)
        self.slow_log = SlowLog(runtime, slow_ms)
        self._record = None if stuck is None else stuck.record

    @cached_property
    def _actions(self) -> Actions:
        """The threads of actions, imported and created by the first action."""
        from tinyvex.functions.run.actions import Actions

        return Actions(self.store, self.runtime, self.code, self.failures, self._run_function, self._record)

    @property
    def app(self) -> App:
        """The app that serves now."""
        return self.code.newest

    def query_nowait(
        self,
        call: Call,
        done: QueryDone,
        *,
        at: int | None = None,
        range_cache: RangeCache | None = None,
        then: QueryDone | None = None,
        wanted: Callable[[], bool] | None = None,
        can_wait: bool = False,
    ) -> Job | None:
        """
        Run a query on a reader; return its read for `Store.hasten`, None if it was refused.

        Args:
            call: the call.
            done: called on the loop.
            at: the snapshot; None for the newest.
            range_cache: for a live query: serves its scans; its rows stay references in the body.
            then: called with the outcome on the reader's thread, for work that would block the loop.
                The time limit does not apply to it.
            wanted: called on the reader's thread before the query; if it returns False, the query is not run.
            can_wait: the query is not started while its client does not read its answers; see `Store.hold_reads`.
        """
        run = _QueryRun(self, call, done, at, range_cache)
        try:
            return self.store.read_nowait(
                run.run, run.finish, at=at, limit_seconds=self.function_seconds, then=then, client=call.client,
                wanted=wanted, measure=QueryOutcome.size, can_wait=can_wait,
            )  # fmt: skip
        except errors.TinyvexError as error:
            run.finish(None, error)
            return None

    async def query(self, call: Call, *, at: int | None = None) -> QueryOutcome:
        """
        Run a query and wait.

        Raises:
            TinyvexError: the query failed.
        """
        future = self.runtime.loop.create_future()
        self.query_nowait(call, lambda outcome: None if future.done() else future.set_result(outcome), at=at)
        outcome: QueryOutcome = await future
        if outcome.error is not None:
            outcome.error.log_lines = outcome.log_lines
            raise outcome.error
        return outcome

    def mutation_nowait(self, call: Call, key: IdempotencyKey | None, done: MutationDone) -> None:
        """
        Run a mutation on the writer; `done` is called on the loop after its commit is durable and published.

        Raises:
            Overloaded: the writer's queue is full.
        """
        run = _MutationRun(self, call, key, done)
        self.store.write_nowait(run.run, run.finish, limit_seconds=self.function_seconds, client=call.client)

    async def mutation(self, call: Call, key: IdempotencyKey | None = None) -> MutationOutcome:
        """
        Run a mutation and wait for its commit.

        Cancelling the wait does not cancel the mutation.

        Raises:
            TinyvexError: the mutation failed; nothing was written.
        """
        future = self.runtime.loop.create_future()

        def done(outcome: MutationOutcome | None, error: errors.TinyvexError | None) -> None:
            if not future.done():
                future.set_result(outcome) if error is None else future.set_exception(error)

        self.mutation_nowait(call, key, done)
        return await future  # type: ignore[no-any-return]

    async def action(self, call: Call) -> tuple[bytes, tuple[str, ...]]:
        """Run an action and wait; see `Actions.run`."""
        return await self._actions.run(call)

    async def _run_function(self, kind: FunctionKind, call: Call) -> tuple[bytes, tuple[str, ...]]:
        """Run a function that an action calls."""
        if kind == "action":
            return await self.action(call)
        outcome = await (self.query(call) if kind == "query" else self.mutation(call))
        return outcome.value, outcome.log_lines

    def to_error(self, raised: BaseException, call: Call) -> errors.TinyvexError:
        """Return the error that the client receives; see `Failures`."""
        return self.failures.to_error(raised, call)

    def close(self) -> None:
        """End the actions' threads, and log the calls that were only counted so far."""
        if "_actions" in vars(self):
            self._actions.close()
        self.slow_log.close()


class _QueryRun:
    """A query on its way: `run` on a reader's thread, `finish` on the loop."""

    __slots__ = ("_call", "_done", "_execution", "_executor", "_snapshot_ts", "_watch")

    def __init__(
        self, executor: Executor, call: Call, done: QueryDone, at: int | None, range_cache: RangeCache | None
    ) -> None:
        self._executor = executor
        self._call = call
        self._done = done
        self._execution = Execution(ReadSet(), range_cache=range_cache, echo=executor.failures.echo_of(call))
        self._snapshot_ts = at
        self._watch = Stopwatch(executor.runtime, "query", call)

    def run(self, snapshot: Snapshot) -> QueryOutcome:
        self._snapshot_ts = snapshot.ts
        with self._watch:
            return self._executor.runner.query(self._call, snapshot, self._execution)

    def finish(self, outcome: QueryOutcome | None, error: BaseException | None) -> None:
        """Report the outcome; an error along with an outcome is that of `then`, and leaves the outcome valid."""
        ended = self._interrupted(error) if outcome is None else outcome
        self._executor.slow_log.ran(self._watch, None if ended.body is None else ended.rows_read, ended.error)
        if outcome is not None and error is not None:
            log.error("the work after %s failed; its result stays valid", self._call.path, exc_info=error)
        self._done(ended)

    def _interrupted(self, raised: BaseException | None) -> QueryOutcome:
        """Return the outcome of a query that did not finish: the time limit stopped it, or the store failed."""
        assert raised is not None
        error = self._executor.to_error(raised, self._call)
        return QueryOutcome(
            ts=self._executor.store.last_ts if self._snapshot_ts is None else self._snapshot_ts,
            body=None,
            error=error,
            reads=self._execution.reads.copy(),  # an abandoned thread may still add to its own
            log_lines=tuple(self._execution.log_lines),
            read_auth=self._execution.read_auth,
            volatile=not isinstance(error, errors.TimeLimitExceeded),
        )


class _MutationRun:
    """A mutation on its way: `run` on the writer's thread, perhaps more than once, `finish` on the loop."""

    __slots__ = ("_call", "_done", "_executor", "_key", "_log_lines", "_watch")

    def __init__(self, executor: Executor, call: Call, key: IdempotencyKey | None, done: MutationDone) -> None:
        self._executor = executor
        self._call = call
        self._key = key
        self._done = done
        self._log_lines: list[str] = []
        self._watch = Stopwatch(executor.runtime, "mutation", call)

    def run(self, snapshot: Snapshot, ts: int) -> Outcome[MutationOutcome]:
        self._log_lines = []  # a new list: the thread of an abandoned run may still add to its own
        with self._watch:
            return self._executor.runner.mutation(self._call, self._key, snapshot, ts, self._log_lines)

    def finish(self, outcome: MutationOutcome | None, raised: BaseException | None) -> None:
        error = None if raised is None else self._executor.to_error(raised, self._call)
        if error is not None:
            error.log_lines = tuple(self._log_lines)
        self._executor.slow_log.ran(self._watch, None if outcome is None else outcome.rows_read, error)
        self._done(outcome, error)
