"""
Requests in flight, by the number that is a mutation's `requestId` for the whole session (pure).

::

    mutation   QUEUED ──take──► SENT ──value──► ANSWERED ──transition at or past its ts──► gone
                 ▲               │ └───error──────────────────────────────────────────────► gone
                 └─────lost──────┴──────lost───────┘      sent again under the same number

    action,    QUEUED ──take──► SENT ──value or error──► gone
    query        │               └─────────lost─────────► gone, ConnectionLost: whether it ran is unknown
                 └──lost──► QUEUED: it was never sent, so it waits for the next socket
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tinyvex.client.optimistic import Key, LocalStore, Update

__all__ = ["Answer", "Kind", "PendingRequest", "Phase", "Requests"]

logger = logging.getLogger(__name__)


class Kind(enum.Enum):
    """What is asked for."""

    MUTATION = "mutation"
    ACTION = "action"
    QUERY = "query"


class Phase(enum.Enum):
    """How far a request has come."""

    QUEUED = "queued"
    SENT = "sent"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function returned: encoded value, log lines, and the commit's or snapshot's `ts` (an action has none)."""

    value: bytes
    log_lines: tuple[str, ...]
    ts: int = 0


@dataclass(slots=True, eq=False)
class PendingRequest:
    """One call; `phase` moves as drawn above, `answer` is set once and stays."""

    number: int
    kind: Kind
    path: str
    args: bytes
    at: int | None = None
    update: Update | None = None
    phase: Phase = Phase.QUEUED
    answer: Answer | None = None

    def apply_update(self, store: LocalStore) -> None:
        """Show what this mutation is expected to do."""
        if self.update is not None:
            self.update(store)


class Requests:
    """All unfinished requests of a session, oldest first."""

    def __init__(self) -> None:
        self._next_number = 0
        self._unfinished: dict[int, PendingRequest] = {}
        self._queue: deque[PendingRequest] = deque()
        self._unanswered = 0
        self._answered: dict[int, PendingRequest] = {}
        self._updating: dict[int, PendingRequest] = {}

    def __len__(self) -> int:
        return len(self._unfinished)

    def __iter__(self) -> Iterator[PendingRequest]:
        return iter(self._unfinished.values())

    @property
    def unanswered(self) -> int:
        """How many this socket still owes an answer."""
        return self._unanswered

    @property
    def have_updates(self) -> bool:
        """Whether any of them has an optimistic update."""
        return bool(self._updating)

    def layer(self, base: Callable[[], Mapping[Key, bytes]]) -> dict[Key, bytes]:
        """What unfinished mutations are expected to make of the server's results, in order."""
        layer: dict[Key, bytes] = {}
        results = base()
        for request in list(self._updating.values()):
            attempt = dict(layer)
            try:
                request.apply_update(LocalStore(results, attempt))
            except Exception:
                # It ran when the mutation was called, so it is what changed beneath that it cannot handle.
                # The mutation itself goes on; only its preview ends.
                logger.exception("the optimistic update of %s raised and is no longer shown", request.path)
                del self._updating[request.number]
            else:
                layer = attempt
        return layer

    def add(
        self, kind: Kind, path: str, args: bytes, *, at: int | None = None, update: Update | None = None
    ) -> PendingRequest:
        """A new request at the end of the queue."""
        request = PendingRequest(self._next_number, kind, path, args, at, update)
        self._next_number += 1
        self._unfinished[request.number] = request
        self._queue.append(request)
        if update is not None:
            self._updating[request.number] = request
        return request

    def take(self) -> PendingRequest | None:
        """The next request to send; it counts as sent from here on."""
        if not self._queue:
            return None
        request = self._queue.popleft()
        request.phase = Phase.SENT
        self._unanswered += 1
        return request

    def answer(self, request: PendingRequest, answer: Answer) -> None:
        """Keep a sent mutation's answer; the first one it ever got stands."""
        self._unanswered -= 1
        request.answer = request.answer or answer
        request.phase = Phase.ANSWERED
        self._answered[request.number] = request

    def finish(self, request: PendingRequest) -> None:
        """A sent request got its result, was refused, or could not be sent after all."""
        self._unanswered -= 1
        self._remove(request)

    def covered(self, ts: int) -> list[PendingRequest]:
        """Finish the answered mutations that committed at or before `ts`."""
        done = [request for request in self._answered.values() if request.answer and request.answer.ts <= ts]
        for request in done:
            self._remove(request)
        return done

    def _remove(self, request: PendingRequest) -> None:
        del self._unfinished[request.number]
        self._answered.pop(request.number, None)
        self._updating.pop(request.number, None)

    def abandon(self, number: int) -> bool:
        """
        Nobody waits for this request any more; True when that finishes it.

        Only an action or query that was not sent yet is withdrawn.
        A mutation is not: whoever asked for it may count on it.
        """
        request = self._unfinished.get(number)
        if request is None or request.kind is Kind.MUTATION or request.phase is not Phase.QUEUED:
            return False
        self._remove(request)
        self._queue.remove(request)
        return True

    def lost(self) -> list[PendingRequest]:
        """The socket is gone: queue what may be sent again, in order, and return what must fail."""
        failed = [r for r in self if r.kind is not Kind.MUTATION and r.phase is Phase.SENT]
        for request in failed:
            self._remove(request)
        for request in self:
            request.phase = Phase.QUEUED
        self._queue = deque(self)
        self._unanswered = 0
        self._answered.clear()
        return failed

    def forget_answered(self) -> list[PendingRequest]:
        """Finish every mutation that ever got an answer, covered or not."""
        done = [request for request in self if request.answer is not None]
        for request in done:
            self._remove(request)
        self._queue = deque(request for request in self if request.phase is Phase.QUEUED)
        return done
