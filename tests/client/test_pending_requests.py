"""Pending requests: the state diagram at the top of the module."""

from __future__ import annotations

import pytest

from tinyvex.client.identity import ANONYMOUS, CallIdentity
from tinyvex.client.pending_requests import Answer, CallKind, PendingRequest, PendingRequests, RequestPhase
from tinyvex.errors import Unauthenticated


def send_all(requests: PendingRequests) -> list[PendingRequest]:
    sent = []
    while (request := requests.next_to_send()) is not None:
        sent.append(request)
    return sent


def test_numbers_increase_and_are_never_reused() -> None:
    """A number is not reused after its request has finished."""
    requests = PendingRequests()
    first = requests.add(CallKind.QUERY, "m:f", b"{}")
    requests.next_to_send()
    requests.finish_sent(first)
    assert requests.add(CallKind.QUERY, "m:f", b"{}").number == first.number + 1


def test_requests_are_sent_in_the_order_of_the_calls() -> None:
    """The order does not depend on their kind."""
    requests = PendingRequests()
    added = [requests.add(kind, "m:f", b"{}") for kind in (CallKind.QUERY, CallKind.MUTATION, CallKind.ACTION)]
    assert send_all(requests) == added
    assert requests.unanswered == 3


def test_an_answered_mutation_waits_for_its_ts() -> None:
    """`finish_covered` finishes it only at or past its `ts`."""
    requests = PendingRequests()
    mutation = requests.add(CallKind.MUTATION, "m:f", b"{}")
    requests.next_to_send()
    requests.record_answer(mutation, Answer(b"1", (), ts=5))
    assert requests.finish_covered(4) == []
    assert requests.finish_covered(5) == [mutation]
    assert list(requests) == []


def test_a_second_answer_does_not_replace_the_first() -> None:
    """A mutation that is sent again may be answered again."""
    requests = PendingRequests()
    mutation = requests.add(CallKind.MUTATION, "m:f", b"{}")
    for value in (b"1", b"2"):
        requests.next_to_send()
        requests.record_answer(mutation, Answer(value, (), ts=5))
        requests.requeue()
    assert mutation.answer == Answer(b"1", (), ts=5)


def test_requeued_requests_are_sent_in_the_order_of_the_calls() -> None:
    """Requests that were sent or answered precede those that were not sent."""
    requests = PendingRequests()
    sent = [requests.add(CallKind.MUTATION, "m:f", b"{}") for _ in range(2)]
    send_all(requests)
    requests.record_answer(sent[1], Answer(b"1", (), ts=5))
    unsent = [requests.add(kind, "m:f", b"{}") for kind in (CallKind.ACTION, CallKind.QUERY, CallKind.MUTATION)]
    requests.requeue()
    assert requests.unanswered == 0
    assert send_all(requests) == [*sent, *unsent]


@pytest.mark.parametrize("kind", CallKind)
def test_an_unsent_request_can_be_withdrawn_and_a_sent_one_cannot(kind: CallKind) -> None:
    """The server already runs a request that was sent."""
    requests = PendingRequests()
    unsent, sent = requests.add(kind, "m:f", b"{}"), requests.add(kind, "m:f", b"{}")
    assert requests.withdraw(unsent)
    assert not requests.withdraw(unsent)
    assert send_all(requests) == [sent]
    assert not requests.withdraw(sent)


def test_a_mutation_that_waits_to_be_sent_again_cannot_be_withdrawn() -> None:
    """It may have run on the lost socket."""
    requests = PendingRequests()
    mutation = requests.add(CallKind.MUTATION, "m:f", b"{}")
    send_all(requests)
    requests.requeue()
    assert not requests.withdraw(mutation)
    assert send_all(requests) == [mutation]


def test_answered_mutations_can_be_finished_without_their_transition() -> None:
    """This includes mutations that were answered on another socket and queued again."""
    requests = PendingRequests()
    answered, requeued, unanswered = (requests.add(CallKind.MUTATION, "m:f", b"{}") for _ in range(3))
    send_all(requests)
    requests.record_answer(requeued, Answer(b"", (), ts=1))
    requests.requeue()
    requests.next_to_send()
    requests.record_answer(answered, Answer(b"", (), ts=2))
    assert requests.finish_ever_answered() == [answered, requeued]
    assert [request.phase for request in requests] == [RequestPhase.QUEUED]
    assert send_all(requests) == [unanswered]


def test_a_session_acknowledges_below_its_oldest_unfinished_mutation() -> None:
    """Whatever finished after it; actions and queries hold nothing back, because they are never sent again."""
    requests = PendingRequests()
    assert requests.acknowledged_below == 0
    first, _, second = [
        requests.add(kind, "m:f", b"{}") for kind in (CallKind.MUTATION, CallKind.ACTION, CallKind.MUTATION)
    ]
    send_all(requests)
    assert requests.acknowledged_below == first.number
    requests.record_answer(second, Answer(b"1", (), ts=5))
    requests.finish_covered(5)
    assert requests.acknowledged_below == first.number
    requests.finish_sent(first)
    assert requests.acknowledged_below == second.number + 1


def test_an_answer_that_is_not_covered_is_not_acknowledged() -> None:
    """The mutation would be sent again after a lost connection."""
    requests = PendingRequests()
    mutation = requests.add(CallKind.MUTATION, "m:f", b"{}")
    send_all(requests)
    requests.record_answer(mutation, Answer(b"1", (), ts=5))
    assert requests.acknowledged_below == mutation.number
    requests.requeue()
    assert requests.acknowledged_below == mutation.number


def test_a_caller_who_may_not_send_delays_no_other() -> None:
    """The requests of each caller keep their order."""
    requests = PendingRequests()
    ada = CallIdentity()
    first, second, third, fourth = (
        requests.add(CallKind.MUTATION, "m:f", b"{}", caller=caller) for caller in (ada, ANONYMOUS, ada, ANONYMOUS)
    )
    assert [requests.next_to_send(lambda caller: caller is ANONYMOUS) for _ in range(3)] == [second, fourth, None]
    assert requests.has_queued(lambda caller: caller is ada)
    assert [requests.next_to_send(lambda caller: caller is ada) for _ in range(3)] == [first, third, None]
    assert requests.unanswered == 4


def test_the_requests_of_a_refused_caller_are_removed() -> None:
    """The others stay in the queue."""
    requests = PendingRequests()
    ada = CallIdentity()
    refused, kept = (requests.add(CallKind.MUTATION, "m:f", b"{}", caller=caller) for caller in (ada, ANONYMOUS))
    ada.refusal = Unauthenticated("no")
    assert requests.remove_refused() == [refused]
    assert (list(requests), requests.next_to_send()) == ([kept], kept)


def test_every_way_to_end_lowers_the_number_of_unanswered_requests() -> None:
    """An answer, a failure, a lost socket; otherwise the client would stop sending for good."""
    requests = PendingRequests()
    mutation, query, other = (
        requests.add(kind, "m:f", b"{}") for kind in (CallKind.MUTATION, CallKind.QUERY, CallKind.QUERY)
    )
    for _ in range(3):
        requests.next_to_send()
    counts = [requests.unanswered]
    requests.record_answer(mutation, Answer(b"1", (), ts=1))
    counts.append(requests.unanswered)
    requests.finish_sent(query)
    counts.append(requests.unanswered)
    requests.remove(other)
    requests.requeue()
    counts.append(requests.unanswered)
    assert counts == [3, 2, 1, 0]
