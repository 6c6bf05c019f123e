"""The ways in: each token opens what it should."""

from pathlib import Path

import pytest

from tests.support.http import ADMIN, CLIENT, token_auth
from tinyvex.errors import Unauthenticated
from tinyvex.server.access.dashboard_links import DashboardLinks
from tinyvex.server.access.pairing import Pairing
from tinyvex.server.access.token_auth import Caller, ServerTokens, TokenAuth, bearer_token


def test_a_paired_client_may_monitor(tmp_path: Path) -> None:
    """Its token counts as the client token does; a code and an empty token do not."""
    pairing = Pairing(tmp_path, lambda: 0, lambda: "0123456789abcdef" * 4)
    auth = TokenAuth(ServerTokens(ADMIN, CLIENT), pairing, DashboardLinks(lambda: 0.0, lambda: "00"))
    redeemed = pairing.redeem(pairing.offer("phone"))
    assert redeemed is not None
    assert Caller(auth, redeemed[1], is_exposed=True).may_monitor
    assert not any(
        Caller(auth, token, is_exposed=True).may_monitor for token in ["", "pairing:", f"pairing:{redeemed[1]}"]
    )


def test_only_the_admin_token_creates_links() -> None:
    """A tab that was admitted by a link reads the data and invites no other."""
    auth = token_auth()
    tab = auth._dashboard.redeem(auth.offer())
    assert tab is not None
    found = [(caller.is_admin, caller.may_offer) for token in (ADMIN, tab, CLIENT, "")
             for caller in [Caller(auth, token, is_exposed=False)]]  # fmt: skip
    assert found == [(True, True), (True, False), (False, False), (False, False)]


@pytest.mark.parametrize(
    ("headers", "token"),
    [([], None), (["Bearer abc"], "abc"), (["bearer  abc "], "abc"), (["Basic abc"], None), (["Bearer "], None),
     (["Bearer a", "Bearer b"], None)],
)  # fmt: skip
def test_the_bearer_token(headers: list[str], token: str | None) -> None:
    """One `Authorization: Bearer` header carries the token; anything else carries none."""
    assert bearer_token(headers) == token


@pytest.mark.parametrize("token", ["", "wrong", "client-toke", "client-token "])
def test_a_wrong_token_is_refused(token: str) -> None:
    """Missing, different, shorter and longer tokens are refused."""
    with pytest.raises(Unauthenticated):
        ServerTokens("admin-token", "client-token").admit(token)


def test_the_client_token_is_not_an_admin_token() -> None:
    """The token of the ready line gives access to public functions only."""
    assert ServerTokens("admin-token", "client-token").admit("client-token") is False


@pytest.mark.parametrize("client", [None, "client-token"])
def test_the_admin_token_lets_an_administrator_in(client: str | None) -> None:
    """The admin token is accepted whether or not clients need a token."""
    assert ServerTokens("admin-token", client).admit("admin-token") is True


def test_without_a_client_token_clients_are_admitted_without_rights() -> None:
    """`--no-token` gives access to public functions only."""
    assert ServerTokens("admin-token", None).admit("whatever") is False
