"""What a connection owes its client: versions chain, and every plan leads to a transition."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex import errors, limits
from tinyvex.sync.state import WAIT, Pin, Refresh, Send, SyncState
from tinyvex.wire.messages import QueryAdd, QueryRemove, StateVersion


@dataclass
class FakeResult:
    """A result valid from `since` up to before `until`."""

    since: int
    until: int | None = None
    hash: str = "h"

    def covers(self, ts: int) -> bool:
        return self.since <= ts and (self.until is None or ts < self.until)


@dataclass(eq=False)
class FakeLive:
    """A live query whose results the test sets."""

    result: FakeResult | None = None
    generation: int = 0
    pins: dict[int, FakeResult | None] = field(default_factory=dict)

    def covers(self, ts: int) -> bool:
        return self.result is not None and self.result.covers(ts)

    def at(self, ts: int) -> FakeResult | None:
        return self.result if self.covers(ts) else self.pins.get(ts)

    def computed(self, since: int, until: int | None = None, token: str = "h") -> None:
        self.result = FakeResult(since, until, token)
        self.generation += 1


def add(query_id: int) -> QueryAdd:
    return QueryAdd(query_id=query_id, udf_path="m:f", args=b"{}")  # type: ignore[arg-type]


def watching(*lives: FakeLive) -> SyncState:
    """A state with one query on each live query."""
    state = SyncState()
    for query_id, live in enumerate(lives):
        state.add(query_id, live, None)  # type: ignore[arg-type]
    state.query_set = 1
    return state


def send(state: SyncState, ts: int, published: int) -> tuple[StateVersion, StateVersion]:
    """Do what the worker does with `Send`."""
    for query, result in state.changes(ts):
        query.held, query.told = result.hash, True
    versions = state.advance(ts, published)
    state.validate()
    return versions


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
    assert first[0] == StateVersion(query_set=0, identity=0, ts=0)
    assert second[0] == first[1] == StateVersion(query_set=1, identity=0, ts=10)


def test_an_unchanged_hash_is_no_change() -> None:
    """A re-run with the same hash changes nothing and owes nothing."""
    live = FakeLive(FakeResult(1))
    state = watching(live)
    send(state, 10, 10)
    [query] = state.queries.values()
    state.invalidated(query)
    live.computed(since=11)
    assert state.plan(11) == Send(11)
    assert state.changes(11) == []
    assert not state.must_send()


def test_a_response_owes_a_transition_even_without_queries() -> None:
    """After `answered`, a transition at or past its `ts` is planned."""
    state = SyncState()
    state.answered(7)
    assert state.plan(9) == Send(9)
    assert state.must_send()


def test_a_transition_before_the_response_ts_leaves_another_owed() -> None:
    """Until a transition reaches `must_reach`, there is work."""
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


def test_results_that_share_no_ts_are_pinned_at_the_newest_start() -> None:
    """[3, 5) and [7, 9) share nothing: the first is computed at 7."""
    one, two = FakeLive(), FakeLive()
    state = watching(one, two)
    state.plan(5)
    one.computed(3, until=5)
    two.computed(7, until=9)
    plan = state.plan(20)
    assert isinstance(plan, Pin)
    assert plan.ts == 7
    assert [query.live for query in plan.queries] == [one]
    one.pins[7] = None
    assert state.plan(30) is WAIT
    one.pins[7] = FakeResult(7, 8)
    assert state.plan(40) == Send(7)


def test_a_skipped_transition_still_moves_what_is_known() -> None:
    """After an unchanged run at 20, no transition may claim 15, when the result could have differed."""
    steady, other = FakeLive(FakeResult(1)), FakeLive(FakeResult(1))
    state = watching(steady, other)
    send(state, 10, 10)
    query, second = state.queries.values()
    state.invalidated(query)
    steady.computed(20)
    state.plan(20)
    state.skip(20, 20)
    other.result = FakeResult(1, until=12)
    state.invalidated(second)
    assert isinstance(state.plan(22), Refresh)
    other.computed(12, until=16)
    plan = state.plan(22)
    assert isinstance(plan, Pin)
    assert plan.ts == 20


def test_added_and_removed_in_one_step_is_told_as_removed() -> None:
    """A query added and removed before a transition yields its removal and no result."""
    state = watching(FakeLive())
    state.remove(0)
    assert state.plan(3) == Send(3)
    assert list(state.removed) == [0]
    assert state.changes(3) == []


def test_a_resumed_query_is_told_even_if_its_hash_is_held() -> None:
    """The first transition names every added query, also the unchanged ones."""
    state = SyncState()
    live = FakeLive(FakeResult(1, hash="same"))
    state.add(0, live, "same")  # type: ignore[arg-type]
    assert [query.query_id for query, _ in state.changes(5)] == [0]


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
        watching().check_modify(1, 2, [QueryRemove(query_id=4)])


def test_a_query_may_be_removed_and_added_in_one_message() -> None:
    """Modifications are checked in order."""
    watching(FakeLive()).check_modify(1, 2, [QueryRemove(query_id=0), add(0)])


def test_a_full_query_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit, the message is refused whole."""
    monkeypatch.setattr(limits, "QUERIES_PER_CONNECTION_MAX", 2)
    with pytest.raises(errors.TooManyQueries):
        watching(FakeLive()).check_modify(1, 2, [add(1), add(2)])


def test_a_gap_in_the_identity_version_is_fatal() -> None:
    """`authenticate` must continue from the last identity version."""
    with pytest.raises(errors.BaseVersionMismatch):
        SyncState().check_authenticate(1)


@given(st.data())
def test_every_plan_leads_to_transitions_whose_results_hold(data: Any) -> None:
    """Whatever commits overtake, versions never go back, and each told result holds at its transition's `ts`."""
    lives = [FakeLive() for _ in range(3)]
    state, published = watching(*lives), 10
    for _ in range(data.draw(st.integers(1, 40))):
        published += data.draw(st.integers(0, 3))
        for query in state.queries.values():
            live: Any = query.live
            if live.result is not None and live.result.until is None and data.draw(st.booleans()):
                live.result.until = max(published, live.result.since + 1)
                published = live.result.until
                state.invalidated(query)
        match state.plan(published):
            case Refresh(queries):
                for query in queries:
                    start = published - data.draw(st.integers(0, 1))
                    query.live.computed(  # type: ignore[attr-defined]
                        max(start, query.live.result.until if query.live.result else 0),
                        token=str(data.draw(st.integers(0, 2))),
                    )
                    published = max(published, query.live.result.since)  # type: ignore[union-attr]
            case Pin(queries, ts):
                for query in queries:
                    query.live.pins[ts] = FakeResult(ts, ts + 1)  # type: ignore[assignment]
            case Send(ts):
                assert ts >= state.sent.ts
                assert all(query.live.at(ts) is not None for query in state.queries.values())
                send(state, ts, published)
