"""
One socket's messages from the server: read, put together where they came in parts, checked for continuity (pure).

A part belongs to the transition under way; responses and pings may come between two of them, another transition may not.
"""

from __future__ import annotations

from typing import Protocol

from tinyvex import limits
from tinyvex.errors import UpdateRejected
from tinyvex.wire import codec
from tinyvex.wire import messages as wire
from tinyvex.wire.transition_chunks import Assembler

__all__ = ["CAPABILITIES", "NO_NEW_SOCKET_HELPS", "Incoming", "check_continuity"]

CAPABILITIES = [wire.CAPABILITY_PATCH, wire.CAPABILITY_CHUNK]

NO_NEW_SOCKET_HELPS = frozenset(
    {"UnsupportedVersion", "ObservedTsAhead", "SessionReplaced", "SessionIdentity", "Unauthenticated", "Forbidden"}
)
"""Fatal errors after which connecting again would end the same way, or take the session from its rightful owner."""


class PartCounter(Protocol):
    """Where parts are counted."""

    chunks_received: int


class Incoming:
    """What has come on a socket."""

    def __init__(self, counters: PartCounter) -> None:
        self._assembler = Assembler(limits.CLIENT_MESSAGE_BYTES_MAX)
        self._counters = counters

    def read(self, data: bytes | str) -> codec.Response | wire.ServerNotification | None:
        """
        The message; None where there is nothing to be done: an unknown notification, or a part that is not the last.

        Raises:
            UpdateRejected: it cannot be understood, or parts do not follow each other.
        """
        message = codec.decode_server_message(data)
        if isinstance(message, wire.TransitionChunk):
            self._counters.chunks_received += 1
            whole = self._assembler.add(message.params)
            return None if whole is None else _transition(whole)
        if isinstance(message, wire.Transition) and not self._assembler.idle:
            raise UpdateRejected("a transition came between two parts of another one")
        return message


def _transition(whole: bytes) -> wire.Transition:
    message = codec.decode_server_message(whole)
    if not isinstance(message, wire.Transition):
        raise UpdateRejected("what came in parts is no transition")
    return message


def check_continuity(transition: wire.TransitionParams, held: wire.StateVersion, sent_query_set: int) -> None:
    """
    Refuse a transition that does not continue from the version held.

    Raises:
        UpdateRejected: it begins elsewhere, goes backwards, or reaches a query set that was not asked for.
    """
    start, end = transition.start_version, transition.end_version
    if start != held:
        raise UpdateRejected(f"a transition starts at {_text(start)}, but this client is at {_text(held)}")
    if end.query_set < start.query_set or end.identity < start.identity or end.ts < start.ts:
        raise UpdateRejected(f"a transition goes backwards, from {_text(start)} to {_text(end)}")
    if end.query_set > sent_query_set:
        raise UpdateRejected(f"a transition reaches {_text(end)}, but only {sent_query_set} was sent")


def _text(version: wire.StateVersion) -> str:
    return f"{version.query_set}/{version.identity}/{version.ts}"
