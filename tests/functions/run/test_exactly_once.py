"""Exactly-once mutations: what a request id stands for, and what a resent mutation receives."""

from types import SimpleNamespace
from typing import Any

import pytest

from tinyvex.errors import RequestIdReused
from tinyvex.functions.run.call import Call, MutationOutcome
from tinyvex.functions.run.exactly_once import request_digest, request_record, stored_outcome
from tinyvex.functions.run.idempotency_key import IdempotencyKey

CALL = Call("m:f", b"{}")
KEY = IdempotencyKey("session", 7, request_digest(CALL))
OUTCOME = MutationOutcome(b"1", 20, ("[INFO] hello",))


def snapshot(*records: Any) -> Any:
    """Stand for a snapshot with these exactly-once records."""
    stored = {(record.session_id, record.request_id): record for record in records}
    return SimpleNamespace(request=lambda *key: stored.get(key))


@pytest.mark.parametrize(
    "other",
    [Call("m:g", b"{}"), Call("m:f", b'{"a":1}'), Call("m:f", b"{}", {"name": "a"})],
    ids=["path", "args", "user"],
)
def test_a_digest_tells_calls_apart(other: Call) -> None:
    """By function, arguments and user."""
    assert request_digest(CALL) != request_digest(other)


def test_a_first_mutation_has_no_stored_outcome() -> None:
    """Records of other requests do not count."""
    other = request_record(IdempotencyKey("session", 8, KEY.digest), OUTCOME)
    assert stored_outcome(snapshot(other), KEY) is None


def test_a_resent_mutation_receives_the_stored_outcome() -> None:
    """Value, timestamp and log lines are those of the first run."""
    replayed = stored_outcome(snapshot(request_record(KEY, OUTCOME)), KEY)
    assert replayed == MutationOutcome(b"1", 20, ("[INFO] hello",), replayed=True)


def test_a_reused_request_id_is_refused() -> None:
    """Another call must not receive the first one's result."""
    with pytest.raises(RequestIdReused, match="request id 7 of this session was already used"):
        stored_outcome(snapshot(request_record(KEY, OUTCOME)), IdempotencyKey("session", 7, b"another"))
