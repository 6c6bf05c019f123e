"""The ticker: one tick a second by the clock, and one broken connection that harms no other."""

from types import SimpleNamespace

import pytest

from tinyvex import limits
from tinyvex.server.services.ticker import Ticker, every_second


class Clock:
    """A clock that advances in pauses, which end late, and when a test moves it."""

    def __init__(self, late=0.0):
        self.now = 1000.0
        self.late = late

    def monotonic(self):
        return self.now

    def awake_seconds(self):
        return self.now

    async def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds + self.late


async def counted(clock, end, work=lambda count: 0.0):
    """Return the time of each count, up to `end`."""
    times = []
    async for count in every_second(clock):
        assert count == len(times)
        times.append(clock.now - 1000.0)
        if count == end:
            return times
        clock.now += work(count)
    raise AssertionError


async def test_the_first_count_comes_immediately():
    """Deadlines hold from the first second."""
    assert await counted(Clock(), 0) == [0.0]


async def test_pauses_that_are_late_do_not_add_up():
    """A hundred counts of a busy loop take a hundred seconds."""
    times = await counted(Clock(late=0.2), 100, lambda _: 0.5)
    assert times[-1] == pytest.approx(100.2)


async def test_what_was_missed_is_not_made_up_for():
    """A machine that slept for an hour does not send an hour's heartbeats."""
    times = await counted(Clock(), 5, lambda count: 3600.0 if count == 2 else 0.0)
    assert times == pytest.approx([0, 1, 2, 3602, 3603, 3604])


class FakeConnection:
    """Records its ticks, and fails on demand."""

    def __init__(self, number, error=None):
        self.number = number
        self.error = error
        self.heartbeats = []
        self.aborted = False

    def tick(self, now, *, heartbeat):
        self.heartbeats.append(heartbeat)
        if self.error is not None:
            raise self.error

    def abort(self):
        self.aborted = True


def ticker(*connections):
    token_auth = SimpleNamespace(tick=lambda _connections: None, end=lambda: None)
    return Ticker(Clock(), {each.number: each for each in connections}, token_auth)


def test_every_connection_gets_one_heartbeat_per_interval():
    """Spread by number, so that they do not all leave in the same second."""
    connections = [FakeConnection(number) for number in range(10)]
    service = ticker(*connections)
    interval = int(limits.HEARTBEAT_SECONDS)
    for count in range(interval):
        service._tick(count)
    assert [sum(each.heartbeats) for each in connections] == [1] * 10
    assert [sum(each.heartbeats[second] for each in connections) for second in range(interval)] == [2] * interval


def test_a_connection_whose_tick_fails_is_closed(caplog):
    """The others are ticked, and the log names the connection."""
    broken, other = FakeConnection(1, RuntimeError("no")), FakeConnection(2)
    ticker(broken, other)._tick(0)
    assert (broken.aborted, other.aborted) == (True, False)
    assert len(other.heartbeats) == 1
    assert "connection 1: its tick failed" in caplog.text
