"""
Live queries: shared by all connections, invalidated by overlapping writes, computed once.

A `LiveQuery` is one function with one set of arguments (and one identity, once an execution looked at it).
Its results have validity intervals:

1.  A computation learns its snapshot's `ts` inside its own read transaction.
2.  The result waits here until `published` has reached that `ts`:
    the reader may see a commit before the loop has heard of it.
3.  Commits after `ts` that were published meanwhile are held against the read set;
    the first that touches it ends the interval.
4.  Otherwise the interval stays open, and the read set is registered in the index,
    until `publish` meets a commit that touches it.

Nobody else moves `published`, and everything here happens on the loop,
so there is no moment at which a commit could pass between a read and its registration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from tinyvex.functions.calls import Call, QueryOutcome, identity_key
from tinyvex.sync.recent import RecentCommits
from tinyvex.sync.subscriptions import Subscriptions
from tinyvex.wire.codec import updated_tail
from tinyvex.wire.faults import to_object

if TYPE_CHECKING:
    from tinyvex.functions.executor import Executor
    from tinyvex.storage.log import CommitRecord
    from tinyvex.sync.counters import Counters
    from tinyvex.wire.messages import ErrorObject

__all__ = ["LiveQueries", "LiveQuery", "Result", "Subscriber"]

PINS_KEPT_MAX = 8
"""Results at older snapshots a live query keeps for connections that are about to use them."""


class Subscriber(Protocol):
    """What a live query tells."""

    def invalidated(self, live: LiveQuery) -> bool:
        """A commit touched it; True when the subscriber could send a new result now."""
        ...

    def computed(self, live: LiveQuery, changed: bool) -> None:
        """A computation ended."""


class Result:
    """A query's outcome and the interval of `ts` in which it is the answer: from `since` up to before `until`."""

    __slots__ = ("_tail", "failure", "outcome", "since", "until")

    def __init__(self, outcome: QueryOutcome, until: int | None, *, reveal: bool, request_id: str) -> None:
        self.outcome = outcome
        self.since = outcome.ts
        self.until = until
        self.failure: ErrorObject | None = None
        if outcome.error is not None:
            self.failure = to_object(outcome.error, request_id=request_id, reveal=reveal)
        self._tail: bytes | None = None

    def covers(self, ts: int) -> bool:
        """Whether this is the answer at `ts`."""
        return self.since <= ts and (self.until is None or ts < self.until)

    @property
    def hash(self) -> str:
        """The token clients keep."""
        return self.outcome.hash

    def tail(self) -> bytes:
        """The part of `QueryUpdated` that is the same for every connection, encoded once."""
        if self._tail is None:
            self._tail = updated_tail(self.outcome.value, self.outcome.hash, list(self.outcome.log_lines))
        return self._tail


class LiveQuery:
    """One query that somebody watches."""

    __slots__ = ("call", "computing", "generation", "key", "pins", "result", "subscribers")

    def __init__(self, key: Key, call: Call) -> None:
        self.key = key
        self.call = call
        """What every computation runs, under the identity of the first who asked."""
        self.result: Result | None = None
        """The newest; None until the first computation has ended."""
        self.generation = 0
        """How many computations of the newest state have ended."""
        self.computing = False
        """Whether one is under way; there is at most one."""
        self.pins: dict[int, Result | None] = {}
        """Results at older snapshots by `ts`; None while being computed."""
        self.subscribers: dict[Subscriber, int] = {}

    @property
    def hash(self) -> str | None:
        """Of the newest result."""
        return None if self.result is None else self.result.hash

    def covers(self, ts: int) -> bool:
        """Whether the newest result is the answer at `ts`."""
        return self.result is not None and self.result.covers(ts)

    def at(self, ts: int) -> Result | None:
        """The result at `ts`, when it is known."""
        if self.result is not None and self.result.covers(ts):
            return self.result
        return self.pins.get(ts)


Key = tuple[str, bytes, bool, bytes | None]
"""Path, canonical arguments, whether internal functions are allowed, and, where executions look at it, the identity."""


class LiveQueries:
    """All live queries of a server; everything runs on the loop."""

    def __init__(self, executor: Executor, counters: Counters) -> None:
        self._executor = executor
        self._counters = counters
        self._live: dict[Key, LiveQuery] = {}
        self._split: set[str] = set()  # paths of functions that were seen looking at the identity
        self._index: Subscriptions[LiveQuery] = Subscriptions()
        self._volatile: dict[LiveQuery, None] = {}
        self.published = executor.store.last_ts
        self._recent = RecentCommits(self.published)  # since the oldest computation under way began
        self._under_way: dict[int, int] = {}  # computation number -> `published` when it began
        self._computations = 0
        self._early: list[Callable[[], None]] = []  # results from snapshots not published yet

    # Registration.

    def subscribe(self, call: Call, subscriber: Subscriber) -> LiveQuery:
        """The live query for a call with canonical arguments, with one more subscriber."""
        key = self._key(call)
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = LiveQuery(key, call)
            self._counters.live_queries = len(self._live)
        live.subscribers[subscriber] = live.subscribers.get(subscriber, 0) + 1
        return live

    def unsubscribe(self, live: LiveQuery, subscriber: Subscriber) -> None:
        """One subscription less; the last one forgets the query."""
        count = live.subscribers[subscriber] - 1
        if count:
            live.subscribers[subscriber] = count
            return
        del live.subscribers[subscriber]
        if not live.subscribers:
            del self._live[live.key]
            self._forget_reads(live)
            self._counters.live_queries = len(self._live)

    def is_current(self, live: LiveQuery, call: Call) -> bool:
        """Whether `call` still belongs to this live query: no more once an execution has looked at the identity."""
        return live.key == self._key(call)

    def _key(self, call: Call) -> Key:
        if call.path not in self._split:
            return (call.path, call.args, call.admin, None)
        return (call.path, call.args, call.admin, identity_key(call.identity))

    # Publication.

    def publish(self, records: list[CommitRecord]) -> None:
        """Take in a group of commits: end the results they touch, move `published`, compute what is wanted."""
        assert records[0].ts > self.published, "commits are published in order"
        wanted = []
        for record in records:
            keys = list(record.touched())
            touched: dict[LiveQuery, None] = {}
            for index_id, key in keys:
                touched |= self._index.touched(index_id, key)
            touched |= self._volatile
            wanted += [live for live in touched if self._invalidate(live, record.ts)]
            if self._under_way:
                self._recent.add(record.ts, keys)
        self.published = records[-1].ts
        early, self._early = self._early, []
        for finish in early:
            finish()
        for live in wanted:
            self.compute(live)

    def _invalidate(self, live: LiveQuery, ts: int) -> bool:
        """A commit ends its result; True when a subscriber could send a new one now."""
        assert live.result is not None
        assert live.result.until is None
        live.result.until = ts
        self._forget_reads(live)
        # Every subscriber must hear of it, so this is no `any(...)` over a generator.
        return any([subscriber.invalidated(live) for subscriber in live.subscribers])  # noqa: C419

    def _forget_reads(self, live: LiveQuery) -> None:
        self._index.remove(live)
        self._volatile.pop(live, None)

    # Computation.

    def compute(self, live: LiveQuery) -> None:
        """Compute the newest state, unless that is under way or done."""
        if live.computing or live.covers(self.published):
            return
        live.computing = True
        self._start(live, None)

    def pin(self, live: LiveQuery, ts: int) -> None:
        """Compute the state at an older `ts`."""
        if ts in live.pins:
            return
        # One under way is wanted by somebody: to forget it would make them ask again, and those after them, for ever.
        ended = [known for known, pin in live.pins.items() if pin is not None]
        for known in ended[: max(0, len(live.pins) + 1 - max(PINS_KEPT_MAX, len(live.subscribers)))]:
            del live.pins[known]
        live.pins[ts] = None
        self._start(live, ts)

    def _start(self, live: LiveQuery, at: int | None) -> None:
        self._computations += 1
        number = self._computations
        if not self._under_way:
            self._recent.forget(self.published)
        self._under_way[number] = self.published
        self._counters.recomputations += 1
        call = replace(live.call, request_id=f"q{number:x}")

        def done(outcome: QueryOutcome) -> None:
            if outcome.ts > self.published:
                self._early.append(lambda: done(outcome))
                return
            del self._under_way[number]
            self._finish(live, at, outcome, call.request_id)
            # The first is the oldest: computations are numbered as they begin.
            self._recent.forget(next(iter(self._under_way.values()), self.published))

        self._executor.query_nowait(call, done, at=at)

    def _finish(self, live: LiveQuery, at: int | None, outcome: QueryOutcome, request_id: str) -> None:
        if outcome.read_auth:
            self._split.add(live.call.path)
        until = at + 1 if at is not None else self._overtaken(outcome)
        result = Result(outcome, until, reveal=self._executor.reveal, request_id=request_id)
        if at is not None:
            if at in live.pins:
                live.pins[at] = result
            changed = True
        else:
            changed = live.result is None or live.result.hash != result.hash
            if not changed:
                self._counters.recomputations_unchanged += 1
            live.result = result
            live.generation += 1
            live.computing = False
            live.pins = {ts: pin for ts, pin in live.pins.items() if pin is None or ts > result.since}
            if until is None and live.subscribers:
                self._watch(live, outcome)
        for subscriber in list(live.subscribers):
            # Overtaken already: nobody watches it, so whoever wants it must ask again.
            subscriber.computed(live, changed or until is not None)

    def _watch(self, live: LiveQuery, outcome: QueryOutcome) -> None:
        self._index.add(live, outcome.reads.ranges())
        if outcome.volatile:
            self._volatile[live] = None

    def _overtaken(self, outcome: QueryOutcome) -> int | None:
        """Where the outcome's interval ends: at the first commit after its snapshot that touches what it read, if any."""
        if outcome.ts < self._recent.since or (outcome.volatile and outcome.ts < self.published):
            return outcome.ts + 1
        return self._recent.first_touching(outcome.reads, outcome.ts)
