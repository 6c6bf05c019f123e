"""
The client's state machine: what is wanted, what the server said, what to send next (pure).

Four verbs: `receive` takes a message in, `events` tells what it meant, `next_message` gives what to send,
and `phase`, `recovered` and `retry_after_ms` say what to wait for.
The life of a client::

            opened()             connect answered
    OFFLINE ─────────► GREETING ─────────────────► READY
       ▲                  │                          │
       └──────lost()──────┴──────────lost()──────────┘
       any ──close() or an error that no new socket can mend──► CLOSED

On a fresh socket all versions start at 0.
When `tinyvex/connect` is answered, all queries go out in one `modifyQuerySet` from 0 to 1 with the ids they always had,
then unfinished mutations in their order and under their numbers.
Until a transition has brought all those queries back, at or past the version shown before, nothing new is shown and
no mutation is complete: what callers see moves only forward, and only from one consistent version to another.
"""

from __future__ import annotations

from tinyvex.client import frames
from tinyvex.client.calls import Calls
from tinyvex.client.events import Changed, Completed, Connected, Ended, Event, Failed, SessionPhase, fresh
from tinyvex.client.identity import ClientIdentity
from tinyvex.client.incoming import CAPABILITIES, NO_NEW_SOCKET_HELPS, Incoming, check_continuity
from tinyvex.client.optimistic import Key, LocalStore, Update
from tinyvex.client.patch_verification import PatchCounters, PatchVerification
from tinyvex.client.query_set import ClientQuery, QuerySet
from tinyvex.client.requests import Answer, Kind, PendingRequest, Requests
from tinyvex.errors import ClientClosed, ConnectionLost, TinyvexError
from tinyvex.wire import codec, error_objects
from tinyvex.wire import messages as wire

__all__ = ["ClientState", "SessionPhase"]

_MODIFIES_UNANSWERED_MAX = 4  # further changes of the query set are collected into the next one
_REQUESTS_SPARED = _MODIFIES_UNANSWERED_MAX + 2  # kept free below the server's bound for what is not a call

_NOTHING_YET = wire.StateVersion(query_set=0, identity=0, ts=0)


class ClientState:
    """
    One client session, over as many sockets as it takes.

    Args:
        session_id: chosen once; the server keeps mutations apart by it.
        token: the client or admin token.
        verify: compare what patches made with fresh queries.
    """

    def __init__(self, session_id: str, token: str | None = None, *, verify: bool = False) -> None:
        self.session_id = session_id
        self.token = token
        self._verify = verify
        self.phase = SessionPhase.OFFLINE
        self.error: TinyvexError | None = None
        """Why the session is closed; set once, with phase CLOSED."""
        self.counters = PatchCounters()
        self.queries = QuerySet(self.counters)
        self.requests = Requests()
        self.identity = ClientIdentity()
        self._checks = PatchVerification(self.counters)
        self._events: list[Event] = []
        # Known from all sockets so far.
        self.server: wire.ConnectResult | None = None
        self.epoch: str | None = None
        self.observed_ts = 0
        """The latest commit heard of, in this epoch."""
        self._shown_ts = 0  # the version of what callers see, in this epoch; never above observed_ts
        self._connection_count = 0
        self._close_reason: str | None = None
        self.retry_after_ms: int | None = None
        """When the server asked to come back; kept until the next socket is open."""
        self._reset()

    def _reset(self) -> None:
        """Forget what belongs to one socket."""
        self.version = _NOTHING_YET
        self._incoming = Incoming(self.counters)
        self._greeting: bytes | None = None  # set by opened(), taken by next_message()
        self._calls = Calls()
        self._sent_query_set = 0
        self._restoring = True  # until all queries wanted were sent once
        self._restored_query_set = 0  # ... and are all back by this version
        self._resent: set[int] = set()  # mutations begun on earlier sockets and not finished on this one

    # What the callers want.

    def subscribe(self, path: str, args: bytes) -> ClientQuery:
        """
        Hold a query's result live until `release`.

        Raises:
            TooManyQueries: the client's bound is reached.
            TinyvexError: the session is closed.
        """
        self._check_open()
        query = self.queries.subscribe(path, args)
        self._show()
        return query

    def call(
        self, kind: Kind, path: str, args: bytes, *, at: int | None = None, update: Update | None = None
    ) -> PendingRequest:
        """
        Ask for something once; an optimistic update shows at once.

        Raises:
            TinyvexError: the session is closed.
            Exception: what the update raised; then nothing was asked.
        """
        self._check_open()
        if update is not None:
            update(LocalStore(self.queries.base(), self._layer()))
        request = self.requests.add(kind, path, args, at=at, update=update)
        if update is not None:
            self._show()
        return request

    def close(self, error: TinyvexError | None = None) -> None:
        """End for good; every request fails with `error`."""
        if self.phase is SessionPhase.CLOSED:
            return
        self.phase = SessionPhase.CLOSED
        self.error = error or ClientClosed("the client was closed")
        for request in self.requests:
            self._fail(request, fresh(self.error))
        self._events.append(Ended(self.error))
        self.requests = Requests()

    def _check_open(self) -> None:
        if self.error is not None:
            raise fresh(self.error)

    # Sockets come and go.

    def opened(self, now_ms: int) -> None:
        """A WebSocket is open; `next_message` begins with `tinyvex/connect`."""
        assert self.phase is SessionPhase.OFFLINE, self.phase
        self._reset()
        self.phase = SessionPhase.GREETING
        self.retry_after_ms = None
        self._greeting = frames.encode_connect(
            self._calls.begin("connect"),
            wire.ConnectParams(
                protocol_version=wire.PROTOCOL_VERSION,
                session_id=self.session_id,
                connection_count=self._connection_count,
                last_close_reason=self._close_reason,
                client_ts=now_ms,
                max_observed_ts=self.observed_ts,
                observed_epoch=self.epoch,
                capabilities=CAPABILITIES,
                token=self.token,
            ),
        )
        self._connection_count += 1

    def lost(self, reason: str) -> None:
        """The socket is gone: actions and one-shot queries that were sent have failed, the rest waits for the next."""
        if self.phase in {SessionPhase.OFFLINE, SessionPhase.CLOSED}:
            return
        self.queries.lost(self.version.ts if self._settled() else None)
        for request in self.requests.lost():
            sentence = f"the connection was lost ({reason}) while {request.kind.value} {request.path} was in flight"
            self._fail(request, ConnectionLost(f"{sentence}; whether it ran is unknown"))
        self.phase = SessionPhase.OFFLINE
        self.identity.lost()
        self._close_reason = reason[:256]
        self._greeting = None

    @property
    def recovered(self) -> bool:
        """
        Whether this socket has caught up with all that the one before left open.

        Until then a failure counts as one more retry: what is resent may be what makes it fail.
        """
        return self._settled() and not self._resent

    # What to send.

    def next_message(self) -> bytes | None:
        """
        The next message for the socket, which counts as sent; None when there is nothing to say now.

        Changes of the query set go first, so that the transition that covers a mutation has them too.
        """
        if self._greeting is not None:
            greeting, self._greeting = self._greeting, None
            return greeting
        if self.phase is not SessionPhase.READY or self.server is None:
            return None
        if (params := self.identity.next_params()) is not None:
            return frames.encode_authenticate(self._calls.begin("authenticate"), params)
        if self.identity.holds:
            return None
        return self._next_modify(self.server.limits) or self._next_call(self.server.limits)

    def _next_modify(self, bounds: wire.ConnectLimits) -> bytes | None:
        may_send = self.queries.has_unsent and self._calls.modifies < _MODIFIES_UNANSWERED_MAX
        if not (self._restoring or may_send):
            return None
        version = self._sent_query_set + 1
        changes = self.queries.take_changes(version, bounds.queries_max, bounds.message_bytes_max)
        if not changes:
            # All was sent; what is left has failed for want of room.
            self._restoring = False
            self._advance()
            self._show()
            return None
        base = self._sent_query_set
        self._sent_query_set += 1
        if self._restoring:
            self._restored_query_set = self._sent_query_set
        return frames.encode_modify(self._calls.begin("modify"), base, changes)

    def _next_call(self, bounds: wire.ConnectLimits) -> bytes | None:
        while self.requests.unanswered < max(1, bounds.requests_max - _REQUESTS_SPARED):
            request = self.requests.take()
            if request is None:
                return None
            refusal = frames.too_large(request.path, request.args, bounds.message_bytes_max)
            if refusal is None:
                return frames.encode_call(self._calls.begin(request), request)
            self._finish_failed(request, refusal)
        return None

    # What the server says.

    def events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def receive(self, data: bytes | str) -> None:
        """
        Take in one message of the server.

        Raises:
            TinyvexError: the socket is of no more use, because what was said does not fit what was said before,
                is no message at all, or was the server's last word; open another, unless `phase` is CLOSED.
        """
        if self.phase is SessionPhase.CLOSED:
            return  # it was on its way, and nobody waits for it
        match self._incoming.read(data):
            case codec.Response(id=rpc_id, result=result, error=error):
                self._receive_response(rpc_id, result, error)
            case wire.Transition(params=transition):
                self._receive_transition(transition)
            case wire.AuthError(params=notice):
                self._events.append(self.identity.notified(notice))
            case wire.FatalError(params=last_word):
                raise self._refused(last_word.error)

    def _receive_response(self, rpc_id: object, result: bytes | None, error: wire.ErrorObject | None) -> None:
        call = self._calls.end(rpc_id, error)
        if isinstance(call, PendingRequest):
            self._receive_answer(call, result, error)
        elif call == "connect":
            self._receive_greeting(result, error)
        elif call == "authenticate":
            self._events.append(self.identity.answered(error))
        elif error is not None:
            raise self._refused(error)

    def _receive_greeting(self, result: bytes | None, error: wire.ErrorObject | None) -> None:
        if error is not None:
            raise self._refused(error, final=error.data.retry in {"never", "after-fix"})
        self.server = frames.decode_greeting(result)
        self.token = frames.token_of(self.server) or self.token
        if self.epoch not in {None, self.server.epoch}:
            self._change_epoch()
        self.epoch = self.server.epoch
        self.phase = SessionPhase.READY
        self._resent = {request.number for request in self.requests if request.kind is Kind.MUTATION}
        self._events.append(Connected())
        self.identity.opened()

    def _change_epoch(self) -> None:
        """
        The database was restored: results, resume data and what was observed belong to another history.

        A mutation that was answered is complete: it did commit, and waiting for its `ts` has no meaning any more.
        """
        self.queries.drop_results()
        self.observed_ts = self._shown_ts = 0
        self._complete(self.requests.forget_answered())

    def _receive_answer(self, request: PendingRequest, result: bytes | None, error: wire.ErrorObject | None) -> None:
        if error is not None:
            self._receive_failure(request, error)
            return
        answer = frames.decode_answer(request.kind, result)
        if request.kind is Kind.MUTATION:
            self._answer(request, answer)
            return
        self.requests.finish(request)
        if request not in self._checks:
            self._events.append(Completed(request.number, answer))
        elif (query := self._checks.end(request, answer)) is not None:
            self.queries.doubt(query, "a fresh query returned something else than patches made", wrong=True)

    def _receive_failure(self, request: PendingRequest, error: wire.ErrorObject) -> None:
        """
        A request failed.

        Not so a mutation that a stopping server did not take: the next server gets it.
        Nor one that was answered on an earlier socket: it did commit, whatever became of sending it again.
        """
        if request.kind is Kind.MUTATION and request.answer is not None:
            self._answer(request, request.answer)
        elif request.kind is Kind.MUTATION and error.data.name == "ServerStopping":
            raise self._refused(error)
        else:
            self._finish_failed(request, error_objects.from_object(error))

    def _finish_failed(self, request: PendingRequest, error: TinyvexError) -> None:
        self.requests.finish(request)
        self._resent.discard(request.number)
        if request.update is not None:
            self._show()
        self._fail(request, error)

    def _fail(self, request: PendingRequest, error: TinyvexError) -> None:
        if request in self._checks:
            self._checks.end(request, None)
        else:
            self._events.append(Failed(request.number, error))

    def _answer(self, request: PendingRequest, answer: Answer) -> None:
        self.requests.answer(request, answer)
        self.observed_ts = max(self.observed_ts, answer.ts)
        if self._settled() and answer.ts <= self.version.ts:
            self._complete(self.requests.covered(self.version.ts))

    def _refused(self, error: wire.ErrorObject, *, final: bool = False) -> TinyvexError:
        """The server's reason to end this socket; the session ends too when no new socket can mend it."""
        exception = error_objects.from_object(error)
        self.retry_after_ms = hint if isinstance(hint := error.data.retry_after_ms, int) else None
        if final or error.data.name in NO_NEW_SOCKET_HELPS:
            self.close(exception)
        return exception

    def _receive_transition(self, transition: wire.TransitionParams) -> None:
        end = transition.end_version
        check_continuity(transition, self.version, self._sent_query_set)
        for modification in transition.modifications:
            self.queries.stage(modification, end.query_set)
        self.queries.check_answers(end.query_set)
        self.version = end
        self.observed_ts = max(self.observed_ts, end.ts)
        self._advance()

    def _advance(self) -> None:
        """One step: the results of this version appear, the optimistic updates it covers go, their callers go on."""
        if self._settled():
            patched = self.queries.settle()
            if self._verify:
                self._checks.begin(patched, self.requests, self.version.ts)
            self._shown_ts = self.version.ts
            self._complete(self.requests.covered(self.version.ts), show=True)

    def _settled(self) -> bool:
        """Whether this socket has brought back everything, at or past what was shown before."""
        return (
            self.phase is SessionPhase.READY
            and not self._restoring
            and self.version.query_set >= self._restored_query_set
            and self.version.ts >= self._shown_ts
            and not self.queries.has_doubts
        )

    # What is shown.

    def _complete(self, done: list[PendingRequest], *, show: bool = False) -> None:
        if show or any(request.update is not None for request in done):
            self._show()
        for request in done:
            self._resent.discard(request.number)
            assert request.answer is not None
            self._events.append(Completed(request.number, request.answer))

    def _show(self) -> None:
        changed = self.queries.show(self._layer())
        if changed:
            self._events.append(Changed(changed))

    def _layer(self) -> dict[Key, bytes]:
        return self.requests.layer(self.queries.base) if self.requests.have_updates else {}

    def validate(self) -> None:
        """Assert what holds between any two calls."""
        self._calls.validate()
        assert (self.phase is SessionPhase.CLOSED) == (self.error is not None)
        assert self.version.query_set <= self._sent_query_set
        assert self._shown_ts <= self.observed_ts
