"""When a transition is sent and what it contains: versions chain, and every plan leads to a transition."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from tinyvex import errors, limits
from tinyvex.sync.commands import AddQuery, RemoveQuery, ResumeOffer
from tinyvex.sync.counters import Counters
from tinyvex.sync.events import Failure, FullValue, Patch, QueryChange, Removed, StateTransition, SyncVersion, Unchanged
from tinyvex.sync.transitions import WAIT, ComputeAt, Reconstruct, Refresh, Send, SyncedQuery, SyncState


@dataclass
class FakeResult:
    """A result valid from `since` to just before `until`."""

    since: int
    until: int | None = None
    hash: str = "h"
    error: object = None
    read_now: bool = False
    patches: dict[str, bytes] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.hash

    def covers(self, ts: int) -> bool:
        return self.since <= ts and (self.until is None or ts < self.until)

    def patch_from(self, base: str, counters: Counters) -> bytes | None:
        return self.patches.get(base)


@dataclass(eq=False)
class FakeLive:
    """A live query whose results the test sets."""

    result: FakeResult | None = None
    generation: int = 0
    snapshots: dict[int, FakeResult | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    reconstructions: dict[str, object] = field(default_factory=dict)
    mismatched_hashes: dict[str, None] = field(default_factory=dict)

    def covers(self, ts: int, client_hash: str | None = None) -> bool:
        return self.result is not None and self.result.covers(ts)

    def at(self, ts: int, client_hash: str | None = None) -> FakeResult | None:
        return self.result if self.covers(ts) else self.snapshots.get(ts)

    def hold(self, version: str) -> str:
        return version

    def release(self, version: str) -> None:
        pass

    def computed(self, since: int, until: int | None = None, token: str = "h") -> None:
        self.result = FakeResult(since, until, token)
        self.generation += 1


def add(query_id: int) -> AddQuery:
    return AddQuery(query_id, "m:f", b"{}")


def watching(*lives: FakeLive) -> SyncState:
    """A state with one query on each live query."""
    state = SyncState()
    for query_id, live in enumerate(lives):
        state.add(query_id, live)  # type: ignore[arg-type]
    state.query_set = 1
    return state


def send(state: SyncState, ts: int, published: int) -> StateTransition:
    """Do what the session does with `Send`; the transition must not be skipped."""
    transition = state.take_transition(ts, published, now_us=0)
    assert transition is not None
    state.validate()
    return transition


def test_changes_are_ordered_by_query_id() -> None:
    """Whichever query the commits touched first."""
    lives = [FakeLive(), FakeLive(), FakeLive()]
    state = watching(*lives)
    for live in lives:
        live.computed(1)
    assert [change.query_id for change in send(state, 1, 1).changes] == [0, 1, 2]
    for query_id in (2, 0, 1):
        state.invalidated(state.queries[query_id])
        lives[query_id].computed(2, token="h2")
    assert [change.query_id for change in send(state, 2, 2).changes] == [0, 1, 2]


def test_a_new_state_has_nothing_to_do() -> None:
    """Without messages and commits, nothing is planned."""
    assert SyncState().plan(published=5) is WAIT


def test_a_new_query_is_refreshed_first() -> None:
    """A query without a result asks for one, once, and then waits."""
    state = watching(FakeLive())
    assert isinstance(state.plan(10), Refresh)
    assert state.plan(10) is WAIT


def test_a_covering_result_is_sent_at_the_published_ts() -> None:
    """When all results cover `published`, the transition goes there."""
    live = FakeLive()
    state = watching(live)
    state.plan(10)
    live.computed(since=8)
    assert state.plan(10) == Send(10)


def test_versions_chain() -> None:
    """A transition starts where the last one ended."""
    live = FakeLive(FakeResult(1))
    state = watching(live)
    first = send(state, 10, 10)
    state.answered(12)
    second = send(state, 12, 12)
    assert first.start == SyncVersion(query_set=0, identity=0, ts=0)
    assert second.start == first.end == SyncVersion(query_set=1, identity=0, ts=10)


def test_an_unchanged_hash_is_no_change() -> None:
    """After a recomputation with the same hash, the transition is skipped."""
    live = FakeLive(FakeResult(1))
    state = watching(live)
    send(state, 10, 10)
    [query] = state.queries.values()
    state.invalidated(query)
    live.computed(since=11)
    assert state.plan(11) == Send(11)
    assert state.take_transition(11, 11, now_us=0) is None
    assert not state.dirty


def test_an_answer_makes_a_transition_due_even_without_queries() -> None:
    """After `answered`, a transition at or past its `ts` is planned."""
    state = SyncState()
    state.answered(7)
    assert state.plan(9) == Send(9)
    assert state.must_send()


def test_a_transition_before_the_ts_of_an_answer_leaves_another_due() -> None:
    """Until a transition reaches `must_reach`, one stays due."""
    live = FakeLive(FakeResult(1, until=5))
    state = watching(live)
    state.answered(8)
    send(state, 4, published=8)
    assert state.must_send()
    assert isinstance(state.plan(8), Refresh)


def test_overtaken_results_meet_at_the_largest_shared_ts() -> None:
    """Two results that commits overtook share [5, 9): the transition goes to 8."""
    one, two = FakeLive(), FakeLive()
    state = watching(one, two)
    state.plan(5)
    one.computed(3, until=9)
    two.computed(5, until=12)
    assert state.plan(20) == Send(8)


def test_results_that_share_no_ts_are_computed_at_the_newest_start() -> None:
    """[3, 5) and [7, 9) share nothing: the first is computed at 7."""
    one, two = FakeLive(), FakeLive()
    state = watching(one, two)
    state.plan(5)
    one.computed(3, until=5)
    two.computed(7, until=9)
    plan = state.plan(20)
    assert isinstance(plan, ComputeAt)
    assert plan.ts == 7
    assert [query.live for query in plan.queries] == [one]
    one.snapshots[7] = None
    assert state.plan(30) is WAIT
    one.snapshots[7] = FakeResult(7, 8)
    assert state.plan(40) == Send(7)


def test_a_skipped_transition_still_moves_what_is_known() -> None:
    """After an unchanged computation at 20, no transition may go to 15, when the result could have differed."""
    steady, other = FakeLive(FakeResult(1)), FakeLive(FakeResult(1))
    state = watching(steady, other)
    send(state, 10, 10)
    query, second = state.queries.values()
    state.invalidated(query)
    steady.computed(20)
    state.plan(20)
    assert state.take_transition(20, 20, now_us=0) is None
    other.result = FakeResult(1, until=12)
    state.invalidated(second)
    assert isinstance(state.plan(22), Refresh)
    other.computed(12, until=16)
    plan = state.plan(22)
    assert isinstance(plan, ComputeAt)
    assert plan.ts == 20


def test_a_query_added_and_removed_in_one_step_is_sent_as_removed() -> None:
    """A query added and removed before a transition yields its removal and no result."""
    state = watching(FakeLive())
    state.remove(0)
    assert state.plan(3) == Send(3)
    assert send(state, 3, 3).changes == [Removed(0)]


def test_a_resumed_query_is_sent_even_if_its_hash_is_right() -> None:
    """The first transition contains every added query, also an unchanged one."""
    state = SyncState()
    live = FakeLive(FakeResult(1, hash="same"))
    state.add(0, live, ResumeOffer(3, "same"))  # type: ignore[arg-type]
    [change] = send(state, 5, 5).changes
    assert isinstance(change, Unchanged)


@pytest.mark.parametrize(("base", "new"), [(0, 2), (1, 1), (1, 0), (2, 3)])
def test_a_gap_in_the_query_set_version_is_fatal(base: int, new: int) -> None:
    """The base version must be the last one received and the new one larger."""
    state = watching()
    with pytest.raises(errors.BaseVersionMismatch) as caught:
        state.check_modify(base, new, [])
    assert caught.value.fatal


def test_a_duplicate_query_id_is_refused() -> None:
    """`Add` of an id in the set is an error."""
    state = watching(FakeLive())
    with pytest.raises(errors.DuplicateQueryId):
        state.check_modify(1, 2, [add(0)])


def test_an_unknown_query_id_is_refused() -> None:
    """`Remove` of an id that is not in the set is an error."""
    with pytest.raises(errors.UnknownQueryId):
        watching().check_modify(1, 2, [RemoveQuery(4)])


def test_a_query_may_be_removed_and_added_in_one_message() -> None:
    """Modifications are checked in order."""
    watching(FakeLive()).check_modify(1, 2, [RemoveQuery(0), add(0)])


def test_a_full_query_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit, the whole change is refused."""
    monkeypatch.setattr(limits, "QUERIES_PER_CONNECTION_MAX", 2)
    with pytest.raises(errors.TooManyQueries):
        watching(FakeLive()).check_modify(1, 2, [add(1), add(2)])


def test_a_gap_in_the_identity_version_is_fatal() -> None:
    """`authenticate` must continue from the last identity version."""
    with pytest.raises(errors.BaseVersionMismatch):
        SyncState().check_identity(1)


def test_a_query_sent_as_of_a_snapshot_stays_dirty() -> None:
    """Its newest result is later than the transition, so the client lacks it."""
    one, two = FakeLive(), FakeLive()
    state = watching(one, two)
    state.plan(5)
    one.computed(3, until=5)
    two.computed(7, until=9)
    state.plan(10)
    two.computed(10, token="newest")
    one.snapshots[7], two.snapshots[7] = FakeResult(7, 8), FakeResult(7, 8)
    assert state.plan(10) == Send(7)
    send(state, 7, published=10)
    assert [query.live for query in state.dirty] == [one, two]


class CountingLive(FakeLive):
    """Counts how often its result is examined."""

    examined = 0

    def covers(self, ts: int, client_hash: str | None = None) -> bool:
        CountingLive.examined += 1
        return super().covers(ts)


def request_all(state: SyncState, published: int) -> list[SyncedQuery]:
    """Plan until everything that can be computed was requested."""
    requested: list[SyncedQuery] = []
    while isinstance(plan := state.plan(published), Refresh | ComputeAt):
        requested += plan.queries
    assert plan is WAIT
    return requested


def test_a_plan_requests_a_bounded_number_of_computations() -> None:
    """A client may subscribe to thousands of queries in one message; the next plan continues in order."""
    state = watching(*(FakeLive() for _ in range(limits.PLAN_QUERIES_MAX + 3)))
    first, second = state.plan(10), state.plan(10)
    assert isinstance(first, Refresh)
    assert isinstance(second, Refresh)
    assert (len(first.queries), len(second.queries)) == (limits.PLAN_QUERIES_MAX, 3)
    assert [query.query_id for query in first.queries + second.queries] == sorted(state.queries)
    assert state.plan(10) is WAIT


@pytest.mark.parametrize("number", [100, 1000])
def test_the_work_for_each_of_many_results_does_not_depend_on_their_number(number: int) -> None:
    """A turn follows each of them; before, each turn examined all."""
    state = watching(*(CountingLive() for _ in range(number)))
    requested = request_all(state, 10)
    CountingLive.examined = 0
    for query in requested:
        assert state.plan(10) is WAIT
        query.live.computed(10)  # type: ignore[attr-defined]
    assert state.plan(10) == Send(10)
    assert CountingLive.examined < 5 * number


def test_the_work_for_each_of_many_results_as_of_an_older_ts_does_not_depend_on_their_number() -> None:
    """Two results share no `ts`, so that the others are computed as of the newest start."""
    number = 1000
    lives = [CountingLive() for _ in range(number)]
    state = watching(*lives)
    request_all(state, 10)
    for live in lives:
        live.computed(10, until=11)
    lives[-1].computed(20, until=21)
    requested = request_all(state, 30)
    assert len(requested) == number - 1
    CountingLive.examined = 0
    for query in requested:
        assert state.plan(30) is WAIT
        query.live.snapshots[20] = FakeResult(20, 21)  # type: ignore[assignment]
    assert state.plan(30) == Send(20)
    assert CountingLive.examined < 5 * number


def test_a_query_that_is_added_while_others_are_computed_is_requested_immediately() -> None:
    """It does not wait for them."""
    state = watching(FakeLive(), FakeLive())
    request_all(state, 10)
    state.add(2, FakeLive())  # type: ignore[arg-type]
    assert [query.query_id for query in request_all(state, 10)] == [2]


def test_a_removed_query_is_not_requested() -> None:
    """Not even if the plan has not come to it yet."""
    state = watching(*(FakeLive() for _ in range(limits.PLAN_QUERIES_MAX + 3)))
    state.plan(10)
    state.remove(limits.PLAN_QUERIES_MAX)
    state.validate()
    assert [query.query_id for query in request_all(state, 10)] == [
        limits.PLAN_QUERIES_MAX + 1, limits.PLAN_QUERIES_MAX + 2,
    ]  # fmt: skip


def test_a_result_that_was_evicted_before_it_was_sent_is_requested_again() -> None:
    """It needed no refresh when the plan looked at it, while the other one was computed."""
    one, two = FakeLive(FakeResult(1)), FakeLive()
    state = watching(one, two)
    assert [query.live for query in request_all(state, 10)] == [two]
    one.result = None
    two.computed(10)
    assert [query.live for query in request_all(state, 10)] == [one]


class Commits:
    """A world of live queries whose true value at every `ts` is known: how often they were touched."""

    def __init__(self, lives: int) -> None:
        self.published = 10
        self.touched: list[list[int]] = [[] for _ in range(lives)]
        self.lives = [FakeLive() for _ in range(lives)]
        self.state = watching(*self.lives)
        self.under_way: list[tuple[int, int, bool]] = []  # which, its snapshot, whether pinned

    def truth(self, which: int, ts: int) -> str:
        return str(sum(touch <= ts for touch in self.touched[which]))

    def commit(self, which: list[int]) -> None:
        self.published += 1
        for number in which:
            self.touched[number].append(self.published)
            live = self.lives[number]
            if live.result is not None and live.result.until is None:
                live.result.until = self.published
                self.state.invalidated(self.state.queries[number])

    def compute(self, lives: list[Any], ts: int, *, pinned: bool) -> None:
        for live in lives:
            number = self.lives.index(live)
            if pinned:
                live.snapshots[ts] = None
            elif any(which == number and not pin for which, _, pin in self.under_way):
                continue
            self.under_way.append((number, ts, pinned))

    def finish(self, place: int) -> None:
        number, ts, pinned = self.under_way.pop(place)
        live = self.lives[number]
        if pinned:
            live.snapshots[ts] = FakeResult(ts, ts + 1, self.truth(number, ts))
            return
        later = [touch for touch in self.touched[number] if touch > ts]
        live.computed(ts, min(later, default=None), self.truth(number, ts))

    def turn(self) -> None:
        """Do what the session does, then check that every result that the client holds is true at its version."""
        while True:
            match self.state.plan(self.published):
                case Refresh(queries):
                    self.compute([query.live for query in queries], self.published, pinned=False)
                case ComputeAt(queries, ts):
                    self.compute([query.live for query in queries], ts, pinned=True)
                case Send(ts):
                    self.state.take_transition(ts, self.published, now_us=0)
                    self.state.validate()
                    for number, query in self.state.queries.items():
                        query.snapshot_ts = None
                        assert query.client_hash == self.truth(number, ts)
                case _:
                    return


@pytest.mark.parametrize("lives", [2, 5])
@pytest.mark.parametrize("seed", range(60))
def test_whatever_overtakes_what_the_client_holds_is_true_at_its_version(
    seed: int, lives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits, computations and turns in any order: each transition is right, and in the end all are at the newest."""
    monkeypatch.setattr(limits, "PLAN_QUERIES_MAX", 2)
    world, pick = Commits(lives), random.Random(seed)
    for _ in range(400):
        dice = pick.random()
        if dice < 0.4:
            world.commit(pick.sample(range(lives), pick.randint(1, lives)))
        elif dice < 0.7 and world.under_way:
            world.finish(pick.randrange(len(world.under_way)))
        world.turn()
    for _ in range(20):
        world.turn()
        while world.under_way:
            world.finish(0)
    assert not world.state.dirty
    assert [query.client_hash for query in world.state.queries.values()] == [
        world.truth(number, world.published) for number in range(lives)
    ]


# What a transition says of a query: the decision table.


@dataclass
class Case:
    """The result that the client holds, and the answer now."""

    answer: FakeResult
    sent: str | None = None
    """The hash of the result that was sent on this connection."""
    offered: str | None = None
    """The hash that was offered in `resume`."""
    takes_patches: bool = True
    cached: bool = True
    """The server has the body that the client holds."""


NEW = FakeResult(1, hash="new", patches={"old": b"[]"})
OTHER = FakeResult(1, hash="other")

DECISIONS = {
    "nothing: it was sent": (Case(NEW, sent="new"), None),
    "nothing: the same failure was sent": (Case(FakeResult(1, hash="!", error="no"), sent="!"), None),
    "failed": (Case(FakeResult(1, hash="!", error="no"), sent="old"), Failure),
    "failed: also if the failure was offered": (Case(FakeResult(1, hash="!", error="no"), offered="!"), Failure),
    "unchanged: it was offered": (Case(NEW, offered="new"), Unchanged),
    "unchanged: also without patches": (Case(NEW, offered="new", takes_patches=False), Unchanged),
    "patch: from what was sent": (Case(NEW, sent="old"), Patch),
    "patch: from what was offered": (Case(NEW, offered="old"), Patch),
    "value: nothing is held": (Case(NEW), FullValue),
    "value: the client takes no patches": (Case(NEW, sent="old", takes_patches=False), FullValue),
    "value: a patch would be longer": (Case(OTHER, sent="old"), FullValue),
    "value: what was offered is not known": (Case(NEW, offered="old", cached=False), FullValue),
}


def change_of(case: Case) -> QueryChange | None:
    """The change of query 0 in the next transition."""
    live = FakeLive(FakeResult(1, hash=case.sent or "h"))
    state = SyncState(takes_patches=case.takes_patches)
    offer = None if case.offered is None else ResumeOffer(1, case.offered)
    query = state.add(0, live, offer)  # type: ignore[arg-type]
    if case.sent is not None:
        send(state, 5, 5)
        state.invalidated(query)
    if case.offered is not None and case.cached:
        live.versions[case.offered] = case.offered
    live.result = case.answer
    state.transition_due = True
    changes = send(state, 10, 10).changes
    assert len(changes) <= 1
    return changes[0] if changes else None


@pytest.mark.parametrize("name", DECISIONS)
def test_each_line_of_the_decision_table(name: str) -> None:
    """The first line that applies decides."""
    case, expected = DECISIONS[name]
    change = change_of(case)
    assert (None if change is None else type(change)) is expected


def test_a_query_that_left_is_removed_once() -> None:
    """The next transition does not name it."""
    state = watching(FakeLive(FakeResult(1)))
    send(state, 5, 5)
    state.remove(0)
    assert send(state, 6, 6).changes == [Removed(0)]
    state.answered(7)
    assert send(state, 7, 7).changes == []


def test_the_changes_of_a_transition_are_counted() -> None:
    """As patches, values and unchanged results."""
    counters = Counters()
    state = SyncState(takes_patches=True, counters=counters)
    for query_id, token in enumerate(["new", "old", "unknown"]):
        live = FakeLive(NEW, versions={"old": "old"})
        state.add(query_id, live, ResumeOffer(1, token))  # type: ignore[arg-type]
    assert [type(change) for change in send(state, 5, 5).changes] == [Unchanged, Patch, FullValue]
    counted = (counters.unchanged_sent, counters.patches_sent, counters.values_sent, counters.transitions_sent)
    assert counted == (1, 1, 1, 1)


def test_every_change_is_chosen_before_any_counts_as_sent() -> None:
    """Two queries on one live query: the first to move on must not take the second one's base with it."""
    live = ReleasingLive(FakeResult(1, hash="old"))
    state = SyncState(takes_patches=True)
    holder = state.add(0, live)  # type: ignore[arg-type]
    send(state, 5, 5)
    state.invalidated(holder)
    live.result = NEW
    state.add(1, live, ResumeOffer(1, "old"))  # type: ignore[arg-type]
    assert [type(change) for change in send(state, 6, 6).changes] == [Patch, Patch]


class ReleasingLive(FakeLive):
    """Discards a version with its last holder."""

    def hold(self, version: str) -> str:
        self.versions[version] = version
        return version

    def release(self, version: str) -> None:
        self.versions.pop(version, None)


# Resume.


def resuming(live: FakeLive, token: str = "old", ts: int = 5) -> SyncState:
    """A state with one query that offers an older result."""
    state = SyncState(takes_patches=True)
    state.add(0, live, ResumeOffer(ts, token))  # type: ignore[arg-type]
    state.query_set = 1
    return state


def test_the_offered_result_is_reconstructed_before_a_changed_one_is_sent() -> None:
    """Once; then the transition is sent, whatever the outcome, even if it was evicted already."""
    live = FakeLive(FakeResult(1, hash="new"))
    state = resuming(live)
    plan = state.plan(10)
    assert isinstance(plan, Reconstruct)
    live.reconstructions["old"] = None
    assert state.plan(10) is WAIT
    live.reconstructions.clear()
    assert state.plan(10) == Send(10)


def test_a_mismatched_hash_is_not_reconstructed_again() -> None:
    """Also if another client offers the same hash."""
    live = FakeLive(FakeResult(1, hash="new"), mismatched_hashes={"old": None})
    assert resuming(live).plan(10) == Send(10)


def test_clients_with_the_same_offer_wait_for_one_reconstruction() -> None:
    """Each asks for it, to be notified."""
    live = FakeLive(FakeResult(1, hash="new"), reconstructions={"old": None})
    assert isinstance(resuming(live).plan(10), Reconstruct)


def test_an_unchanged_result_is_not_reconstructed() -> None:
    """There is nothing to compare."""
    state = resuming(FakeLive(FakeResult(1, hash="old")))
    assert state.plan(10) == Send(10)


def test_a_cached_version_is_not_reconstructed() -> None:
    """Another client may still hold it."""
    live = FakeLive(FakeResult(1, hash="new"), versions={"old": "old"})
    assert resuming(live).plan(10) == Send(10)


@pytest.mark.parametrize("result", [FakeResult(1, error="no"), FakeResult(1, hash="new", read_now=True)])
def test_a_result_that_cannot_be_compared_is_not_reconstructed(result: FakeResult) -> None:
    """A failure, or a function that reads the clock."""
    assert resuming(FakeLive(result)).plan(10) == Send(10)


def test_a_query_that_was_sent_is_not_reconstructed() -> None:
    """An offer counts for the first transition only."""
    live = FakeLive(FakeResult(1, hash="old"))
    state = resuming(live)
    send(state, 10, 10)
    [query] = state.queries.values()
    state.invalidated(query)
    live.computed(since=11, token="new")
    assert state.plan(11) == Send(11)
