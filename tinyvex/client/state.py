"""
The client's session, without I/O: subscribed queries, pending calls, messages to send, results to show (pure).

The caller drives it with four verbs, as in h11: `receive` takes in a message, `events` returns what it caused,
`next_message` returns what to send, and `phase`, `caught_up` and `retry_after_ms` show what to wait for.
The phases of a session::

              opened()             connect answered
    OFFLINE ─────────► GREETING ─────────────────► READY
       ▲                  │                          │
       └──────lost()──────┴──────────lost()──────────┘
       any ──close(), or an error that a new socket cannot fix──► CLOSED

All versions start at 0 on each socket. `resend` describes what a new socket has to restore, and when callers see the
first new result. Parts of the state: `query_set` (queries and their results), `pending_requests` (calls),
`identity` (the user), `rpc` (messages and ids of one socket).
"""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeAlias

from tinyvex.client import rpc
from tinyvex.client.error_copy import copy_error
from tinyvex.client.identity import CallerKind, CallIdentity, ClientIdentity
from tinyvex.client.optimistic import OptimisticUpdates, Update
from tinyvex.client.patch_verification import PatchCounters, PatchVerification
from tinyvex.client.pending_requests import Answer, CallKind, PendingRequest, PendingRequests
from tinyvex.client.query_set import ClientQuery, QuerySet
from tinyvex.client.resend import Resend
from tinyvex.errors import ClientClosed, ConnectionLost, DatabaseReplaced, TinyvexError
from tinyvex.wire import codec, error_objects
from tinyvex.wire import messages as wire

__all__ = [
    "ClientState",
    "Completed",
    "Connected",
    "Ended",
    "Event",
    "Failed",
    "IdentityChanged",
    "ResultsChanged",
    "SessionPhase",
]

_UNANSWERED_MODIFIES_MAX = 4  # further changes of the query set are collected into one message
_REQUESTS_RESERVED = _UNANSWERED_MODIFIES_MAX + 2  # of the server's `requestsMax`, for messages that are not calls
_CLOSE_REASON_LENGTH_MAX = 256  # of `lastCloseReason`
_INITIAL_VERSION = wire.StateVersion(query_set=0, identity=0, ts=0)
_ENDS_SESSION = frozenset(
    {
        "UnsupportedVersion",
        "ObservedTsAhead",
        "SessionReplaced",
        "SessionIdentity",
        "Unauthenticated",
        "Forbidden",
        "MessageTooLarge",
    }
)
"""Errors after which the client must not reconnect (S-18): it would be refused again, or would replace its successor."""

_RESENT_AFTER = frozenset({"ServerStopping", "OutcomeUnknown"})
"""Errors of a mutation after which it is sent again on the next socket, with the same request id."""


def _is_anonymous(caller: CallIdentity) -> bool:
    return caller.kind is CallerKind.ANONYMOUS


class SessionPhase(enum.Enum):
    """The phases of the diagram above."""

    OFFLINE = "offline"
    GREETING = "greeting"
    READY = "ready"
    CLOSED = "closed"


class Connected(NamedTuple):
    """The server answered `tinyvex/connect`."""


class IdentityChanged(NamedTuple):
    """The client may need a token, or the server accepted or refused one."""


class ResultsChanged(NamedTuple):
    """The visible results of these queries changed, together, to one version."""

    query_ids: list[int]


class Completed(NamedTuple):
    """A call succeeded; if it is a mutation, a transition that covers its commit has been applied."""

    number: int
    answer: Answer


class Failed(NamedTuple):
    """A call failed."""

    number: int
    error: TinyvexError


class Ended(NamedTuple):
    """The session is closed and will not reconnect."""

    error: TinyvexError


Event: TypeAlias = Connected | IdentityChanged | ResultsChanged | Completed | Failed | Ended


class ClientState:
    """
    A client session, which may span several sockets.

    Args:
        session_id: unique; the server stores the results of mutations under it.
        token: the client or admin token.
        verify: compare results that were built from patches with fresh queries.

    Attributes:
        error: the reason why the session is closed; set once, together with phase CLOSED.
        server: the answer to the last `tinyvex/connect`.
        epoch: the history of the database that the results belong to.
        database_id: the database that the pending calls were made for.
        observed_ts: the newest commit `ts` that the server mentioned, in this epoch.
        retry_after_ms: the server's hint when to reconnect; cleared when a socket opens.
        version: the version that the last transition on this socket led to.
    """

    def __init__(self, session_id: str, token: str | None = None, *, verify: bool = False) -> None:
        self.session_id = session_id
        self.token = token
        self.phase = SessionPhase.OFFLINE
        self.error: TinyvexError | None = None
        self.counters = PatchCounters()
        self.queries = QuerySet(self.counters)
        self.requests = PendingRequests()
        self.updates = OptimisticUpdates(self.queries)
        self.identity = ClientIdentity()
        self.server: wire.ConnectResult | None = None
        self.epoch: str | None = None
        self.database_id: str | None = None
        self.observed_ts = 0
        self.retry_after_ms: int | None = None
        self._resend = Resend(self.queries, self.requests)
        self._verifies_patches = verify
        self._verification = PatchVerification(self.counters)
        self._events: list[Event] = []
        self._connection_count = 0
        self._close_reason: str | None = None
        self._start_socket()

    def _start_socket(self) -> None:
        """Reset the state that belongs to one socket."""
        self.version = _INITIAL_VERSION
        self._reader = rpc.MessageReader(self.counters)
        self._calls = rpc.OpenCalls()
        self._greeting: bytes | None = None
        self._sent_query_set = 0
        self._resend.start()

    # Calls of the program.

    def subscribe(self, path: str, args: bytes) -> ClientQuery:
        """
        Add a subscription to a query; `queries.release` removes it.

        Raises:
            TooManyQueries: the client has CLIENT_QUERIES_MAX queries.
            TinyvexError: the session is closed.
        """
        self._check_not_closed()
        query = self.queries.subscribe(path, args)
        self._show()
        return query

    def call(
        self,
        kind: CallKind,
        path: str,
        args: bytes,
        *,
        at: int | None = None,
        update: Update | None = None,
        idempotency_key: str | None = None,
    ) -> PendingRequest:
        """
        Queue a call; the results of its optimistic update become visible immediately.

        Raises:
            TinyvexError: the session is closed, or the server refuses the user.
            Exception: the error that the update raised; the call is not queued.
        """
        self._check_not_closed()
        if self.identity.refusal is not None:
            raise copy_error(self.identity.refusal)
        run = self.updates.run(update) if update is not None else None
        request = self.requests.add(kind, path, args, at=at, caller=self.identity.caller)
        request.idempotency_key = idempotency_key
        if update is not None and run is not None:
            self.updates.add(request.number, path, update, run)
            self._show_results()
        return request

    def withdraw(self, request: PendingRequest) -> bool:
        """Remove a call whose caller stopped waiting, unless it was sent; return whether it was removed."""
        withdrawn = self.requests.withdraw(request)
        if withdrawn:
            self._resend.finished(request)
            if self.updates.remove(request.number):
                self._show()
        return withdrawn

    def close(self, error: TinyvexError | None = None) -> None:
        """Close the session and fail every pending call with `error`."""
        if self.phase is SessionPhase.CLOSED:
            return
        self.phase = SessionPhase.CLOSED
        self.error = error or ClientClosed("the client was closed")
        for request in self.requests.remove_all():
            self._fail(request, copy_error(self.error))
        self._events.append(Ended(self.error))

    def identity_changed(self) -> None:
        """Fail the calls of a caller who was refused; to be called after every change of the identity."""
        refused = self.requests.remove_refused()
        removed = [self.updates.remove(request.number) for request in refused]
        if any(removed):
            self._show()
        for request in refused:
            assert request.caller.refusal is not None
            self._resend.finished(request)
            self._fail(request, copy_error(request.caller.refusal))

    def _check_not_closed(self) -> None:
        if self.error is not None:
            raise copy_error(self.error)

    # Sockets.

    def opened(self, now_ms: int) -> None:
        """Start on an open WebSocket; `next_message` begins with `tinyvex/connect`."""
        assert self.phase is SessionPhase.OFFLINE, self.phase
        self._start_socket()
        self.phase = SessionPhase.GREETING
        self.retry_after_ms = None
        self._greeting = rpc.encode_connect(
            self._calls.open("connect"),
            wire.ConnectParams(
                protocol_version=wire.PROTOCOL_VERSION,
                session_id=self.session_id,
                connection_count=self._connection_count,
                last_close_reason=self._close_reason,
                client_ts=now_ms,
                max_observed_ts=self.observed_ts,
                observed_epoch=self.epoch,
                capabilities=rpc.CAPABILITIES,
                token=self.token,
            ),
        )
        self._connection_count += 1

    def lost(self, reason: str) -> None:
        """Prepare for another socket after this one was lost; see `resend`."""
        if self.phase in {SessionPhase.OFFLINE, SessionPhase.CLOSED}:
            return
        for request in self._resend.connection_lost(self.version.ts if self._is_consistent() else None):
            call = f"{request.kind.value} `{request.path}`"
            self._fail(
                request,
                ConnectionLost(f"{call} was running when the connection was lost; its outcome is unknown ({reason})"),
            )
        self.phase = SessionPhase.OFFLINE
        self.identity.lost()
        self._close_reason = reason[:_CLOSE_REASON_LENGTH_MAX]
        self._greeting = None

    @property
    def caught_up(self) -> bool:
        """
        Return whether this socket has restored all that the previous one left unfinished.

        A socket that fails before that counts as another retry: the messages that were resent may be the cause.
        """
        return self._is_consistent() and self._resend.mutations_finished(self.identity.may_send)

    # Messages to the server.

    def next_message(self) -> bytes | None:
        """
        Return the next message to send, which counts as sent; None if there is nothing to send now.

        Changes of the query set precede calls, so that the transition that covers a mutation includes them.
        """
        if self._greeting is not None:
            greeting, self._greeting = self._greeting, None
            return greeting
        if self.phase is not SessionPhase.READY or self.server is None:
            return None
        if (params := self.identity.next_params(lambda: self.requests.has_queued(_is_anonymous))) is not None:
            return rpc.encode_authenticate(self._calls.open("authenticate"), params)
        if self.identity.blocks_sending:
            return self._next_call(self.server.limits)  # anonymous calls precede signing in
        return self._next_modify_query_set(self.server.limits) or self._next_call(self.server.limits)

    def _next_modify_query_set(self, limits: wire.ConnectLimits) -> bytes | None:
        may_send = self.queries.has_unsent and self._calls.modify_count < _UNANSWERED_MODIFIES_MAX
        if not (self._resend.resending_queries or may_send):
            return None
        base = self._sent_query_set
        changes = self.queries.next_modifications(base + 1, limits.queries_max, limits.message_bytes_max)
        if not changes:
            # Every query was sent, or failed because the server has no room for it.
            self._resend.resending_queries = False
            self._apply_version()
            self._show()
            return None
        self._sent_query_set = base + 1
        self._resend.queries_sent(self._sent_query_set)
        return rpc.encode_modify_query_set(self._calls.open("modify"), base, changes)

    def _next_call(self, limits: wire.ConnectLimits) -> bytes | None:
        while self.requests.unanswered < max(1, limits.requests_max - _REQUESTS_RESERVED):
            request = self.requests.next_to_send(self.identity.may_send)
            if request is None:
                return None
            refusal = rpc.refuse_too_large(
                request.path, request.args, limits.message_bytes_max, request.idempotency_key
            )
            if refusal is None:
                return rpc.encode_call(self._calls.open(request), request, self.requests.acknowledged_below)
            self._finish_failed(request, refusal)
        return None

    # Messages from the server.

    def events(self) -> list[Event]:
        """Return the events since the last call, in order."""
        events, self._events = self._events, []
        return events

    def receive(self, data: bytes | str) -> None:
        """
        Process one message of the server.

        Raises:
            TinyvexError: the socket must be closed: the message is malformed, contradicts earlier ones, or was a
                fatal error. Open another socket unless `phase` is CLOSED.
        """
        if self.phase is SessionPhase.CLOSED:
            return  # the message was in flight when the session was closed
        match self._reader.read(data):
            case codec.Response(id=rpc_id, result=result, error=error):
                self._receive_response(rpc_id, result, error)
            case wire.Transition(params=transition):
                self._receive_transition(transition)
            case wire.AuthError(params=notice):
                self.identity.receive_auth_error(notice)
                self.identity_changed()
                self._events.append(IdentityChanged())
            case wire.FatalError(params=fatal):
                raise self._end_socket(fatal.error)

    def _receive_response(self, rpc_id: object, result: bytes | None, error: wire.ErrorObject | None) -> None:
        call = self._calls.close(rpc_id, error)
        if isinstance(call, PendingRequest):
            self._receive_answer(call, result, error)
        elif call == "connect":
            self._receive_connect_result(result, error)
        elif call == "authenticate":
            self.identity.receive_answer(error)
            self.identity_changed()
            self._events.append(IdentityChanged())
        elif error is not None:
            raise self._end_socket(error)

    def _receive_connect_result(self, result: bytes | None, error: wire.ErrorObject | None) -> None:
        if error is not None:
            raise self._end_socket(error, ends_session=error.data.retry in {"never", "after-fix"})
        self.server = rpc.decode_connect_result(result)
        if isinstance(self.server.token, str):  # the server exchanged a pairing code for a token
            self.token = self.server.token
        is_replaced = self.database_id not in {None, self.server.database_id}
        if is_replaced or self.epoch not in {None, self.server.epoch}:
            self.observed_ts = 0
            self._complete(self._resend.history_changed())
        if is_replaced:
            self._fail_calls_of_another_database()
        self.epoch, self.database_id = self.server.epoch, self.server.database_id
        self.phase = SessionPhase.READY
        self._resend.connected()
        self._events.append(Connected())
        self.identity.opened()

    def _fail_calls_of_another_database(self) -> None:
        """Fail the calls that could write: they were made for the database that this server had before."""
        for request in [request for request in self.requests if request.kind is not CallKind.QUERY]:
            self.requests.remove_queued(request)
            self.updates.remove(request.number)
            call = f"{request.kind.value} `{request.path}`"
            reason = "the server has another database now, so it was not sent there; the former one may have run it"
            self._fail(request, DatabaseReplaced(f"{call}: {reason}"))
        self._show()

    def _receive_answer(self, request: PendingRequest, result: bytes | None, error: wire.ErrorObject | None) -> None:
        if error is not None:
            self._receive_failure(request, error)
            return
        answer = rpc.decode_answer(request.kind, result)
        if request.kind is CallKind.MUTATION:
            self._record_answer(request, answer)
            return
        self.requests.finish_sent(request)
        if request not in self._verification:
            self._events.append(Completed(request.number, answer))
        elif (query := self._verification.finish(request, answer)) is not None:
            reason = "a fresh query returned another value than the patches produced"
            self.queries.request_full_value(query, reason, hash_is_wrong=True)

    def _receive_failure(self, request: PendingRequest, error: wire.ErrorObject) -> None:
        """
        Fail a request, except for a mutation whose error does not mean that it failed.

        A mutation that was answered on an earlier socket did commit, whatever the server answered to its repetition.
        A mutation that a stopping server refused is sent to the next server, and one whose outcome is unknown is sent again (S-95).
        """
        if request.kind is CallKind.MUTATION and request.answer is not None:
            self._record_answer(request, request.answer)
        elif request.kind is CallKind.MUTATION and error.data.name in _RESENT_AFTER:
            raise self._end_socket(error)
        else:
            self._finish_failed(request, error_objects.from_object(error))

    def _finish_failed(self, request: PendingRequest, error: TinyvexError) -> None:
        self.requests.finish_sent(request)
        self._resend.finished(request)
        if self.updates.remove(request.number):
            self._show()
        self._fail(request, error)

    def _fail(self, request: PendingRequest, error: TinyvexError) -> None:
        if request in self._verification:
            self._verification.finish(request, None)
        else:
            self._events.append(Failed(request.number, error))

    def _record_answer(self, request: PendingRequest, answer: Answer) -> None:
        self.requests.record_answer(request, answer)
        self.observed_ts = max(self.observed_ts, answer.ts)
        if self._is_consistent() and answer.ts <= self.version.ts:
            self._complete(self.requests.finish_covered(self.version.ts))

    def _end_socket(self, error: wire.ErrorObject, *, ends_session: bool = False) -> TinyvexError:
        """Return the exception that ends this socket; close the session if a new socket cannot fix the cause."""
        exception = error_objects.from_object(error)
        self.retry_after_ms = hint if isinstance(hint := error.data.retry_after_ms, int) else None
        if ends_session or error.data.name in _ENDS_SESSION:
            self.close(exception)
        return exception

    def _receive_transition(self, transition: wire.TransitionParams) -> None:
        end = transition.end_version
        rpc.check_continuity(transition, self.version, self._sent_query_set)
        for modification in transition.modifications:
            self.queries.stage(modification, end.query_set)
        self.queries.check_full_values(end.query_set)
        self.version = end
        self.observed_ts = max(self.observed_ts, end.ts)
        self._apply_version()

    # Visible results.

    def _is_consistent(self) -> bool:
        """Return whether the results of this socket are complete and not older than the visible ones."""
        return self.phase is SessionPhase.READY and self._resend.restores(self.version)

    def _apply_version(self) -> None:
        """In one step: show the results of this version, drop the optimistic updates it covers, complete their calls."""
        if self._is_consistent():
            patched = self.queries.apply_staged()
            if self._verifies_patches:
                self._verification.start(patched, self.requests, self.version.ts, self.identity.caller)
            self._resend.visible_ts = self.version.ts
            self._complete(self.requests.finish_covered(self.version.ts), show=True)

    def _complete(self, finished: list[PendingRequest], *, show: bool = False) -> None:
        removed = [self.updates.remove(request.number) for request in finished]
        if show or any(removed):
            self._show()
        for request in finished:
            self._resend.finished(request)
            assert request.answer is not None
            self._events.append(Completed(request.number, request.answer))

    def _show(self) -> None:
        """Show the results after a change of the server's results or the end of an optimistic update."""
        self.updates.refresh()
        self._show_results()

    def _show_results(self) -> None:
        changed = self.queries.show(self.updates.results)
        if changed:
            self._events.append(ResultsChanged(changed))

    def validate(self) -> None:
        """Assert the invariants."""
        self._calls.validate()
        assert (self.phase is SessionPhase.CLOSED) == (self.error is not None)
        assert self.version.query_set <= self._sent_query_set
        assert self._resend.visible_ts <= self.observed_ts
