"""Exactly-once mutations: what a request id stands for, and what a resent mutation receives."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tinyvex.errors import RequestAcknowledged, RequestIdReused
from tinyvex.functions.run.call import Call, MutationOutcome
from tinyvex.functions.run.exactly_once import key_of_caller, request_digest, request_record, stored_outcome
from tinyvex.functions.run.idempotency_key import IdempotencyKey
from tinyvex.storage.log.request_records import StoredRequest

CALL = Call("m:f", b"{}")
KEY = IdempotencyKey("session", 7, request_digest(CALL))
OUTCOME = MutationOutcome(b"1", 20, ("[INFO] hello",))


def snapshot(*records: Any, acknowledged_below: int = 0) -> Any:
    """Stand for a snapshot with these exactly-once records, and a session that has acknowledged some."""
    stored = {(record.session_id, record.request_id): record for record in records}
    return SimpleNamespace(request=lambda *key: StoredRequest(acknowledged_below, stored.get(key)))


@pytest.mark.parametrize(
    "other",
    [Call("m:g", b"{}"), Call("m:f", b'{"a":1}'), Call("m:f", b"{}", {"name": "a"})],
    ids=["path", "args", "user"],
)
def test_a_digest_tells_calls_apart(other: Call) -> None:
    """By function, arguments and user."""
    assert request_digest(CALL) != request_digest(other)


def test_keys_of_callers_belong_to_their_user() -> None:
    """Equal names of two users are two keys, none of which a session id of a client can equal."""
    keys = [key_of_caller(Call("m:f", b"{}", user), "k") for user in (None, {"subject": "a"}, {"subject": "b"})]
    assert len({key.session_id for key in keys}) == 3
    assert key_of_caller(CALL, "k") == keys[0] != key_of_caller(CALL, "other")
    assert all(len(key.session_id) > 128 for key in keys)


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


def test_a_part_of_the_digest_is_enough() -> None:
    """The log stores the beginning of a digest."""
    record = msgspec.structs.replace(request_record(KEY, OUTCOME), digest=KEY.digest[:8])
    assert stored_outcome(snapshot(record), KEY) is not None


def test_an_acknowledged_request_is_refused() -> None:
    """It may have run, and its result is gone; the id at the floor is not acknowledged."""
    with pytest.raises(RequestAcknowledged, match="request id 7 of this session was acknowledged"):
        stored_outcome(snapshot(acknowledged_below=8), KEY)
    assert stored_outcome(snapshot(acknowledged_below=7), KEY) is None


def test_a_request_that_acknowledges_itself_is_refused() -> None:
    """The client states that it has finished the request that it sends."""
    key = IdempotencyKey("session", 7, KEY.digest, acknowledged_below=8)
    with pytest.raises(RequestAcknowledged):
        stored_outcome(snapshot(), key)


def test_acknowledging_does_not_change_what_a_request_is() -> None:
    """A mutation that is resent with a later acknowledgement is the same request."""
    later = IdempotencyKey("session", 7, KEY.digest, acknowledged_below=5)
    assert later == KEY
    assert hash(later) == hash(KEY)
    assert later != IdempotencyKey("session", 8, KEY.digest)
    assert request_record(later, OUTCOME).acknowledged_below == 5
