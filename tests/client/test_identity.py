"""The client's identity, step by step."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.tokens import part
from tinyvex.client.identity import ANONYMOUS, ActingAs, CallIdentity, ClientIdentity, token_claims
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


def sent(identity: ClientIdentity) -> tuple[int, str, str | None] | None:
    params = identity.next_params()
    return None if params is None else (params.base_version, params.kind, params.token)


@pytest.fixture
def opened() -> ClientIdentity:
    """An identity with a source, on a new socket."""
    identity = ClientIdentity()
    identity.set_source(has_source=True)
    identity.opened()
    return identity


@pytest.fixture
def authenticated(opened: ClientIdentity) -> ClientIdentity:
    """An identity that is authenticated as Ada, at version 1."""
    opened.supply(ADA)
    assert sent(opened) == (0, "user", ADA)
    opened.receive_answer(None)
    return opened


def test_without_a_source_nothing_is_sent() -> None:
    """A client without users needs no token and blocks nothing."""
    identity = ClientIdentity()
    identity.set_source(has_source=False)
    identity.opened()
    assert (identity.wants_token, identity.blocks_sending, sent(identity)) == (False, False, None)


def test_everything_waits_until_the_answer(opened: ClientIdentity) -> None:
    """S-83: between the opening of the socket and the answer, nothing else is sent."""
    assert opened.wants_token
    held = [opened.blocks_sending]
    opened.supply(ADA)
    held.append(opened.blocks_sending)
    sent(opened)
    held.append(opened.blocks_sending)
    opened.receive_answer(None)
    assert (held, opened.blocks_sending) == ([True, True, True], False)


def test_an_anonymous_client_sends_no_message(opened: ClientIdentity) -> None:
    """A new socket is anonymous."""
    opened.supply(None)
    assert (sent(opened), opened.blocks_sending, opened.failure) == (None, False, None)


def test_the_source_is_asked_once_more_after_a_refusal(opened: ClientIdentity) -> None:
    """It may have cached an old token; a second refusal is final."""
    for wanted in (True, False):
        opened.supply(ADA)
        sent(opened)
        opened.receive_answer(REFUSAL)
        assert (opened.wants_token, opened.blocks_sending) == (wanted, wanted)
    assert opened.failure is not None
    assert opened.failure.name == "Unauthenticated"


def test_the_notice_of_a_refusal_changes_nothing(opened: ClientIdentity) -> None:
    """The answer has already reported it."""
    opened.supply(ADA)
    sent(opened)
    opened.receive_answer(REFUSAL)
    opened.receive_auth_error(notice(0, attempted=True))
    opened.supply(ADA_AGAIN)
    assert sent(opened) == (0, "user", ADA_AGAIN)


def test_everything_waits_while_the_source_fails(opened: ClientIdentity) -> None:
    """Until it is asked again and returns a token; the failure is reported."""
    opened.fail(Unauthenticated("broken"))
    assert (opened.wants_token, opened.needs_token, opened.blocks_sending, sent(opened)) == (False, True, True, None)
    assert str(opened.failure) == "broken"
    opened.renew()
    assert (opened.wants_token, opened.needs_token) == (True, False)
    opened.supply(ADA)
    assert sent(opened) == (0, "user", ADA)


def test_a_refusal_that_passes_is_a_failure_of_the_source(opened: ClientIdentity) -> None:
    """Such as Overloaded: the source is asked again later."""
    opened.supply(ADA)
    sent(opened)
    opened.receive_answer(
        wire.ErrorObject(1402, "no", wire.ErrorData(name="Overloaded", fault="server", retry="later"))
    )
    assert (opened.wants_token, opened.needs_token, opened.blocks_sending) == (False, True, True)


# Whose calls may be sent.


def may_send(identity: ClientIdentity, *callers: CallIdentity) -> list[bool]:
    return [identity.may_send(caller) for caller in callers]


def test_a_users_calls_are_sent_only_as_that_user(opened: ClientIdentity) -> None:
    """Not while the user is unknown, not after signing out, and again after signing in."""
    ada = opened.caller
    seen = [*may_send(opened, ada, ANONYMOUS)]
    opened.supply(ADA)
    seen += may_send(opened, ada, ANONYMOUS)
    sent(opened)
    seen += may_send(opened, ada, ANONYMOUS)
    opened.receive_answer(None)
    assert seen == [False, True, False, True, False, False]
    assert may_send(opened, ada, ANONYMOUS) == [True, False]
    opened.set_source(has_source=False)
    assert (may_send(opened, ada, ANONYMOUS), opened.caller) == ([False, False], ANONYMOUS)
    sent(opened)
    opened.receive_answer(None)
    assert may_send(opened, ada, ANONYMOUS) == [False, True]
    opened.set_source(has_source=True)
    again = opened.caller
    opened.supply(ADA_AGAIN)
    sent(opened)
    opened.receive_answer(None)
    assert may_send(opened, ada, again, ANONYMOUS) == [True, True, False]


def test_signing_in_waits_for_anonymous_calls(opened: ClientIdentity) -> None:
    """Renewing does not."""
    opened.supply(ADA)
    assert opened.next_params(lambda: True) is None
    assert opened.next_params(lambda: False) is not None
    opened.receive_answer(None)
    opened.renew()
    opened.supply(ADA_AGAIN)
    assert opened.next_params(lambda: True) is not None


def test_a_source_that_returns_none_makes_its_calls_anonymous(opened: ClientIdentity) -> None:
    """The program asked for no user."""
    caller = opened.caller
    opened.supply(None)
    assert may_send(opened, caller) == [True]
    assert opened.caller is ANONYMOUS


def test_calls_of_an_unknown_user_end_with_the_refusal(opened: ClientIdentity) -> None:
    """So do calls made after it, until the next socket."""
    caller = opened.caller
    for _ in range(2):
        opened.supply(ADA)
        sent(opened)
        opened.receive_answer(REFUSAL)
    assert str(caller.refusal) == str(opened.refusal) == "no"
    opened.lost()
    assert opened.refusal is None
    assert opened.caller.refusal is None


def test_calls_of_the_sessions_user_outlast_a_refusal(authenticated: ClientIdentity) -> None:
    """They wait until that user signs in again."""
    ada = authenticated.caller
    authenticated.lost()
    authenticated.opened()
    authenticated.supply(BOB)
    assert (ada.refusal, may_send(authenticated, ada)) == (None, [False])
    assert authenticated.refusal is not None
    authenticated.set_source(has_source=True)
    authenticated.supply(ADA)
    sent(authenticated)
    authenticated.receive_answer(None)
    assert may_send(authenticated, ada) == [True]


def test_calls_of_a_user_who_was_never_known_end_with_the_source(opened: ClientIdentity) -> None:
    """The next source may be another user's."""
    caller = opened.caller
    opened.set_source(has_source=True)
    assert "was replaced before the user was known" in str(caller.refusal)
    assert opened.caller is not caller


def test_a_renewal_blocks_nothing(authenticated: ClientIdentity) -> None:
    """The previous token is still valid."""
    authenticated.renew()
    assert (authenticated.wants_token, authenticated.blocks_sending) == (True, False)
    authenticated.supply(ADA_AGAIN)
    assert (sent(authenticated), authenticated.blocks_sending) == ((1, "user", ADA_AGAIN), False)
    authenticated.receive_answer(None)
    assert authenticated.token == ADA_AGAIN


def test_a_failed_renewal_keeps_the_token(authenticated: ClientIdentity) -> None:
    """The failure is reported; the previous token is valid until it expires."""
    authenticated.renew()
    authenticated.fail(Unauthenticated("broken"))
    assert (authenticated.token, authenticated.blocks_sending, sent(authenticated)) == (ADA, False, None)
    assert authenticated.failure is not None


def test_an_expired_token_is_replaced(authenticated: ClientIdentity) -> None:
    """S-85: from the version in the notice."""
    authenticated.receive_auth_error(notice(2))
    assert (authenticated.wants_token, authenticated.blocks_sending) == (True, True)
    authenticated.supply(ADA_AGAIN)
    assert sent(authenticated) == (2, "user", ADA_AGAIN)
    authenticated.receive_answer(None)
    assert authenticated.failure is None


def test_a_renewal_may_cross_the_expiry(authenticated: ClientIdentity) -> None:
    """S-87: the notice counts first, then the answer adds one version; no other token is requested."""
    authenticated.renew()
    authenticated.supply(ADA_AGAIN)
    sent(authenticated)
    authenticated.receive_auth_error(notice(2))
    assert not authenticated.wants_token
    authenticated.receive_answer(None)
    authenticated.set_source(has_source=False)
    assert sent(authenticated) == (3, "none", None)


def test_signing_out_precedes_other_messages(authenticated: ClientIdentity) -> None:
    """Nothing later is sent under the old identity."""
    authenticated.set_source(has_source=False)
    assert authenticated.blocks_sending
    assert sent(authenticated) == (1, "none", None)
    authenticated.receive_answer(None)
    assert (sent(authenticated), authenticated.token, authenticated.wants_token, authenticated.blocks_sending) == (
        None,
        None,
        False,
        False,
    )


def test_signing_out_waits_for_a_pending_answer(opened: ClientIdentity) -> None:
    """The user who is about to be signed in is signed out again."""
    opened.supply(ADA)
    sent(opened)
    opened.set_source(has_source=False)
    assert (sent(opened), opened.blocks_sending) == (None, True)
    opened.receive_answer(None)
    assert sent(opened) == (1, "none", None)


def test_a_refusal_for_a_replaced_source_is_not_reported(opened: ClientIdentity) -> None:
    """It says nothing about the current source."""
    opened.supply(ADA)
    sent(opened)
    opened.set_source(has_source=False)
    opened.receive_answer(REFUSAL)
    assert (opened.failure, sent(opened), opened.blocks_sending) == (None, None, False)


def test_another_source_signs_out_and_asks(authenticated: ClientIdentity) -> None:
    """Until it has answered, the client is anonymous and sends nothing."""
    authenticated.set_source(has_source=True)
    assert sent(authenticated) == (1, "none", None)
    authenticated.receive_answer(None)
    assert (authenticated.wants_token, authenticated.blocks_sending) == (True, True)
    authenticated.supply(ADA_AGAIN)
    assert sent(authenticated) == (2, "user", ADA_AGAIN)


def test_a_source_that_returns_none_signs_out(authenticated: ClientIdentity) -> None:
    """As if there were no source."""
    authenticated.renew()
    authenticated.supply(None)
    assert sent(authenticated) == (1, "none", None)


def test_a_client_belongs_to_one_user(authenticated: ClientIdentity) -> None:
    """
    S-86: unfinished mutations are the first user's; a token of another user is not sent, on later sockets neither.
    """
    authenticated.lost()
    authenticated.opened()
    authenticated.supply(BOB)
    assert (sent(authenticated), authenticated.blocks_sending) == (None, False)
    assert authenticated.failure is not None
    assert authenticated.failure.name == "SessionIdentity"


def test_the_source_is_not_asked_again_if_the_session_is_anothers(opened: ClientIdentity) -> None:
    """S-86: another token of the same user would be refused, too."""
    opened.supply(ADA)
    sent(opened)
    opened.receive_answer(OTHER_USER)
    assert (opened.wants_token, opened.blocks_sending) == (False, False)


def test_a_new_socket_starts_anonymous(authenticated: ClientIdentity) -> None:
    """Versions and tokens belong to a socket."""
    authenticated.lost()
    assert not authenticated.wants_token
    authenticated.opened()
    assert (authenticated.wants_token, authenticated.blocks_sending) == (True, True)
    authenticated.supply(ADA)
    assert sent(authenticated) == (0, "user", ADA)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.!.c", f"a.{part([1])}.c", f"a.{part(b'[' * 4000)}.c", "a.é.c"])
def test_a_malformed_token_has_no_claims(text: str) -> None:
    """Only the server decides whether a token is valid."""
    assert token_claims(text) == {}


def test_an_administrator_acts_as_a_user(opened: ClientIdentity) -> None:
    """The message has the admin token and the encoded claims; everything else waits for the answer."""
    opened.supply(ActingAs("secret", {"subject": "ada", "age": Int64(7)}))
    params = opened.next_params()
    assert params is not None
    assert (params.kind, params.token) == ("admin", "secret")
    assert params.acting_as == {"subject": "ada", "age": {"$integer": "BwAAAAAAAAA="}}
    assert opened.blocks_sending
    opened.receive_answer(None)
    assert not opened.blocks_sending


def test_an_administrator_acts_as_the_same_user_on_every_socket(opened: ClientIdentity) -> None:
    """Otherwise calls meant for a user would run as another after a lost connection."""
    for _ in range(3):
        opened.supply(ActingAs("secret", {"subject": "ada"}))
        assert sent(opened) == (0, "admin", "secret")
        opened.receive_answer(None)
        assert (opened.failure, opened.token) == (None, "secret")
        opened.lost()
        opened.opened()


def test_claims_are_values() -> None:
    """Claims that cannot be sent are refused when the source creates them."""
    with pytest.raises(InvalidValue):
        ActingAs("secret", {"subject": object()})


def test_acting_as_another_needs_another_client(opened: ClientIdentity) -> None:
    """An administrator's session belongs to its first identity, too."""
    opened.supply(ActingAs("secret", {"subject": "ada"}))
    opened.next_params()
    opened.receive_answer(None)
    opened.supply(ActingAs("secret", {"subject": "bob"}))
    assert opened.next_params() is None
    assert opened.failure is not None
