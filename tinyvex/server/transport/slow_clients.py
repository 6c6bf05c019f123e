"""
When a client that does not read is held back, and when it is closed: the rules and the numbers. (pure)

A client may read slowly. Its cost is bounded, and it is closed when a bound of the last two rows is reached.

======================================  ============================================================================
what waits for the client               bound
======================================  ============================================================================
unsent in the operating system          SYSTEM_BUFFER_BYTES
in the transport's buffer               OUTBOX_BYTES_HIGH and one message
transitions in the outbox               TRANSITIONS_UNSENT_MAX; then none is computed until it reads. Chunks that were
                                        not made yet are references to results that all subscribers share
responses and pongs in the outbox       RESPONSES_UNSENT_BYTES_MAX; then the server stops reading from it, and its
                                        one-shot queries that were read before wait (`storage/engine/undelivered.py`).
                                        OUTBOX_BYTES_MAX, with the responses to requests that were read before: closed
anything, without a byte being read     SLOW_CONSUMER_SECONDS: closed
anything, of all clients together       UNREAD_BYTES_MAX: the one with the most is closed (`unread_total`)
======================================  ============================================================================

`Connection` and `HttpConnection` close; `Sender` holds back. `deadlines` has the rules for clients that do not *send*.
"""

from __future__ import annotations

from tinyvex import limits

__all__ = ["UnreadWatch", "may_resume_reading", "reason_to_close"]


def reason_to_close(waiting_bytes: int, unread_seconds: float) -> str | None:
    """
    Return why a client is closed; None if it may stay.

    Args:
        waiting_bytes: the size of responses and pongs in the outbox.
        unread_seconds: how long the client has read nothing, as `UnreadWatch` measures it.
    """
    if waiting_bytes > limits.OUTBOX_BYTES_MAX:
        return f"{waiting_bytes:,} bytes wait to be read; the limit is {limits.OUTBOX_BYTES_MAX:,}"
    if unread_seconds > limits.SLOW_CONSUMER_SECONDS:
        return f"it read nothing for {limits.SLOW_CONSUMER_SECONDS:g} s although data waits"
    return None


def may_resume_reading(waiting_bytes: int) -> bool:
    """Return whether a client has read enough for its requests to be read again."""
    return waiting_bytes <= limits.RESPONSES_UNSENT_BYTES_MAX // 2


class UnreadWatch:
    """A clock of the time in which a peer reads nothing although bytes wait for it."""

    def __init__(self) -> None:
        self._since: float | None = None  # when it last read something; None while the clock does not run
        self._unread_bytes = 0

    def begin(self, now: float, unread_bytes: int) -> None:
        """Start the clock: the buffer is full."""
        self._since, self._unread_bytes = now, unread_bytes

    def end(self) -> None:
        """Stop the clock: the buffer has room again."""
        self._since = None

    def seconds(self, now: float, unread_bytes: int) -> float:
        """Return how long the peer has read nothing; the time starts again whenever the buffer has shrunk."""
        if self._since is None:
            return 0.0
        if unread_bytes < self._unread_bytes:
            self._since, self._unread_bytes = now, unread_bytes
        return now - self._since

    def observe(self, now: float, unread_bytes: int) -> float:
        """Start or stop the clock by whether any byte waits; return how long the peer has read nothing."""
        if not unread_bytes:
            self.end()
        elif self._since is None:
            self.begin(now, unread_bytes)
        return self.seconds(now, unread_bytes)
