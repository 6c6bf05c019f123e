"""
Events that a session sends to its client, independent of any dialect. (pure)

Answers carry the `correlation` of their command. Every command gets exactly one:

==============================  ====================================================================
`ModifyQueries`, `SetIdentity`  `Accepted`, then a `StateTransition` to the new version
`RunMutation`, `RunAction`      `Done` or, if the function failed, `Refused`; then a `StateTransition`
`RunQuery`                      `Done`
`ReadClock`                     `ClockRead`
any of them                     `Refused`; then `IdentityRefused` if a credential was refused,
                                or `Fatal` if the error is fatal
==============================  ====================================================================

A closed session emits nothing: a call that ends later, or a credential that was still being checked, has no answer.

A `StateTransition` moves all queries of the connection to one `ts`. Its changes refer to the shared `Result`, so that
a dialect encodes a result once for all connections (`Result.fragments`).

Events are part of no reference cycle, so the garbage collector does not track them (`gc=False`): a commit may create
thousands of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from tinyvex.errors import TinyvexError
    from tinyvex.sync.results import Result

__all__ = [
    "Accepted",
    "ClockRead",
    "ClosedPeer",
    "Done",
    "Event",
    "Failure",
    "Fatal",
    "FullValue",
    "IdentityRefused",
    "Patch",
    "Peer",
    "QueryChange",
    "Refused",
    "Removed",
    "StateTransition",
    "SyncVersion",
    "Unchanged",
]


# Answers.


class Accepted(Struct, frozen=True, gc=False):
    """The command was applied; a transition with its effect follows."""

    correlation: object


class Done(Struct, frozen=True, gc=False):
    """
    A function returned.

    Attributes:
        correlation: of the command.
        value: the result as canonical JSON.
        ts: the commit of a mutation, the snapshot of a query; None for an action.
        log_lines: lines that the function logged.
    """

    correlation: object
    value: bytes
    ts: int | None
    log_lines: Sequence[str] = ()


class Refused(Struct, frozen=True, gc=False):
    """
    The command failed, or the function that it called did.

    Attributes:
        correlation: of the command.
        error: the reason.
        log_id: names the execution in the server's log; None if nothing was executed.
        log_lines: lines that the failed function logged.
    """

    correlation: object
    error: TinyvexError
    log_id: str | None = None
    log_lines: Sequence[str] = ()


class ClockRead(Struct, frozen=True, gc=False):
    """The server's clock, in microseconds since the epoch."""

    correlation: object
    now_us: int


# Transitions.


class SyncVersion(Struct, frozen=True, gc=False):
    """A version of the client's state. No component ever decreases; all start at 0 on every connection."""

    query_set: int
    identity: int
    ts: int


class FullValue(Struct, gc=False):
    """A query has a new result."""

    query_id: int
    result: Result


class Patch(Struct, gc=False):
    """A query has a new result; `operations` (RFC 6902) produce it from the result that the client holds."""

    query_id: int
    result: Result
    operations: bytes


class Unchanged(Struct, gc=False):
    """The result that the client offered in `resume` is current."""

    query_id: int
    result: Result


class Failure(Struct, gc=False):
    """A query failed with `result.error`."""

    query_id: int
    result: Result


class Removed(Struct, gc=False):
    """A query left the query set."""

    query_id: int


QueryChange: TypeAlias = FullValue | Patch | Unchanged | Failure | Removed


class StateTransition(Struct, gc=False):
    """
    All queries move from one version to the next, together.

    Attributes:
        start: the `end` of the transition before it.
        end: the new version.
        server_ts: the server's clock, in microseconds since the epoch.
        changes: the queries whose result changed or that were removed; at most one for each.
    """

    start: SyncVersion
    end: SyncVersion
    server_ts: int
    changes: list[QueryChange]


# Others.


class IdentityRefused(Struct, frozen=True):
    """
    A change of identity was refused, or the user's token expired.

    Attributes:
        error: the reason.
        base_version: the identity version from which the client continues.
        attempted: whether a `SetIdentity` was refused; False if the token expired.
    """

    error: TinyvexError
    base_version: int
    attempted: bool


class Fatal(Struct, frozen=True):
    """The session cannot continue; the connection closes."""

    error: TinyvexError


Event: TypeAlias = StateTransition | Done | Accepted | Refused | ClockRead | IdentityRefused | Fatal


class Peer(Protocol):
    """The client as its session sees it; implemented by each dialect."""

    def emit(self, event: Event) -> None:
        """
        Send an event to the client, in order; never blocks. It may close the session before it returns.

        Raises:
            TinyvexError: a transition cannot be sent, for example because it is too long; fatal.
        """

    def is_full(self) -> bool:
        """Return whether so many transitions are unsent that no further one should be computed."""
        ...

    def run_action(self, action: Callable[[], Any]) -> None:
        """Run a coroutine function in the server's task group: actions outlive their connection."""


class ClosedPeer:
    """The peer of a closed session. It replaces the client's, so that a closed connection is part of no reference cycle."""

    def emit(self, event: Event) -> None:
        """Drop the event."""

    def is_full(self) -> bool:
        """Return True: no transition is wanted."""
        return True

    def run_action(self, action: Callable[[], Any]) -> None:
        """Drop the action."""
