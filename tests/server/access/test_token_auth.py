"""The ways in: each token opens what it should."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.http import ADMIN, CLIENT, token_auth
from tinyvex.errors import Unauthenticated
from tinyvex.server.access.audit_log import AuditLog
from tinyvex.server.access.dashboard_links import DashboardLinks
from tinyvex.server.access.pairing import Pairing
from tinyvex.server.access.token_auth import Caller, ServerTokens, TokenAuth, bearer_token


def caller(auth: TokenAuth, token: str) -> Caller:
    """Return the sender of a request with a token."""
    return Caller(auth, token, "192.0.2.1", lambda _: None)


def test_a_paired_client_may_monitor(tmp_path: Path) -> None:
    """Its token counts as the client token does; a code and an empty token do not."""
    pairing = Pairing(tmp_path, lambda: 0, lambda: "0123456789abcdef" * 4)
    auth = TokenAuth(
        ServerTokens(ADMIN, CLIENT), pairing, DashboardLinks(lambda: 0.0, lambda: "00"), AuditLog(lambda: 0.0)
    )
    redeemed = pairing.redeem(pairing.offer("phone"))
    assert redeemed is not None
    assert caller(auth, redeemed[1]).may_monitor
    assert not any(caller(auth, token).may_monitor for token in ["", "pairing:", f"pairing:{redeemed[1]}"])


def test_a_monitor_admits_no_client(tmp_path: Path) -> None:
    """Its token reads health and metrics; a program that has it can call no function, and it gives no rights of an administrator."""
    pairing = Pairing(tmp_path, lambda: 0, lambda: "0123456789abcdef" * 4)
    auth = TokenAuth(
        ServerTokens(ADMIN, CLIENT), pairing, DashboardLinks(lambda: 0.0, lambda: "00"), AuditLog(lambda: 0.0)
    )
    token = pairing.issue_monitor("prometheus")
    assert (caller(auth, token).may_monitor, caller(auth, token).is_admin) == (True, False)
    connection = SimpleNamespace(paired=None, address="192.0.2.1")
    with pytest.raises(Unauthenticated, match="only reads `/metrics`"):
        auth.admit(connection, token)  # type: ignore[arg-type]
    assert connection.paired is None
    assert pairing.revoke("1")
    assert not caller(auth, token).may_monitor


@pytest.mark.parametrize("token", ["", "whatever"])
def test_without_a_client_token_everyone_may_monitor(token: str) -> None:
    """`dev` and `--no-token` accept every process of the machine, so they have nothing to hide from one."""
    pairing = Pairing(Path("no-such-folder"), lambda: 0, lambda: "00")
    auth = TokenAuth(
        ServerTokens(ADMIN, None), pairing, DashboardLinks(lambda: 0.0, lambda: "00"), AuditLog(lambda: 0.0)
    )
    assert caller(auth, token).may_monitor
    assert not caller(auth, token).is_admin


@pytest.mark.parametrize(
    ("token", "sentence", "logged"),
    [
        (
            "", "A token is required: send the header `Authorization: Bearer TOKEN`.",
            ["HTTP: A token is required: send the header `Authorization: Bearer TOKEN`."],
        ),
        ("hush-hush", "The token is wrong.", ["refused a client at 192.0.2.1: the token is wrong"]),
        (
            CLIENT, "This requires the admin token.",
            ["refused a client at 192.0.2.1: the request requires the admin token"],
        ),
    ],
)  # fmt: skip
def test_a_refusal_is_logged_without_the_token(
    token: str, sentence: str, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong token is in the audit trail; the client gets the reason too."""
    refusals: list[str] = []
    assert Caller(token_auth(), token, "192.0.2.1", refusals.append).refuse() == sentence
    assert refusals + caplog.messages == logged


def test_only_the_admin_token_creates_links() -> None:
    """A tab that was admitted by a link reads the data and invites no other."""
    auth = token_auth()
    tab = auth._dashboard.redeem(auth.offer("192.0.2.1"))
    assert tab is not None
    found = [(each.is_admin, each.may_offer) for each in [caller(auth, token) for token in (ADMIN, tab, CLIENT, "")]]
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
