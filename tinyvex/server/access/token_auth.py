"""
The tokens that admit a client, and what each of them permits.

=========================  ==============================  ======================================================
presented                  issued by                       permits
=========================  ==============================  ======================================================
admin token                the discovery file              everything
token of a dashboard tab   a code from a dashboard link    everything except creating links
client token               the ready line                  public functions, health and metrics
token from a pairing       a code from `tinyvex pair`      the same; it can be revoked, and may have an end
`dashboard:CODE`           `tinyvex dashboard`             one exchange for the token of a tab
`pairing:CODE`             `tinyvex pair`                  one exchange for a token from a pairing
=========================  ==============================  ======================================================

`tinyvex tokens --renew` replaces the admin token and the client token. Secrets are compared in constant time, or by
their hashes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from tinyvex.errors import TinyvexError, Unauthenticated
from tinyvex.server.access import dashboard_links, pairing

if TYPE_CHECKING:
    from tinyvex.server.access.audit_log import AuditLog
    from tinyvex.server.access.dashboard_links import DashboardLinks
    from tinyvex.server.access.pairing import PairedToken, Pairing

__all__ = ["REFUSAL_EVENTS", "Admitted", "Caller", "ServerTokens", "TokenAuth", "bearer_token"]


REFUSAL_EVENTS = {dashboard_links.CODE_PREFIX: "link-refused", pairing.CODE_PREFIX: "code-refused"}
"""The audit trail's event of a wrong one-time code, by its prefix; of anything else it is `token-refused`."""


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
    The server's own two tokens, until they are renewed or it ends.

    Args:
        admin: the admin token.
        client: the client token; None if clients need no token.
    """

    def __init__(self, admin: str, client: str | None) -> None:
        self.admin = admin
        self.client = client

    def is_admin(self, token: str) -> bool:
        """Return whether this is the admin token."""
        return hmac.compare_digest(token.encode(), self.admin.encode())

    def admit(self, token: str) -> bool:
        """
        Admit a client; return whether it is an administrator.

        Raises:
            Unauthenticated: the token is missing or wrong.
        """
        if self.is_admin(token):
            return True
        if self.client is not None and not hmac.compare_digest(token.encode(), self.client.encode()):
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
        audit: records who was admitted and refused.
    """

    def __init__(self, tokens: ServerTokens, pairing: Pairing, dashboard: DashboardLinks, audit: AuditLog) -> None:
        self.tokens = tokens
        self.audit = audit
        self._pairing = pairing
        self._dashboard = dashboard

    def is_admin(self, token: str) -> bool:
        """Return whether a token is the admin token or that of a dashboard tab."""
        return self.tokens.is_admin(token) or self._dashboard.is_admin(token)

    def may_offer(self, token: str) -> bool:
        """Return whether a token permits creating links to the dashboard."""
        return self.tokens.is_admin(token)

    def offer(self, address: str) -> str:
        """Return the code of a new link to the dashboard, for the client at this address."""
        self.audit.granted("link-created", "a link to the dashboard was created by a client", address=address)
        return self._dashboard.offer()

    def renewed(self) -> None:
        """Record that `tokens` were replaced, and sign out the dashboard's tabs, which the admin token admitted."""
        self._dashboard.clear()
        self.audit.granted("tokens-renewed", "the admin token and the client token were renewed")

    def is_known(self, token: str) -> bool:
        """Return whether a token admits a client or a monitor. Codes do not count, because checking one would use it up."""
        try:
            self.tokens.admit(token)
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
            tab = self._dashboard.redeem(token.removeprefix(dashboard_links.CODE_PREFIX), confirm)
            self.audit.granted("link-used", "a link to the dashboard admitted a client", address=connection.address)
            return True, tab
        if token.startswith(pairing.CODE_PREFIX):
            code = token.removeprefix(pairing.CODE_PREFIX)
            connection.paired, secret = self._pairing.redeem(code, connection.address, confirm)
            self.audit.granted(
                "token-issued",
                f"the {pairing.describe(connection.paired)} was issued to a client",
                address=connection.address,
                token_id=connection.paired.id,
            )
            return False, secret
        is_admin = self._admit_token(connection, token)
        confirm()
        if is_admin:
            self.admitted_admin(connection.address)
        return is_admin, None

    def admitted_admin(self, address: str, *, once: bool = False) -> None:
        """Record that a client acts as an administrator; with `once`, once a minute for each address."""
        self.audit.granted("admin-admitted", "a client acts as an administrator", address=address, once=once)

    def _admit_token(self, connection: Admitted, token: str) -> bool:
        if self.is_admin(token):
            return True
        try:
            return self.tokens.admit(token)
        except Unauthenticated:
            paired = self._pairing.find(token) if token else None
            if paired is None:
                raise
            if paired.is_monitor:
                raise Unauthenticated(
                    "this token only reads `/metrics` and `/healthz`; a client needs another"
                ) from None
            connection.paired = paired
            return False

    def tick(self, connections: Iterable[Admitted]) -> None:
        """Record changes of tokens, and close the connections whose token is no longer valid; called once a second."""
        self.audit.tick()
        self._pairing.report_changes(self.audit)
        valid_ids = {token.id for token in self._pairing.valid_tokens()}
        for connection in [connection for connection in connections if connection.paired is not None]:
            assert connection.paired is not None
            if connection.paired.id in valid_ids:
                self._pairing.uses.note(connection.paired.id)
            else:
                connection.fail(Unauthenticated("this token was revoked, or has expired"))
        self._pairing.write_uses(if_due=True)

    def end(self) -> None:
        """Write the last uses of tokens, when the server stops."""
        self._pairing.write_uses(if_due=False)


class Caller:
    """
    The sender of one HTTP request, known by its bearer token.

    Args:
        auth: the tokens.
        token: the token in the request's `Authorization` header; empty if there is none.
        address: the sender's IP address.
        log_refusal: logs a sentence about a refused request.
    """

    def __init__(self, auth: TokenAuth, token: str, address: str, log_refusal: Callable[[str], None]) -> None:
        self.address = address
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
        """Return whether it may read the dashboard's data; recorded if it has the admin token."""
        if self._auth.may_offer(self._token):
            self._auth.admitted_admin(self.address, once=True)
        return self._auth.is_admin(self._token)

    def refuse(self) -> str:
        """Log that the token does not permit the request, without the token; return the sentence for the client."""
        if not self._token:
            sentence = "A token is required: send the header `Authorization: Bearer TOKEN`."
            self._log_refusal(f"HTTP: {sentence}")
        elif self.may_monitor:
            sentence = "This requires the admin token."
            self._auth.audit.refused("admin-refused", "the request requires the admin token", self.address)
        else:
            sentence = "The token is wrong."
            self._auth.audit.refused("token-refused", "the token is wrong", self.address)
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
