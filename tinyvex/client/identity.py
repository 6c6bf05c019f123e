"""
The client's user: when a token is needed, which `tinyvex/authenticate` to send, whose calls may be sent (pure).

::

                   opened, set_source             supply             accepted
    ANONYMOUS ─────────────────────────► ASKING ──────────► SENT ──────────────► AUTHENTICATED
       ▲ ▲                               │ ▲ ▲ ▲              │                     │  │ │
       │ └─────────────── no token ──────┤ │ │ └ refused once ┤   expires soon ─────┘  │ │
       │                                 │ │ └──────────────────────── expired ────────┘ │
       │             failed ─► RETRYING ─┘─┘ retry            │                          │
       └────────────────── refused again ─────────────────────┘◄──────── sign out ───────┘

While the user is not known, other messages wait: a call sent now would run anonymously.
Renewing a token blocks nothing, because the previous token is still valid.

A call belongs to its caller: the user of the token source at the time of the call, or anonymous without a source. It is
sent only on a socket with that identity, also if it is sent again, and waits otherwise. So anonymous calls are sent
before a socket signs in, and a user's calls outlast signing out, another user, and a source that fails. If the user
was never known when the token is refused or the source is replaced, the calls fail: their user may never return.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Callable, Mapping
from typing import Any, Self, cast

from msgspec import Struct

from tinyvex.errors import SessionIdentity, TinyvexError, Unauthenticated
from tinyvex.values.codec import encode, to_builtins
from tinyvex.wire import error_objects
from tinyvex.wire import messages as wire

__all__ = ["ANONYMOUS", "ActingAs", "CallIdentity", "ClientIdentity", "token_claims"]


class ActingAs(str):
    """
    The admin token together with the user to act as. A token source returns it in place of a user's token.

    Args:
        admin_token: the server's admin token.
        claims: the identity that functions see, such as `subject` and `issuer`.

    Attributes:
        acting_as: the claims as they are sent.

    Raises:
        InvalidValue: the claims contain something that is not a value.
    """

    __slots__ = ("acting_as",)
    acting_as: dict[str, Any]

    def __new__(cls, admin_token: str, claims: Mapping[str, Any]) -> Self:
        encode(claims)  # also refuses values on which an encoder of builtins would fail later
        token = super().__new__(cls, admin_token)
        token.acting_as = cast("dict[str, Any]", to_builtins(claims))
        return token


class CallerKind(enum.Enum):
    """The kinds of callers."""

    ANONYMOUS = "anonymous"
    UNKNOWN = "unknown"  # the user of a source that has not returned a token that was accepted
    OWNER = "owner"  # the one user of this session
    REFUSED = "refused"  # was unknown when the token was refused or the source was replaced


class CallIdentity(Struct, eq=False):
    """
    The identity that a call belongs to.

    Attributes:
        kind: changes once, from UNKNOWN to another.
        refusal: the error that ends the calls of this caller, if it was REFUSED.
    """

    kind: CallerKind = CallerKind.UNKNOWN
    refusal: TinyvexError | None = None


ANONYMOUS = CallIdentity(CallerKind.ANONYMOUS)


class ClientIdentity:
    """
    The client's side of `tinyvex/authenticate`.

    Attributes:
        caller: the identity that a call made now belongs to.
        refusal: the error that a call made now raises, because the user's token is refused on this socket.
        wants_token: whether the token source must be asked now.
        failure: the error of the last attempt to authenticate; None if it succeeded.
        token: the newest token that the server accepted on this socket.
    """

    def __init__(self) -> None:
        self.wants_token = False
        self.failure: TinyvexError | None = None
        self.token: str | None = None
        self.caller = ANONYMOUS
        self.refusal: TinyvexError | None = None
        self._has_source = False
        self._is_open = False
        self._owner: object = None  # issuer and subject that the session belongs to; set once
        self._start_socket()

    def _start_socket(self) -> None:
        """Reset the state that belongs to one socket."""
        self.token = None
        self._version = 0
        self._unsent: str | None = None
        self._in_flight: wire.AuthenticateParams | None = None
        self._in_flight_token: str | None = None  # of `_in_flight`, as the source returned it
        self._in_flight_caller = ANONYMOUS
        self._is_retrying = False
        self._signs_out = False
        self._was_refused = False

    # Sockets.

    def opened(self) -> None:
        """Start on a new socket, which is anonymous."""
        self._start_socket()
        self._is_open = True
        self._ask_source()

    def lost(self) -> None:
        """Reset after the socket was lost; calls made now belong to the user again, whatever the last socket refused."""
        self._start_socket()
        self._is_open = self.wants_token = False
        self._reset_caller()

    def _ask_source(self) -> None:
        """Ask the source for a token, now or on the next socket."""
        self.wants_token = self._has_source and self._is_open
        self._is_retrying = False
        self._reset_caller()

    def _reset_caller(self) -> None:
        self.refusal = None
        if not self._has_source:
            self.caller = ANONYMOUS
        elif self.caller.kind in {CallerKind.ANONYMOUS, CallerKind.REFUSED}:
            self.caller = CallIdentity()

    # The token source.

    def set_source(self, *, has_source: bool) -> None:
        """Replace the token source; without one the client signs out."""
        self._refuse_caller(Unauthenticated("the auth callable was replaced before the user was known; call again"))
        self.caller = ANONYMOUS
        self._has_source = has_source
        self._unsent, self.failure, self._was_refused = None, None, False
        self._signs_out = self.token is not None or self._in_flight is not None
        self._ask_source()

    def renew(self) -> None:
        """Ask for another token before the current one expires, or after the source failed."""
        self._ask_source()

    def supply(self, token: str | None) -> None:
        """Accept what the source returned; None signs out."""
        self.wants_token = False
        if token is None:
            self.failure = None
            self._signs_out = self.token is not None
            if self.caller.kind is CallerKind.UNKNOWN:
                self.caller.kind = CallerKind.ANONYMOUS
            self.caller = ANONYMOUS
        elif self._owner not in {None, _owner(token)}:
            self.refuse(SessionIdentity("the token belongs to another user; connect another client for another user"))
        else:
            self._unsent = token

    def fail(self, error: TinyvexError) -> None:
        """Record that the source failed: calls wait until it is asked again. A token that was accepted stays valid."""
        self.wants_token = False
        self.failure = error
        self._is_retrying = True

    def refuse(self, error: TinyvexError) -> None:
        """Record that the user cannot sign in on this socket; a token that was accepted stays valid."""
        self.wants_token = False
        self.failure = error
        self._refuse_caller(error)
        if self.token is None:
            self.refusal = error

    def _refuse_caller(self, error: TinyvexError) -> None:
        if self.caller.kind is CallerKind.UNKNOWN:
            self.caller.kind, self.caller.refusal = CallerKind.REFUSED, error

    # Messages to send.

    @property
    def blocks_sending(self) -> bool:
        """Return whether other messages must wait until the user is known."""
        if self._signs_out:
            return True
        return self.token is None and (
            self.wants_token or self._is_retrying or self._unsent is not None or self._in_flight is not None
        )

    def may_send(self, caller: CallIdentity) -> bool:
        """Return whether a call of `caller` may be sent now."""
        if self._signs_out:
            return False
        if caller.kind is CallerKind.ANONYMOUS:
            return self.token is None and self._in_flight is None
        return caller.kind is CallerKind.OWNER and self.token is not None

    @property
    def needs_token(self) -> bool:
        """Return whether the source failed and must be asked again later."""
        return self._is_retrying

    def next_params(self, must_wait: Callable[[], bool] = lambda: False) -> wire.AuthenticateParams | None:
        """
        Return the next `tinyvex/authenticate` to send, which counts as sent; None if there is none.

        Args:
            must_wait: returns whether anonymous calls must be sent before this socket signs in.
        """
        if self._in_flight is not None:
            return None
        signs_out, self._signs_out = self._signs_out and self.token is not None, False
        if signs_out:
            self.token = None
            self._in_flight = wire.AuthenticateParams(base_version=self._version, kind="none")
        elif self._unsent is not None and not (self.token is None and must_wait()):
            self._in_flight = _params(self._version, self._unsent)
            self._in_flight_token, self._unsent = self._unsent, None
            self._in_flight_caller = self.caller
        return self._in_flight

    # Messages received.

    def receive_answer(self, error: wire.ErrorObject | None) -> None:
        """Process the answer to `tinyvex/authenticate`."""
        params, self._in_flight = self._in_flight, None
        assert params is not None
        if error is None:
            self._accepted(params)
        elif not self._signs_out:  # else the token came from a source that was replaced meanwhile
            self._refused(error)

    def _accepted(self, params: wire.AuthenticateParams) -> None:
        self._version += 1
        if params.token is not None:
            assert self._in_flight_token is not None
            self.token, self.failure, self._was_refused = params.token, None, False
            self._owner = _owner(self._in_flight_token)
            if self._in_flight_caller.kind is CallerKind.UNKNOWN:
                self._in_flight_caller.kind = CallerKind.OWNER

    def _refused(self, error: wire.ErrorObject) -> None:
        """Ask the source once more: the token may have expired on its way."""
        failure = error_objects.from_object(error)
        if error.data.retry in {"now", "later"}:
            self.fail(failure)
        elif self._was_refused or error.data.name == "SessionIdentity" or not self._has_source:
            self.refuse(failure)
        else:
            self.failure = failure
            self.wants_token = self._unsent is None
        self._was_refused = True

    def receive_auth_error(self, notice: wire.AuthErrorParams) -> None:
        """Process `tinyvex/authError`. After a refusal there is nothing to do; otherwise the token has expired."""
        if not notice.auth_update_attempted:
            self._version, self.token, self._was_refused = notice.base_version, None, False
            self.failure = error_objects.from_object(notice.error)
            if self._in_flight is None and self._unsent is None:
                self._ask_source()


def token_claims(token: str) -> dict[str, Any]:
    """
    Decode a token's claims without verifying them, which is the server's task.

    Returns:
        The claims; empty if the token is not a JSON Web Token.
    """
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
    """Return the user that a token stands for, for comparison."""
    if isinstance(token, ActingAs):
        return "an administrator as", repr(token.acting_as)
    claims = token_claims(token)
    return repr(claims.get("iss")), repr(claims.get("sub"))
