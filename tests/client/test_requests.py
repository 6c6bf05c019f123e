"""Requests in flight: the table at the top of the module, row by row."""

from __future__ import annotations

import pytest

from tinyvex.client.requests import Answer, Kind, PendingRequest, Phase, Requests


def take_all(requests: Requests) -> list[PendingRequest]:
    taken = []
    while (request := requests.take()) is not None:
        taken.append(request)
    return taken


def test_numbers_grow_and_are_never_reused() -> None:
    """Also after everything is finished."""
    requests = Requests()
    first = requests.add(Kind.QUERY, "m:f", b"{}")
    requests.take()
    requests.finish(first)
    assert requests.add(Kind.QUERY, "m:f", b"{}").number == first.number + 1


def test_requests_are_taken_in_order() -> None:
    """Whatever their kind."""
    requests = Requests()
    added = [requests.add(kind, "m:f", b"{}") for kind in (Kind.QUERY, Kind.MUTATION, Kind.ACTION)]
    assert take_all(requests) == added
    assert requests.unanswered == 3


def test_an_answered_mutation_waits_for_its_ts() -> None:
    """`covered` finishes it, not before."""
    requests = Requests()
    mutation = requests.add(Kind.MUTATION, "m:f", b"{}")
    requests.take()
    requests.answer(mutation, Answer(b"1", (), ts=5))
    assert requests.covered(4) == []
    assert requests.covered(5) == [mutation]
    assert len(requests) == 0


def test_the_first_answer_stands() -> None:
    """A mutation sent again may be answered again."""
    requests = Requests()
    mutation = requests.add(Kind.MUTATION, "m:f", b"{}")
    for value in (b"1", b"2"):
        requests.take()
        requests.answer(mutation, Answer(value, (), ts=5))
        requests.lost()
    assert mutation.answer == Answer(b"1", (), ts=5)


def test_a_lost_socket_fails_what_was_sent_and_may_not_run_twice() -> None:
    """Mutations are queued again, before what was never sent."""
    requests = Requests()
    sent = [requests.add(kind, "m:f", b"{}") for kind in (Kind.MUTATION, Kind.ACTION, Kind.QUERY, Kind.MUTATION)]
    take_all(requests)
    requests.answer(sent[3], Answer(b"1", (), ts=5))
    unsent = [requests.add(kind, "m:f", b"{}") for kind in (Kind.ACTION, Kind.QUERY, Kind.MUTATION)]
    assert requests.lost() == [sent[1], sent[2]]
    assert requests.unanswered == 0
    assert take_all(requests) == [sent[0], sent[3], *unsent]


@pytest.mark.parametrize("kind", [Kind.ACTION, Kind.QUERY])
def test_an_unsent_request_can_be_abandoned_and_a_sent_one_not(kind: Kind) -> None:
    """What was sent runs its course."""
    requests = Requests()
    unsent, sent = requests.add(kind, "m:f", b"{}"), requests.add(kind, "m:f", b"{}")
    assert requests.abandon(unsent.number)
    assert not requests.abandon(unsent.number)
    assert take_all(requests) == [sent]
    assert not requests.abandon(sent.number)


def test_answered_mutations_can_be_forgotten() -> None:
    """Also those that wait to be sent again; unanswered ones stay."""
    requests = Requests()
    answered, queued_again, unanswered = (requests.add(Kind.MUTATION, "m:f", b"{}") for _ in range(3))
    take_all(requests)
    requests.answer(queued_again, Answer(b"", (), ts=1))
    requests.lost()
    requests.take()
    requests.answer(answered, Answer(b"", (), ts=2))
    assert requests.forget_answered() == [answered, queued_again]
    assert [request.phase for request in requests] == [Phase.QUEUED]
    assert take_all(requests) == [unanswered]
