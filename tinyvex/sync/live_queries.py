"""
Live queries: shared by all connections, invalidated by overlapping writes, computed once.

A live query is one function with one set of arguments, and one identity if an execution has read it. Every execution
runs under the identity of a real subscriber. While no execution has read `ctx.auth`, its result serves every identity;
from the first one that does, the function is *split*, and each identity has a live query of its own.

A result is right in a validity interval. To find its end, every commit has to be compared with the ranges that the
execution read. No commit can slip in between, because only `publish` moves `published`, and all of this runs on the loop:

1.  A computation learns the `ts` of its snapshot inside its own read transaction.
2.  The result waits here until `published` has reached that `ts`: a reader may see a commit before the loop hears of it.
3.  The commits that were published after `ts` are compared with the read set (`RecentWrites`).
    The first one that touches it ends the interval.
4.  If none does, the interval stays open, and the read set enters the index (`ReadSetIndex`).
    Later, `publish` ends the interval at the first commit that touches it.

A commit computes each live query that it touches once, and only if a subscriber can send the result now. If none can,
the query is computed when one asks. If it touches thousands, their computations start in several iterations of the loop.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tinyvex import limits
from tinyvex.functions.run.call import Call, QueryOutcome
from tinyvex.functions.run.identity_keys import identity_key
from tinyvex.sync.computation import Computation, Recomputation, Reconstruction, SnapshotComputation
from tinyvex.sync.diff import is_comparable
from tinyvex.sync.live_query import LiveQuery, LiveQueryKey, SnapshotResult, Subscriber
from tinyvex.sync.read_set_index import ReadSetIndex
from tinyvex.sync.recent_writes import RecentWrites
from tinyvex.sync.result_cache import ResultCache
from tinyvex.sync.results import Result, Version

if TYPE_CHECKING:
    from tinyvex.functions.run.executor import Executor
    from tinyvex.functions.transaction.range_cache import CachedRanges
    from tinyvex.storage.engine.readers import Job
    from tinyvex.storage.log.commit_record import CommitRecord
    from tinyvex.sync.counters import Counters
    from tinyvex.sync.diff import Difference

__all__ = ["LiveQueries"]

MISMATCHED_HASHES_MAX = 64
"""Offered hashes that a live query remembers because their reconstruction gave another result."""


class LiveQueries:
    """All live queries of a server; everything runs on the loop."""

    def __init__(self, executor: Executor, counters: Counters) -> None:
        self.executor = executor
        self.counters = counters
        self._live: dict[LiveQueryKey, LiveQuery] = {}
        self._split_paths: set[str] = set()  # functions that were seen reading the identity
        self._index: ReadSetIndex[LiveQuery] = ReadSetIndex()
        self._volatile: dict[LiveQuery, None] = {}
        self._wanted: dict[LiveQuery, None] = {}  # to be computed, because a commit touched them; in order
        self.published = executor.store.last_ts
        self._recent = RecentWrites(self.published)  # since the oldest running computation started
        self._running: dict[int, int] = {}  # the number of a computation -> `published` when it started
        self._computations = 0
        self._early: list[tuple[Computation, QueryOutcome]] = []  # from snapshots that are not published yet
        self._cache = ResultCache(counters)
        self._relieving = False  # whether `_relieve` is scheduled

    # Registration.

    def subscribe(self, call: Call, subscriber: Subscriber) -> LiveQuery:
        """Add a subscription to the live query for a call with canonical arguments."""
        key = self._key(call)
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = LiveQuery(key, call)
            self.counters.live_queries = len(self._live)
        elif live.read is not None:  # it may wait behind the other queries of the client that subscribed first
            self.executor.store.hasten(live.read, subscriber.session_id)
        live.subscribers[subscriber] = live.subscribers.get(subscriber, 0) + 1
        return live

    def unsubscribe(self, live: LiveQuery, subscriber: Subscriber) -> None:
        """Remove a subscription; the last one discards the live query."""
        count = live.subscribers[subscriber] - 1
        if count:
            live.subscribers[subscriber] = count
            return
        del live.subscribers[subscriber]
        if not live.subscribers:
            del self._live[live.key]
            self._wanted.pop(live, None)
            self._unwatch(live)
            self._cache.discard(live)
            self.counters.live_queries = len(self._live)

    def watched(self) -> Collection[LiveQuery]:
        """Return all live queries, the oldest first."""
        return self._live.values()

    def is_shared(self, live: LiveQuery) -> bool:
        """Return whether all identities share it, as far as is known; the cheap half of `is_current`."""
        return live.key.identity is None and live.call.path not in self._split_paths

    @property
    def splits(self) -> int:
        """The number of functions that were split."""
        return len(self._split_paths)

    def is_current(self, live: LiveQuery, call: Call) -> bool:
        """Return whether `call` still belongs to this live query; no longer, if the function was split meanwhile."""
        return live.key == self._key(call)

    def _key(self, call: Call) -> LiveQueryKey:
        identity = identity_key(call.identity) if call.path in self._split_paths else None
        return LiveQueryKey(call.path, call.args, call.admin, identity)

    # Publication.

    def publish(self, records: list[CommitRecord]) -> None:
        """Handle a group of commits: end the results that they touch, move `published`, and start computations."""
        assert records[0].ts > self.published, "commits are published in order"
        wanted = []
        for record in records:
            keys = list(record.touched())
            for index_id, key in keys:
                # A live query leaves the index with its first hit, so all keys of a group find it once.
                touched = self._index.touched(index_id, key)
                if touched:
                    wanted += [live for live in touched if self._invalidate(live, record.ts)]
            wanted += [live for live in list(self._volatile) if self._invalidate(live, record.ts)]
            if self._running:
                self._recent.add(record.ts, keys)
        self.published = records[-1].ts
        early, self._early = self._early, []
        for computation, outcome in early:
            self._done(computation, outcome)
        is_starting = bool(self._wanted)
        self._wanted.update(dict.fromkeys(wanted))
        if self._wanted and not is_starting:
            self._start_wanted()

    def _start_wanted(self) -> None:
        """Start computations; if some are left, the next iteration of the loop continues."""
        next_ones = list(islice(self._wanted, limits.PLAN_QUERIES_MAX))
        for live in next_ones:
            del self._wanted[live]
        if self._wanted:
            self.executor.runtime.loop.call_soon(self._start_wanted)
        for live in next_ones:
            self.compute(live)

    def _invalidate(self, live: LiveQuery, ts: int) -> bool:
        """End its result at a commit; return whether a subscriber could send a new one now."""
        assert live.result is not None
        assert live.result.until is None
        live.result.until = ts
        self._unwatch(live)
        # A list, not a generator: every subscriber must be called.
        return any([subscriber.invalidated(live) for subscriber in live.subscribers])  # noqa: C419

    def _watch(self, live: LiveQuery, outcome: QueryOutcome) -> None:
        self._index.add(live, outcome.reads.ranges())
        if outcome.volatile:
            self._volatile[live] = None

    def _unwatch(self, live: LiveQuery) -> None:
        self._index.remove(live)
        self._volatile.pop(live, None)

    # Starting computations.

    def compute(self, live: LiveQuery) -> None:
        """Compute the newest state, unless that is running or done."""
        if live.computing or live.covers(self.published):
            return
        live.computing = True
        read = self._start(Recomputation(live, self._current_ranges(live), self.executor.runtime.awake_seconds()))
        if live.computing:
            live.read = read

    def _current_ranges(self, live: LiveQuery) -> CachedRanges | None:
        """Return its cached ranges with the `ts` up to which no commit has touched them."""
        if live.cached_ranges is None or live.result is None:
            return None
        until = live.result.until
        ts = self.published if until is None else until - 1
        return replace(live.cached_ranges, ts=max(live.cached_ranges.ts, ts))

    def compute_at(self, live: LiveQuery, ts: int, subscriber: Subscriber) -> None:
        """Compute the state as of an older `ts`; retained until each call is matched by one of `release_snapshot`."""
        snapshot = live.snapshots.get(ts)
        if snapshot is not None:
            snapshot.waiting[subscriber] = snapshot.waiting.get(subscriber, 0) + 1
            return
        live.snapshots[ts] = snapshot = SnapshotResult()
        snapshot.waiting[subscriber] = 1
        self._start(SnapshotComputation(live, ts))

    def release_snapshot(self, live: LiveQuery, ts: int, subscriber: Subscriber) -> None:
        """Record that one query no longer waits for the state as of `ts`."""
        snapshot = live.snapshots[ts]
        snapshot.waiting[subscriber] -= 1
        if not snapshot.waiting[subscriber]:
            del snapshot.waiting[subscriber]
        if not snapshot.waiting and snapshot.result is not None:
            del live.snapshots[ts]

    def reconstruct(self, live: LiveQuery, client_hash: str, ts: int, subscriber: Subscriber) -> bool:
        """
        Compute the older result that clients offered in `resume`, once for all of them, to send a patch from it.

        Args:
            live: the query.
            client_hash: the hash offered.
            ts: a time at which it was right, according to the client.
            subscriber: called when the reconstruction has finished, whatever its result.

        Returns:
            Whether the result is being reconstructed. False if too many others are; if the newest result, which waits
            for it, is too long to be compared; or if the results that wait exceed the cache already.
        """
        if client_hash in live.reconstructions:
            live.reconstructions[client_hash][subscriber] = None
            return True
        newest = None if live.result is None else live.result.version.body
        if (
            len(live.reconstructions) >= limits.RECONSTRUCTIONS_MAX
            or self._cache.is_full
            or not (newest is None or is_comparable(newest))
        ):
            return False
        live.reconstructions[client_hash] = {subscriber: None}
        self.counters.results_reconstructed += 1
        self._start(Reconstruction(live, client_hash, ts))
        return True

    def _start(self, computation: Computation) -> Job | None:
        self._computations += 1
        number = computation.number = self._computations
        computation.request_id = f"q{number:x}"
        if not self._running:
            self._recent.discard(self.published)
        self._running[number] = self.published
        self.counters.recomputations += 1
        return self.executor.query_nowait(
            replace(computation.live.call, request_id=computation.request_id, client=self._payer(computation.live)),
            partial(self._done, computation),
            at=computation.at,
            range_cache=computation.range_cache,
            then=computation.prepare,
            wanted=computation.is_wanted,
        )

    def _payer(self, live: LiveQuery) -> str:
        """
        Return the subscriber that a computation is charged to: the one whose turn comes first.

        A client therefore waits no longer for a query because a busier client subscribes to it too. Only the first
        LIVE_QUERY_PAYERS_MAX subscribers are examined.
        """
        clients = [subscriber.session_id for subscriber in islice(live.subscribers, limits.LIVE_QUERY_PAYERS_MAX)]
        if len(clients) == 1:
            return clients[0]
        return self.executor.store.next_reader(clients) if clients else live.call.client

    # Finishing computations.

    def _done(self, computation: Computation, outcome: QueryOutcome) -> None:
        if computation.at is None and outcome.ts > self.published:  # not if `at` is set: a client may name a future one
            self._early.append((computation, outcome))
            return
        del self._running[computation.number]
        self.counters.rows_read += outcome.rows_read
        self.counters.rows_applied += outcome.rows_applied
        if outcome.read_auth:
            self._split_paths.add(computation.live.call.path)
        match computation:
            case Recomputation():
                self._recomputed(computation, outcome)
            case Reconstruction():
                self._reconstructed(computation, outcome)
            case SnapshotComputation():
                self._computed_at(computation, outcome)
        # The first one is the oldest: computations are numbered in the order in which they start.
        self._recent.discard(next(iter(self._running.values()), self.published))
        if self._cache.must_relieve() and not self._relieving:
            self._relieving = True
            self.executor.runtime.loop.call_soon(self._relieve)  # after the turns of the subscribers, which may send it

    def _relieve(self) -> None:
        self._relieving = False
        self._cache.relieve()

    def _recomputed(self, computation: Recomputation, outcome: QueryOutcome) -> None:
        live, base = computation.live, computation.base
        result = self._replace_result(live, outcome, computation.request_id)
        live.seconds = self.executor.runtime.awake_seconds() - computation.started_at
        if computation.difference is not None and base is not None:
            self._count(computation.difference)
            result.set_patch(base, computation.difference.patch)
        # The results of other identities may differ although this one has not changed.
        has_split = outcome.read_auth and live.key.identity is None
        self._notify(live, changed=base is None or result.hash != base.hash or has_split)

    def _replace_result(self, live: LiveQuery, outcome: QueryOutcome, request_id: str) -> Result:
        before = live.result
        version = live.versions.get(outcome.hash) or Version(outcome.hash, None)
        version.body = outcome.body
        live.result = result = Result.of(outcome, self._end_of_interval(outcome), version, request_id)
        if before is not None and before.hash == result.hash:
            self.counters.recomputations_unchanged += 1
            live.unchanged += 1
        live.generation += 1
        live.computing = False
        live.read = None
        live.cached_ranges = outcome.cached_ranges
        live.versions.setdefault(result.hash, version)
        live.discard_old_versions()
        self._weigh(live)
        self._unwatch(live)  # still registered if the body was evicted while the result was right
        if live.subscribers and result.until is None:
            self._watch(live, outcome)
        return result

    def _end_of_interval(self, outcome: QueryOutcome) -> int | None:
        """Return the first commit after the snapshot that touches the read set; None if there is none."""
        if outcome.ts < self._recent.since or (outcome.volatile and outcome.ts < self.published):
            return outcome.ts + 1
        return self._recent.first_touching(outcome.reads, outcome.ts)

    def _computed_at(self, computation: SnapshotComputation, outcome: QueryOutcome) -> None:
        live, ts = computation.live, computation.at
        assert ts is not None
        snapshot = live.snapshots[ts]
        # A version of its own: the body of a version that clients hold may be evicted before this one is sent.
        snapshot.result = Result.of(outcome, ts + 1, Version(outcome.hash, outcome.body), computation.request_id)
        if not snapshot.waiting:
            del live.snapshots[ts]
        self._weigh(live)
        self._notify(live, changed=True)

    def _reconstructed(self, computation: Reconstruction, outcome: QueryOutcome) -> None:
        live, client_hash = computation.live, computation.client_hash
        waiting = live.reconstructions.pop(client_hash)
        if outcome.body is None or outcome.hash != client_hash:
            live.mismatched_hashes[client_hash] = None
            for oldest in list(live.mismatched_hashes)[:-MISMATCHED_HASHES_MAX]:
                del live.mismatched_hashes[oldest]
        elif live.subscribers:
            version = live.versions.setdefault(client_hash, Version(client_hash, outcome.body))
            if computation.difference is not None and computation.newest is not None:
                self._count(computation.difference)
                computation.newest.set_patch(version, computation.difference.patch)
            self._weigh(live)
        for subscriber in waiting:
            if subscriber in live.subscribers:
                subscriber.computed(live, True)

    def _count(self, difference: Difference) -> None:
        self.counters.diffs += 1
        self.counters.rows_decoded += difference.rows_decoded

    def _weigh(self, live: LiveQuery) -> None:
        if live.subscribers:
            self._cache.update(live)

    def _notify(self, live: LiveQuery, *, changed: bool) -> None:
        # A result that was overtaken already is not in the index: subscribers must ask again.
        overtaken = live.result is not None and live.result.until is not None
        for subscriber in list(live.subscribers):
            subscriber.computed(live, changed or overtaken)
