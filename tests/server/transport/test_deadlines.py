"""Deadlines of clients that send nothing."""

import pytest

from tinyvex import limits
from tinyvex.errors import IdleTimeout, SlowHandshake
from tinyvex.server.transport import deadlines

LATE = 0.001


@pytest.mark.parametrize(
    ("now", "received_at", "is_connected", "error"),
    [
        (limits.HANDSHAKE_SECONDS, 0.0, False, None),
        (limits.HANDSHAKE_SECONDS + LATE, limits.HANDSHAKE_SECONDS, False, SlowHandshake),
        (limits.HANDSHAKE_SECONDS + LATE, 0.0, True, None),
        (limits.IDLE_SECONDS, 0.0, True, None),
        (limits.IDLE_SECONDS + LATE, 0.0, True, IdleTimeout),
        (limits.IDLE_SECONDS + 50.0, 60.0, True, None),
    ],
)
def test_a_websocket_that_sends_nothing(
    now: float, received_at: float, is_connected: bool, error: type[Exception] | None
) -> None:
    """Bytes extend the idle time, and not the time for `tinyvex/connect`."""
    found = deadlines.websocket_error(now, opened_at=0.0, received_at=received_at, is_connected=is_connected)
    assert found is None if error is None else type(found) is error


@pytest.mark.parametrize(
    ("rule", "seconds"),
    [
        (deadlines.is_open_too_long, limits.HANDSHAKE_SECONDS),
        (deadlines.late_head, limits.HANDSHAKE_SECONDS),
        (deadlines.late_body, limits.HTTP_IDLE_SECONDS),
        (deadlines.is_http_idle, limits.HTTP_IDLE_SECONDS),
    ],
)
def test_an_http_client_that_sends_nothing(rule: object, seconds: float) -> None:
    """Each deadline is the one of its limit."""
    assert callable(rule)
    assert not rule(100.0 + seconds, 100.0)
    assert rule(100.0 + seconds + LATE, 100.0)
