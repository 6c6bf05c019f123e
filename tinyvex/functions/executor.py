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

import hashlib
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tinyvex import errors, limits
from tinyvex.functions import audit, system
from tinyvex.functions.context import ActionCtx, Execution, MutationCtx, QueryCtx
from tinyvex.functions.reads import ReadSet
from tinyvex.functions.transaction import Transaction
from tinyvex.storage.catalog import CODE_TABLET
from tinyvex.storage.log import Outcome, RequestRecord, Snapshot
from tinyvex.storage.schema_change import CODE_INTERNAL
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.functions.app import App
    from tinyvex.functions.context import Identity
    from tinyvex.functions.registry import FunctionSpec, Kind
    from tinyvex.runtime import LoopThread, Runtime
    from tinyvex.storage.store import Store

__all__ = ["Call", "Executor", "MutationOutcome", "QueryOutcome", "Request"]

T = TypeVar("T")
log = logging.getLogger("tinyvex.functions")

APPS_KEPT = 4
"""Older code that snapshots may still need; executions are short, so the last few are plenty."""


@dataclass(frozen=True, slots=True)
class Call:
    """What to run, and for whom."""

    path: str
    args: bytes
    """One JSON object."""
    identity: Identity = None
    admin: bool = False
    """Internal functions are allowed."""
    request_id: str = ""
    """Under which the log has the traceback of a failure."""


@dataclass(frozen=True, slots=True)
class Request:
    """The key under which a mutation happens once, and the digest of what was asked."""

    session_id: str
    request_id: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """A query's result at a snapshot: a value or an error, and what it depended on."""

    ts: int
    value: bytes
    error: errors.TinyvexError | None
    hash: str
    reads: ReadSet
    log_lines: tuple[str, ...] = ()
    read_auth: bool = False
    read_now: bool = False
    journal: str | None = None
    """Where the first page of a paginated query ends."""
    volatile: bool = False
    """It failed for a reason outside the database; any commit makes it worth another try."""


@dataclass(frozen=True, slots=True)
class MutationOutcome:
    """What a mutation returned and when it committed."""

    value: bytes
    ts: int
    log_lines: tuple[str, ...] = ()
    replayed: bool = False


@dataclass(slots=True)
class Executor:
    """
    Runs the app's functions against a store.

    Args:
        function_seconds: time limit of queries and mutations.
        reveal: put messages and tracebacks of unexpected exceptions into the errors clients get (dev mode).
    """

    store: Store
    runtime: Runtime
    app: App
    function_seconds: float = limits.FUNCTION_SECONDS
    reveal: bool = False
    _apps: list[tuple[int, App]] = field(default_factory=list)
    _loop_thread: LoopThread | None = None

    def __post_init__(self) -> None:
        self._apps = [(0, self.app)]
        if self.reveal:
            audit.install()

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

    def query_nowait(self, call: Call, done: Callable[[QueryOutcome], None], *, at: int | None = None) -> None:
        """Run a query on a reader; `done` is called on the loop."""
        reads = ReadSet()

        def run(snapshot: Snapshot) -> QueryOutcome:
            return self.run_query(call, snapshot, reads)

        def finish(outcome: QueryOutcome | None, error: BaseException | None) -> None:
            done(outcome if outcome is not None else self._stopped_query(call, reads, error, at))

        try:
            self.store.read_nowait(run, finish, at=at, limit_seconds=self.function_seconds)
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

    def run_query(self, call: Call, snapshot: Snapshot, reads: ReadSet) -> QueryOutcome:
        """Run a query on a snapshot, here and now."""
        execution = Execution(reads)
        reads.add_point(-CODE_TABLET, CODE_INTERNAL)
        value, error = b"", None
        try:
            app = self.app_at(snapshot.ts)
            spec = find_function(app, call, "query")
            arguments = spec.decode_arguments(call.args, snapshot.catalog)
            transaction = Transaction(
                snapshot, ts=snapshot.ts, writable=False, random=self.runtime.random, reads=reads,
                give_way=self.runtime.give_way,
            )  # fmt: skip
            context = QueryCtx(transaction, app, call.identity, execution, seed=(call.path, call.args))
            result = self._run(spec, context, arguments)
            spec.reads_now = bool(spec.reads_now) or execution.read_now
            value = encode_result(spec, result, snapshot)
        except errors.SnapshotUnavailable:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever users' code raises is the query's outcome
            error = self.to_error(raised, call)
        return QueryOutcome(
            ts=snapshot.ts,
            value=value,
            error=error,
            hash=result_hash(value, error),
            reads=reads.freeze(),
            log_lines=tuple(execution.log_lines),
            read_auth=execution.read_auth,
            read_now=execution.read_now,
            journal=execution.journal,
        )

    def _stopped_query(self, call: Call, reads: ReadSet, raised: BaseException | None, at: int | None) -> QueryOutcome:
        """The outcome of a query that could not run to its end: stopped at the time limit, or the store failed."""
        assert raised is not None
        error = self.to_error(raised, call)
        return QueryOutcome(
            ts=self.store.last_ts if at is None else at,
            value=b"",
            error=error,
            hash=result_hash(b"", error),
            reads=reads,
            read_auth=True,
            volatile=not isinstance(error, errors.TimeLimitExceeded),
        )

    # Mutations.

    def mutation_nowait(
        self,
        call: Call,
        request: Request | None,
        done: Callable[[MutationOutcome | None, errors.TinyvexError | None], None],
    ) -> None:
        """
        Run a mutation on the writer; `done` is called on the loop after its commit is durable and published.

        Raises:
            Overloaded: the writer's queue is full.
        """

        def run(snapshot: Snapshot, ts: int) -> Outcome[MutationOutcome]:
            return self.run_mutation(call, request, snapshot, ts)

        def finish(outcome: MutationOutcome | None, error: BaseException | None) -> None:
            done(outcome, None if error is None else self.to_error(error, call))

        self.store.write_nowait(run, finish, limit_seconds=self.function_seconds)

    async def mutation(self, call: Call, request: Request | None = None) -> MutationOutcome:
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
        self, call: Call, request: Request | None, snapshot: Snapshot, ts: int
    ) -> Outcome[MutationOutcome]:
        """Run a mutation on the newest state, here and now; its record is still to be applied."""
        if request is not None:
            recorded = snapshot.request(request.session_id, request.request_id)
            if recorded is not None:
                return Outcome(_replay(recorded, request), None)
        app = self.app_at(ts)
        spec = find_function(app, call, "mutation")
        arguments = spec.decode_arguments(call.args, snapshot.catalog)
        transaction = Transaction(
            snapshot, ts=ts, writable=True, random=self.runtime.random, give_way=self.runtime.give_way
        )
        execution = Execution(transaction.reads)
        context = MutationCtx(transaction, app, call.identity, execution)
        result = self._run(spec, context, arguments)
        value = encode_result(spec, result, snapshot)
        log_lines = tuple(execution.log_lines)
        record = None
        if request is not None:
            record = RequestRecord(request.session_id, request.request_id, request.digest, value, log_lines, ts)
        return Outcome(MutationOutcome(value, ts, log_lines), transaction.record(record))

    def _run(self, spec: FunctionSpec, context: QueryCtx, arguments: dict[str, Any]) -> Any:
        if not self.reveal:
            return spec.function(context, **arguments)
        with audit.running(spec.path):
            return spec.function(context, **arguments)

    # Actions.

    async def action(self, call: Call) -> tuple[bytes, tuple[str, ...]]:
        """
        Run an action on the action loop and wait.

        Raises:
            TinyvexError: what the function failed with.
        """
        app = self.app
        spec = find_function(app, call, "action")
        snapshot_catalog = await self.store.read(lambda snapshot: snapshot.catalog)
        arguments = spec.decode_arguments(call.args, snapshot_catalog)
        execution = Execution(ReadSet())
        if self._loop_thread is None:
            self._loop_thread = self.runtime.start_loop("tinyvex-actions")
        thread = self._loop_thread
        context = ActionCtx(_Calls(self, thread, call.identity), app, call.identity, execution, now=self.store.last_ts)

        async def run() -> Any:
            return await spec.function(context, **arguments)

        try:
            result = await self._within(thread.run(run), limits.ACTION_SECONDS, call)
            value = spec.encode_result(result, snapshot_catalog)
        except Exception as raised:
            raise self.to_error(raised, call) from raised
        return value, tuple(execution.log_lines)

    async def _within(self, running: Any, seconds: float, call: Call) -> Any:
        import anyio

        try:
            with anyio.fail_after(seconds):
                return await running
        except TimeoutError as error:
            raise errors.TimeLimitExceeded(f"{call.path} ran longer than {seconds:g} s") from error

    def close(self) -> None:
        """End the action loop."""
        if self._loop_thread is not None:
            self._loop_thread.stop()

    # Errors.

    def to_error(self, raised: BaseException, call: Call) -> errors.TinyvexError:
        """What the client is told; unexpected exceptions are logged and told as `FunctionFailed`."""
        if isinstance(raised, errors.TinyvexError):
            return raised
        log.error(
            "%s failed (request %s)", call.path, call.request_id or "-",
            exc_info=(type(raised), raised, raised.__traceback__),
        )  # fmt: skip
        if not self.reveal:
            return errors.FunctionFailed(f"{call.path} failed; the server's log has the reason")
        summary = "".join(traceback.format_exception_only(raised)).strip()
        trace = "".join(traceback.format_exception(raised))
        return errors.FunctionFailed(f"{call.path} failed: {summary}", traceback=trace)


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


def find_function(app: App, call: Call, kind: Kind) -> FunctionSpec:
    """
    The function a call names: the app's, or one that every app has.

    Raises:
        FunctionNotFound, WrongFunctionKind: there is none that this caller may run in this way.
    """
    if call.admin and call.path.startswith(f"{system.MODULE}:") and call.path in system.system_functions():
        spec = system.system_functions()[call.path]
        if spec.kind == kind:
            return spec
    return app.lookup(call.path, kind=kind, internal_allowed=call.admin)


def encode_result(spec: FunctionSpec, result: Any, snapshot: Snapshot) -> bytes:
    """
    A function's result as canonical JSON.

    Raises:
        InvalidResult: it does not fit the annotation, is no value, or is too large.
    """
    value = spec.encode_result(result, snapshot.catalog)
    if len(value) > limits.RESULT_BYTES_MAX:
        raise errors.InvalidResult(
            f"{spec.path} returned {len(value)} bytes; the limit is {limits.RESULT_BYTES_MAX}; paginate or take fewer"
        )
    return value


def result_hash(value: bytes, error: errors.TinyvexError | None) -> str:
    """The token under which two results count as the same."""
    if error is None:
        return hashlib.blake2b(value, digest_size=16).hexdigest()
    text = f"{error.number}\0{error.message}\0{getattr(error, 'app_data', None)!r}"
    return "!" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def identity_key(identity: Identity) -> bytes:
    """An identity as canonical JSON; `null` for nobody."""
    return b"null" if identity is None else codec.encode(dict(identity))


def request_digest(call: Call) -> bytes:
    """What a request id stands for: reusing it for anything else is an error."""
    parts = (call.path.encode(), call.args, identity_key(call.identity))
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


def _replay(recorded: RequestRecord, request: Request) -> MutationOutcome:
    if recorded.digest != request.digest:
        raise errors.RequestIdReused(
            f"request {request.request_id} of this session was already used with another function or other arguments"
        )
    return MutationOutcome(recorded.result, recorded.ts, recorded.log_lines, replayed=True)


def _resolver(future: Any) -> Callable[[QueryOutcome], None]:
    def resolve(outcome: QueryOutcome) -> None:
        if not future.done():
            future.set_result(outcome)

    return resolve
