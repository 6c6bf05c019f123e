"""The query set by itself: modifications sent, results staged, applied and shown."""

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


def test_removals_precede_additions() -> None:
    """So that the server has room for the additions."""
    queries = QuerySet(PatchCounters())
    old = queries.subscribe("m:old", b"{}")
    queries.next_modifications(1, MANY, MANY)
    queries.release(old.query_id)
    queries.subscribe("m:new", b"{}")
    remove, add = queries.next_modifications(1, MANY, MANY)
    assert isinstance(remove, QueryRemove)
    assert isinstance(add, QueryAdd)


def test_a_message_has_no_more_changes_than_the_protocol_allows() -> None:
    """The next message has the others."""
    queries = QuerySet(PatchCounters())
    for number in range(MODIFICATIONS_PER_MESSAGE_MAX):
        queries.subscribe(f"m:{number}", b"{}")
    queries.next_modifications(1, MANY, 16 * MANY)
    for number in range(MODIFICATIONS_PER_MESSAGE_MAX):
        queries.release(number)
    # Queries whose removal is not sent yet count, too.
    assert len(queries.next_modifications(1, MANY, MANY)) == MODIFICATIONS_PER_MESSAGE_MAX
    assert not queries.has_unsent


def test_staged_results_are_not_shown_before_they_are_applied() -> None:
    """All of them appear in one step."""
    queries = QuerySet(PatchCounters())
    one, other = queries.subscribe("m:one", b"{}"), queries.subscribe("m:other", b"{}")
    queries.next_modifications(1, MANY, MANY)
    queries.stage(updated(one.query_id, b"1"), 1)
    queries.stage(updated(other.query_id, b"2"), 1)
    assert queries.show({}) == []
    queries.apply_staged()
    assert queries.show({}) == [one.query_id, other.query_id]
    assert (one.shown, other.shown) == (QueryValue(b"1"), QueryValue(b"2"))


def test_an_equal_value_is_not_a_change() -> None:
    """Even under another hash."""
    queries = QuerySet(PatchCounters())
    query = queries.subscribe("m:f", b"{}")
    queries.next_modifications(1, MANY, MANY)
    for hash_ in ("one", "another"):
        queries.stage(QueryUpdated(query_id=0, hash=hash_, value=Raw(b"1")), 1)
        queries.apply_staged()
        queries.show({})
    assert query.revision == 1


def test_an_optimistic_layer_covers_the_result_until_it_is_dropped() -> None:
    """If there was no result beneath, nothing is shown again."""
    queries = QuerySet(PatchCounters())
    query = queries.subscribe("m:f", b"{}")
    queries.next_modifications(1, MANY, MANY)
    assert queries.show({query.key: QueryValue.of(7)}) == [0]
    assert queries.show({}) == []
    assert query.shown is None
    queries.stage(updated(0, b"7"), 1)
    queries.apply_staged()
    assert queries.show({}) == [0]


def test_resume_offers_the_result_and_the_ts_at_which_it_was_current() -> None:
    """A socket that never became consistent does not change that `ts`; a failed query offers nothing."""
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
    """The hash must be the one that was offered."""
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
def test_equality_of_failures(data: dict[str, object], same: bool) -> None:
    """The server's request id is ignored; the app's data is compared."""
    one = RemoteError("no", number=1206, name="AppError", details={"requestId": "r"})
    other = RemoteError("no", number=1206, name="AppError", details=data)
    assert (QueryFailure(one) == QueryFailure(other)) is same
    assert QueryFailure(one) != QueryFailure(FunctionFailed("no"))
    assert QueryFailure(one) != QueryValue(b"1")


def patched(query_id: int, patch: bytes, hash_: str = "h2") -> QueryUpdated:
    return QueryUpdated(query_id=query_id, hash=hash_, patch=Raw(patch))


def repairing() -> tuple[QuerySet, PatchCounters]:
    """Return two queries with the results 1 and 2; a patch of the first one did not apply."""
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


def test_a_patch_that_does_not_apply_requests_the_full_value() -> None:
    """By removing the query and adding it again in one message, without `resume`."""
    queries, counters = repairing()
    assert (counters.values_received, counters.patches_applied, counters.patches_failed) == (2, 0, 1)
    assert queries.awaits_full_values
    remove, add = queries.next_modifications(2, MANY, MANY)
    assert (remove.query_id, add.query_id) == (0, 0)
    assert isinstance(add, QueryAdd)
    assert add.resume is None
    assert not queries.has_unsent


def test_updates_before_the_full_value_are_ignored() -> None:
    """Later patches build on the full value."""
    queries, counters = repairing()
    queries.next_modifications(2, MANY, MANY)
    queries.stage(patched(0, b'[{"op":"replace","path":"","value":7}]'), 1)
    queries.check_full_values(1)
    assert queries.awaits_full_values
    queries.stage(updated(0, b"[3]"), 2)
    queries.stage(patched(0, b'[{"op":"add","path":"/0","value":4}]'), 3)
    queries.check_full_values(3)
    assert not queries.awaits_full_values
    queries.apply_staged()
    assert next(iter(queries)).result == QueryValue(b"[4,3]")
    assert counters.patches_failed == 1


def test_a_released_query_does_not_request_its_full_value() -> None:
    """It is removed, and its request is dropped."""
    queries, _ = repairing()
    queries.release(0)
    assert [type(change) for change in queries.next_modifications(2, MANY, MANY)] == [QueryRemove]
    assert not queries.awaits_full_values


def test_a_lost_socket_drops_requests_for_full_values() -> None:
    """The result was current at its `ts`, and is offered with it."""
    queries, _ = repairing()
    queries.mark_all_unsent(5)
    assert not queries.awaits_full_values
    adds = queries.next_modifications(1, MANY, MANY)
    assert [add.resume is not None for add in adds if isinstance(add, QueryAdd)] == [True, True]


def test_many_requests_for_full_values_are_split() -> None:
    """The removal and the addition of a query stay in one message."""
    queries = QuerySet(PatchCounters())
    for number in range(3):
        queries.subscribe(f"q{number}", b"{}")
    queries.next_modifications(1, MANY, MANY)
    for number in range(3):
        queries.stage(patched(number, b"[]"), 1)  # without a result to apply it to
    sent = [[change.query_id for change in queries.next_modifications(2 + turn, MANY, 1_200)] for turn in range(2)]
    assert sent == [[0, 0, 1, 1], [2, 2]]
