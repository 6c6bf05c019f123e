"""Who a client speaks for, step by step: a fake of nothing, only what was said and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.tokens import part
from tinyvex.client.identity import ActingAs, ClientIdentity, token_claims
from tinyvex.errors import InvalidValue, Unauthenticated
from tinyvex.values.types import Int64
from tinyvex.wire import error_objects
from tinyvex.wire import messages as wire

REFUSAL = error_objects.to_object(Unauthenticated("no"))
OTHER_USER = wire.ErrorObject(1014, "no", wire.ErrorData(name="SessionIdentity", fault="client", retry="after-fix"))


def token(subject: str = "ada", **others: Any) -> str:
    return f"{part({})}.{part({'sub': subject, **others})}.x"


ADA, ADA_AGAIN, BOB = token(), token(n=2), token("bob")


def notice(version: int, *, attempted: bool = False) -> wire.AuthErrorParams:
    return wire.AuthErrorParams(error=REFUSAL, base_version=version, auth_update_attempted=attempted)


def said(identity: ClientIdentity) -> tuple[int, str, str | None] | None:
    params = identity.next_params()
    return None if params is None else (params.base_version, params.kind, params.token)


@pytest.fixture
def opened() -> ClientIdentity:
    """With a source, on a new socket."""
    identity = ClientIdentity()
    identity.set_source(has_source=True)
    identity.opened()
    return identity


@pytest.fixture
def speaking(opened: ClientIdentity) -> ClientIdentity:
    """For Ada, at version 1."""
    opened.supply(ADA)
    assert said(opened) == (0, "user", ADA)
    opened.receive_answer(None)
    return opened


def test_without_a_source_nothing_is_said() -> None:
    """A client without users wants nothing and holds nothing up."""
    identity = ClientIdentity()
    identity.set_source(has_source=False)
    identity.opened()
    assert (identity.wants_token, identity.blocks_sending, said(identity)) == (False, False, None)


def test_everything_waits_until_the_answer(opened: ClientIdentity) -> None:
    """S-83: from the opening of a socket to the answer, nothing else is said."""
    assert opened.wants_token
    held = [opened.blocks_sending]
    opened.supply(ADA)
    held.append(opened.blocks_sending)
    said(opened)
    held.append(opened.blocks_sending)
    opened.receive_answer(None)
    assert (held, opened.blocks_sending) == ([True, True, True], False)


def test_nobody_needs_no_message(opened: ClientIdentity) -> None:
    """A new socket speaks for nobody already."""
    opened.supply(None)
    assert (said(opened), opened.blocks_sending, opened.failure) == (None, False, None)


def test_a_refused_token_is_asked_for_once_more(opened: ClientIdentity) -> None:
    """The source may have kept an old one; twice is enough."""
    for wanted in (True, False):
        opened.supply(ADA)
        said(opened)
        opened.receive_answer(REFUSAL)
        assert (opened.wants_token, opened.blocks_sending) == (wanted, wanted)
    assert opened.failure is not None
    assert opened.failure.name == "Unauthenticated"


def test_the_notice_of_a_refusal_changes_nothing(opened: ClientIdentity) -> None:
    """The answer has said it: the notice is for others."""
    opened.supply(ADA)
    said(opened)
    opened.receive_answer(REFUSAL)
    opened.receive_auth_error(notice(0, attempted=True))
    opened.supply(ADA_AGAIN)
    assert said(opened) == (0, "user", ADA_AGAIN)


def test_a_failing_source_leaves_nobody(opened: ClientIdentity) -> None:
    """The client goes on, and tells why."""
    opened.fail(Unauthenticated("broken"))
    assert (opened.wants_token, opened.blocks_sending, said(opened)) == (False, False, None)
    assert str(opened.failure) == "broken"


def test_a_renewal_holds_nothing_up(speaking: ClientIdentity) -> None:
    """The token before it still holds."""
    speaking.renew()
    assert (speaking.wants_token, speaking.blocks_sending) == (True, False)
    speaking.supply(ADA_AGAIN)
    assert (said(speaking), speaking.blocks_sending) == ((1, "user", ADA_AGAIN), False)
    speaking.receive_answer(None)
    assert speaking.token == ADA_AGAIN


def test_a_renewal_that_fails_takes_nothing_away(speaking: ClientIdentity) -> None:
    """The token before it holds until it ends, though the failure is told."""
    speaking.renew()
    speaking.fail(Unauthenticated("broken"))
    assert (speaking.token, speaking.blocks_sending, said(speaking)) == (ADA, False, None)
    assert speaking.failure is not None


def test_the_end_of_a_token_asks_for_another(speaking: ClientIdentity) -> None:
    """S-85: from the version that the notice has."""
    speaking.receive_auth_error(notice(2))
    assert (speaking.wants_token, speaking.blocks_sending) == (True, True)
    speaking.supply(ADA_AGAIN)
    assert said(speaking) == (2, "user", ADA_AGAIN)
    speaking.receive_answer(None)
    assert speaking.failure is None


def test_a_renewal_may_cross_the_end(speaking: ClientIdentity) -> None:
    """S-87: first the version of the end counts, then one more with the answer; no other token is asked for."""
    speaking.renew()
    speaking.supply(ADA_AGAIN)
    said(speaking)
    speaking.receive_auth_error(notice(2))
    assert not speaking.wants_token
    speaking.receive_answer(None)
    speaking.set_source(has_source=False)
    assert said(speaking) == (3, "none", None)


def test_signing_out_goes_first(speaking: ClientIdentity) -> None:
    """Nothing that comes later is said by who was signed in."""
    speaking.set_source(has_source=False)
    assert speaking.blocks_sending
    assert said(speaking) == (1, "none", None)
    speaking.receive_answer(None)
    assert (said(speaking), speaking.token, speaking.wants_token, speaking.blocks_sending) == (None, None, False, False)


def test_signing_out_waits_for_an_answer_under_way(opened: ClientIdentity) -> None:
    """Who was about to be signed in is signed out again."""
    opened.supply(ADA)
    said(opened)
    opened.set_source(has_source=False)
    assert (said(opened), opened.blocks_sending) == (None, True)
    opened.receive_answer(None)
    assert said(opened) == (1, "none", None)


def test_a_refusal_for_a_source_that_is_gone_is_not_told(opened: ClientIdentity) -> None:
    """It says nothing about the one that is asked now."""
    opened.supply(ADA)
    said(opened)
    opened.set_source(has_source=False)
    opened.receive_answer(REFUSAL)
    assert (opened.failure, said(opened), opened.blocks_sending) == (None, None, False)


def test_another_source_signs_out_and_asks(speaking: ClientIdentity) -> None:
    """Until it has answered, nobody speaks, and nothing is said."""
    speaking.set_source(has_source=True)
    assert said(speaking) == (1, "none", None)
    speaking.receive_answer(None)
    assert (speaking.wants_token, speaking.blocks_sending) == (True, True)
    speaking.supply(ADA_AGAIN)
    assert said(speaking) == (2, "user", ADA_AGAIN)


def test_a_source_that_turns_to_nobody_signs_out(speaking: ClientIdentity) -> None:
    """None from the source is as good as no source."""
    speaking.renew()
    speaking.supply(None)
    assert said(speaking) == (1, "none", None)


def test_a_client_is_one_users(speaking: ClientIdentity) -> None:
    """S-86: mutations that are not finished are of the first one; also on the next socket, another is not tried."""
    speaking.lost()
    speaking.opened()
    speaking.supply(BOB)
    assert (said(speaking), speaking.blocks_sending) == (None, False)
    assert speaking.failure is not None
    assert speaking.failure.name == "SessionIdentity"


def test_a_session_of_somebody_else_is_not_asked_again(opened: ClientIdentity) -> None:
    """S-86: another token of the same user would be refused, too."""
    opened.supply(ADA)
    said(opened)
    opened.receive_answer(OTHER_USER)
    assert (opened.wants_token, opened.blocks_sending) == (False, False)


def test_a_new_socket_begins_anew(speaking: ClientIdentity) -> None:
    """Versions and tokens are a socket's own."""
    speaking.lost()
    assert not speaking.wants_token
    speaking.opened()
    assert (speaking.wants_token, speaking.blocks_sending) == (True, True)
    speaking.supply(ADA)
    assert said(speaking) == (0, "user", ADA)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.!.c", f"a.{part([1])}.c", f"a.{part(b'[' * 4000)}.c", "a.é.c"])
def test_what_is_no_token_says_nothing(text: str) -> None:
    """Only the server decides what is a token."""
    assert token_claims(text) == {}


def test_an_administrator_acts_as_somebody(opened: ClientIdentity) -> None:
    """What is said has the admin token and the claims, encoded; everything else waits for the answer."""
    opened.supply(ActingAs("secret", {"subject": "ada", "age": Int64(7)}))
    params = opened.next_params()
    assert params is not None
    assert (params.kind, params.token) == ("admin", "secret")
    assert params.acting_as == {"subject": "ada", "age": {"$integer": "BwAAAAAAAAA="}}
    assert opened.blocks_sending
    opened.receive_answer(None)
    assert not opened.blocks_sending


def test_an_administrator_acts_as_the_same_on_every_socket(opened: ClientIdentity) -> None:
    """Else what was meant for somebody would be asked as nobody after a lost connection."""
    for _ in range(3):
        opened.supply(ActingAs("secret", {"subject": "ada"}))
        assert said(opened) == (0, "admin", "secret")
        opened.receive_answer(None)
        assert (opened.failure, opened.token) == (None, "secret")
        opened.lost()
        opened.opened()


def test_claims_are_values() -> None:
    """What cannot be sent is refused before it is tried."""
    with pytest.raises(InvalidValue):
        ActingAs("secret", {"subject": object()})


def test_acting_as_another_needs_another_client(opened: ClientIdentity) -> None:
    """A session is its first identity's, an administrator's too."""
    opened.supply(ActingAs("secret", {"subject": "ada"}))
    opened.next_params()
    opened.receive_answer(None)
    opened.supply(ActingAs("secret", {"subject": "bob"}))
    assert opened.next_params() is None
    assert opened.failure is not None
