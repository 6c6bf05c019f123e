"""The ways in: each token opens what it should."""

from pathlib import Path

from tests.support.http import ADMIN, CLIENT, token_auth
from tinyvex.server.access.dashboard_links import DashboardLinks
from tinyvex.server.access.origin_rules import Tokens
from tinyvex.server.access.pairing import Pairing
from tinyvex.server.access.token_auth import Caller, TokenAuth


def test_a_paired_client_may_monitor(tmp_path: Path) -> None:
    """Its token counts as the client token does; a code and an empty token do not."""
    pairing = Pairing(tmp_path, lambda: 0, lambda: "0123456789abcdef" * 4)
    auth = TokenAuth(Tokens(ADMIN, CLIENT), pairing, DashboardLinks(lambda: 0.0, lambda: "00"))
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
