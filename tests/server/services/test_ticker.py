"""Counting seconds, in a time of its own."""

import pytest

from tinyvex.server.services.ticker import every_second


class Clock:
    """Time that passes in pauses, which are late, and in what a test does."""

    def __init__(self, late=0.0):
        self.now = 1000.0
        self.late = late

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds + self.late


async def counted(clock, end, work=lambda count: 0.0):
    """When each count came, up to `end`."""
    times = []
    async for count in every_second(clock):
        assert count == len(times)
        times.append(clock.now - 1000.0)
        if count == end:
            return times
        clock.now += work(count)
    raise AssertionError


async def test_the_first_count_comes_at_once():
    """So that nobody waits for the watchdog to be set."""
    assert await counted(Clock(), 0) == [0.0]


async def test_pauses_that_are_late_do_not_add_up():
    """After a hundred seconds of a busy loop it is a hundred seconds later, not more."""
    times = await counted(Clock(late=0.2), 100, lambda _: 0.5)
    assert times[-1] == pytest.approx(100.2)


async def test_what_was_missed_is_not_made_up_for():
    """A machine that slept for an hour does not send an hour's heartbeats."""
    times = await counted(Clock(), 5, lambda count: 3600.0 if count == 2 else 0.0)
    assert times == pytest.approx([0, 1, 2, 3602, 3603, 3604])
