"""
One connection's worker: the client's messages in, responses and transitions out.

Everything here runs in callbacks on the loop and never waits, so a turn is atomic:
messages first, then finished mutations, then at most one pass over what `SyncState.plan` says.
Invalidation only marks a query as dirty; `turn` runs once per loop turn, however often it was asked for.
While two transitions wait unsent for a slow client, no turn computes anything for it;
when its socket drains, the next transition goes straight to the newest state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Raw, Struct

from tinyvex import errors, limits
from tinyvex.functions.run.call import Call, MutationOutcome, QueryOutcome
from tinyvex.functions.run.exactly_once import IdempotencyKey, request_digest
from tinyvex.sync.arguments import Arguments
from tinyvex.sync.authentication import Authentication
from tinyvex.sync.in_flight import InFlight
from tinyvex.sync.state import FindAgain, Pin, Refresh, Send, SyncedQuery, SyncState, Wait
from tinyvex.wire import codec, messages
from tinyvex.wire.error_objects import to_object

if TYPE_CHECKING:
    from tinyvex.functions.run.executor import Executor
    from tinyvex.runtime import Runtime
    from tinyvex.sync.authentication import Credentials
    from tinyvex.sync.counters import Counters
    from tinyvex.sync.live_queries import LiveQueries
    from tinyvex.sync.live_query import LiveQuery
    from tinyvex.sync.results import Result
    from tinyvex.wire.transition_chunks import Piece

__all__ = ["Outbox", "SyncWorker"]

logger = logging.getLogger(__name__)


class Outbox(Protocol):
    """Where a worker's messages go; see `server.connection`."""

    def send(self, message: bytes) -> None:
        """Queue one message; what is queued in a loop turn leaves in one write."""

    def send_transition(self, pieces: Sequence[Piece]) -> None:
        """Queue a transition, given in pieces; a long one leaves in chunks, with other messages between them."""

    def is_full(self) -> bool:
        """Whether so many transitions wait that no further one should be computed."""
        ...

    def fail(self, error: errors.TinyvexError) -> None:
        """Tell the client why, then close."""

    def run_action(self, action: Callable[[], Any]) -> None:
        """Run a coroutine function in the server's task group: actions outlive their connection."""


class SyncWorker:
    """The sync protocol of one connection, from `tinyvex/connect` on."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        live: LiveQueries,
        executor: Executor,
        counters: Counters,
        runtime: Runtime,
        session_id: str,
        is_admin: bool,
        takes_patches: bool,
        credentials: Credentials,
    ) -> None:
        self.state = SyncState()
        self.session_id = session_id
        self._outbox = outbox
        self._live = live
        self._executor = executor
        self._counters = counters
        self._runtime = runtime
        self._takes_patches = takes_patches
        self.speaker = Authentication(
            state=self.state,
            credentials=credentials,
            runtime=runtime,
            is_admin=is_admin,
            outbox=outbox,
            changed=self._speaker_changed,
            resume=self._receive_held,
        )
        self._by_live: dict[LiveQuery, list[SyncedQuery]] = {}
        self._turn_scheduled = False
        self._closed = False
        self.requests = InFlight(counters)

    # Messages.

    def receive(self, request: messages.ClientRequest) -> None:
        """
        Take one message in.

        Raises:
            TinyvexError: the answer to this request; fatal ones end the connection.
        """
        if self.speaker.is_checking:
            self.speaker.hold(request)
            return
        self.speaker.expire_if_due()  # its timer may be late, and this must not be said by who it was
        match request:
            case messages.Mutation():
                self._mutation(request)
            case messages.ModifyQuerySet():
                self._modify(request)
            case messages.Query():
                self._query(request)
            case messages.Action():
                self._action(request)
            case messages.Authenticate():
                self.speaker.request(request)
            case messages.Ping():
                pong = messages.PingResult(server_ts=self._runtime.now_us())
                self._outbox.send(codec.encode_response(request.id, pong))
            case messages.Connect():
                raise errors.AlreadyConnected("this socket is connected already")

    def _modify(self, request: messages.ModifyQuerySet) -> None:
        params = request.params
        self.state.check_modify(params.base_version, params.new_version, params.modifications)
        arguments = Arguments()
        for modification in params.modifications:
            if isinstance(modification, messages.QueryRemove):
                self._unsubscribe(self.state.remove(modification.query_id))
            else:
                args = arguments.canonical(bytes(modification.args))
                live = self._live.subscribe(self._call(modification.udf_path, args, ""), self)
                resume_hash = modification.resume.hash if modification.resume else None
                resume_ts = modification.resume.ts if modification.resume and self._takes_patches else None
                query = self.state.add(modification.query_id, live, resume_hash, resume_ts)
                self._by_live.setdefault(live, []).append(query)
        self.state.query_set = params.new_version
        self._outbox.send(codec.encode_response(request.id, b"{}"))
        self.wake()

    def _receive_held(self, requests: Sequence[messages.ClientRequest]) -> None:
        for request in requests:
            if self._closed:
                return
            try:
                self.receive(request)
            except errors.TinyvexError as error:
                self._outbox.send(codec.encode_error_response(request.id, error))
                if error.fatal:
                    self._outbox.fail(error)

    def _speaker_changed(self) -> None:
        for query in self.state.queries.values():
            self.state.invalidated(query)
        self.wake()

    def _mutation(self, request: messages.Mutation) -> None:
        params, rpc_id = request.params, request.id  # what waits must not hold the request: it holds its whole message
        call = self._call(params.udf_path, bytes(params.args), f"{self.session_id[:8]}-{params.request_id}")
        self.requests.open(call.args)
        key = IdempotencyKey(self.session_id, params.request_id, request_digest(call))

        def done(outcome: MutationOutcome | None, error: errors.TinyvexError | None) -> None:
            self._counters.mutations += 1
            self.requests.close(call.args)
            if outcome is None:
                assert error is not None
                self._counters.mutations_failed += 1
                self._answer_error(rpc_id, error, call.request_id)
                return
            self._counters.mutations_replayed += outcome.replayed
            self._answer(rpc_id, _result(outcome), outcome.ts)

        try:
            self._executor.mutation_nowait(call, key, done)
        except errors.TinyvexError:
            self.requests.close(call.args)
            raise

    def _query(self, request: messages.Query) -> None:
        params, rpc_id = request.params, request.id
        call = self._call(params.udf_path, bytes(params.args), f"{self.session_id[:8]}-one-{rpc_id}")
        self.requests.open(call.args)
        self._counters.queries += 1

        def done(outcome: QueryOutcome) -> None:
            self.requests.close(call.args)
            if outcome.error is not None:
                self._send_error(rpc_id, outcome.error, call.request_id)
            else:
                self._send(codec.encode_response(rpc_id, _result(outcome)))

        self._executor.query_nowait(call, done, at=params.ts)

    def _action(self, request: messages.Action) -> None:
        params, rpc_id = request.params, request.id
        call = self._call(params.udf_path, bytes(params.args), f"{self.session_id[:8]}-{params.request_id}")
        self.requests.open(call.args, action=True)
        self._counters.actions += 1

        async def run() -> None:
            try:
                value, log_lines = await self._executor.action(call)
            except Exception as raised:  # noqa: BLE001 - it is told and logged; unanswered, its caller would wait for ever
                self._answer_error(rpc_id, self._executor.to_error(raised, call), call.request_id)
            else:
                result = messages.ActionResult(value=Raw(value), log_lines=list(log_lines))
                self._answer(rpc_id, result, self._live.published)
            finally:
                self.requests.close(call.args, action=True)

        self._outbox.run_action(run)

    # Answers.

    def _answer(self, request_id: messages.RequestKey, result: Struct, ts: int) -> None:
        """Send the response of a mutation or action; a transition at or past `ts` follows."""
        self._send(codec.encode_response(request_id, result))
        self.state.answered(ts)
        self.wake()

    def _answer_error(self, request_id: messages.RequestKey, error: errors.TinyvexError, log_id: str) -> None:
        self._send_error(request_id, error, log_id)
        self.state.answered(self.state.sent.ts)
        self.wake()

    def _send_error(self, request_id: messages.RequestKey, error: errors.TinyvexError, log_id: str) -> None:
        error_object = to_object(error, request_id=log_id, reveal=self._executor.reveal)
        self._send(codec.encode_error_response(request_id, error_object))

    def _send(self, message: bytes) -> None:
        if not self._closed:
            self._outbox.send(message)

    def _call(self, path: str, args: bytes, request_id: str) -> Call:
        return Call(path, args, self.speaker.identity, self.speaker.is_admin, request_id)

    # Live queries.

    def _unsubscribe(self, query: SyncedQuery) -> None:
        query.forget_version()
        self._unpin(query)
        queries = self._by_live[query.live]
        queries.remove(query)
        if not queries:
            del self._by_live[query.live]
        self._live.unsubscribe(query.live, self)

    def _unpin(self, query: SyncedQuery) -> None:
        if query.pinned is not None:
            self._live.unpin(query.live, query.pinned, self)
            query.pinned = None

    def _follow_splits(self) -> None:
        """Move dirty queries whose live query turned out to depend on the identity to this identity's own."""
        for query in self.state.dirty:
            if self._live.is_shared(query.live):
                continue
            call = self._call(query.live.call.path, query.live.call.args, "")
            if not self._live.is_current(query.live, call):
                live = self._live.subscribe(call, self)
                self._unsubscribe(query)
                query.live, query.asked = live, None
                self._by_live.setdefault(live, []).append(query)

    def invalidated(self, live: LiveQuery) -> bool:
        """A commit touched it; True when a new result could be sent now."""
        for query in self._by_live[live]:
            self.state.invalidated(query)
        return not self._outbox.is_full()

    def computed(self, live: LiveQuery, changed: bool) -> None:
        """A computation ended: look again, unless that could change nothing."""
        if changed and self._outbox.is_full():
            self._counters.transitions_skipped += 1
        elif changed or self.state.is_waiting() or any(query.held != live.hash for query in self._by_live[live]):
            self.wake()  # unchanged for the live query may be new for this client, which skipped what came before

    # Turns.

    def wake(self) -> None:
        """Ask for a turn in this turn of the loop."""
        if not self._turn_scheduled and not self._closed:
            self._turn_scheduled = True
            self._runtime.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._closed:
            return
        try:
            self._do_turn()
        except errors.TinyvexError as error:
            self._outbox.fail(error)
        except Exception:
            # The client would wait for ever for what this turn owes it.
            logger.exception("a turn of connection %s failed", self.session_id[:8])
            self._outbox.fail(errors.InternalError("the server could not tell what has changed; its log says why"))

    def _do_turn(self) -> None:
        if not self._runtime.threaded:  # in virtual time, where a defect is to be found and speed is not the point
            self.state.validate()
        while not self._outbox.is_full():
            self._follow_splits()
            match self.state.plan(self._live.published):
                case Wait():
                    return
                case Refresh(queries):
                    for query in queries:
                        self._live.compute(query.live)
                case Pin(queries, ts):
                    for query in queries:
                        self._live.pin(query.live, ts, self)
                case FindAgain(queries):
                    self._find_again(queries)
                case Send(ts):
                    waited = list(self.state.dirty) if self.state.pin_ts is not None else ()
                    self._transition(ts)
                    for query in waited:
                        self._unpin(query)

    def _find_again(self, queries: Sequence[SyncedQuery]) -> None:
        for query in queries:
            assert query.held is not None
            assert query.resume_ts is not None
            if not self._live.find_again(query.live, query.held, query.resume_ts, self):
                query.resume_ts = None  # enough others are looked for: this one is sent the whole value

    def _transition(self, ts: int) -> None:
        state, published = self.state, self._live.published
        changes = state.changes(ts)
        if not changes and not state.must_send():
            state.skip(ts, published)
            return
        modifications: list[Sequence[Piece]] = [(codec.encode_removed(query_id),) for query_id in state.removed]
        modifications += [self._encode_change(query, result) for query, result in changes]
        if len(changes) > 1:  # one alone has its own limit
            _check_size(modifications)
        for query, result in changes:  # now that nothing can fail
            query.tell(result)
        start, end = state.advance(ts, published)
        self._counters.transitions_sent += 1
        self._outbox.send_transition(codec.transition_pieces(start, end, self._runtime.now_us(), modifications))

    def _encode_change(self, query: SyncedQuery, result: Result) -> Sequence[Piece]:
        """What a transition says of a query: as little as brings this client from what it holds to the result."""
        counters = self._counters
        if result.failure is not None:
            return (codec.encode_failed(query.query_id, result.failure, list(result.log_lines)),)
        if query.held == result.hash:
            counters.unchanged_sent += 1
            return (codec.encode_unchanged(query.query_id, result.hash),)
        base = query.version or query.live.versions.get(query.held or "")
        if base is not None and self._takes_patches and (tail := result.patch_tail(base, counters)) is not None:
            counters.patches_sent += 1
            return (codec.encode_updated(query.query_id, tail),)
        counters.values_sent += 1
        if result.body().size <= limits.CHUNK_BYTES:
            return (codec.encode_updated(query.query_id, result.tail()),)
        return (codec.encode_updated(query.query_id, b""), *result.pieces())

    def close(self) -> None:
        """The connection ended: forget its queries. Mutations and actions under way go on."""
        self._closed = True
        self.speaker.close()
        for query in list(self.state.queries.values()):
            self._unsubscribe(query)
        self.state.queries.clear()
        self.state.dirty.clear()


def _check_size(modifications: Sequence[Sequence[Piece]]) -> None:
    size = sum([len(piece) for pieces in modifications for piece in pieces])
    if size > limits.TRANSITION_BYTES_MAX:
        raise errors.MessageTooLarge(
            f"the results of this connection's queries have {size:,} bytes together; "
            f"the limit is {limits.TRANSITION_BYTES_MAX:,}"
        )


def _result(outcome: MutationOutcome | QueryOutcome) -> messages.MutationResult:
    return messages.MutationResult(value=Raw(outcome.value), ts=outcome.ts, log_lines=list(outcome.log_lines))
