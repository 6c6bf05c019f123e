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

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.functions.run.call import Call, QueryOutcome
from tinyvex.functions.run.identity_keys import identity_key
from tinyvex.functions.transaction.range_cache import CachedRanges, RangeCache
from tinyvex.sync.diff import Difference, diff
from tinyvex.sync.live_query import Key, LiveQuery, Pin, Subscriber
from tinyvex.sync.read_set_index import ReadSetIndex
from tinyvex.sync.recent_writes import RecentWrites
from tinyvex.sync.result_cache import ResultCache
from tinyvex.sync.results import Result, Version

if TYPE_CHECKING:
    from tinyvex.functions.run.executor import Executor
    from tinyvex.functions.transaction.range_cache import CachedRanges
    from tinyvex.storage.log.document_log import CommitRecord
    from tinyvex.sync.counters import Counters

__all__ = ["LiveQueries"]

NOT_FOUND_MAX = 64
"""Hashes offered in `resume` that a live query remembers to have looked for in vain."""


class LiveQueries:
    """All live queries of a server; everything runs on the loop."""

    def __init__(self, executor: Executor, counters: Counters) -> None:
        self.executor = executor
        self.counters = counters
        self._live: dict[Key, LiveQuery] = {}
        self._split: set[str] = set()  # paths of functions that were seen looking at the identity
        self._index: ReadSetIndex[LiveQuery] = ReadSetIndex()
        self._volatile: dict[LiveQuery, None] = {}
        self.published = executor.store.last_ts
        self._recent = RecentWrites(self.published)  # since the oldest computation under way began
        self._under_way: dict[int, int] = {}  # computation number -> `published` when it began
        self._computations = 0
        self._early: list[Callable[[], None]] = []  # results from snapshots not published yet
        self._memory = ResultCache(counters)

    # Registration.

    def subscribe(self, call: Call, subscriber: Subscriber) -> LiveQuery:
        """The live query for a call with canonical arguments, with one more subscriber."""
        key = self._key(call)
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = LiveQuery(key, call)
            self.counters.live_queries = len(self._live)
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
            self.counters.live_queries = len(self._live)

    def watched(self) -> Collection[LiveQuery]:
        """All live queries, the oldest first."""
        return self._live.values()

    def is_shared(self, live: LiveQuery) -> bool:
        """Whether all identities share it, as far as is known; the quick half of `is_current`."""
        return live.key[-1] is None and live.call.path not in self._split

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
            for index_id, key in keys:
                # Each leaves the index with its first hit, so that it is found once for all keys.
                touched = self._index.touched(index_id, key)
                wanted += [live for live in touched if self._invalidate(live, record.ts)]
            wanted += [live for live in list(self._volatile) if self._invalidate(live, record.ts)]
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
        began = self.executor.runtime.monotonic()
        keeper = RangeCache(self._still_right(live))
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
            live.seconds = self.executor.runtime.monotonic() - began
            if patches and base is not None and live.result is not None:
                self._count(patches[0])
                live.result.set_patch(base, patches[0].patch)
            # Others' identities may have other results: they must look, though this one has not changed.
            splits = outcome.read_auth and live.key[-1] is None
            is_new = base is None or live.result is None or live.result.hash != base.hash
            self._tell(live, changed=is_new or splits)

        self._start(live, None, keeper, prepare, finish)

    def _still_right(self, live: LiveQuery) -> CachedRanges | None:
        """What was kept, with the `ts` up to which no commit has touched it."""
        if live.kept is None or live.result is None:
            return None
        until = live.result.until
        return replace(live.kept, ts=max(live.kept.ts, self.published if until is None else until - 1))

    def pin(self, live: LiveQuery, ts: int, subscriber: Subscriber) -> None:
        """Compute the state at an older `ts`, and keep it until each who asked has said `unpin`."""
        pin = live.pins.get(ts)
        if pin is not None:
            pin.waiting[subscriber] = pin.waiting.get(subscriber, 0) + 1
            return
        pin = live.pins[ts] = Pin()
        pin.waiting[subscriber] = 1

        def finish(outcome: QueryOutcome, request_id: str) -> None:
            # A version of its own: what others hold may be forgotten before this was told.
            pin.result = self._result(outcome, ts + 1, Version(outcome.hash, outcome.body), request_id)
            if not pin.waiting:
                del live.pins[ts]
            self._weigh(live)
            self._tell(live, changed=True)

        self._start(live, ts, RangeCache(None), _hash, finish)

    def unpin(self, live: LiveQuery, ts: int, subscriber: Subscriber) -> None:
        """One query that waited for the state at `ts` was told it, or waits no more."""
        pin = live.pins[ts]
        pin.waiting[subscriber] -= 1
        if not pin.waiting[subscriber]:
            del pin.waiting[subscriber]
        if not pin.waiting and pin.result is not None:
            del live.pins[ts]

    def find_again(self, live: LiveQuery, held: str, ts: int, subscriber: Subscriber) -> bool:
        """
        Compute again what clients say they hold of an older `ts`, once for all of them, to send a patch from it.

        Args:
            live: the query.
            held: the hash offered.
            ts: when it is said to have been right.
            subscriber: is told when the search has ended, found or not.

        Returns:
            Whether it is looked for; not, where enough others are.
        """
        if held in live.finding:
            live.finding[held][subscriber] = None
            return True
        if len(live.finding) >= limits.FINDING_MAX:
            return False
        live.finding[held] = {subscriber: None}
        self.counters.results_found_again += 1
        newest = live.result
        patches: list[Difference] = []

        def prepare(outcome: QueryOutcome) -> None:
            body = None if newest is None else newest.version.body
            if outcome.body is not None and outcome.hash == held and body is not None:
                patches.append(diff(outcome.body, body))

        def finish(outcome: QueryOutcome, _: str) -> None:
            waiting = live.finding.pop(held)
            if outcome.body is None or outcome.hash != held:
                live.not_found[held] = None
                for known in list(live.not_found)[:-NOT_FOUND_MAX]:
                    del live.not_found[known]
            elif live.subscribers:
                version = live.versions.setdefault(held, Version(held, outcome.body))
                if patches and newest is not None:
                    self._count(patches[0])
                    newest.set_patch(version, patches[0].patch)
                self._weigh(live)
            for told in waiting:
                if told in live.subscribers:
                    told.computed(live, True)

        self._start(live, ts, RangeCache(None), prepare, finish)
        return True

    def _count(self, difference: Difference) -> None:
        self.counters.diffs += 1
        self.counters.rows_decoded += difference.rows_decoded

    def _start(
        self,
        live: LiveQuery,
        at: int | None,
        keeper: RangeCache,
        then: Callable[[QueryOutcome], None],
        finish: Callable[[QueryOutcome, str], None],
    ) -> None:
        self._computations += 1
        number = self._computations
        if not self._under_way:
            self._recent.forget(self.published)
        self._under_way[number] = self.published
        self.counters.recomputations += 1
        call = replace(live.call, request_id=f"q{number:x}")

        def done(outcome: QueryOutcome) -> None:
            if at is None and outcome.ts > self.published:  # an `at` that clients name may lie in the future
                self._early.append(lambda: done(outcome))
                return
            del self._under_way[number]
            self.counters.rows_read += outcome.rows_read
            self.counters.rows_applied += outcome.rows_applied
            if outcome.read_auth:
                self._split.add(live.call.path)
            finish(outcome, call.request_id)
            # The first is the oldest: computations are numbered as they begin.
            self._recent.forget(next(iter(self._under_way.values()), self.published))

        self.executor.query_nowait(call, done, at=at, range_cache=keeper, then=then)

    def _finish(self, live: LiveQuery, outcome: QueryOutcome, request_id: str) -> None:
        """The newest state was computed."""
        before = live.result
        version = live.versions.get(outcome.hash) or Version(outcome.hash, None)
        version.body = outcome.body
        live.result = result = self._result(outcome, self._overtaken(outcome), version, request_id)
        if before is not None and before.hash == result.hash:
            self.counters.recomputations_unchanged += 1
            live.unchanged += 1
        live.generation += 1
        live.computing = False
        live.kept = outcome.cached_ranges
        live.versions.setdefault(result.hash, result.version)
        live.forget_unheld()
        self._weigh(live)
        # Registered still, where its body was given up while it was right.
        self._forget_reads(live)
        if live.subscribers and result.until is None:
            self._watch(live, outcome)

    def _weigh(self, live: LiveQuery) -> None:
        if live.subscribers:
            self._memory.weigh(live)

    def _result(self, outcome: QueryOutcome, until: int | None, version: Version, request_id: str) -> Result:
        return Result(outcome, until, version, reveal=self.executor.reveal, request_id=request_id)

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
    _ = outcome.hash
