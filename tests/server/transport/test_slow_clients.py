"""The time since a client last read."""

import pytest

from tinyvex import limits
from tinyvex.server.transport.slow_clients import UnreadWatch, reason_to_close


def test_a_client_that_reads_a_little_starts_again() -> None:
    """Only a client that reads nothing is stuck."""
    watch = UnreadWatch()
    assert watch.seconds(5.0, 100) == 0.0
    watch.begin(10.0, 100)
    assert watch.seconds(70.0, 100) == 60.0
    assert watch.seconds(75.0, 99) == 0.0
    assert watch.seconds(80.0, 99) == 5.0
    watch.end()
    assert watch.seconds(900.0, 99) == 0.0


def test_an_observed_client_has_read_nothing_since_bytes_began_to_wait() -> None:
    """The clock starts with the first byte, however much room the buffer has, and stops with the last."""
    watch = UnreadWatch()
    assert watch.observe(10.0, 0) == 0.0
    assert watch.observe(20.0, 1) == 0.0
    assert watch.observe(25.0, 1) == 5.0
    assert watch.observe(26.0, 0) == 0.0
    assert watch.observe(30.0, 1) == 0.0


@pytest.mark.parametrize(
    ("waiting_bytes", "unread_seconds", "is_closed"),
    [
        (limits.OUTBOX_BYTES_MAX, limits.SLOW_CONSUMER_SECONDS, False),
        (limits.OUTBOX_BYTES_MAX + 1, 0.0, True),
        (0, limits.SLOW_CONSUMER_SECONDS + 0.001, True),
    ],
)
def test_a_client_is_closed_above_either_bound(waiting_bytes: int, unread_seconds: float, is_closed: bool) -> None:
    """Too many bytes, or too long without reading any."""
    assert (reason_to_close(waiting_bytes, unread_seconds) is not None) == is_closed
