"""
The seam between sockets and sessions: what a connection needs of its dialect, and a dialect of its connection.

::

    socket ──► Connection ── text ──► Dialect ── Command ──► SyncSession
    socket ◄── Connection ◄─ bytes ── Dialect ◄── Event ──── SyncSession

A connection knows bytes, frames and close codes; a dialect knows messages; a session knows neither. The front door
chooses the dialect of a connection by the path of its upgrade request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from tinyvex.errors import TinyvexError
    from tinyvex.sync.commands import OpenSession
    from tinyvex.sync.events import Peer
    from tinyvex.sync.session import SessionOpened
    from tinyvex.wire.transition_chunks import Piece

__all__ = ["Chunks", "CreateDialect", "Dialect", "Farewell", "Outlet", "Split"]


class Chunks(Protocol):
    """The messages of one long transition, each made when it is requested."""

    def __next__(self) -> bytes:
        """Return the next message; must not be called when exhausted."""
        ...

    def is_exhausted(self) -> bool:
        """Return whether the last message was returned."""
        ...


Split: TypeAlias = "Callable[[Sequence[Piece], int, int], Chunks]"
"""Split a transition, given its pieces, the length of a chunk in bytes, and the number of split transitions before it."""


class Farewell(NamedTuple):
    """
    The end of a connection: its last message and its close frame.

    Attributes:
        message: empty if the close frame alone is sent.
        close_code: None for a close frame without a code.
        close_reason: at most 123 bytes; empty without a code.
    """

    message: bytes
    close_code: int | None
    close_reason: str


class Dialect(Protocol):
    """The messages of one connection."""

    def receive(self, text: bytes) -> None:
        """Handle one text message from the client; errors are answered, never raised."""

    def ping(self) -> bytes:
        """Return the message that shows an idle client that the server is alive."""
        ...

    def farewell(self, error: TinyvexError) -> Farewell:
        """Return the last message and the close frame for an error."""
        ...


class Outlet(Protocol):
    """A connection as its dialect sees it."""

    def open_session(self, command: OpenSession, peer: Peer) -> SessionOpened:
        """
        Open the session of this connection; `peer` receives its events.

        Raises:
            TinyvexError: the client was refused.
        """
        ...

    def send(self, message: bytes) -> None:
        """Queue one message; everything queued in one loop iteration leaves in one write."""

    def send_pieces(self, pieces: Sequence[Piece]) -> None:
        """Queue one long message, the concatenation of pieces, which must not change; it leaves in slices."""

    def send_transition(self, pieces: Sequence[Piece], split: Split | None) -> None:
        """
        Queue a transition.

        Args:
            pieces: their concatenation is the message; they must not change.
            split: splits a long transition into chunks, between which other messages may be sent; None if the client
                accepts no chunks.
        """

    def is_full(self) -> bool:
        """Return whether so many transitions are unsent that no further one should be computed."""
        ...

    def fail(self, error: TinyvexError) -> None:
        """Send the farewell of an error, then close; at most once."""

    def run_action(self, action: Callable[[], Any]) -> None:
        """Run a coroutine function in the server's task group."""


CreateDialect: TypeAlias = Callable[[Outlet], Dialect]
"""Creates the dialect of a connection whose upgrade was accepted."""
