"""
Running functions: which code, at which snapshot, under whose identity, for how long.

A query runs on a reader thread, in one read transaction, whose `ts` it learns there.
A mutation runs on the writer thread as one unit;
its writes wait in the transaction's overlay until it has returned and its result is valid.
An action runs on an event loop of its own and calls the other two.

Code is part of the snapshot: an execution uses the functions that were current at its `ts`,
so a result computed with new code can never be told at an older version.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinyvex import errors, limits
from tinyvex.functions.result.result_body import Body
from tinyvex.functions.run import purity_audit
from tinyvex.functions.run.actions import Actions
from tinyvex.functions.run.call import (
    Call,
    IdempotencyKey,
    MutationOutcome,
    QueryOutcome,
    encode_result,
    is_whole,
    result_body,
)
from tinyvex.functions.run.slow_log import SlowLog, Stopwatch
from tinyvex.functions.schema.document import Location
from tinyvex.functions.system.system_queries import system_functions
from tinyvex.functions.transaction.context import Execution, MutationCtx, QueryCtx
from tinyvex.functions.transaction.range_cache import CachedRanges, RangeCache
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.engine.time_limit import Stopped
from tinyvex.storage.log.catalog import CODE_TABLET
from tinyvex.storage.log.document_log import Outcome, RequestRecord, Snapshot
from tinyvex.storage.schema.schema_change import CODE_INTERNAL

if TYPE_CHECKING:
    from tinyvex.functions.app.function_spec import FunctionSpec
    from tinyvex.functions.app.registry import App
    from tinyvex.runtime import Runtime
    from tinyvex.storage.engine.store import Store

__all__ = ["Executor"]

log = logging.getLogger("tinyvex.functions")

APPS_KEPT = 4
"""Older code that snapshots may still need; executions are short, so the last few are plenty."""


@dataclass(slots=True)
class Executor:
    """
    Runs the app's functions against a store.

    Args:
        function_seconds: time limit of queries and mutations.
        slow_ms: a query or mutation that runs this long is logged; 0 for every one.
        reveal: put messages and tracebacks of unexpected exceptions into the errors clients get (dev mode).
    """

    store: Store
    runtime: Runtime
    app: App
    function_seconds: float = limits.FUNCTION_SECONDS
    slow_ms: int = limits.SLOW_MS
    reveal: bool = False
    _apps: list[tuple[int, App]] = field(default_factory=list)
    _actions: Actions = field(init=False)
    _slow: SlowLog = field(init=False)

    def __post_init__(self) -> None:
        self._apps = [(0, self.app)]
        self._actions = Actions(self)
        self._slow = SlowLog(self.runtime, self.slow_ms)
        if self.reveal:
            purity_audit.install()

    # Code.

    def switch(self, app: App, ts: int) -> None:
        """Use `app` for executions at `ts` and later; one assignment, from the writer's thread."""
        self._apps = [*self._apps[-APPS_KEPT + 1 :], (ts, app)]
        self.app = app

    def unswitch(self, ts: int) -> None:
        """Take `switch` back: its commit failed."""
        self._apps = [entry for entry in self._apps if entry[0] != ts]
        self.app = self._apps[-1][1]

    def app_at(self, ts: int) -> App:
        """The app that was current at a snapshot."""
        apps = self._apps
        for since, app in reversed(apps):
            if since <= ts:
                return app
        return apps[0][1]

    # Queries.

    def query_nowait(
        self,
        call: Call,
        done: Callable[[QueryOutcome], None],
        *,
        at: int | None = None,
        keeper: RangeCache | None = None,
        then: Callable[[QueryOutcome], None] | None = None,
    ) -> None:
        """
        Run a query on a reader.

        Args:
            call: what to run.
            done: called on the loop.
            at: the snapshot; None for the newest.
            keeper: for a live query: serves its scans, and leaves its rows as parts of the body.
            then: called with the outcome on the reader's thread, for work that would hold up the loop;
                it is not the function's, so its time limit does not count it.
        """
        execution = Execution(ReadSet(), keeper=keeper)
        snapshot_ts = at
        watch = Stopwatch(self.runtime, "query", call)

        def run(snapshot: Snapshot) -> QueryOutcome:
            nonlocal snapshot_ts
            snapshot_ts = snapshot.ts
            with watch:
                return self.run_query(call, snapshot, execution)

        def finish(outcome: QueryOutcome | None, error: BaseException | None) -> None:
            ended = outcome if outcome is not None else self._stopped_query(call, execution, error, snapshot_ts)
            self._slow.ran(watch, None if ended.body is None else ended.rows_read, ended.error)
            if outcome is not None and error is not None:
                log.error("what follows %s failed; its result stands", call.path, exc_info=error)
            done(ended)

        try:
            self.store.read_nowait(run, finish, at=at, limit_seconds=self.function_seconds, then=then)
        except errors.TinyvexError as error:
            finish(None, error)

    async def query(self, call: Call, *, at: int | None = None) -> QueryOutcome:
        """
        Run a query and wait.

        Raises:
            TinyvexError: what the function failed with.
        """
        future = self.runtime.loop.create_future()
        self.query_nowait(call, _resolver(future), at=at)
        outcome: QueryOutcome = await future
        if outcome.error is not None:
            raise outcome.error
        return outcome

    def run_query(self, call: Call, snapshot: Snapshot, execution: Execution) -> QueryOutcome:
        """Run a query on a snapshot, here and now."""
        reads, keeper = execution.reads, execution.keeper
        reads.add_point(-CODE_TABLET, CODE_INTERNAL)
        body, error, rows_read = None, None, 0
        try:
            app = self.app_at(snapshot.ts)
            spec = app.lookup(call.path, kind="query", internal_allowed=call.admin)
            arguments = spec.decode_arguments(call.args, snapshot.catalog)
            transaction = Transaction(
                snapshot, ts=snapshot.ts, writable=False, random=self.runtime.random, reads=reads,
                give_way=self.runtime.give_way,
            )  # fmt: skip
            context = QueryCtx(transaction, app, call.identity, execution, seed=(call.path, call.args))
            result = self._run(spec, context, arguments)
            spec.reads_now = bool(spec.reads_now) or execution.read_now
            rows_read = transaction.rows_read
            if keeper is None:
                body = Body((encode_result(spec, result, snapshot.catalog),))
            else:
                body = result_body(spec, result, snapshot.catalog)
        except errors.SnapshotUnavailable:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever users' code raises is the query's outcome
            error = self.to_error(raised, call)
        return QueryOutcome(
            ts=snapshot.ts,
            body=body,
            error=error,
            reads=reads.freeze(),
            log_lines=tuple(execution.log_lines),
            read_auth=execution.read_auth,
            read_now=execution.read_now,
            journal=execution.journal,
            volatile=isinstance(error, errors.StorageError),
            kept=CachedRanges(snapshot.ts, keeper.found) if keeper is not None and error is None else None,
            rows_read=rows_read,
            rows_applied=0 if keeper is None else keeper.rows_applied,
        )

    def _stopped_query(
        self, call: Call, execution: Execution, raised: BaseException | None, at: int | None
    ) -> QueryOutcome:
        """The outcome of a query that could not run to its end: stopped at the time limit, or the store failed."""
        assert raised is not None
        error = self.to_error(raised, call)
        return QueryOutcome(
            ts=self.store.last_ts if at is None else at,
            body=None,
            error=error,
            reads=execution.reads.copy(),  # a thread that was given up may still add to its own
            read_auth=execution.read_auth,
            volatile=not isinstance(error, errors.TimeLimitExceeded),
        )

    # Mutations.

    def mutation_nowait(
        self,
        call: Call,
        request: IdempotencyKey | None,
        done: Callable[[MutationOutcome | None, errors.TinyvexError | None], None],
    ) -> None:
        """
        Run a mutation on the writer; `done` is called on the loop after its commit is durable and published.

        Raises:
            Overloaded: the writer's queue is full.
        """
        watch = Stopwatch(self.runtime, "mutation", call)

        def run(snapshot: Snapshot, ts: int) -> Outcome[MutationOutcome]:
            with watch:
                return self.run_mutation(call, request, snapshot, ts)

        def finish(outcome: MutationOutcome | None, error: BaseException | None) -> None:
            told = None if error is None else self.to_error(error, call)
            self._slow.ran(watch, None if outcome is None else outcome.rows_read, told)
            done(outcome, told)

        self.store.write_nowait(run, finish, limit_seconds=self.function_seconds)

    async def mutation(self, call: Call, request: IdempotencyKey | None = None) -> MutationOutcome:
        """
        Run a mutation and wait for its commit.

        Cancelling the wait does not take the mutation back.

        Raises:
            TinyvexError: what the function failed with; nothing was written.
        """
        future = self.runtime.loop.create_future()

        def done(outcome: MutationOutcome | None, error: errors.TinyvexError | None) -> None:
            if not future.done():
                future.set_result(outcome) if error is None else future.set_exception(error)

        self.mutation_nowait(call, request, done)
        return await future  # type: ignore[no-any-return]

    def run_mutation(
        self, call: Call, request: IdempotencyKey | None, snapshot: Snapshot, ts: int
    ) -> Outcome[MutationOutcome]:
        """Run a mutation on the newest state, here and now; its record is still to be applied."""
        if request is not None:
            recorded = snapshot.request(request.session_id, request.request_id)
            if recorded is not None:
                return Outcome(_replay(recorded, request), None)
        app = self.app_at(ts)
        spec = app.lookup(call.path, kind="mutation", internal_allowed=call.admin)
        arguments = spec.decode_arguments(call.args, snapshot.catalog)
        transaction = Transaction(
            snapshot, ts=ts, writable=True, random=self.runtime.random, give_way=self.runtime.give_way
        )
        execution = Execution(transaction.reads)
        context = MutationCtx(transaction, app, call.identity, execution)
        result = self._run(spec, context, arguments)
        value = encode_result(spec, result, snapshot.catalog)
        log_lines = tuple(execution.log_lines)
        record = None
        if request is not None:
            record = RequestRecord(request.session_id, request.request_id, request.digest, value, log_lines, ts)
        outcome = MutationOutcome(value, ts, log_lines, rows_read=transaction.rows_read)
        return Outcome(outcome, transaction.record(record), transaction.system.then)

    def _run(self, spec: FunctionSpec, context: QueryCtx, arguments: dict[str, Any]) -> Any:
        if not self.reveal or spec.path in system_functions():
            return spec.function(context, **arguments)
        with purity_audit.running(spec.path):
            try:
                return spec.function(context, **arguments)
            except Stopped as stopped:
                log.error("%s was stopped at %s", spec.path, Location.of_error(stopped))
                raise

    # Actions.

    async def action(self, call: Call) -> tuple[bytes, tuple[str, ...]]:
        """Run an action and wait; see `Actions.run`."""
        return await self._actions.run(call)

    def close(self) -> None:
        """End the actions' thread, and tell what the log still owes."""
        self._actions.close()
        self._slow.close()

    # Errors.

    def to_error(self, raised: BaseException, call: Call) -> errors.TinyvexError:
        """What the client is told; unexpected exceptions are logged and told as `FunctionFailed`."""
        if isinstance(raised, errors.TinyvexError) and is_whole(raised):
            if self.reveal and not isinstance(raised, errors.AppError):
                _tell_place(raised, call)
            # Its frames hold the transaction and whatever the function held, and results are kept.
            raised.__traceback__ = raised.__context__ = raised.__cause__ = None
            return raised
        log.error(
            "%s failed (request %s)", call.path, call.request_id or "-",
            exc_info=(type(raised), raised, raised.__traceback__),
            extra={"function": call.path, "request_id": call.request_id or None},
        )  # fmt: skip
        if not self.reveal:
            return errors.FunctionFailed(f"{call.path} failed; the server's log has the reason")
        summary = "".join(traceback.format_exception_only(raised)).strip()
        trace = "".join(traceback.format_exception(raised))
        return errors.FunctionFailed(f"{call.path} failed: {summary}", traceback=trace)


def _tell_place(error: errors.TinyvexError, call: Call) -> None:
    """Tell a developer which line of the app asked for what is impossible."""
    place = Location.of_error(error)
    if place is not None:
        log.error(
            "%s failed at %s: %s (%s)", call.path, place, error, error.name,
            extra={"function": call.path, "request_id": call.request_id or None, "error": error.name},
        )  # fmt: skip


def _replay(recorded: RequestRecord, request: IdempotencyKey) -> MutationOutcome:
    if recorded.digest != request.digest:
        raise errors.RequestIdReused(
            f"request {request.request_id} of this session was already used, with another function, other arguments, "
            "or by somebody else"
        )
    return MutationOutcome(recorded.result, recorded.ts, recorded.log_lines, replayed=True)


def _resolver(future: Any) -> Callable[[QueryOutcome], None]:
    def resolve(outcome: QueryOutcome) -> None:
        if not future.done():
            future.set_result(outcome)

    return resolve
