"""
Calls that have not finished, numbered for the life of the session (pure).

A mutation's number is its `requestId`: the server runs a (session, requestId) pair once, so the same number may be
sent on several sockets. `resend` decides which requests are sent again after a lost connection.
The life of a request::

    mutation   QUEUED ──next──► SENT ──value──► ANSWERED ──transition at or past its ts──► finished
                 ▲               │ └───error──────────────────────────────────────────────► finished
                 └──connection lost──────────────┘      resent under the same number

    action,    QUEUED ──next──► SENT ──value or error──► finished
    query        │               └───connection lost───► finished with ConnectionLost: the outcome is unknown
                 └──connection lost──► QUEUED: it was never sent, so it waits for the next socket

    any kind   QUEUED, never sent ──withdraw──► finished: it never runs
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterator

from msgspec import Struct, field

from tinyvex.client.identity import ANONYMOUS, CallIdentity

__all__ = ["Answer", "CallKind", "PendingRequest", "PendingRequests", "RequestPhase"]


class CallKind(enum.Enum):
    """The kind of function that a request calls."""

    MUTATION = "mutation"
    ACTION = "action"
    QUERY = "query"


class RequestPhase(enum.Enum):
    """The phases of the diagram above."""

    QUEUED = "queued"
    SENT = "sent"
    ANSWERED = "answered"


class Answer(Struct, frozen=True):
    """
    The result of a call.

    Attributes:
        value: the returned value as JSON.
        log_lines: lines that the function logged.
        ts: of the commit, or of the snapshot that a query read; 0 for an action.
    """

    value: bytes
    log_lines: tuple[str, ...]
    ts: int = 0


class PendingRequest(Struct, eq=False):
    """
    An unfinished call.

    Attributes:
        number: unique in the session; the `requestId` of a mutation or action.
        at: the `ts` of the snapshot that a query reads; None for the newest.
        caller: the identity that the call belongs to; it is sent under no other.
        answer: the first answer that the server sent; never replaced.
        was_sent: whether it was sent on any socket, so that it may have run.
        idempotency_key: the caller's own name of a mutation.
    """

    number: int
    kind: CallKind
    path: str
    args: bytes
    at: int | None = None
    caller: CallIdentity = field(default_factory=lambda: ANONYMOUS)
    phase: RequestPhase = RequestPhase.QUEUED
    answer: Answer | None = None
    was_sent: bool = False
    idempotency_key: str | None = None


class PendingRequests:
    """All unfinished requests of a session. Iterates over them in the order of the calls."""

    def __init__(self) -> None:
        self._next_number = 0
        self._unfinished: dict[int, PendingRequest] = {}
        self._mutations: dict[int, PendingRequest] = {}
        self._queue: deque[PendingRequest] = deque()
        self._unanswered = 0
        self._answered: dict[int, PendingRequest] = {}

    def __iter__(self) -> Iterator[PendingRequest]:
        return iter(self._unfinished.values())

    @property
    def unanswered(self) -> int:
        """Number of requests that this socket has sent and the server has not answered."""
        return self._unanswered

    @property
    def acknowledged_below(self) -> int:
        """The number below which every mutation is finished, so that this session never sends it again."""
        return next(iter(self._mutations), self._next_number)

    def add(
        self, kind: CallKind, path: str, args: bytes, *, at: int | None = None, caller: CallIdentity = ANONYMOUS
    ) -> PendingRequest:
        """Append a request to the queue."""
        request = PendingRequest(self._next_number, kind, path, args, at, caller)
        self._next_number += 1
        self._unfinished[request.number] = request
        if kind is CallKind.MUTATION:
            self._mutations[request.number] = request
        self._queue.append(request)
        return request

    def next_to_send(self, may_send: Callable[[CallIdentity], bool] = lambda _: True) -> PendingRequest | None:
        """Remove the oldest request from the queue whose caller may send, and mark it as sent; None if there is none."""
        for index, request in enumerate(self._queue):
            if may_send(request.caller):
                del self._queue[index]
                request.phase = RequestPhase.SENT
                request.was_sent = True
                self._unanswered += 1
                return request
        return None

    def has_queued(self, is_wanted: Callable[[CallIdentity], bool]) -> bool:
        """Return whether a request of such a caller is in the queue."""
        return any(is_wanted(request.caller) for request in self._queue)

    def remove_refused(self) -> list[PendingRequest]:
        """Remove and return the requests whose caller was refused; none of them was sent."""
        refused = [request for request in self._queue if request.caller.refusal is not None]
        for request in refused:
            self.remove_queued(request)
        return refused

    def remove_queued(self, request: PendingRequest) -> None:
        """Remove a request in phase QUEUED."""
        self.remove(request)
        self._queue.remove(request)

    def record_answer(self, request: PendingRequest, answer: Answer) -> None:
        """Store a sent mutation's answer. A later answer to the same mutation does not replace the first."""
        self._unanswered -= 1
        request.answer = request.answer or answer
        request.phase = RequestPhase.ANSWERED
        self._answered[request.number] = request

    def finish_sent(self, request: PendingRequest) -> None:
        """Remove a request in phase SENT: it was answered, it was refused, or its message could not be sent."""
        self._unanswered -= 1
        self.remove(request)

    def finish_covered(self, ts: int) -> list[PendingRequest]:
        """Remove and return the answered mutations that committed at or before `ts`."""
        covered = [request for request in self._answered.values() if request.answer and request.answer.ts <= ts]
        for request in covered:
            self.remove(request)
        return covered

    def withdraw(self, request: PendingRequest) -> bool:
        """Remove a request, unless it was sent on any socket or has finished. Return whether it was removed."""
        if request.was_sent or request.number not in self._unfinished:
            return False
        self.remove_queued(request)
        return True

    def requeue(self) -> None:
        """Queue every unfinished request for the next socket, in the order of the calls."""
        for request in self:
            request.phase = RequestPhase.QUEUED
        self._queue = deque(self)
        self._unanswered = 0
        self._answered.clear()

    def finish_ever_answered(self) -> list[PendingRequest]:
        """Remove and return every mutation that was answered on any socket, covered or not."""
        answered = [request for request in self if request.answer is not None]
        for request in answered:
            self.remove(request)
        self._queue = deque(request for request in self if request.phase is RequestPhase.QUEUED)
        return answered

    def remove_all(self) -> list[PendingRequest]:
        """Remove and return every request."""
        requests = list(self)
        for request in requests:
            self.remove(request)
        self._queue.clear()
        self._unanswered = 0
        return requests

    def remove(self, request: PendingRequest) -> None:
        """Remove a request; one that is queued must also leave the queue."""
        del self._unfinished[request.number]
        self._mutations.pop(request.number, None)
        self._answered.pop(request.number, None)
