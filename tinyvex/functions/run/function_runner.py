"""
Running one function on one snapshot, synchronously, on whatever thread holds the snapshot.

The executor brings calls here: queries on a reader's thread, mutations on the writer's. Nothing in this file waits,
so tests call it directly on a connection in memory.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tinyvex import errors, forks
from tinyvex.functions.result.result_body import Body
from tinyvex.functions.run import exactly_once, purity_audit
from tinyvex.functions.run.call import MutationOutcome, QueryOutcome
from tinyvex.functions.run.stuck_calls import QueryKey
from tinyvex.functions.schema.location import Location
from tinyvex.functions.system.system_context import SystemFunctionSpec
from tinyvex.functions.system.system_functions import find_function
from tinyvex.functions.transaction.execution import Execution
from tinyvex.functions.transaction.range_cache import CachedRanges
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.engine.time_limit import Stopped
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.system_tablets import CODE_INTERNAL, CODE_TABLET

if TYPE_CHECKING:
    from tinyvex.functions.app.function_spec import FunctionSpec
    from tinyvex.functions.run.call import Call
    from tinyvex.functions.run.code_switch import CodeSwitch
    from tinyvex.functions.run.failures import Failures
    from tinyvex.functions.run.idempotency_key import IdempotencyKey
    from tinyvex.functions.run.stuck_calls import StuckCalls
    from tinyvex.runtime import Runtime
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["FunctionRunner"]

log = logging.getLogger("tinyvex.functions")


class FunctionRunner:
    """
    Runs queries and mutations with the code that is current at their snapshot.

    Args:
        runtime: randomness, and the pauses between pages of a scan.
        code: the code at each timestamp.
        failures: turns exceptions into errors.
        audit: whether to warn of functions with side effects (dev mode).
        stuck: records the running calls, and refuses those that ended the process before; None without a watchdog.
    """

    def __init__(
        self,
        runtime: Runtime,
        code: CodeSwitch,
        failures: Failures,
        *,
        audit: bool,
        stuck: StuckCalls | None = None,
    ) -> None:
        self._runtime = runtime
        self._code = code
        self._failures = failures
        self._audit = audit
        self._stuck = stuck
        if audit:
            purity_audit.install()

    def query(self, call: Call, snapshot: Snapshot, execution: Execution) -> QueryOutcome:
        """
        Run a query on a snapshot.

        Raises:
            SnapshotUnavailable: the snapshot expired while the query ran.
        """
        reads, cache = execution.reads, execution.range_cache
        reads.add_point(-CODE_TABLET, CODE_INTERNAL)  # a change of the code runs every query again
        body, error, rows_read = None, None, 0
        try:
            app = self._code.at(snapshot.ts)
            spec = find_function(app, call.path, kind="query", internal_allowed=call.admin)
            arguments = spec.decode_arguments(call.args, snapshot.catalog)
            transaction = Transaction(
                snapshot, ts=snapshot.ts, writable=False, random=self._runtime.random, reads=reads,
                give_way=self._runtime.give_way,
            )  # fmt: skip
            context = spec.contexts["query"](transaction, app, call.identity, execution, seed=(call.path, call.args))
            try:
                key = None if self._stuck is None else QueryKey(app.fingerprint, exactly_once.request_digest(call))
                result = self._run_recorded(key, spec, context, arguments)
            finally:
                execution.ended = True
                transaction.end()
            spec.reads_now = bool(spec.reads_now) or execution.read_now
            rows_read = transaction.rows_read
            if cache is None:
                body = Body((spec.encode_result(result, snapshot.catalog, self._runtime.give_way),))
            else:
                body = spec.result_body(result, snapshot.catalog, self._runtime.give_way)
        except errors.SnapshotUnavailable:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever users' code raises is the query's outcome
            error = self._failures.to_error(raised, call)
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
            cached_ranges=CachedRanges(snapshot.ts, cache.current) if cache is not None and error is None else None,
            rows_read=rows_read,
            rows_applied=0 if cache is None else cache.rows_applied,
        )

    def mutation(
        self, call: Call, key: IdempotencyKey | None, snapshot: Snapshot, ts: int, log_lines: list[str] | None = None
    ) -> Outcome[MutationOutcome]:
        """
        Run a mutation on the newest state; the caller applies the returned record.

        Args:
            call: the call.
            key: identifies it among all mutations of its session; None if it cannot be resent.
            snapshot: the newest state.
            ts: of its commit.
            log_lines: receives what the function logs, also if it fails.

        Raises:
            Exception: the mutation failed; nothing was written.
        """
        if key is not None and (stored := exactly_once.stored_outcome(snapshot, key)) is not None:
            return Outcome(stored)
        app = self._code.at(ts)
        spec = find_function(app, call.path, kind="mutation", internal_allowed=call.admin)
        arguments = spec.decode_arguments(call.args, snapshot.catalog)
        transaction = Transaction(
            snapshot, ts=ts, writable=True, random=self._runtime.random, give_way=self._runtime.give_way
        )
        execution = Execution(transaction.reads, echo=self._failures.echo_of(call))
        if log_lines is not None:
            execution.log_lines = log_lines
        context = spec.contexts["mutation"](transaction, app, call.identity, execution)
        try:
            result = self._run_recorded(key, spec, context, arguments)
        finally:
            execution.ended = True
            transaction.end()
        value = spec.encode_result(result, snapshot.catalog, self._runtime.give_way)
        outcome = MutationOutcome(value, ts, tuple(execution.log_lines), rows_read=transaction.rows_read)
        request = None if key is None else exactly_once.request_record(key, outcome)
        return Outcome(outcome, transaction.record(request))

    def _run_recorded(
        self, key: IdempotencyKey | QueryKey | None, spec: FunctionSpec, context: Any, arguments: dict[str, Any]
    ) -> Any:
        """Run a function; record it if it has a key, because a client may send it again."""
        if key is None or self._stuck is None:
            return self._run(spec, context, arguments)
        self._stuck.refuse(key, spec.path)
        record = self._stuck.record
        number = record.begin(key, spec.path)
        try:
            return self._run(spec, context, arguments)
        finally:
            record.end(number)

    def _run(self, spec: FunctionSpec, context: Any, arguments: dict[str, Any]) -> Any:
        generation = forks.generation
        try:
            if not self._audit or isinstance(spec, SystemFunctionSpec):
                return spec.function(context, **arguments)
            return self._run_audited(spec, context, arguments)
        finally:
            if forks.generation != generation:
                forks.end_child()

    def _run_audited(self, spec: FunctionSpec, context: Any, arguments: dict[str, Any]) -> Any:
        try:
            with purity_audit.running(spec.path):
                return spec.function(context, **arguments)
        except Stopped as stopped:
            log.error("%s was stopped at %s", spec.path, Location.of_error(stopped))
            raise
