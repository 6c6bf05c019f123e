"""The bounds of unanswered requests."""

from __future__ import annotations

import pytest

from tinyvex import limits
from tinyvex.errors import Overloaded, TooManyRequests
from tinyvex.sync.counters import Counters
from tinyvex.sync.in_flight import InFlight

LONG = b"x" * (limits.LONG_ARGUMENTS_BYTES + 1)
SHORT = LONG[1:]


def test_each_connection_has_its_own_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above it, `TooManyRequests`; an answer makes room."""
    monkeypatch.setattr(limits, "REQUESTS_PER_CONNECTION_MAX", 1)
    counters = Counters()
    one, other = InFlight(counters), InFlight(counters)
    one.open(SHORT)
    other.open(SHORT)
    with pytest.raises(TooManyRequests):
        one.open(SHORT)
    one.close(SHORT)
    one.open(SHORT)


def test_long_arguments_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all connections; short arguments are not affected."""
    monkeypatch.setattr(limits, "LONG_ARGUMENTS_BYTES_MAX", len(LONG))
    counters = Counters()
    one, other = InFlight(counters), InFlight(counters)
    one.open(LONG)
    with pytest.raises(Overloaded):
        other.open(LONG)
    other.open(SHORT)
    one.close(LONG)
    other.open(LONG)
    assert (one.count, other.count, counters.long_arguments_bytes) == (0, 2, len(LONG))


def test_actions_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other calls do not count as actions."""
    monkeypatch.setattr(limits, "ACTIONS_MAX", 1)
    counters = Counters()
    one, other = InFlight(counters), InFlight(counters)
    one.open(SHORT, action=True)
    with pytest.raises(Overloaded):
        other.open(SHORT, action=True)
    other.open(SHORT)
    one.close(SHORT, action=True)
    other.open(SHORT, action=True)
    assert counters.actions_running == 1


def test_refused_requests_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused request leaves every counter unchanged."""
    monkeypatch.setattr(limits, "ACTIONS_MAX", 0)
    counters = Counters()
    requests = InFlight(counters)
    with pytest.raises(Overloaded):
        requests.open(LONG, action=True)
    assert (requests.count, counters.long_arguments_bytes, counters.actions_running) == (0, 0, 0)
