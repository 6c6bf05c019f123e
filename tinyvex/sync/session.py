"""
The session of a connection: commands in, events out.

The session executes what `SyncState.plan` decides. Everything here runs in callbacks on the loop and never waits, so a
turn is atomic: commands first, then finished calls, then the steps of the plan. Invalidation only marks a query as dirty
and asks for a turn; one turn runs per loop iteration, however often it was asked for.

A slow client costs no work: while two transitions are unsent, no step is executed for it. When its socket drains, the
next transition leads straight from the last one sent to the newest state.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from tinyvex import errors, limits
from tinyvex.functions.run.call import Call, MutationOutcome, QueryOutcome
from tinyvex.functions.run.exactly_once import key_of_caller, request_digest
from tinyvex.functions.run.idempotency_key import IdempotencyKey
from tinyvex.sync.arguments import Arguments
from tinyvex.sync.commands import (
    Command,
    ModifyQueries,
    ReadClock,
    RemoveQuery,
    RunAction,
    RunMutation,
    RunQuery,
    SetIdentity,
)
from tinyvex.sync.events import Accepted, ClockRead, ClosedPeer, Done, Fatal, Refused
from tinyvex.sync.identity import ConnectionIdentity
from tinyvex.sync.in_flight import InFlight
from tinyvex.sync.transitions import ComputeAt, Reconstruct, Refresh, Send, SyncedQuery, SyncState, Wait

if TYPE_CHECKING:
    from tinyvex.functions.run.executor import Executor
    from tinyvex.runtime import Runtime
    from tinyvex.sync.counters import Counters
    from tinyvex.sync.events import Peer
    from tinyvex.sync.identity import Credentials, QueuedCommand
    from tinyvex.sync.live_queries import LiveQueries
    from tinyvex.sync.live_query import LiveQuery

__all__ = ["SessionOpened", "SyncSession"]

logger = logging.getLogger(__name__)


class SyncSession:
    """
    The sync core of one connection, from `OpenSession` on.

    Attributes:
        session_id: chosen by the client; survives its connections.
        state: the query set and the versions.
        identity: under which functions run.
        requests: the unanswered requests.
    """

    def __init__(
        self,
        *,
        peer: Peer,
        live: LiveQueries,
        executor: Executor,
        counters: Counters,
        runtime: Runtime,
        session_id: str,
        is_admin: bool,
        takes_patches: bool,
        credentials: Credentials,
    ) -> None:
        self.session_id = session_id
        self.state = SyncState(takes_patches, counters)
        self.requests = InFlight(counters)
        self.identity = ConnectionIdentity(
            state=self.state,
            credentials=credentials,
            runtime=runtime,
            is_admin=is_admin,
            peer=peer,
            changed=self._identity_changed,
            resume=self._receive_queued,
        )
        self._peer: Peer = peer
        self._live = live
        self._executor = executor
        self._counters = counters
        self._runtime = runtime
        self._by_live: dict[LiveQuery, list[SyncedQuery]] = {}
        self._turn_scheduled = False
        self._holds_queries = False
        self._must_check_size = False
        self._splits_followed = 0
        self._closed = False

    # Commands.

    def receive(self, command: Command, size: int) -> None:
        """
        Execute one command; errors are emitted.

        Args:
            command: the command.
            size: the length of its message in bytes.
        """
        if self.identity.is_checking:
            self.identity.enqueue(command, size)
            return
        self.identity.expire_if_due()  # the timer may be late, and this command must not run under an expired token
        try:
            match command:
                case RunMutation():
                    self._run_mutation(command)
                case ModifyQueries():
                    self._modify_queries(command)
                case RunQuery():
                    self._run_query(command)
                case RunAction():
                    self._run_action(command)
                case SetIdentity():
                    self.identity.change(command)
                case ReadClock():
                    self._peer.emit(ClockRead(command.correlation, self._runtime.now_us()))
        except errors.TinyvexError as error:
            self._peer.emit(Refused(command.correlation, error))
            if error.fatal:
                self._peer.emit(Fatal(error))

    def _receive_queued(self, queued: Sequence[QueuedCommand]) -> None:
        for command, size in queued:
            if not self._closed:
                self.receive(command, size)

    def _identity_changed(self) -> None:
        for query in self.state.queries.values():
            self.state.invalidated(query)
        self.wake()

    def _modify_queries(self, command: ModifyQueries) -> None:
        self.state.check_modify(command.base_version, command.new_version, command.modifications)
        arguments = Arguments()
        for modification in command.modifications:
            if isinstance(modification, RemoveQuery):
                self._unsubscribe(self.state.remove(modification.query_id))
            else:
                call = self._call(modification.path, arguments.canonical(modification.args), "")
                live = self._live.subscribe(call, self)
                query = self.state.add(modification.query_id, live, modification.resume)
                self._by_live.setdefault(live, []).append(query)
        self.state.query_set = command.new_version
        self.wake()  # before the answer; see `_answer`
        self._peer.emit(Accepted(command.correlation))

    # Calls. A pending call must not hold its command: the arguments alone may be megabytes.

    def _call(self, path: str, args: bytes, request_id: str) -> Call:
        return Call(path, args, self.identity.claims, self.identity.is_admin, request_id, self.session_id)

    def _run_mutation(self, command: RunMutation) -> None:
        call = self._call(command.path, command.args, f"{self.session_id[:8]}-{command.request_id}")
        self.requests.open(call.args)
        key = IdempotencyKey(self.session_id, command.request_id, request_digest(call), command.acknowledged_below)
        if command.idempotency_key is not None:
            key = key_of_caller(call, command.idempotency_key)
        try:
            self._executor.mutation_nowait(call, key, partial(self._mutation_done, command.correlation, call))
        except errors.TinyvexError:
            self.requests.close(call.args)
            raise

    def _mutation_done(
        self, correlation: object, call: Call, outcome: MutationOutcome | None, error: errors.TinyvexError | None
    ) -> None:
        self._counters.mutations += 1
        self.requests.close(call.args)
        if outcome is None:
            assert error is not None
            self._counters.mutations_failed += 1
            self._answer(Refused(correlation, error, call.request_id, error.log_lines), self.state.sent.ts)
        else:
            self._counters.mutations_replayed += outcome.replayed
            self._answer(Done(correlation, outcome.value, outcome.ts, outcome.log_lines), outcome.ts)

    def _run_query(self, command: RunQuery) -> None:
        call = self._call(command.path, command.args, f"{self.session_id[:8]}-one-{command.correlation}")
        self.requests.open(call.args)
        self._counters.queries += 1
        done = partial(self._query_done, command.correlation, call)
        self._executor.query_nowait(call, done, at=command.ts, wanted=self._is_open, can_wait=True)

    def hold_queries(self, held: bool) -> None:
        """Start no further one-shot query while the client does not read its answers."""
        if held and not self._closed:
            self._holds_queries = True
            self._executor.store.hold_reads(self.session_id)
        elif self._holds_queries and not held:
            self._holds_queries = False
            self._executor.store.release_reads(self.session_id)

    def _is_open(self) -> bool:
        return not self._closed

    def _query_done(self, correlation: object, call: Call, outcome: QueryOutcome) -> None:
        self.requests.close(call.args)
        if self._closed:
            return
        if outcome.error is not None:
            self._emit_answer(Refused(correlation, outcome.error, call.request_id, outcome.log_lines))
        else:
            self._emit_answer(Done(correlation, outcome.value, outcome.ts, outcome.log_lines))

    def _run_action(self, command: RunAction) -> None:
        call = self._call(command.path, command.args, f"{self.session_id[:8]}-{command.request_id}")
        self.requests.open(call.args, action=True)
        self._counters.actions += 1
        self._peer.run_action(partial(self._await_action, command.correlation, call))

    async def _await_action(self, correlation: object, call: Call) -> None:
        try:
            value, log_lines = await self._executor.action(call)
        except Exception as raised:  # noqa: BLE001 - logged and answered; without an answer, the caller would wait forever
            error = self._executor.to_error(raised, call)
            self._answer(Refused(correlation, error, call.request_id, error.log_lines), self.state.sent.ts)
        else:
            self._answer(Done(correlation, value, None, log_lines), self._live.published)
        finally:
            self.requests.close(call.args, action=True)

    def _answer(self, answer: Done | Refused, ts: int) -> None:
        """
        Send the answer to a mutation or action; a transition at or past `ts` follows.

        If the outcome is unknown, the session ends, so that the client sends its mutation again on the next socket.
        """
        self.state.answered(ts)
        self.wake()  # before the answer, whose write is then behind the turn: a transition that is ready leaves with it
        if not self._closed:
            self._emit_answer(answer)
            if isinstance(answer, Refused) and isinstance(answer.error, errors.OutcomeUnknown):
                self._peer.emit(Fatal(answer.error))

    def _emit_answer(self, answer: Done | Refused) -> None:
        """Send an answer; end the session if that fails, because its caller would wait forever."""
        try:
            self._peer.emit(answer)
        except Exception:
            logger.exception("an answer to session %s could not be sent", self.session_id[:8])
            self._peer.emit(Fatal(errors.InternalError("the server could not send an answer; its log has the reason")))

    # Live queries.

    def _unsubscribe(self, query: SyncedQuery) -> None:
        query.release_version()
        self._release_snapshot(query)
        queries = self._by_live[query.live]
        queries.remove(query)
        if not queries:
            del self._by_live[query.live]
        self._live.unsubscribe(query.live, self)

    def _release_snapshot(self, query: SyncedQuery) -> None:
        if query.snapshot_ts is not None:
            self._live.release_snapshot(query.live, query.snapshot_ts, self)
            query.snapshot_ts = None

    def _follow_splits(self) -> None:
        """Move dirty queries to their identity's own live query if the one they share turned out to read the identity."""
        splits = self._live.splits
        queries = self.state.unplanned if splits == self._splits_followed else self.state.dirty
        self._splits_followed = splits
        for query in queries:
            if self._live.is_shared(query.live):
                continue
            call = self._call(query.live.call.path, query.live.call.args, "")
            if not self._live.is_current(query.live, call):
                live = self._live.subscribe(call, self)
                self._unsubscribe(query)
                query.live, query.refreshed_from = live, None
                self._by_live.setdefault(live, []).append(query)
                self.state.invalidated(query)

    def invalidated(self, live: LiveQuery) -> bool:
        """Mark the queries that a commit touched; return whether a new result could be sent now."""
        for query in self._by_live[live]:
            self.state.invalidated(query)
        return not self._peer.is_full()

    def computed(self, live: LiveQuery, changed: bool) -> None:
        """Ask for a turn after a computation, unless a turn could not send anything."""
        if live.size >= limits.LARGE_RESULT_BYTES:
            self._must_check_size = True
            self.wake()
        if changed and self._peer.is_full():
            self._counters.transitions_skipped += 1
        # A result that is unchanged for the live query may be new to this client, which skipped those before it.
        elif changed or self.state.is_waiting() or any(query.client_hash != live.hash for query in self._by_live[live]):
            self.wake()

    def awaits(self, live: LiveQuery) -> bool:
        """Return whether a result of the live query is yet to be sent."""
        if any(self in snapshot.waiting for snapshot in live.snapshots.values()):
            return True
        return live.result is not None and any(
            query.version is not live.result.version for query in self._by_live[live]
        )

    def fail(self, error: errors.TinyvexError) -> None:
        """Close the client and unsubscribe all of its queries."""
        logger.warning("closing session %s: %s", self.session_id[:8], error.message)
        self._peer.emit(Fatal(error))
        self.close()

    # Turns.

    def wake(self) -> None:
        """Ask for a turn in this iteration of the loop."""
        if not self._turn_scheduled and not self._closed:
            self._turn_scheduled = True
            self._runtime.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._closed:
            return
        try:
            self._execute_plan()
        except errors.TinyvexError as error:
            self._peer.emit(Fatal(error))
        except Exception:
            # The transition that is due would never arrive, and the client would wait forever.
            logger.exception("a turn of session %s failed", self.session_id[:8])
            self._peer.emit(Fatal(errors.InternalError("the server could not send changes; its log has the reason")))

    def _execute_plan(self) -> None:
        if not self._runtime.threaded:  # in virtual time, where tests look for defects and speed does not matter
            self.state.validate()
        if self._must_check_size:
            self._must_check_size = False
            self.state.check_size()
        while not self._peer.is_full():
            self._follow_splits()
            queries: Sequence[SyncedQuery] = ()
            match self.state.plan(self._live.published):
                case Wait():
                    return
                case Refresh(queries):
                    for query in queries:
                        self._live.compute(query.live)
                case ComputeAt(queries, ts):
                    for query in queries:
                        self._live.compute_at(query.live, ts, self)
                case Reconstruct(queries):
                    self._reconstruct(queries)
                case Send(ts):
                    self._send(ts)
            if len(queries) == limits.PLAN_QUERIES_MAX:
                self.wake()
                return

    def _reconstruct(self, queries: Sequence[SyncedQuery]) -> None:
        for query in queries:
            assert query.client_hash is not None
            assert query.resume_ts is not None
            if not self._live.reconstruct(query.live, query.client_hash, query.resume_ts, self):
                query.resume_ts = None  # it costs more than the full value, which is sent instead

    def _send(self, ts: int) -> None:
        state = self.state
        waited = list(state.dirty) if state.target_ts is not None else ()
        transition = state.take_transition(ts, self._live.published, self._runtime.now_us())
        if transition is not None:
            self._peer.emit(transition)
        for query in waited:
            self._release_snapshot(query)

    def close(self) -> None:
        """Unsubscribe all queries. Mutations and actions that are running continue."""
        self._closed = True
        self.hold_queries(False)
        self.identity.close()
        for query in list(self.state.queries.values()):
            self._unsubscribe(query)
        self.state.queries.clear()
        self.state.dirty.clear()
        self.state.unplanned.clear()
        self._peer = ClosedPeer()


class SessionOpened(Struct, frozen=True):
    """
    The answer to `OpenSession`.

    Attributes:
        session: receives the commands that follow.
        database_id: of the database.
        epoch: changes when the database is restored.
        last_ts: the last published commit.
        now_us: the server's clock, in microseconds since the epoch.
        token: issued to the client in exchange for a one-time code; None if it sent none.
    """

    session: SyncSession
    database_id: str
    epoch: str
    last_ts: int
    now_us: int
    token: str | None
