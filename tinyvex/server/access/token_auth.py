"""
The tokens that admit a client, and what each of them permits.

=========================  ==============================  ======================================================
presented                  issued by                       permits
=========================  ==============================  ======================================================
admin token                the discovery file              everything
token of a dashboard tab   a code from a dashboard link    everything except creating links
client token               the ready line                  public functions, health and metrics
token from a pairing       a code from `tinyvex pair`      the same; it can be revoked
`dashboard:CODE`           `tinyvex dashboard`             one exchange for the token of a tab
`pairing:CODE`             `tinyvex pair`                  one exchange for a token from a pairing
=========================  ==============================  ======================================================

Secrets are compared in constant time, or by their hashes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from tinyvex.errors import TinyvexError, Unauthenticated
from tinyvex.server.access import dashboard_links, pairing

if TYPE_CHECKING:
    from tinyvex.server.access.dashboard_links import DashboardLinks
    from tinyvex.server.access.pairing import PairedToken, Pairing

__all__ = ["Admitted", "Caller", "ServerTokens", "TokenAuth", "bearer_token"]


class Admitted(Protocol):
    """
    A connection, as far as tokens concern it.

    Attributes:
        address: the client's IP address.
        paired: the token from a pairing that admitted the client, if it was one.
    """

    address: str
    paired: PairedToken | None

    def fail(self, error: TinyvexError) -> None:
        """Send the error to the client, then close."""


class ServerTokens:
    """
    The two tokens of one run of the server.

    Args:
        admin: the admin token.
        client: the client token; None if clients need no token.
    """

    def __init__(self, admin: str, client: str | None) -> None:
        self._admin = admin
        self._client = client

    def is_admin(self, token: str) -> bool:
        """Return whether this is the admin token."""
        return hmac.compare_digest(token.encode(), self._admin.encode())

    def admit(self, token: str) -> bool:
        """
        Admit a client; return whether it is an administrator.

        Raises:
            Unauthenticated: the token is missing or wrong.
        """
        if self.is_admin(token):
            return True
        if self._client is not None and not hmac.compare_digest(token.encode(), self._client.encode()):
            raise Unauthenticated(
                "the token is wrong" if token else "a token is required; the server prints it in its ready line"
            )
        return False


class TokenAuth:
    """
    All tokens of a server.

    Args:
        tokens: the admin token and the client token.
        pairing: the tokens from pairings.
        dashboard: the links to the dashboard and the tokens of its tabs.
    """

    def __init__(self, tokens: ServerTokens, pairing: Pairing, dashboard: DashboardLinks) -> None:
        self._tokens = tokens
        self._pairing = pairing
        self._dashboard = dashboard

    def is_admin(self, token: str) -> bool:
        """Return whether a token is the admin token or that of a dashboard tab."""
        return self._tokens.is_admin(token) or self._dashboard.is_admin(token)

    def may_offer(self, token: str) -> bool:
        """Return whether a token permits creating links to the dashboard."""
        return self._tokens.is_admin(token)

    def offer(self) -> str:
        """Return the code of a new link to the dashboard."""
        return self._dashboard.offer()

    def is_known(self, token: str) -> bool:
        """Return whether a token admits a client. Codes do not count, because checking one would use it up."""
        try:
            self._tokens.admit(token)
        except Unauthenticated:
            return bool(token) and (self._dashboard.is_admin(token) or self._pairing.find(token) is not None)
        return True

    def admit(
        self, connection: Admitted, token: str, confirm: Callable[[], None] = lambda: None
    ) -> tuple[bool, str | None]:
        """
        Admit a client, and set `connection.paired` if its token can be revoked.

        Args:
            connection: the client's connection.
            token: a token or code.
            confirm: raises the error of another reason to refuse the client. It is called when the token or code is
                right, so that a stranger does not learn the reason, and before a code is used up.

        Returns:
            Whether the client is an administrator, and the token for which its code was exchanged.

        Raises:
            Unauthenticated: the token or code is missing or wrong.
        """
        if token.startswith(dashboard_links.CODE_PREFIX):
            return True, self._dashboard.redeem(token.removeprefix(dashboard_links.CODE_PREFIX), confirm)
        if token.startswith(pairing.CODE_PREFIX):
            code = token.removeprefix(pairing.CODE_PREFIX)
            connection.paired, secret = self._pairing.redeem(code, connection.address, confirm)
            return False, secret
        is_admin = self._admit_token(connection, token)
        confirm()
        return is_admin, None

    def _admit_token(self, connection: Admitted, token: str) -> bool:
        if self.is_admin(token):
            return True
        try:
            return self._tokens.admit(token)
        except Unauthenticated:
            connection.paired = self._pairing.find(token) if token else None
            if connection.paired is None:
                raise
            return False

    def close_revoked(self, connections: Iterable[Admitted]) -> None:
        """Close the connections whose token was revoked."""
        paired = [connection for connection in connections if connection.paired is not None]
        if paired:
            valid_ids = {token.id for token in self._pairing.tokens()}
            for connection in paired:
                if connection.paired is not None and connection.paired.id not in valid_ids:
                    connection.fail(Unauthenticated("this token was revoked"))


class Caller:
    """
    The sender of one HTTP request, known by its bearer token.

    Args:
        auth: the tokens.
        token: the token in the request's `Authorization` header; empty if there is none.
        log_refusal: logs a sentence about a refused request.
    """

    def __init__(self, auth: TokenAuth, token: str, log_refusal: Callable[[str], None]) -> None:
        self._auth = auth
        self._token = token
        self._log_refusal = log_refusal

    @property
    def has_token(self) -> bool:
        """Return whether the request has a token, right or wrong."""
        return bool(self._token)

    @property
    def may_monitor(self) -> bool:
        """Return whether it may read details and metrics: the sender has a token, or the server requires none."""
        return self._auth.is_known(self._token)

    @property
    def is_admin(self) -> bool:
        """Return whether it may read the dashboard's data."""
        return self._auth.is_admin(self._token)

    def refuse(self) -> str:
        """Log that the token does not permit the request, without the token; return the sentence for the client."""
        if not self._token:
            sentence = "A token is required: send the header `Authorization: Bearer TOKEN`."
        elif self.may_monitor:
            sentence = "This requires the admin token."
        else:
            sentence = "The token is wrong."
        self._log_refusal(f"HTTP: {sentence}")
        return sentence

    @property
    def may_offer(self) -> bool:
        """Return whether it may create links to the dashboard."""
        return self._auth.may_offer(self._token)


def bearer_token(headers: list[str]) -> str | None:
    """Return the token of an `Authorization: Bearer` header; None unless there is exactly one header."""
    if len(headers) != 1:
        return None
    scheme, _, token = headers[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
