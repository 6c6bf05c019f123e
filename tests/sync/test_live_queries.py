"""Live queries: shared, valid for an interval, computed once, and never visible before they are published."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tinyvex import errors, limits
from tinyvex.functions.result.result_body import Body
from tinyvex.functions.run.call import Call, QueryOutcome
from tinyvex.functions.transaction.range_cache import CachedRanges, RangeCache
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.runtime import Runtime
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import Write, WriteDocuments
from tinyvex.sync.counters import Counters
from tinyvex.sync.live_queries import MISMATCHED_HASHES_MAX, LiveQueries
from tinyvex.sync.live_query import VERSIONS_RETAINED_MAX, LiveQuery

INDEX = 7


@dataclass
class FakeStore:
    last_ts: int = 10
    busy: dict[str, float] = field(default_factory=dict)

    hastened: list[Any] = field(default_factory=list)

    def hasten(self, read: Any, client: str) -> None:
        self.hastened.append((read, client))

    def next_reader(self, clients: Iterable[str]) -> str:
        return min(clients, key=lambda client: self.busy.get(client, 0.0))


@dataclass
class FakeExecutor:
    """Collects computations until the test finishes them."""

    store: FakeStore = field(default_factory=FakeStore)
    runtime: Runtime = field(default_factory=Runtime)
    reveal: bool = False
    pending: list[tuple[Call, Callable[[QueryOutcome], None], int | None]] = field(default_factory=list)
    range_caches: list[RangeCache | None] = field(default_factory=list)

    def query_nowait(
        self,
        call: Call,
        done: Callable[[QueryOutcome], None],
        *,
        at: int | None = None,
        range_cache: RangeCache | None = None,
        then: Callable[[QueryOutcome], None],
        wanted: Callable[[], bool],
    ) -> object:
        def prepared(outcome: QueryOutcome) -> None:
            then(outcome)
            done(outcome)

        self.range_caches.append(range_cache)
        self.pending.append((call, prepared, at))
        return f"read {len(self.pending)}"

    def finish(self, ts: int, value: bytes = b"1", lo: bytes = b"a", hi: bytes = b"b", **flags: Any) -> None:
        """End the oldest computation with a snapshot at `ts` that read [lo, hi)."""
        _, done, _ = self.pending.pop(0)
        reads = ReadSet()
        reads.add(INDEX, lo, hi)
        error = flags.pop("error", None)
        done(QueryOutcome(ts, None if error else Body((value,)), error, reads, **flags))


@dataclass(eq=False)
class FakeSubscriber:
    """Records its callbacks."""

    willing: bool = True
    session_id: str = "client"
    callbacks: list[str] = field(default_factory=list)

    def invalidated(self, live: LiveQuery) -> bool:
        self.callbacks.append("invalidated")
        return self.willing

    def computed(self, live: LiveQuery, changed: bool) -> None:
        self.callbacks.append("changed" if changed else "unchanged")

    def awaits(self, live: LiveQuery) -> bool:
        return True

    def fail(self, error: errors.TinyvexError) -> None:
        self.callbacks.append(error.name)


class World:
    """Live queries over a fake executor."""

    def __init__(self) -> None:
        self.executor = FakeExecutor()
        self.counters = Counters()
        self.live = LiveQueries(self.executor, self.counters)  # type: ignore[arg-type]
        self.subscriber = FakeSubscriber()

    def watch(self, path: str = "m:f", identity: Any = None, subscriber: FakeSubscriber | None = None) -> LiveQuery:
        return self.live.subscribe(Call(path, b"{}", identity), subscriber or self.subscriber)

    def computed(self, ts: int = 10, **result: Any) -> LiveQuery:
        """A live query with a result."""
        live = self.watch()
        self.live.compute(live)
        self.executor.finish(ts, **result)
        return live

    def commit(self, ts: int, key: bytes = b"a1") -> None:
        write = Write(1, b"i", b"{}", None, (), ((INDEX, key),), ())
        self.live.publish([CommitRecord(ts, (WriteDocuments((write,)),))])


@pytest.fixture
def world() -> World:
    return World()


def test_equal_calls_share_one_live_query(world: World) -> None:
    """Two subscribers with the same function and arguments share one live query."""
    assert world.watch() is world.watch(subscriber=FakeSubscriber())
    assert world.counters.live_queries == 1


def test_the_last_unsubscribe_discards_the_query(world: World) -> None:
    """After as many unsubscribes as subscribes, no state is left."""
    live = world.computed()
    world.watch()
    world.live.unsubscribe(live, world.subscriber)
    world.live.unsubscribe(live, world.subscriber)
    assert world.counters.live_queries == 0
    world.commit(11)
    assert world.executor.pending == []


def test_a_commit_that_does_not_touch_it_leaves_a_result_open(world: World) -> None:
    """Keys outside the read set change nothing."""
    live = world.computed()
    world.commit(11, b"z")
    assert live.covers(11)
    assert world.subscriber.callbacks == ["changed"]


def test_a_commit_that_touches_it_ends_the_result_and_computes_once(world: World) -> None:
    """The old result holds up to the commit; several commits start one computation."""
    live = world.computed()
    world.commit(11)
    world.commit(12)
    assert live.covers(10)
    assert not live.covers(11)
    assert len(world.executor.pending) == 1


def test_an_unchanged_hash_is_reported_as_unchanged(world: World) -> None:
    """Subscribers learn that a recomputation returned the same value."""
    world.computed()
    world.commit(11)
    world.executor.finish(11)
    assert world.subscriber.callbacks == ["changed", "invalidated", "unchanged"]
    assert world.counters.recomputations_unchanged == 1


def test_nothing_is_computed_for_subscribers_that_cannot_send(world: World) -> None:
    """A query whose only subscriber is full is computed when the subscriber asks."""
    live = world.computed()
    world.subscriber.willing = False
    world.commit(11)
    assert world.executor.pending == []
    world.live.compute(live)
    assert len(world.executor.pending) == 1


def test_a_result_from_a_commit_that_is_not_published_yet_waits(world: World) -> None:
    """A reader may see commit 12 before the loop hears of it; its result counts from then on."""
    live = world.watch()
    world.live.compute(live)
    world.executor.finish(12)
    assert live.result is None
    world.commit(12)
    assert live.covers(12)


def test_a_commit_between_read_and_registration_is_not_missed(world: World) -> None:
    """A commit that was published while the query ran ends its interval."""
    live = world.watch()
    world.live.compute(live)
    world.commit(11, b"z")
    world.commit(12)
    world.commit(13)
    world.executor.finish(10)
    assert live.covers(11)
    assert not live.covers(12)


def test_commits_up_to_the_snapshot_do_not_count_against_it(world: World) -> None:
    """The read saw commit 12, so only later ones end its interval."""
    live = world.watch()
    world.live.compute(live)
    world.commit(12)
    world.executor.finish(12)
    assert live.covers(12)


def test_a_computation_older_than_recent_writes_counts_as_overtaken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When too many commits passed, the result holds at its own `ts` only."""
    monkeypatch.setattr("tinyvex.sync.recent_writes.KEYS_MAX", 4)
    live = world.watch()
    world.live.compute(live)
    for ts in range(11, 15):
        world.commit(ts, b"z")
    world.executor.finish(10)
    assert live.covers(10)
    assert not live.covers(11)


def test_commits_are_not_stored_without_computations(world: World) -> None:
    """Commits are stored only while computations run."""
    world.computed()
    world.commit(11, b"z")
    assert len(world.live._recent) == 0
    world.commit(12)
    assert len(world.live._recent) == 0
    world.commit(13, b"z")
    assert len(world.live._recent) > 0
    world.executor.finish(13)
    assert len(world.live._recent) == 0


def test_a_snapshot_result_holds_at_its_ts_only(world: World) -> None:
    """A computation at an older `ts` answers for that `ts` only, and leaves the newest result alone."""
    live = world.computed()
    world.live.compute_at(live, 5, world.subscriber)
    world.executor.finish(5, b'"old"')
    pinned = live.at(5)
    assert pinned is not None
    assert pinned.body().json() == b'"old"'
    assert live.at(6) is None
    assert live.covers(10)


def test_a_snapshot_result_is_retained_until_all_waiting_queries_release_it(world: World) -> None:
    """Other computations do not discard it; the last release does."""
    live, other = world.computed(), FakeSubscriber()
    for subscriber in (world.subscriber, world.subscriber, other):
        world.live.compute_at(live, 5, subscriber)
    assert len(world.executor.pending) == 1
    world.executor.finish(5, b'"old"')
    world.commit(11)
    world.executor.finish(11)
    for subscriber in (world.subscriber, other, world.subscriber):
        assert live.at(5) is not None
        world.live.release_snapshot(live, 5, subscriber)
    assert not live.snapshots


def test_a_snapshot_result_without_waiting_queries_is_discarded(world: World) -> None:
    """Its subscriber released it before the computation finished."""
    live = world.computed()
    world.live.compute_at(live, 5, world.subscriber)
    world.live.release_snapshot(live, 5, world.subscriber)
    world.executor.finish(5)
    assert not live.snapshots


def test_an_overtaken_result_wakes_even_when_its_hash_is_the_old_one(world: World) -> None:
    """It is not in the index any more, so subscribers must ask again."""
    live = world.computed()
    world.commit(11)
    world.commit(12)
    world.executor.finish(11)
    assert not live.covers(12)
    assert world.subscriber.callbacks[-1] == "changed"


def test_an_execution_that_reads_the_identity_splits_its_query(world: World) -> None:
    """Before that, identities share one; afterwards each has its own."""
    live = world.watch(identity={"name": "a"})
    other = Call("m:f", b"{}", {"name": "b"})
    assert world.live.is_current(live, other)
    world.live.compute(live)
    world.executor.finish(10, read_auth=True)
    assert not world.live.is_current(live, other)
    assert world.watch(identity={"name": "a"}) is not world.watch(identity={"name": "b"})


def test_a_failure_outside_the_database_is_retried_at_any_commit(world: World) -> None:
    """A volatile failure does not depend on keys."""
    world.computed(volatile=True, error=errors.Overloaded("full"))
    world.commit(11, b"z")
    assert len(world.executor.pending) == 1


def test_a_failure_outside_the_database_is_watched_even_without_a_read(world: World) -> None:
    """It covers the present until the next commit, which invalidates it."""
    live = world.computed(volatile=True, error=errors.Overloaded("full"))
    assert live.covers(10)
    world.commit(11, b"z")
    assert not live.covers(11)


def test_an_error_and_a_value_are_different_results(world: World) -> None:
    """From an error to a value and back is a change; the same error twice is not."""
    world.computed(error=errors.AppError("no"))
    for ts, outcome in ((11, {"error": errors.AppError("no")}), (12, {}), (13, {"error": errors.AppError("no")})):
        world.commit(ts)
        world.executor.finish(ts, **outcome)
    assert [callback for callback in world.subscriber.callbacks if callback != "invalidated"] == [
        "changed", "unchanged", "changed", "changed",
    ]  # fmt: skip


# Caches, and results of older snapshots.


def test_the_next_computation_gets_the_cached_ranges(world: World) -> None:
    """With the `ts` just before the commit that touched them."""
    live = world.computed(cached_ranges=CachedRanges(10, {}))
    world.commit(11, b"z")
    world.commit(15)
    cache = world.executor.range_caches[-1]
    assert cache is not None
    assert cache.previous == CachedRanges(14, {})
    assert live.computing


def test_a_failure_caches_no_ranges(world: World) -> None:
    """The next computation reads everything from the database."""
    world.computed(cached_ranges=CachedRanges(10, {}))
    world.commit(11)
    world.executor.finish(11, error=errors.AppError("no"))
    world.commit(12)
    assert world.executor.range_caches[-1] == RangeCache(None)


def test_a_snapshot_is_computed_without_cached_ranges(world: World) -> None:
    """They belong to another snapshot."""
    live = world.computed(cached_ranges=CachedRanges(10, {}))
    world.live.compute_at(live, 5, world.subscriber)
    assert world.executor.range_caches[-1] == RangeCache(None)


def old_hash(value: bytes) -> str:
    """The hash that a client offers for a result."""
    return Body((value,)).token


def test_an_offered_result_is_reconstructed_once(world: World) -> None:
    """For all clients that offer the same hash, with any `ts`; each of them is notified, and no other."""
    live, other, stranger = world.computed(), FakeSubscriber(), FakeSubscriber()
    world.watch(subscriber=other), world.watch(subscriber=stranger)
    assert world.live.reconstruct(live, old_hash(b'"old"'), 5, world.subscriber)
    assert world.live.reconstruct(live, old_hash(b'"old"'), 6, other)
    [(_, _, at)] = world.executor.pending
    assert at == 5
    world.executor.finish(5, b'"old"')
    assert [version.body.json() for version in live.versions.values() if version.body] == [b"1", b'"old"']
    assert (world.subscriber.callbacks[-1], other.callbacks, stranger.callbacks) == ("changed", ["changed"], [])


def test_a_mismatched_reconstruction_is_discarded(world: World) -> None:
    """A result other than the one offered is discarded, and its hash is remembered."""
    live = world.computed()
    world.live.reconstruct(live, old_hash(b'"old"'), 5, world.subscriber)
    world.executor.finish(5, b'"something else"')
    assert list(live.versions) == [live.hash]
    assert list(live.mismatched_hashes) == [old_hash(b'"old"')]
    assert not live.reconstructions


def test_few_reconstructions_run_at_the_same_time(world: World) -> None:
    """The others are refused immediately and sent the full value."""
    live = world.computed()
    futures = [world.live.reconstruct(live, str(number), number, world.subscriber) for number in range(10)]
    assert futures == [True] * limits.RECONSTRUCTIONS_MAX + [False] * (10 - limits.RECONSTRUCTIONS_MAX)


def test_nothing_is_reconstructed_for_a_result_that_is_too_long_to_be_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest result would wait for it, and be sent as the full value after all."""
    live = world.computed(value=b'"long"')
    monkeypatch.setattr(limits, "DIFF_TEXT_BYTES_MAX", 5)
    assert not world.live.reconstruct(live, "offered", 5, world.subscriber)
    monkeypatch.setattr(limits, "DIFF_TEXT_BYTES_MAX", 6)
    assert world.live.reconstruct(live, "offered", 5, world.subscriber)


def test_nothing_is_reconstructed_while_waiting_results_exceed_the_cache(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results that wait for reconstructions cannot be evicted, so few of them may wait."""
    monkeypatch.setattr(limits, "RESULT_CACHE_BYTES_MAX", 5)
    live = world.computed(value=b'"long"')
    assert not world.live.reconstruct(live, "offered", 5, world.subscriber)
    monkeypatch.setattr(limits, "RESULT_CACHE_BYTES_MAX", 6)
    assert world.live.reconstruct(live, "offered", 5, world.subscriber)


def test_few_mismatched_hashes_are_remembered(world: World) -> None:
    """The number of remembered hashes is bounded."""
    live = world.computed()
    for number in range(2 * MISMATCHED_HASHES_MAX):
        world.live.reconstruct(live, str(number), 5, world.subscriber)
        world.executor.finish(5, b'"else"')
    assert len(live.mismatched_hashes) == MISMATCHED_HASHES_MAX


def test_a_ts_in_the_future_does_not_wait(world: World) -> None:
    """A client may name any `ts`; the server does not wait for it."""
    live = world.computed()
    world.live.reconstruct(live, "offered", 99, world.subscriber)
    world.executor.finish(99, error=errors.SnapshotUnavailable("in the future"))
    assert not live.reconstructions
    assert world.subscriber.callbacks[-1] == "changed"


def test_a_result_with_an_evicted_body_is_computed_again(world: World) -> None:
    """Even while the result is right and registered."""
    live = world.computed()
    assert live.result is not None
    live.result.version.body = None
    world.live.compute(live)
    world.executor.finish(10)
    assert live.covers(10)
    world.commit(11)
    assert world.subscriber.callbacks[-1] == "invalidated"


def test_a_snapshot_result_outlives_its_versions(world: World) -> None:
    """Subscribers that still wait for it can be sent it after others have moved on."""
    live = world.computed()
    world.live.compute_at(live, 5, world.subscriber)
    world.executor.finish(5, b'"old"')
    pinned = live.at(5)
    assert pinned is not None
    live.release(live.hold(pinned.version))
    assert pinned.body().json() == b'"old"'


def test_other_subscribers_are_notified_of_a_split(world: World) -> None:
    """Their results may differ although this one has not changed."""
    world.computed()
    other = FakeSubscriber()
    world.watch(identity={"name": "b"}, subscriber=other)
    world.commit(11)
    world.executor.finish(11, read_auth=True)
    assert other.callbacks[-1] == "changed"


def test_a_discarded_version_does_not_affect_a_later_one_with_its_hash(world: World) -> None:
    """The value has come back; releasing the old version leaves the new one alone."""
    live = world.computed()
    assert live.result is not None
    cut_off = live.hold(live.result.version)
    del live.versions[cut_off.hash]
    world.commit(11)
    world.executor.finish(11)
    assert live.result.version is not cut_off
    live.release(cut_off)
    assert live.versions == {live.result.hash: live.result.version}


def test_a_snapshot_result_counts_as_memory(world: World) -> None:
    """So that it counts towards eviction."""
    live = world.computed()
    before = world.counters.cached_bytes
    world.live.compute_at(live, 5, world.subscriber)
    world.executor.finish(5, b'"%b"' % (b"x" * 5_000))
    assert world.counters.cached_bytes > before + 5_000


def test_versions_without_a_holder_are_discarded(world: World) -> None:
    """A newer result discards the versions without a holder; the others stay."""
    live = world.computed()
    assert live.result is not None
    held_version = live.hold(live.result.version)
    for ts in (11, 12, 13):
        world.commit(ts)
        world.executor.finish(ts, b"%d" % ts)
    assert live.result is not None
    assert set(live.versions.values()) == {held_version, live.result.version}
    live.release(held_version)
    assert held_version.body is None
    assert set(live.versions.values()) == {live.result.version}


def test_few_older_versions_are_retained(world: World) -> None:
    """However many different ones slow clients hold; the oldest is discarded."""
    live = world.computed()
    assert live.result is not None
    first = live.hold(live.result.version)
    for ts in range(11, 61):
        world.commit(ts)
        world.executor.finish(ts, b"%d" % ts)
        live.hold(live.result.version)
    assert len(live.versions) <= VERSIONS_RETAINED_MAX + 1
    assert first.body is None


def test_a_shared_query_is_charged_to_the_subscriber_whose_turn_comes_first() -> None:
    """A client does not wait behind the queue of a busier client that subscribes to the same query."""
    world = World()
    world.executor.store.busy = {"busy": 5.0}
    live = world.watch(subscriber=FakeSubscriber(session_id="busy"))
    world.watch(subscriber=FakeSubscriber(session_id="good"))
    world.live.compute(live)
    assert [call.client for call, _, _ in world.executor.pending] == ["good"]


def test_a_new_subscriber_hastens_a_computation_that_waits() -> None:
    """Its queue may be shorter than that of the client that subscribed first."""
    world = World()
    live = world.watch(subscriber=FakeSubscriber(session_id="busy"))
    world.live.compute(live)
    world.watch(subscriber=FakeSubscriber(session_id="good"))
    assert world.executor.store.hastened == [("read 1", "good")]


class Later:
    """A loop that runs callbacks when the test wants."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def iterate(self) -> None:
        """Run what was scheduled before now."""
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()


def touched_by_one_key(world: World, count: int) -> list[LiveQuery]:
    """Live queries with results that read the same range."""
    lives = [world.watch(f"m:f{number}") for number in range(count)]
    for live in lives:
        world.live.compute(live)
        world.executor.finish(10)
    return lives


@pytest.fixture
def later(world: World) -> Later:
    later = Later()
    world.executor.runtime.bind(later)  # type: ignore[arg-type]
    return later


def test_a_commit_starts_a_bounded_number_of_computations_at_a_time(world: World, later: Later) -> None:
    """It ends all results that it touches; between the computations, the loop serves other clients."""
    lives = touched_by_one_key(world, 2 * limits.PLAN_QUERIES_MAX + 1)
    world.commit(11)
    assert not any(live.covers(11) for live in lives)
    counts = [len(world.executor.pending)]
    while later.callbacks:
        later.iterate()
        counts.append(len(world.executor.pending))
    assert counts == [limits.PLAN_QUERIES_MAX, 2 * limits.PLAN_QUERIES_MAX, 2 * limits.PLAN_QUERIES_MAX + 1]


def test_a_commit_that_follows_starts_no_second_series(world: World, later: Later) -> None:
    """Its live queries are computed after those of the commit before, as many at a time."""
    touched_by_one_key(world, 2 * limits.PLAN_QUERIES_MAX)
    world.commit(11)
    other = world.watch("m:other")
    world.live.compute(other)
    world.executor.pending.insert(0, world.executor.pending.pop())
    world.executor.finish(11, lo=b"o", hi=b"p")
    world.commit(12, b"o1")
    assert len(later.callbacks) == 1
    while later.callbacks:
        later.iterate()
    assert len(world.executor.pending) == 2 * limits.PLAN_QUERIES_MAX + 1
    assert world.executor.pending[-1][0].path == "m:other"


def test_a_query_without_subscribers_is_not_computed(world: World, later: Later) -> None:
    """Its last subscriber left before its turn came."""
    lives = touched_by_one_key(world, limits.PLAN_QUERIES_MAX + 1)
    world.commit(11)
    world.live.unsubscribe(lives[-1], world.subscriber)
    later.iterate()
    assert len(world.executor.pending) == limits.PLAN_QUERIES_MAX
