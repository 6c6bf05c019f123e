"""
When a slow client is closed: the rules and the numbers. (pure)

A client may read slowly. It is closed when it reads *nothing* for SLOW_CONSUMER_SECONDS although bytes wait for it, or
when more than OUTBOX_BYTES_MAX of responses wait.
"""

from __future__ import annotations

__all__ = ["UnreadWatch"]


class UnreadWatch:
    """How long a peer has read nothing although its socket's buffer is full."""

    def __init__(self) -> None:
        self._since: float | None = None  # when it last read something; None while the buffer has room
        self._unread_bytes = 0

    def begin(self, now: float, unread_bytes: int) -> None:
        """Note that the buffer is full."""
        self._since, self._unread_bytes = now, unread_bytes

    def end(self) -> None:
        """Note that the buffer has room again."""
        self._since = None

    def seconds(self, now: float, unread_bytes: int) -> float:
        """Return how long the peer has read nothing; it starts again whenever the buffer has shrunk."""
        if self._since is None:
            return 0.0
        if unread_bytes < self._unread_bytes:
            self._since, self._unread_bytes = now, unread_bytes
        return now - self._since
