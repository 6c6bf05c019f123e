"""Refusals in the log: each once a minute, and never more than a bound."""

import pytest

from tinyvex import limits
from tinyvex.server.access.refusal_log import LOG_SECONDS, RefusalLog


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_reason_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A page that retries costs one line a minute; another reason has its own line."""
    clock = Clock()
    refusals = RefusalLog(clock)
    for clock.now in (0.0, 1.0, LOG_SECONDS, LOG_SECONDS + 1):
        refusals.record("a")
        refusals.record("b")
    assert caplog.messages == [f"refused a request: {reason}" for reason in "abab"]


def test_different_reasons_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A client that sends another value with each request fills neither the log nor the memory."""
    clock = Clock()
    refusals = RefusalLog(clock)
    for minute in range(3):
        clock.now = minute * (LOG_SECONDS + 1)
        for number in range(10 * limits.REFUSALS_LOGGED_MAX):
            refusals.record(f"{minute} {number}")
        assert len(refusals._logged_at) == limits.REFUSALS_LOGGED_MAX
    assert len(caplog.messages) == 3 * limits.REFUSALS_LOGGED_MAX
