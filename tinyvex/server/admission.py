"""Who is let in by what: the admin token, the client token, a token handed out by pairing, or a pairing's code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from tinyvex.errors import TinyvexError, Unauthenticated
from tinyvex.server.pairing import CODE_PREFIX

if TYPE_CHECKING:
    from tinyvex.server.handshake import Tokens
    from tinyvex.server.pairing import PairedToken, Pairing

__all__ = ["Admission"]


class Admitted(Protocol):
    """A connection, as far as it matters here."""

    paired: PairedToken | None

    def fail(self, error: TinyvexError) -> None:
        """Tell the client why, then close."""


class Admission:
    """All ways in."""

    def __init__(self, tokens: Tokens, pairing: Pairing) -> None:
        self._tokens = tokens
        self._pairing = pairing

    def admit(self, connection: Admitted, token: str) -> tuple[bool, str | None]:
        """
        Let a client in; `connection.paired` is set where it came with a token that can be taken back.

        Returns:
            Whether it is an administrator, and the token that it now has for a code.

        Raises:
            Unauthenticated: what it showed is missing or wrong.
        """
        if token.startswith(CODE_PREFIX):
            redeemed = self._pairing.redeem(token.removeprefix(CODE_PREFIX))
            if redeemed is None:
                raise Unauthenticated("the code is wrong, used or too old: `tinyvex pair` makes another")
            connection.paired, secret = redeemed
            return False, secret
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
