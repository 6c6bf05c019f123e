"""
The identity of one connection: an administrator, a user with a token, or anonymous.

::

                    SetIdentity accepted (version + 1)
    ANONYMOUS ◄────────────────────────────────────────► SIGNED IN
        ▲                                                    │
        └─────────── the token expires (version + 1) ────────┘
    refused: identity and version stay

A token may take a while to check, if keys have to be fetched first. Commands received meanwhile are queued:
they belong to the identity that the token will turn out to name.

One race has to be resolved, when a client renews its token while the server expires the old one:

1.  The server is at version n; the token expires; the server goes to n + 1 and reports it.
2.  The client has not received that report yet, and continues from n with a new token.
3.  The server accepts n as n + 1: nothing but the expiry lies between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tinyvex import errors, limits
from tinyvex.functions.run.identity_keys import session_key
from tinyvex.sync.events import Accepted, ClosedPeer, Fatal, IdentityRefused, Refused
from tinyvex.values.codec import unwrap

if TYPE_CHECKING:
    import asyncio

    from tinyvex.functions.transaction.execution import Identity
    from tinyvex.runtime import Runtime
    from tinyvex.sync.commands import Command, SetIdentity
    from tinyvex.sync.events import Peer
    from tinyvex.sync.transitions import SyncState
    from tinyvex.values.types import Value

__all__ = ["CheckUserToken", "ConnectionIdentity", "Credentials", "QueuedCommand", "UserIdentity"]


class UserIdentity(NamedTuple):
    """The content of a valid token: its claims, and when it expires, in microseconds since the epoch."""

    claims: Mapping[str, Value]
    expires_us: int


CheckUserToken: TypeAlias = Callable[[str, Callable[[UserIdentity | errors.TinyvexError], None]], None]
"""Check a token, then call back on the loop, immediately or later, with the identity or the reason for refusing it."""

QueuedCommand: TypeAlias = "tuple[Command, int]"
"""A command and the length of its message in bytes."""


class Credentials(NamedTuple):
    """Checks for the tokens that the server accepts."""

    is_admin: Callable[[str], bool]
    check_user: CheckUserToken


class ConnectionIdentity:
    """
    The identity under which a connection's functions run.

    Args:
        state: has the identity version received.
        credentials: checks tokens.
        runtime: clock and timers.
        is_admin: whether the connection was opened with the admin token.
        peer: receives answers and reports.
        changed: called after every change of identity.
        resume: called with the queued commands once the token was checked.

    Attributes:
        claims: what functions see as `ctx.auth`.
        is_admin: whether internal functions may be called.
        is_checking: whether a token is being checked, so that commands must be queued.
    """

    def __init__(
        self,
        *,
        state: SyncState,
        credentials: Credentials,
        runtime: Runtime,
        is_admin: bool,
        peer: Peer,
        changed: Callable[[], None],
        resume: Callable[[list[QueuedCommand]], None],
    ) -> None:
        self.claims: Identity = None
        self.is_admin = is_admin
        self.is_checking = False
        self._state, self._credentials, self._runtime = state, credentials, runtime
        self._peer: Peer = peer
        self._changed = changed
        self._resume = resume
        self._session_owner: bytes | None = None  # set once, by the first identity
        self._expires_us: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._version_before_expiry: int | None = None  # until the client continues from a later one
        self._queued: list[QueuedCommand] = []
        self._queued_bytes = 0
        self._closed = False

    # Changes.

    def change(self, command: SetIdentity) -> None:
        """
        Execute a `SetIdentity`, now or when its token was checked.

        Raises:
            BaseVersionMismatch: it does not continue the last version.
        """
        self._check_version(command.base_version)
        match command.kind:
            case "none":
                self._accept(command, None)
            case "admin" if self._credentials.is_admin(command.credential):
                self._act_as(command, command.acting_as)
            case "admin":
                self._refuse(command, errors.Unauthenticated("the admin token is wrong"))
            case "user":
                self.is_checking = True
                self._credentials.check_user(command.credential, lambda outcome: self._checked(command, outcome))

    def _act_as(self, command: SetIdentity, claims: dict[str, Any] | None) -> None:
        try:
            identity = None if claims is None else unwrap(claims)
            # An object may encode another value, as `{"$bytes": ""}` does.
            if not isinstance(identity, dict | None):
                raise errors.InvalidValue("the claims to act with must be an object")
        except errors.TinyvexError as error:
            self._refuse(command, error)
        else:
            self._accept(command, identity, is_admin=True)

    def _check_version(self, base: int) -> None:
        if base != self._version_before_expiry:
            self._state.check_identity(base)
            self._version_before_expiry = None

    def _checked(self, command: SetIdentity, outcome: UserIdentity | errors.TinyvexError) -> None:
        self.is_checking = False
        if self._closed:
            return
        if isinstance(outcome, errors.TinyvexError):
            self._refuse(command, outcome)
        else:
            self._accept(command, outcome.claims, expires_us=outcome.expires_us)
        queued, self._queued, self._queued_bytes = self._queued, [], 0
        if queued:
            self._resume(queued)

    def _accept(
        self, command: SetIdentity, claims: Identity, *, is_admin: bool = False, expires_us: int | None = None
    ) -> None:
        if not self._claim_session(claims):
            self._refuse(command, errors.SessionIdentity("the session belongs to another identity; open a new session"))
            return
        self._become(claims, is_admin=is_admin, expires_us=expires_us)
        self._version_before_expiry = None
        self._peer.emit(Accepted(command.correlation))
        self._changed()

    def _claim_session(self, claims: Identity) -> bool:
        """Bind the session to its first identity: its exactly-once records must not answer any other."""
        if claims is None:
            return True
        key = session_key(claims)
        self._session_owner = self._session_owner or key
        return key == self._session_owner

    def _refuse(self, command: SetIdentity, error: errors.TinyvexError) -> None:
        self._peer.emit(Refused(command.correlation, error))
        self._peer.emit(IdentityRefused(error, self._state.identity, attempted=True))

    def _become(self, claims: Identity, *, is_admin: bool, expires_us: int | None) -> None:
        self.claims, self.is_admin, self._expires_us = claims, is_admin, expires_us
        self._state.identity += 1
        self._cancel_timer()
        self._set_timer()

    # While a token is checked.

    def enqueue(self, command: Command, size: int) -> None:
        """Queue a command until the token was checked; above the bounds, end the connection."""
        self._queued_bytes += size
        if len(self._queued) >= limits.AUTH_QUEUED_MESSAGES_MAX or self._queued_bytes > limits.MESSAGE_BYTES_MAX:
            error = errors.Overloaded(
                f"{len(self._queued) + 1} messages with {self._queued_bytes:,} bytes arrived while a token was checked; "
                f"the limits are {limits.AUTH_QUEUED_MESSAGES_MAX} messages and {limits.MESSAGE_BYTES_MAX:,} bytes"
            )
            self._peer.emit(Fatal(error))
        else:
            self._queued.append((command, size))

    # Expiry.

    def _set_timer(self) -> None:
        if self._expires_us is not None:
            remaining = (self._expires_us - self._runtime.now_us()) / 1e6
            # The wall clock may be set and the machine may sleep, so it is read again from time to time.
            pause = min(max(remaining, 0.0), limits.AUTH_CLOCK_SECONDS)
            self._timer = self._runtime.loop.call_later(pause, self.expire_if_due)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expire_if_due(self) -> None:
        """Become anonymous if the token has expired."""
        if self._expires_us is None:
            return
        self._cancel_timer()
        if self._runtime.now_us() < self._expires_us:
            self._set_timer()
            return
        self._version_before_expiry = self._state.identity
        self._become(None, is_admin=False, expires_us=None)
        self._peer.emit(
            IdentityRefused(errors.Unauthenticated("the token has expired"), self._state.identity, attempted=False)
        )
        self._changed()

    def close(self) -> None:
        """Release the timer, the queued commands and the session."""
        self._closed = True
        self._queued.clear()
        self._cancel_timer()
        self._peer, self._changed, self._resume = ClosedPeer(), _ignore, _ignore


def _ignore(*_: object) -> None:
    """Do nothing: the session is closed."""
