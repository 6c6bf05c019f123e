"""Resending: which requests another socket repeats, and which version callers may see."""

from __future__ import annotations

import pytest

from tinyvex.client.identity import CallIdentity
from tinyvex.client.patch_verification import PatchCounters
from tinyvex.client.pending_requests import Answer, CallKind, PendingRequests
from tinyvex.client.query_set import QuerySet
from tinyvex.client.resend import Resend
from tinyvex.wire.messages import StateVersion


class Session:
    """The parts of a session that resending works on."""

    def __init__(self) -> None:
        self.queries = QuerySet(PatchCounters())
        self.requests = PendingRequests()
        self.resend = Resend(self.queries, self.requests)


@pytest.fixture
def session() -> Session:
    return Session()


def version(query_set: int, ts: int) -> StateVersion:
    return StateVersion(query_set=query_set, identity=0, ts=ts)


def test_sent_actions_and_queries_fail_and_mutations_are_repeated(session: Session) -> None:
    """Only the server's record of a mutation makes a repetition safe; unsent requests stay in the queue."""
    kinds = (CallKind.MUTATION, CallKind.ACTION, CallKind.QUERY, CallKind.MUTATION)
    sent = [session.requests.add(kind, "m:f", b"{}") for kind in kinds]
    for _ in sent:
        session.requests.next_to_send()
    session.requests.record_answer(sent[3], Answer(b"1", (), ts=5))
    unsent = [session.requests.add(kind, "m:f", b"{}") for kind in kinds]
    assert session.resend.connection_lost(None) == [sent[1], sent[2]]
    assert list(session.requests) == [sent[0], sent[3], *unsent]
    assert session.requests.next_to_send() is sent[0]


def test_lost_queries_are_sent_again_under_their_ids(session: Session) -> None:
    """In the order of the subscriptions."""
    for name in ("m:a", "m:b"):
        session.queries.subscribe(name, b"{}")
    session.queries.next_modifications(1, 10, 10_000)
    session.resend.connection_lost(None)
    again = session.queries.next_modifications(1, 10, 10_000)
    assert [add.query_id for add in again] == [0, 1]


def test_no_version_is_visible_before_every_query_was_sent(session: Session) -> None:
    """Even one that is new enough."""
    session.resend.queries_sent(1)
    assert not session.resend.restores(version(1, 5))
    session.resend.resending_queries = False
    assert session.resend.restores(version(1, 5))


def test_a_version_without_the_queries_sent_again_is_not_visible(session: Session) -> None:
    """Queries that are added later do not delay the others."""
    session.resend.queries_sent(1)
    session.resend.queries_sent(2)
    session.resend.resending_queries = False
    session.resend.queries_sent(3)
    assert not session.resend.restores(version(1, 5))
    assert session.resend.restores(version(2, 5))


def test_an_older_version_than_the_visible_one_is_not_shown(session: Session) -> None:
    """Callers never move backwards."""
    session.resend.visible_ts = 7
    session.resend.resending_queries = False
    assert not session.resend.restores(version(0, 6))
    assert session.resend.restores(version(0, 7))


def everyone(_caller: CallIdentity) -> bool:
    return True


def no_one(_caller: CallIdentity) -> bool:
    return False


def test_a_mutation_that_waits_for_its_user_does_not_have_to_finish(session: Session) -> None:
    """Unless it was sent before its user signed out."""
    session.requests.add(CallKind.MUTATION, "m:f", b"{}")
    session.resend.connected()
    assert session.resend.mutations_finished(no_one)
    session.requests.next_to_send()
    assert not session.resend.mutations_finished(no_one)


def test_mutations_of_the_old_socket_have_to_finish(session: Session) -> None:
    """One that is called after the connection does not count."""
    old = session.requests.add(CallKind.MUTATION, "m:f", b"{}")
    session.resend.connected()
    session.requests.add(CallKind.MUTATION, "m:f", b"{}")
    assert not session.resend.mutations_finished(everyone)
    session.resend.finished(old)
    assert session.resend.mutations_finished(everyone)


def test_another_epoch_completes_answered_mutations(session: Session) -> None:
    """And makes every `ts` of the old epoch meaningless."""
    answered, unanswered = (session.requests.add(CallKind.MUTATION, "m:f", b"{}") for _ in range(2))
    session.requests.next_to_send()
    session.requests.record_answer(answered, Answer(b"1", (), ts=5))
    session.resend.visible_ts = 7
    assert session.resend.history_changed() == [answered]
    assert list(session.requests) == [unanswered]
    assert session.resend.visible_ts == 0
