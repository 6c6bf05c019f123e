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
from tinyvex.functions.kept import Keeper, KeptRanges
from tinyvex.sync.diff import Difference, diff
from tinyvex.sync.memory import KeptMemory
from tinyvex.sync.recent import RecentCommits
from tinyvex.sync.results import Result, Version
from tinyvex.sync.subscriptions import Subscriptions

if TYPE_CHECKING:
    from tinyvex.functions.executor import Executor
    from tinyvex.functions.kept import KeptRanges
    from tinyvex.storage.log import CommitRecord
    from tinyvex.sync.counters import Counters

__all__ = ["LiveQueries", "LiveQuery", "Subscriber"]

PINS_KEPT_MAX = 8
"""Results at older snapshots a live query keeps for connections that are about to use them."""
VERSIONS_KEPT_MAX = 32
"""Versions a live query keeps for clients that are behind; those further behind are sent the whole value."""
FOUND_AGAIN_MAX = 64
"""Snapshots looked at for `resume` that a live query remembers, so that one look serves all who ask for it."""


class Subscriber(Protocol):
    """What a live query tells."""

    def invalidated(self, live: LiveQuery) -> bool:
        """A commit touched it; True when the subscriber could send a new result now."""
        ...

    def computed(self, live: LiveQuery, changed: bool) -> None:
        """A computation ended."""


class LiveQuery:
    """
    One query that somebody watches.

    Attributes:
        call: what every computation runs, under the identity of the first who asked.
        result: the newest; None until the first computation has ended.
        kept: the ranges behind it, for the next computation; None where the memory was needed.
        versions: the newest, those that subscribers hold, and those found again for `resume`; by hash.
        generation: how many computations of the newest state have ended.
        computing: whether one is under way; there is at most one.
        pins: results at older snapshots by `ts`; None while being computed.
        found_again: snapshots that were looked at for `resume`; False while that is under way.
    """

    __slots__ = (
        "call", "computing", "found_again", "generation", "kept", "key", "pins", "result", "subscribers", "versions",
    )  # fmt: skip

    def __init__(self, key: Key, call: Call) -> None:
        self.key = key
        self.call = call
        self.result: Result | None = None
        self.kept: KeptRanges | None = None
        self.versions: dict[str, Version] = {}
        self.generation = 0
        self.computing = False
        self.pins: dict[int, Result | None] = {}
        self.found_again: dict[int, bool] = {}
        self.subscribers: dict[Subscriber, int] = {}

    def covers(self, ts: int, held: str | None = None) -> bool:
        """Whether the newest result is the answer at `ts`, and can be told to a client that holds `held`."""
        return self.result is not None and self.result.covers(ts) and self.result.is_tellable(held)

    def at(self, ts: int, held: str | None = None) -> Result | None:
        """The result at `ts`, when it is known and can be told to a client that holds `held`."""
        if self.covers(ts, held):
            return self.result
        return self.pins.get(ts)

    @property
    def hash(self) -> str | None:
        """Of the newest result."""
        return None if self.result is None else self.result.hash

    def hold(self, version: Version) -> Version:
        """A subscription was told this version, or its like; returns the one that it holds."""
        held = self.versions.setdefault(version.hash, version)
        held.body = held.body or version.body
        held.holders += 1
        return held

    def release(self, version: Version) -> None:
        """A subscription holds it no more."""
        version.holders -= 1
        if not version.holders:
            self._forget_unless_needed(version)

    def _forget_unless_needed(self, version: Version) -> None:
        if self.result is None or version is not self.result.version:
            version.body = None
            self.versions.pop(version.hash, None)

    def forget_unheld(self) -> None:
        """Forget the versions that nobody holds, but the newest; and of those held, all but the last few."""
        assert self.result is not None
        for version in list(self.versions.values()):
            if not version.holders:
                self._forget_unless_needed(version)
        for token in list(self.versions)[: max(0, len(self.versions) - VERSIONS_KEPT_MAX)]:
            if token != self.result.hash:
                self.versions.pop(token).body = None


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
        self._memory = KeptMemory(counters)

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
            self._memory.forget(live)
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
        keeper = Keeper(self._still_right(live))
        base = live.result.version if live.result is not None else None
        patches: list[Difference] = []

        def prepare(outcome: QueryOutcome) -> None:
            # On the reader's thread: the hash, and the patch for those who hold what was the newest until now.
            if outcome.body is not None and outcome.hash and base is not None and base.holders:
                body = base.body
                if body is not None and base.hash != outcome.hash:
                    patches.append(diff(body, outcome.body))

        def finish(outcome: QueryOutcome, request_id: str) -> None:
            self._finish(live, outcome, request_id)
            if patches and base is not None and live.result is not None:
                self._count(patches[0])
                live.result.set_patch(base, patches[0].patch)
            self._tell(live, changed=base is None or live.result is None or live.result.hash != base.hash)

        self._start(live, None, keeper, prepare, finish)

    def _still_right(self, live: LiveQuery) -> KeptRanges | None:
        """What was kept, with the `ts` up to which no commit has touched it."""
        if live.kept is None or live.result is None:
            return None
        until = live.result.until
        return replace(live.kept, ts=max(live.kept.ts, self.published if until is None else until - 1))

    def pin(self, live: LiveQuery, ts: int) -> None:
        """Compute the state at an older `ts`."""
        if ts in live.pins:
            return
        # One under way is wanted by somebody: to forget it would make them ask again, and those after them, for ever.
        ended = [known for known, pin in live.pins.items() if pin is not None]
        for known in ended[: max(0, len(live.pins) + 1 - max(PINS_KEPT_MAX, len(live.subscribers)))]:
            del live.pins[known]
        live.pins[ts] = None

        def finish(outcome: QueryOutcome, request_id: str) -> None:
            if ts in live.pins:
                # A version of its own: what others hold may be forgotten before this was told.
                live.pins[ts] = self._result(outcome, ts + 1, Version(outcome.hash, outcome.body), request_id)
            self._tell(live, changed=True)

        self._start(live, ts, Keeper(None), _hash, finish)

    def find_again(self, live: LiveQuery, ts: int) -> None:
        """Compute what clients say they hold of an older `ts`, once for all of them, to send patches from it."""
        if ts in live.found_again:
            return
        ended = [known for known, done in live.found_again.items() if done]
        for known in ended[: max(0, len(live.found_again) + 1 - FOUND_AGAIN_MAX)]:
            del live.found_again[known]
        live.found_again[ts] = False
        self._counters.results_found_again += 1
        newest = live.result
        patches: list[Difference] = []

        def prepare(outcome: QueryOutcome) -> None:
            body = None if newest is None else newest.version.body
            if outcome.body is not None and outcome.hash and body is not None:
                patches.append(diff(outcome.body, body))

        def finish(outcome: QueryOutcome, _: str) -> None:
            live.found_again[ts] = True
            if outcome.body is not None and live.subscribers:
                version = live.versions.setdefault(outcome.hash, Version(outcome.hash, outcome.body))
                if patches and newest is not None:
                    self._count(patches[0])
                    newest.set_patch(version, patches[0].patch)
            self._tell(live, changed=True)

        self._start(live, ts, Keeper(None), prepare, finish)

    def _count(self, difference: Difference) -> None:
        self._counters.diffs += 1
        self._counters.rows_decoded += difference.rows_decoded

    def _start(
        self,
        live: LiveQuery,
        at: int | None,
        keeper: Keeper,
        then: Callable[[QueryOutcome], None],
        finish: Callable[[QueryOutcome, str], None],
    ) -> None:
        self._computations += 1
        number = self._computations
        if not self._under_way:
            self._recent.forget(self.published)
        self._under_way[number] = self.published
        self._counters.recomputations += 1
        call = replace(live.call, request_id=f"q{number:x}")

        def done(outcome: QueryOutcome) -> None:
            if at is None and outcome.ts > self.published:  # an `at` that clients name may lie in the future
                self._early.append(lambda: done(outcome))
                return
            del self._under_way[number]
            self._counters.rows_read += outcome.rows_read
            self._counters.rows_applied += outcome.rows_applied
            if outcome.read_auth:
                self._split.add(live.call.path)
            finish(outcome, call.request_id)
            # The first is the oldest: computations are numbered as they begin.
            self._recent.forget(next(iter(self._under_way.values()), self.published))

        self._executor.query_nowait(call, done, at=at, keeper=keeper, then=then)

    def _finish(self, live: LiveQuery, outcome: QueryOutcome, request_id: str) -> None:
        """The newest state was computed."""
        before = live.result
        version = live.versions.get(outcome.hash) or Version(outcome.hash, None)
        version.body = outcome.body
        live.result = result = self._result(outcome, self._overtaken(outcome), version, request_id)
        if before is not None and before.hash == result.hash:
            self._counters.recomputations_unchanged += 1
        live.generation += 1
        live.computing = False
        live.pins = {ts: pin for ts, pin in live.pins.items() if pin is None or ts > result.since}
        live.kept = outcome.kept
        live.versions.setdefault(result.hash, result.version)
        live.forget_unheld()
        if live.subscribers:
            self._memory.weigh(live)
            if result.until is None:
                self._watch(live, outcome)

    def _result(self, outcome: QueryOutcome, until: int | None, version: Version, request_id: str) -> Result:
        return Result(outcome, until, version, reveal=self._executor.reveal, request_id=request_id)

    def _tell(self, live: LiveQuery, *, changed: bool) -> None:
        # Overtaken already: nobody watches it, so whoever wants it must ask again.
        overtaken = live.result is not None and live.result.until is not None
        for subscriber in list(live.subscribers):
            subscriber.computed(live, changed or overtaken)

    def _watch(self, live: LiveQuery, outcome: QueryOutcome) -> None:
        self._index.add(live, outcome.reads.ranges())
        if outcome.volatile:
            self._volatile[live] = None

    def _overtaken(self, outcome: QueryOutcome) -> int | None:
        """Where the outcome's interval ends: at the first commit after its snapshot that touches what it read, if any."""
        if outcome.ts < self._recent.since or (outcome.volatile and outcome.ts < self.published):
            return outcome.ts + 1
        return self._recent.first_touching(outcome.reads, outcome.ts)


def _hash(outcome: QueryOutcome) -> None:
    """Take the hash on the reader's thread; it is kept."""
    assert outcome.hash
