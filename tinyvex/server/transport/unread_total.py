"""
The memory that unread answers of all clients take together, and which client is closed when it is too much. (pure)

Each client has bounds of its own (`slow_clients.py`), but many clients could reach them together. Clients with at least
UNREAD_COUNTED_BYTES report what waits for them. Pieces of long transitions are shared by subscribers, so they count once.

Above UNREAD_BYTES_MAX, the client is closed that has the largest product of unread bytes and time without reading, until the
rest fits: a client that does not read goes before one that is reading a result of the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from tinyvex import limits

if TYPE_CHECKING:
    from tinyvex.wire.transition_chunks import Piece

__all__ = ["Holder", "UnreadTotal"]

READING_SECONDS = 0.1
"""Added to the time without reading, so that the bytes decide between clients that are reading."""


class Holder(Protocol):
    """A client that answers wait for."""

    def recount(self) -> None:
        """Report the bytes that wait now; the client may have read some since it reported last."""

    def unread_seconds(self, now: float) -> float:
        """Return how long the client has read nothing although data waits."""
        ...

    def close_unread(self, reason: str) -> None:
        """Close the client and release what waits for it."""


class UnreadTotal:
    """
    The sum over all clients.

    Attributes:
        bytes: what waits, with shared pieces counted once.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._own: dict[Holder, int] = {}  # bytes that wait for this client only
        self._held: dict[Holder, int] = {}  # bytes of shared pieces
        self._shared: dict[int, list[int]] = {}  # id of a piece -> [transitions that hold it, its size]

    def is_above(self) -> bool:
        """Return whether a client must be closed."""
        return self.bytes > limits.UNREAD_BYTES_MAX

    def report(self, holder: Holder, size: int) -> None:
        """Set the bytes that wait for one client only."""
        self.bytes += size - self._own.pop(holder, 0)
        if size:
            self._own[holder] = size

    def hold(self, holder: Holder, pieces: Sequence[Piece]) -> None:
        """Count the pieces of a transition; each call is matched by one of `release`."""
        size = 0
        for piece in pieces:
            shared = self._shared.get(id(piece))
            if shared is None:
                shared = self._shared[id(piece)] = [0, len(piece)]
                self.bytes += shared[1]
            shared[0] += 1
            size += shared[1]
        self._held[holder] = self._held.get(holder, 0) + size

    def release(self, holder: Holder, pieces: Sequence[Piece]) -> None:
        """Stop counting the pieces of a transition."""
        size = 0
        for piece in pieces:
            shared = self._shared[id(piece)]
            shared[0] -= 1
            size += shared[1]
            if not shared[0]:
                del self._shared[id(piece)]
                self.bytes -= shared[1]
        self._held[holder] -= size
        if not self._held[holder]:
            del self._held[holder]

    def relieve(self, now: float) -> None:
        """Close clients until the rest fits."""
        for holder in list(self._own):
            holder.recount()
        while self.is_above() and (holders := self._own.keys() | self._held.keys()):
            heaviest = max(holders, key=lambda holder: self._weight(holder, now))
            size = self._own.get(heaviest, 0) + self._held.get(heaviest, 0)
            heaviest.close_unread(
                f"{size:,} bytes wait to be read; those of all clients together are above the limit of "
                f"{limits.UNREAD_BYTES_MAX:,}"
            )
            assert heaviest not in self._own
            assert heaviest not in self._held

    def _weight(self, holder: Holder, now: float) -> float:
        size = self._own.get(holder, 0) + self._held.get(holder, 0)
        return size * (READING_SECONDS + holder.unread_seconds(now))
