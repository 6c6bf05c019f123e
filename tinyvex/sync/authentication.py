"""
Who one connection speaks for: an administrator, a user with a token, or nobody.

::

               none, admin, user: accepted (version + 1)
    NOBODY ◄─────────────────────────────────────────────► SOMEBODY
       ▲                                                      │
       └────────── the token has expired (version + 1) ───────┘
       refused: everything stays

A token may take a while to check, when keys have to be fetched first.
What the client says meanwhile is held, in order: it was said by whom the token will turn out to name.

The one race: a client renews its token in the moment in which the server ends it.

1.  The server is at version n; the token ends; the server goes to n + 1 and says so.
2.  The client, which has not heard of it, continues from n with a new token.
3.  The server takes that for a continuation of n + 1: nothing but the end of the token lies between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from tinyvex import errors, limits
from tinyvex.functions.run.identity_keys import session_key
from tinyvex.values.codec import unwrap
from tinyvex.wire import codec, messages
from tinyvex.wire.error_objects import to_object

if TYPE_CHECKING:
    import asyncio

    from tinyvex.functions.transaction.execution import Identity
    from tinyvex.runtime import Runtime
    from tinyvex.sync.state import SyncState
    from tinyvex.sync.worker import Outbox
    from tinyvex.values.types import Value

__all__ = ["Authentication", "CheckUserToken", "Credentials", "UserIdentity"]


class UserIdentity(NamedTuple):
    """What a token that is right says: the claims, and until when, in microseconds since the epoch."""

    claims: Mapping[str, Value]
    expires_us: int


CheckUserToken: TypeAlias = Callable[[str, Callable[[UserIdentity | errors.TinyvexError], None]], None]
"""Check a token, and call back once on the loop, at once or later, with whom it names or why it is refused."""


class Credentials(NamedTuple):
    """How the server knows whom to believe."""

    is_admin: Callable[[str], bool]
    check_user: CheckUserToken


class Authentication:
    """
    Who a connection speaks for.

    Args:
        state: has the identity version received.
        credentials: what tokens are checked against.
        runtime: clock and timers.
        is_admin: whether the connection was let in with the admin token.
        outbox: what the client is told through.
        changed: called when somebody else speaks from now on.
        resume: called with what was held, once it is known who speaks.

    Attributes:
        identity: what functions see.
        is_admin: whether internal functions may be called.
    """

    def __init__(
        self,
        *,
        state: SyncState,
        credentials: Credentials,
        runtime: Runtime,
        is_admin: bool,
        outbox: Outbox,
        changed: Callable[[], None],
        resume: Callable[[list[messages.ClientRequest]], None],
    ) -> None:
        self.identity: Identity = None
        self.is_admin = is_admin
        self._state, self._credentials, self._runtime = state, credentials, runtime
        self._outbox, self._changed, self._resume = outbox, changed, resume
        self._bound: bytes | None = None  # whose session it is; set once
        self._expires_us: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._version_before_expiry: int | None = None  # until the client continues from a later one
        self._checking = False
        self._held: list[messages.ClientRequest] = []
        self._held_bytes = 0
        self._closed = False

    # What the client asks.

    def request(self, request: messages.Authenticate) -> None:
        """
        Answer `tinyvex/authenticate`, now or when the token was checked.

        Raises:
            BaseVersionMismatch: it does not continue from the last version.
        """
        params = request.params
        self._check_version(params.base_version)
        match params.kind:
            case "none":
                self._accept(request, None)
            case "admin" if self._credentials.is_admin(params.token or ""):
                self._act_as(request, params.acting_as)
            case "admin":
                self._refuse(request, errors.Unauthenticated("the admin token is wrong"))
            case "user":
                self._checking = True
                self._credentials.check_user(params.token or "", lambda outcome: self._checked(request, outcome))

    def _act_as(self, request: messages.Authenticate, claims: dict[str, Any] | None) -> None:
        try:
            identity = None if claims is None else unwrap(claims)
            if not isinstance(
                identity, dict | None
            ):  # an object that stands for another value, as `{"$bytes": ""}` does
                raise errors.InvalidValue("the claims to act with are no object")
        except errors.TinyvexError as error:
            self._refuse(request, error)
        else:
            self._accept(request, identity, is_admin=True)

    def _check_version(self, base: int) -> None:
        if base != self._version_before_expiry:
            self._state.check_authenticate(base)
            self._version_before_expiry = None

    def _checked(self, request: messages.Authenticate, outcome: UserIdentity | errors.TinyvexError) -> None:
        self._checking = False
        if self._closed:
            return
        if isinstance(outcome, errors.TinyvexError):
            self._refuse(request, outcome)
        else:
            self._accept(request, outcome.claims, expires_us=outcome.expires_us)
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._resume(held)

    def _accept(
        self,
        request: messages.Authenticate,
        identity: Identity,
        *,
        is_admin: bool = False,
        expires_us: int | None = None,
    ) -> None:
        if not self._bind(identity):
            self._refuse(request, errors.SessionIdentity("this session speaks for another identity: begin a new one"))
            return
        self._become(identity, is_admin=is_admin, expires_us=expires_us)
        self._version_before_expiry = None
        self._outbox.send(codec.encode_response(request.id, b"{}"))
        self._changed()

    def _bind(self, identity: Identity) -> bool:
        """A session is its first identity's for good: its exactly-once records must answer nobody else."""
        if identity is None:
            return True
        key = session_key(identity)
        self._bound = self._bound or key
        return key == self._bound

    def _refuse(self, request: messages.Authenticate, error: errors.TinyvexError) -> None:
        self._outbox.send(codec.encode_error_response(request.id, error))
        self._notify(error, attempted=True)

    def _notify(self, error: errors.TinyvexError, *, attempted: bool) -> None:
        notice = messages.AuthErrorParams(
            error=to_object(error), base_version=self._state.identity, auth_update_attempted=attempted
        )
        self._outbox.send(codec.encode_notification(messages.AuthError(jsonrpc="2.0", params=notice)))

    def _become(self, identity: Identity, *, is_admin: bool, expires_us: int | None) -> None:
        self.identity, self.is_admin, self._expires_us = identity, is_admin, expires_us
        self._state.identity += 1
        self._cancel_timer()
        self._set_timer()

    # While a token is checked.

    @property
    def is_checking(self) -> bool:
        """Whether it is not known yet who speaks."""
        return self._checking

    def hold(self, request: messages.ClientRequest) -> None:
        """Keep what the client says until it is known who says it; too much of it ends the connection."""
        self._held_bytes += len(msgspec.json.encode(request))
        if len(self._held) >= limits.AUTH_HELD_MAX or self._held_bytes > limits.MESSAGE_BYTES_MAX:
            self._outbox.fail(
                errors.Overloaded(f"{len(self._held)} messages wait until a token was checked, which is the limit")
            )
        else:
            self._held.append(request)

    # Time.

    def _set_timer(self) -> None:
        if self._expires_us is not None:
            remaining = (self._expires_us - self._runtime.now_us()) / 1e6
            # A wall clock may be set, and a machine may sleep: it is looked at again now and then.
            pause = min(max(remaining, 0.0), limits.AUTH_CLOCK_SECONDS)
            self._timer = self._runtime.loop.call_later(pause, self.expire_if_due)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expire_if_due(self) -> None:
        """Be nobody from the moment at which the token ends."""
        if self._expires_us is None:
            return
        self._cancel_timer()
        if self._runtime.now_us() < self._expires_us:
            self._set_timer()
            return
        self._version_before_expiry = self._state.identity
        self._become(None, is_admin=False, expires_us=None)
        self._notify(errors.Unauthenticated("the token has expired"), attempted=False)
        self._changed()

    def close(self) -> None:
        """The connection ended."""
        self._closed = True
        self._held.clear()
        self._cancel_timer()
