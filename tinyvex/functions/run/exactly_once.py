"""
Exactly-once mutations: a resent mutation is answered from its stored result instead of running again.

A client numbers the mutations of its session and resends one if the connection drops before the response arrives.

1.  `stored_outcome` looks up (session, request id) inside the writer's transaction, so that no other unit of work
    comes between the lookup and the commit.
2.  A client states with each mutation which ids it has finished, and never sends those again. Their records are deleted
    (`storage/log/request_records.py`), so such an id is refused: whether it ran is no longer known.
3.  Without a record, the mutation runs, and `request_record` builds the record that commits along with its writes.
    A mutation that fails leaves no record; the client may send it again under the same id.
4.  With a record, its digest is compared. The same digest: return the stored result.
    Another digest: refuse, because the id was used for another call or by another user.
5.  A caller may name a mutation with a key of its own, which then replaces session and request id: a program that was
    restarted has another session, and can repeat the mutation under its key.
6.  A mutation that ended the process (`stuck_calls.py`) is refused: it would end the next one too.

Records that no client acknowledges expire after `REQUEST_RECORD_SECONDS`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tinyvex.errors import RequestAcknowledged, RequestIdReused
from tinyvex.functions.run.call import MutationOutcome
from tinyvex.functions.run.idempotency_key import IdempotencyKey
from tinyvex.functions.run.identity_keys import session_key
from tinyvex.storage.log.operations import RequestRecord

if TYPE_CHECKING:
    from tinyvex.functions.run.call import Call
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["key_of_caller", "request_digest", "request_record", "stored_outcome"]


_CALLERS_SESSION = "key:"
"""Begins the session of a caller's own key, which is longer than any session id of a client."""


def key_of_caller(call: Call, name: str) -> IdempotencyKey:
    """Return the key for a name of the caller's own; equal names of different users are different keys."""
    digest = hashlib.sha512(b"\0".join((session_key(call.identity), name.encode()))).hexdigest()
    return IdempotencyKey(_CALLERS_SESSION + digest, 0, request_digest(call))


def request_digest(call: Call) -> bytes:
    """Return the digest of function, arguments and user; a request id stands for one such digest."""
    parts = (call.path.encode(), call.args, session_key(call.identity))
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


def stored_outcome(snapshot: Snapshot, key: IdempotencyKey) -> MutationOutcome | None:
    """
    Return the stored result of a mutation that has run under this key; None if none has.

    Raises:
        RequestAcknowledged: the client stated that it would never ask for this id again.
        RequestIdReused: the key was used for another call, or by another user.
    """
    acknowledged_below, record = snapshot.request(key.session_id, key.request_id)
    if key.request_id < max(acknowledged_below, key.acknowledged_below):
        raise RequestAcknowledged(
            f"request id {key.request_id} of this session was acknowledged, so its result is no longer stored and it is not"
            " run again; use a new request id"
        )
    if record is None:
        return None
    if not key.digest.startswith(record.digest):
        raise RequestIdReused(
            f"{_described(key)} was already used for another function, other arguments or another user; use a new one"
        )
    return MutationOutcome(record.result, record.ts, record.log_lines, replayed=True)


def _described(key: IdempotencyKey) -> str:
    if key.session_id.startswith(_CALLERS_SESSION):
        return "this idempotency key"
    return f"request id {key.request_id} of this session"


def request_record(key: IdempotencyKey, outcome: MutationOutcome) -> RequestRecord:
    """Return the record that commits along with the mutation."""
    return RequestRecord(
        key.session_id, key.request_id, key.digest, outcome.value, outcome.log_lines, outcome.ts, key.acknowledged_below
    )
