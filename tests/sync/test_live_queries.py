"""Live queries: shared, valid for an interval, computed once, and never told before they are published."""

from collections.abc import Callable
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


@dataclass
class FakeExecutor:
    """Keeps computations until the test ends them."""

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
    ) -> None:
        def prepared(outcome: QueryOutcome) -> None:
            then(outcome)
            done(outcome)

        self.range_caches.append(range_cache)
        self.pending.append((call, prepared, at))

    def finish(self, ts: int, value: bytes = b"1", lo: bytes = b"a", hi: bytes = b"b", **flags: Any) -> None:
        """End the oldest computation with a snapshot at `ts` that read [lo, hi)."""
        _, done, _ = self.pending.pop(0)
        reads = ReadSet()
        reads.add(INDEX, lo, hi)
        error = flags.pop("error", None)
        done(QueryOutcome(ts, None if error else Body((value,)), error, reads, **flags))


@dataclass(eq=False)
class FakeSubscriber:
    """Notes what it is told."""

    willing: bool = True
    told: list[str] = field(default_factory=list)

    def invalidated(self, live: LiveQuery) -> bool:
        self.told.append("invalidated")
        return self.willing

    def computed(self, live: LiveQuery, changed: bool) -> None:
        self.told.append("changed" if changed else "unchanged")


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
    """Two subscribers of the same function and arguments watch one live query."""
    assert world.watch() is world.watch(subscriber=FakeSubscriber())
    assert world.counters.live_queries == 1


def test_the_last_subscriber_forgets_the_query(world: World) -> None:
    """After as many unsubscribes as subscribes nothing is kept."""
    live = world.computed()
    world.watch()
    world.live.unsubscribe(live, world.subscriber)
    world.live.unsubscribe(live, world.subscriber)
    assert world.counters.live_queries == 0
    world.commit(11)
    assert world.executor.pending == []


def test_a_commit_that_does_not_touch_it_leaves_a_result_open(world: World) -> None:
    """Keys outside what was read change nothing."""
    live = world.computed()
    world.commit(11, b"z")
    assert live.covers(11)
    assert world.subscriber.told == ["changed"]


def test_a_commit_that_touches_it_ends_the_result_and_computes_once(world: World) -> None:
    """The old result holds up to the commit; several commits ask for one computation."""
    live = world.computed()
    world.commit(11)
    world.commit(12)
    assert live.covers(10)
    assert not live.covers(11)
    assert len(world.executor.pending) == 1


def test_an_unchanged_hash_is_told_as_unchanged(world: World) -> None:
    """A re-run with the same value tells subscribers that nothing changed."""
    world.computed()
    world.commit(11)
    world.executor.finish(11)
    assert world.subscriber.told == ["changed", "invalidated", "unchanged"]
    assert world.counters.recomputations_unchanged == 1


def test_nothing_is_computed_for_subscribers_that_cannot_send(world: World) -> None:
    """A query whose only subscriber is full waits until it asks."""
    live = world.computed()
    world.subscriber.willing = False
    world.commit(11)
    assert world.executor.pending == []
    world.live.compute(live)
    assert len(world.executor.pending) == 1


def test_a_result_from_a_commit_that_is_not_published_yet_waits(world: World) -> None:
    """A reader may see commit 12 before the loop has heard of it; its result counts only then."""
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


def test_a_computation_older_than_what_is_remembered_counts_as_overtaken(
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


def test_nothing_is_remembered_without_computations(world: World) -> None:
    """Commits are kept only for computations under way."""
    world.computed()
    world.commit(11, b"z")
    assert len(world.live._recent) == 0
    world.commit(12)
    assert len(world.live._recent) == 0
    world.commit(13, b"z")
    assert len(world.live._recent) > 0
    world.executor.finish(13)
    assert len(world.live._recent) == 0


def test_a_pinned_result_holds_at_its_ts_alone(world: World) -> None:
    """A computation at an older `ts` answers for that `ts` only, and leaves the newest result alone."""
    live = world.computed()
    world.live.compute_at(live, 5, world.subscriber)
    world.executor.finish(5, b'"old"')
    pinned = live.at(5)
    assert pinned is not None
    assert pinned.body().json() == b'"old"'
    assert live.at(6) is None
    assert live.covers(10)


def test_a_pin_is_kept_until_all_who_wait_were_told(world: World) -> None:
    """Whatever else is computed meanwhile; then it goes at once."""
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


def test_a_pin_that_nobody_waits_for_any_more_goes_when_it_has_ended(world: World) -> None:
    """A connection was closed meanwhile."""
    live = world.computed()
    world.live.compute_at(live, 5, world.subscriber)
    world.live.release_snapshot(live, 5, world.subscriber)
    world.executor.finish(5)
    assert not live.snapshots


def test_an_overtaken_result_wakes_even_when_its_hash_is_the_old_one(world: World) -> None:
    """Nobody watches it any more, so whoever wants it must ask again."""
    live = world.computed()
    world.commit(11)
    world.commit(12)
    world.executor.finish(11)
    assert not live.covers(12)
    assert world.subscriber.told[-1] == "changed"


def test_an_execution_that_looks_at_the_identity_splits_its_query(world: World) -> None:
    """Until it does, identities share; afterwards each has its own."""
    live = world.watch(identity={"name": "a"})
    other = Call("m:f", b"{}", {"name": "b"})
    assert world.live.is_current(live, other)
    world.live.compute(live)
    world.executor.finish(10, read_auth=True)
    assert not world.live.is_current(live, other)
    assert world.watch(identity={"name": "a"}) is not world.watch(identity={"name": "b"})


def test_a_failure_outside_the_database_is_tried_again_at_any_commit(world: World) -> None:
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
    """Error to success and back are changes; the same error twice is none."""
    world.computed(error=errors.AppError("no"))
    for ts, outcome in ((11, {"error": errors.AppError("no")}), (12, {}), (13, {"error": errors.AppError("no")})):
        world.commit(ts)
        world.executor.finish(ts, **outcome)
    assert [told for told in world.subscriber.told if told != "invalidated"] == [
        "changed", "unchanged", "changed", "changed",
    ]  # fmt: skip


# What is kept.


def test_the_next_computation_gets_what_was_kept(world: World) -> None:
    """With the time up to which nothing has touched it: just before the commit that did."""
    live = world.computed(cached_ranges=CachedRanges(10, {}))
    world.commit(11, b"z")
    world.commit(15)
    cache = world.executor.range_caches[-1]
    assert cache is not None
    assert cache.previous == CachedRanges(14, {})
    assert live.computing


def test_nothing_is_kept_of_a_failure(world: World) -> None:
    """The next computation reads everything."""
    world.computed(cached_ranges=CachedRanges(10, {}))
    world.commit(11)
    world.executor.finish(11, error=errors.AppError("no"))
    world.commit(12)
    assert world.executor.range_caches[-1] == RangeCache(None)


def test_an_older_state_is_computed_without_what_was_kept(world: World) -> None:
    """That is of another time."""
    live = world.computed(cached_ranges=CachedRanges(10, {}))
    world.live.compute_at(live, 5, world.subscriber)
    assert world.executor.range_caches[-1] == RangeCache(None)


def old_hash(value: bytes) -> str:
    """What a client offers for a result."""
    return Body((value,)).token


def test_what_is_offered_in_resume_is_found_again_once(world: World) -> None:
    """For all who offer the same, whenever theirs was right; each of them is told, and nobody else."""
    live, other, stranger = world.computed(), FakeSubscriber(), FakeSubscriber()
    world.watch(subscriber=other), world.watch(subscriber=stranger)
    assert world.live.reconstruct(live, old_hash(b'"old"'), 5, world.subscriber)
    assert world.live.reconstruct(live, old_hash(b'"old"'), 6, other)
    [(_, _, at)] = world.executor.pending
    assert at == 5
    world.executor.finish(5, b'"old"')
    assert [version.body.json() for version in live.versions.values() if version.body] == [b"1", b'"old"']
    assert (world.subscriber.told[-1], other.told, stranger.told) == ("changed", ["changed"], [])


def test_what_was_not_found_is_not_kept(world: World) -> None:
    """Another result than the one offered is of no use to anybody, and is remembered as such."""
    live = world.computed()
    world.live.reconstruct(live, old_hash(b'"old"'), 5, world.subscriber)
    world.executor.finish(5, b'"something else"')
    assert list(live.versions) == [live.hash]
    assert list(live.mismatched_hashes) == [old_hash(b'"old"')]
    assert not live.reconstructions


def test_only_a_few_are_looked_for_at_once(world: World) -> None:
    """The others are told so at once, and are sent the whole value."""
    live = world.computed()
    found = [world.live.reconstruct(live, str(number), number, world.subscriber) for number in range(10)]
    assert found == [True] * limits.FINDING_MAX + [False] * (10 - limits.FINDING_MAX)


def test_few_that_were_not_found_are_remembered(world: World) -> None:
    """Whatever clients offer."""
    live = world.computed()
    for number in range(2 * MISMATCHED_HASHES_MAX):
        world.live.reconstruct(live, str(number), 5, world.subscriber)
        world.executor.finish(5, b'"else"')
    assert len(live.mismatched_hashes) == MISMATCHED_HASHES_MAX


def test_a_time_in_the_future_is_answered_too(world: World) -> None:
    """A client may name any; nothing waits for it to come."""
    live = world.computed()
    world.live.reconstruct(live, "offered", 99, world.subscriber)
    world.executor.finish(99, error=errors.SnapshotUnavailable("in the future"))
    assert not live.reconstructions
    assert world.subscriber.told[-1] == "changed"


def test_a_result_whose_body_was_given_up_is_computed_again(world: World) -> None:
    """Also while it is right still, and registered."""
    live = world.computed()
    assert live.result is not None
    live.result.version.body = None
    world.live.compute(live)
    world.executor.finish(10)
    assert live.covers(10)
    world.commit(11)
    assert world.subscriber.told[-1] == "invalidated"


def test_a_pinned_result_outlives_those_who_were_told_it(world: World) -> None:
    """Whoever waits for it still can be told, when others have gone on."""
    live = world.computed()
    world.live.compute_at(live, 5, world.subscriber)
    world.executor.finish(5, b'"old"')
    pinned = live.at(5)
    assert pinned is not None
    live.release(live.hold(pinned.version))
    assert pinned.body().json() == b'"old"'


def test_others_look_again_when_a_function_turns_out_to_look_at_the_identity(world: World) -> None:
    """Their results may be others, although this one has not changed."""
    world.computed()
    other = FakeSubscriber()
    world.watch(identity={"name": "b"}, subscriber=other)
    world.commit(11)
    world.executor.finish(11, read_auth=True)
    assert other.told[-1] == "changed"


def test_a_version_that_was_cut_off_does_not_take_its_namesake_along(world: World) -> None:
    """The value has come back; whoever held the old one lets go of that."""
    live = world.computed()
    assert live.result is not None
    cut_off = live.hold(live.result.version)
    del live.versions[cut_off.hash]
    world.commit(11)
    world.executor.finish(11)
    assert live.result.version is not cut_off
    live.release(cut_off)
    assert live.versions == {live.result.hash: live.result.version}


def test_a_pinned_result_counts_as_kept_memory(world: World) -> None:
    """So that others make room for it."""
    live = world.computed()
    before = world.counters.kept_bytes
    world.live.compute_at(live, 5, world.subscriber)
    world.executor.finish(5, b'"%b"' % (b"x" * 5_000))
    assert world.counters.kept_bytes > before + 5_000


def test_what_nobody_holds_is_forgotten(world: World) -> None:
    """When a newer result comes, versions without a holder go, and those that are held stay."""
    live = world.computed()
    assert live.result is not None
    held = live.hold(live.result.version)
    for ts in (11, 12, 13):
        world.commit(ts)
        world.executor.finish(ts, b"%d" % ts)
    assert live.result is not None
    assert set(live.versions.values()) == {held, live.result.version}
    live.release(held)
    assert held.body is None
    assert set(live.versions.values()) == {live.result.version}


def test_versions_for_those_behind_are_few(world: World) -> None:
    """However many different ones slow clients hold; the oldest goes."""
    live = world.computed()
    assert live.result is not None
    first = live.hold(live.result.version)
    for ts in range(11, 61):
        world.commit(ts)
        world.executor.finish(ts, b"%d" % ts)
        live.hold(live.result.version)
    assert len(live.versions) <= VERSIONS_RETAINED_MAX + 1
    assert first.body is None
