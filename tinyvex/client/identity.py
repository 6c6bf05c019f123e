"""
Who a client speaks for: when it wants a token, what it says with it, and what waits for that (pure).

::

                 opened, set_source             supplied          answered
    NOBODY ─────────────────────────► ASKING ─────────────► SAID ──────────► SPEAKING
       ▲ ▲                            │  ▲ ▲                 │                │  │ │
       │ └── no token, it failed ─────┘  │ └── refused once ─┤  about to end ─┘  │ │
       │                                 └────────────────────── ended ──────────┘ │
       └──────────────── refused again ──────────────────────┘◄────── sign_out ────┘

While it is not known who speaks, nothing else is said: it would be said by nobody.
A renewal holds nothing up: the token before it still holds.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Self, cast

from tinyvex.client.events import IdentityChanged
from tinyvex.errors import SessionIdentity, TinyvexError
from tinyvex.values.codec import to_builtins
from tinyvex.wire import error_objects
from tinyvex.wire import messages as wire

__all__ = ["ActingAs", "ClientIdentity", "token_claims"]


class ActingAs(str):
    """
    The admin token, to act as somebody with it: what a source gives instead of a user's token.

    Args:
        admin_token: of the server.
        claims: what functions see as the identity, as `subject`, `issuer` and others; values.

    Attributes:
        acting_as: the claims as they are sent.

    Raises:
        InvalidValue: something in the claims is no value.
    """

    __slots__ = ("acting_as",)
    acting_as: dict[str, Any]

    def __new__(cls, admin_token: str, claims: Mapping[str, Any]) -> Self:
        made = super().__new__(cls, admin_token)
        made.acting_as = cast("dict[str, Any]", to_builtins(claims))
        return made


class ClientIdentity:
    """
    The client's side of `tinyvex/authenticate`.

    Attributes:
        wants_token: the source of tokens is to be asked for one now.
        failure: why the last attempt to speak for somebody failed; None when it did not.
        token: the newest one that the server took on this socket.
    """

    def __init__(self) -> None:
        self.wants_token = False
        self.failure: TinyvexError | None = None
        self.token: str | None = None
        self._has_source = False
        self._is_open = False
        self._owner: object = None  # issuer and subject that the session belongs to; set once
        self._reset()

    def _reset(self) -> None:
        """Forget what belongs to one socket."""
        self.token = None
        self._version = 0
        self._unsent: str | None = None
        self._trying: str | None = None  # the token in `_in_flight`, as the source gave it
        self._in_flight: wire.AuthenticateParams | None = None
        self._signs_out = False
        self._tried_again = False

    # Sockets come and go.

    def opened(self) -> None:
        """A new socket, which speaks for nobody yet."""
        self._reset()
        self._is_open = True
        self.wants_token = self._has_source

    def lost(self) -> None:
        """The socket is gone."""
        self._reset()
        self._is_open = self.wants_token = False

    # What the program wants.

    def set_source(self, *, has_source: bool) -> None:
        """Speak for whom another source names from now on, or for nobody."""
        self._has_source = has_source
        self._unsent, self.failure, self._tried_again = None, None, False
        self._signs_out = self.token is not None or self._in_flight is not None
        self.wants_token = has_source and self._is_open

    def renew(self) -> None:
        """The token is about to end."""
        self.wants_token = self._has_source and self._is_open

    def supply(self, token: str | None) -> None:
        """What the source gave; None is nobody."""
        self.wants_token = False
        if token is None:
            self.failure = None
            self._signs_out = self.token is not None
        elif self._owner not in {None, _owner(token)}:
            self.fail(SessionIdentity("this client spoke for another user before: connect another one"))
        else:
            self._unsent = token

    def fail(self, error: TinyvexError) -> None:
        """The source has no token; what was held before still holds."""
        self.wants_token = False
        self.failure = error

    # What to say.

    @property
    def holds(self) -> bool:
        """Whether nothing else should be said now, because it is not known by whom."""
        if self._signs_out:
            return True
        return self.token is None and (self.wants_token or self._unsent is not None or self._in_flight is not None)

    def next_params(self) -> wire.AuthenticateParams | None:
        """What to authenticate with, which counts as sent."""
        if self._in_flight is not None:
            return None
        if self._signs_out and self.token is not None:
            self.token = None
            self._in_flight = wire.AuthenticateParams(base_version=self._version, kind="none")
        elif self._unsent is not None:
            self._in_flight = _params(self._version, self._unsent)
            self._trying, self._unsent = self._unsent, None
        self._signs_out = False
        return self._in_flight

    # What the server says.

    def answered(self, error: wire.ErrorObject | None) -> IdentityChanged:
        """The answer to `tinyvex/authenticate`."""
        said, self._in_flight = self._in_flight, None
        assert said is not None
        if error is not None and self._signs_out:
            return IdentityChanged()  # of a source that is asked no more
        if error is not None:
            self.failure = error_objects.from_object(error)
            may_help = error.data.name != "SessionIdentity" and self._has_source and not self._tried_again
            self.wants_token = self.wants_token or (may_help and self._unsent is None)
            self._tried_again = True
            return IdentityChanged()
        self._version += 1
        if said.token is not None:
            assert self._trying is not None
            self.token, self.failure, self._tried_again = said.token, None, False
            self._owner = _owner(self._trying)
        return IdentityChanged()

    def notified(self, notice: wire.AuthErrorParams) -> IdentityChanged:
        """`tinyvex/authError`: of a refusal, the answer has said all; else the token has ended."""
        if not notice.auth_update_attempted:
            self._version, self.token, self._tried_again = notice.base_version, None, False
            self.failure = error_objects.from_object(notice.error)
            if self._in_flight is None and self._unsent is None:
                self.wants_token = self._has_source
        return IdentityChanged()


def token_claims(token: str) -> dict[str, Any]:
    """What a token says, unchecked: the server checks it. Nothing where it cannot be read."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, IndexError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _params(version: int, token: str) -> wire.AuthenticateParams:
    if isinstance(token, ActingAs):
        return wire.AuthenticateParams(base_version=version, kind="admin", token=str(token), acting_as=token.acting_as)
    return wire.AuthenticateParams(base_version=version, kind="user", token=token)


def _owner(token: str) -> tuple[str, str]:
    if isinstance(token, ActingAs):
        return "an administrator as", repr(token.acting_as)
    claims = token_claims(token)
    return repr(claims.get("iss")), repr(claims.get("sub"))
