"""What the client's state tells the one who drives it (pure)."""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeAlias

from tinyvex.client.requests import Answer
from tinyvex.errors import RemoteError, TinyvexError

__all__ = [
    "Changed",
    "Completed",
    "Connected",
    "Ended",
    "Event",
    "Failed",
    "IdentityChanged",
    "SessionPhase",
    "fresh",
]


class SessionPhase(enum.Enum):
    """How far a client is; `state.py` has the diagram."""

    OFFLINE = "offline"
    GREETING = "greeting"
    READY = "ready"
    CLOSED = "closed"


class Connected(NamedTuple):
    """The server answered `tinyvex/connect`."""


class IdentityChanged(NamedTuple):
    """A token may be wanted, or one was taken or refused."""


class Changed(NamedTuple):
    """These queries show something new, all at one version."""

    query_ids: list[int]


class Completed(NamedTuple):
    """The request is finished; for a mutation, a transition that covers it has been applied."""

    number: int
    answer: Answer


class Failed(NamedTuple):
    """The request is finished and has no result."""

    number: int
    error: TinyvexError


class Ended(NamedTuple):
    """The client is closed for good."""

    error: TinyvexError


Event: TypeAlias = Connected | IdentityChanged | Changed | Completed | Failed | Ended


def fresh(error: TinyvexError) -> TinyvexError:
    """The same error anew, for each one who raises it: tracebacks do not pile up, and nobody shares one."""
    if isinstance(error, RemoteError):
        return RemoteError(
            error.message,
            number=error.remote_number,
            name=error.name,
            details=error.data,
            fault=error.fault,
            retry=error.retry,
        )
    return type(error)(error.message, **error.data)
