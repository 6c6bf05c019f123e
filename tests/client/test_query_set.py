"""The query set, by itself: what is sent, staged, settled, shown."""

from __future__ import annotations

import pytest
from msgspec import Raw

from tinyvex.client.patch_verification import PatchCounters
from tinyvex.client.query_set import MODIFICATIONS_PER_MESSAGE_MAX, QueryFailure, QuerySet
from tinyvex.client.query_value import QueryValue
from tinyvex.errors import FunctionFailed, RemoteError
from tinyvex.wire.messages import QueryAdd, QueryRemove, QueryUnchanged, QueryUpdated

MANY = 1 << 20


def updated(query_id: int, json: bytes) -> QueryUpdated:
    return QueryUpdated(query_id=query_id, hash=f"hash of {json.decode()}", value=Raw(json))


def test_removals_go_before_additions() -> None:
    """So that there is room for them."""
    queries = QuerySet(PatchCounters())
    old = queries.subscribe("m:old", b"{}")
    queries.next_modifications(1, MANY, MANY)
    queries.release(old.query_id)
    queries.subscribe("m:new", b"{}")
    remove, add = queries.next_modifications(1, MANY, MANY)
    assert isinstance(remove, QueryRemove)
    assert isinstance(add, QueryAdd)


def test_a_message_has_no_more_changes_than_the_protocol_allows() -> None:
    """The rest goes into the next."""
    queries = QuerySet(PatchCounters())
    for number in range(MODIFICATIONS_PER_MESSAGE_MAX):
        queries.subscribe(f"m:{number}", b"{}")
    queries.next_modifications(1, MANY, 16 * MANY)
    for number in range(MODIFICATIONS_PER_MESSAGE_MAX):
        queries.release(number)
    # Removed but unsent ones count: nobody gets more than the bound by being quick.
    assert len(queries.next_modifications(1, MANY, MANY)) == MODIFICATIONS_PER_MESSAGE_MAX
    assert not queries.has_unsent


def test_what_is_staged_is_not_shown_before_it_is_settled() -> None:
    """All of it appears in one step."""
    queries = QuerySet(PatchCounters())
    one, other = queries.subscribe("m:one", b"{}"), queries.subscribe("m:other", b"{}")
    queries.next_modifications(1, MANY, MANY)
    queries.stage(updated(one.query_id, b"1"), 1)
    queries.stage(updated(other.query_id, b"2"), 1)
    assert queries.show({}) == []
    queries.apply_staged()
    assert queries.show({}) == [one.query_id, other.query_id]
    assert (one.shown, other.shown) == (QueryValue(b"1"), QueryValue(b"2"))


def test_the_same_bytes_again_are_no_change() -> None:
    """Even under another hash."""
    queries = QuerySet(PatchCounters())
    query = queries.subscribe("m:f", b"{}")
    queries.next_modifications(1, MANY, MANY)
    for hash_ in ("one", "another"):
        queries.stage(QueryUpdated(query_id=0, hash=hash_, value=Raw(b"1")), 1)
        queries.apply_staged()
        queries.show({})
    assert query.revision == 1


def test_a_layer_shows_over_the_result_and_goes_without_trace() -> None:
    """Also where there was no result beneath: then nothing is shown again."""
    queries = QuerySet(PatchCounters())
    query = queries.subscribe("m:f", b"{}")
    queries.next_modifications(1, MANY, MANY)
    assert queries.show({query.key: b"7"}) == [0]
    assert queries.show({}) == []
    assert query.shown is None
    queries.stage(updated(0, b"7"), 1)
    queries.apply_staged()
    assert queries.show({}) == [0]


def test_the_offer_to_resume_is_the_result_and_the_ts_it_was_right_at() -> None:
    """A socket that never settled does not move that `ts`; a failed query has nothing to offer."""
    queries = QuerySet(PatchCounters())
    queries.subscribe("m:f", b"{}")
    queries.next_modifications(1, MANY, MANY)
    queries.stage(updated(0, b"1"), 1)
    queries.apply_staged()
    queries.mark_all_unsent(consistent_ts=40)
    queries.next_modifications(1, MANY, MANY)
    queries.stage(updated(0, b"2"), 1)
    queries.mark_all_unsent(consistent_ts=None)
    (add,) = queries.next_modifications(1, MANY, MANY)
    assert isinstance(add, QueryAdd)
    assert add.resume is not None
    assert (add.resume.ts, add.resume.hash) == (40, "hash of 1")


def test_unchanged_keeps_the_result() -> None:
    """The hash is the one that was offered."""
    queries = QuerySet(PatchCounters())
    query = queries.subscribe("m:f", b"{}")
    queries.next_modifications(1, MANY, MANY)
    queries.stage(updated(0, b"1"), 1)
    queries.apply_staged()
    queries.mark_all_unsent(consistent_ts=40)
    queries.next_modifications(1, MANY, MANY)
    queries.stage(QueryUnchanged(query_id=0, hash="hash of 1"), 1)
    queries.apply_staged()
    assert query.result == QueryValue(b"1")


@pytest.mark.parametrize(
    ("data", "same"),
    [({"requestId": "other"}, True), ({"requestId": "r", "appData": 1}, False)],
)
def test_when_two_failures_are_the_same(data: dict[str, object], same: bool) -> None:
    """The server's request id is of no interest; the app's data is."""
    one = RemoteError("no", number=1206, name="AppError", details={"requestId": "r"})
    other = RemoteError("no", number=1206, name="AppError", details=data)
    assert (QueryFailure(one) == QueryFailure(other)) is same
    assert QueryFailure(one) != QueryFailure(FunctionFailed("no"))
    assert QueryFailure(one) != QueryValue(b"1")


def patched(query_id: int, patch: bytes, hash_: str = "h2") -> QueryUpdated:
    return QueryUpdated(query_id=query_id, hash=hash_, patch=Raw(patch))


def doubting() -> tuple[QuerySet, PatchCounters]:
    """Two queries that hold 1 and 2; a patch of the first did not fit."""
    counters = PatchCounters()
    queries = QuerySet(counters)
    for name in ("one", "other"):
        queries.subscribe(name, b"{}")
    queries.next_modifications(1, MANY, MANY)
    queries.stage(updated(0, b"1"), 1)
    queries.stage(updated(1, b"2"), 1)
    queries.apply_staged()
    queries.stage(patched(0, b'[{"op":"remove","path":"/5"}]'), 1)
    return queries, counters


def test_a_patch_that_does_not_fit_is_counted_and_asked_for_whole() -> None:
    """By removing the query and adding it again in one message, without an offer to resume."""
    queries, counters = doubting()
    assert (counters.values_received, counters.patches_applied, counters.patches_failed) == (2, 0, 1)
    assert queries.awaits_full_values
    remove, add = queries.next_modifications(2, MANY, MANY)
    assert (remove.query_id, add.query_id) == (0, 0)
    assert isinstance(add, QueryAdd)
    assert add.resume is None
    assert not queries.has_unsent


def test_what_was_on_its_way_about_a_doubted_query_is_ignored() -> None:
    """Until its value has come; then patches build on that."""
    queries, counters = doubting()
    queries.next_modifications(2, MANY, MANY)
    queries.stage(patched(0, b'[{"op":"replace","path":"","value":7}]'), 1)
    queries.check_full_values(1)
    assert queries.awaits_full_values
    queries.stage(updated(0, b"[3]"), 2)
    queries.stage(patched(0, b'[{"op":"add","path":"/0","value":4}]'), 3)
    queries.check_full_values(3)
    assert not queries.awaits_full_values
    queries.apply_staged()
    assert queries[0].result == QueryValue(b"[4,3]")
    assert counters.patches_failed == 1


def test_a_doubted_query_that_is_let_go_is_removed_and_not_asked_for() -> None:
    """And the doubt goes with it."""
    queries, _ = doubting()
    queries.release(0)
    assert [type(change) for change in queries.next_modifications(2, MANY, MANY)] == [QueryRemove]
    assert not queries.awaits_full_values


def test_a_lost_socket_takes_doubts_along() -> None:
    """What is held was right at its `ts`, and is offered with it."""
    queries, _ = doubting()
    queries.mark_all_unsent(5)
    assert not queries.awaits_full_values
    adds = queries.next_modifications(1, MANY, MANY)
    assert [add.resume is not None for add in adds if isinstance(add, QueryAdd)] == [True, True]


def test_many_doubts_go_in_several_messages() -> None:
    """A query's removal and its return are never parted."""
    queries = QuerySet(PatchCounters())
    for number in range(3):
        queries.subscribe(f"q{number}", b"{}")
    queries.next_modifications(1, MANY, MANY)
    for number in range(3):
        queries.stage(patched(number, b"[]"), 1)  # of nothing that is held
    sent = [[change.query_id for change in queries.next_modifications(2 + turn, MANY, 1_200)] for turn in range(2)]
    assert sent == [[0, 0, 1, 1], [2, 2]]
