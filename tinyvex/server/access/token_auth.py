"""Who is let in by what: the admin token, the client token, a dashboard's or a pairing's token, or the code for one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from tinyvex.errors import TinyvexError, Unauthenticated
from tinyvex.server.access import dashboard_links, pairing

if TYPE_CHECKING:
    from tinyvex.server.access.dashboard_links import DashboardLinks
    from tinyvex.server.access.origin_rules import Tokens
    from tinyvex.server.access.pairing import PairedToken, Pairing

__all__ = ["Caller", "TokenAuth"]


class Admitted(Protocol):
    """A connection, as far as it matters here."""

    paired: PairedToken | None

    def fail(self, error: TinyvexError) -> None:
        """Tell the client why, then close."""


class TokenAuth:
    """All ways in."""

    def __init__(self, tokens: Tokens, pairing: Pairing, dashboard: DashboardLinks) -> None:
        self._tokens = tokens
        self._pairing = pairing
        self._dashboard = dashboard

    def is_admin(self, token: str) -> bool:
        """Whether it is the admin token, or that of a tab with the dashboard."""
        return self._tokens.is_admin(token) or self._dashboard.is_admin(token)

    def may_offer(self, token: str) -> bool:
        """Whether it opens the dashboard to others: the admin token, and no tab's."""
        return self._tokens.is_admin(token)

    def offer(self) -> str:
        """The code of a link to the dashboard."""
        return self._dashboard.offer()

    def knows(self, token: str) -> bool:
        """Whether it lets somebody in; codes do not count, which are good once."""
        try:
            self._tokens.admit(token)
        except Unauthenticated:
            return bool(token) and (self._dashboard.is_admin(token) or self._pairing.find(token) is not None)
        return True

    def admit(self, connection: Admitted, token: str) -> tuple[bool, str | None]:
        """
        Let a client in; `connection.paired` is set where it came with a token that can be taken back.

        Returns:
            Whether it is an administrator, and the token that it now has for a code.

        Raises:
            Unauthenticated: what it showed is missing or wrong.
        """
        if token.startswith(dashboard_links.CODE_PREFIX):
            tab = self._dashboard.redeem(token.removeprefix(dashboard_links.CODE_PREFIX))
            if tab is None:
                raise Unauthenticated("the link is wrong, used or too old: `tinyvex dashboard` makes another")
            return True, tab
        if token.startswith(pairing.CODE_PREFIX):
            redeemed = self._pairing.redeem(token.removeprefix(pairing.CODE_PREFIX))
            if redeemed is None:
                raise Unauthenticated("the code is wrong, used or too old: `tinyvex pair` makes another")
            connection.paired, secret = redeemed
            return False, secret
        if self.is_admin(token):
            return True, None
        try:
            return self._tokens.admit(token), None
        except Unauthenticated:
            connection.paired = self._pairing.find(token) if token else None
            if connection.paired is None:
                raise
            return False, None

    def close_revoked(self, connections: Iterable[Admitted]) -> None:
        """End the connections whose token was taken back."""
        paired = [connection for connection in connections if connection.paired is not None]
        if paired:
            known = {token.id for token in self._pairing.tokens()}
            for connection in paired:
                if connection.paired is not None and connection.paired.id not in known:
                    connection.fail(Unauthenticated("this token was revoked"))


class Caller:
    """
    The sender of one HTTP request, known by its bearer token.

    Args:
        auth: the tokens.
        token: the one in the request's `Authorization` header; empty if there is none.
        is_exposed: whether other machines can connect.
    """

    def __init__(self, auth: TokenAuth, token: str, *, is_exposed: bool) -> None:
        self._auth = auth
        self._token = token
        self._is_exposed = is_exposed

    @property
    def may_monitor(self) -> bool:
        """Whether it may read health and metrics: on loopback every caller, beyond it one with a token."""
        return not self._is_exposed or self._auth.knows(self._token)

    @property
    def is_admin(self) -> bool:
        """Whether it may read the dashboard's data."""
        return self._auth.is_admin(self._token)

    @property
    def may_offer(self) -> bool:
        """Whether it may create links to the dashboard."""
        return self._auth.may_offer(self._token)
