"""
Commands that a client sends to its session, independent of any dialect. (pure)

A dialect decodes each message into one command; the session answers with events (`sync.events`).

`correlation` ties an answer to its command. It is opaque to the session: the JSON-RPC id in the Tinyvex dialect.
Arguments stay encoded, as one JSON object, until the function that takes them decodes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct

__all__ = [
    "AddQuery",
    "Command",
    "ModifyQueries",
    "OpenSession",
    "QueryModification",
    "ReadClock",
    "RemoveQuery",
    "ResumeOffer",
    "RunAction",
    "RunMutation",
    "RunQuery",
    "SetIdentity",
]


class OpenSession(Struct, frozen=True):
    """
    Open a session; the first command of every connection.

    The server executes it, because it checks tokens and replaces an older connection of the same session.

    Attributes:
        session_id: chosen by the client; scopes the exactly-once records of its mutations.
        token: the client or admin token; empty if the dialect carried none.
        takes_patches: the client applies JSON Patches.
        observed_epoch: the epoch in which `max_observed_ts` was seen.
        max_observed_ts: the largest `ts` that the client has seen.
    """

    session_id: str
    token: str = ""
    takes_patches: bool = False
    observed_epoch: str | None = None
    max_observed_ts: int = 0


class ResumeOffer(Struct, frozen=True):
    """The result of a query that a client still has from an earlier connection, and a `ts` at which it was right."""

    ts: int
    hash: str


class AddQuery(Struct, frozen=True):
    """Subscribe to a query."""

    query_id: int
    path: str
    args: bytes
    resume: ResumeOffer | None = None


class RemoveQuery(Struct, frozen=True):
    """Unsubscribe from a query."""

    query_id: int


QueryModification: TypeAlias = AddQuery | RemoveQuery


class ModifyQueries(Struct, frozen=True):
    """Change the query set from `base_version` to `new_version`; applied as a whole or refused."""

    correlation: object
    base_version: int
    new_version: int
    modifications: Sequence[QueryModification]


class RunMutation(Struct, frozen=True):
    """
    Run a mutation exactly once for each (session id, `request_id`).

    Attributes:
        correlation: ties the answer to this command.
        path: the function's path.
        args: one JSON object.
        request_id: chosen by the client.
        acknowledged_below: the client never again asks for a lower request id; 0 acknowledges none.
        idempotency_key: replaces session and request id, if it is not None.
    """

    correlation: object
    path: str
    args: bytes
    request_id: int
    acknowledged_below: int = 0
    idempotency_key: str | None = None


class RunAction(Struct, frozen=True):
    """Run an action."""

    correlation: object
    path: str
    args: bytes
    request_id: int


class RunQuery(Struct, frozen=True):
    """Run a query once, as of `ts`, or as of the newest snapshot if that is None."""

    correlation: object
    path: str
    args: bytes
    ts: int | None = None


class SetIdentity(Struct, frozen=True):
    """
    Change the identity of the connection.

    Attributes:
        correlation: ties the answer to this command.
        base_version: the identity version that the change continues.
        kind: "none" signs out, "user" takes a user's token, "admin" the admin token.
        credential: the token.
        acting_as: with the admin token, the claims of the identity to use instead, as decoded JSON.
    """

    correlation: object
    base_version: int
    kind: Literal["none", "admin", "user"]
    credential: str = ""
    acting_as: dict[str, Any] | None = None


class ReadClock(Struct, frozen=True):
    """Read the server's clock; also proves that the connection is alive."""

    correlation: object


Command: TypeAlias = ModifyQueries | RunMutation | RunAction | RunQuery | SetIdentity | ReadClock
