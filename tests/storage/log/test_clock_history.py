"""Observations of a clock that was set back: which `ts` the log had at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tinyvex.limits import CLOCK_OBSERVATIONS_MAX
from tinyvex.storage.log.clock_history import ClockHistory, ClockObservation

SECOND_US = 1_000_000
AHEAD_US = 10**15
"""A `ts` that no clock of these tests reaches."""


def observed_each(seconds: list[int]) -> tuple[ClockHistory, list[int]]:
    """Observe the next `ts` after each of these pauses; return also the times."""
    history, now_us, times = ClockHistory(), 0, []
    for number, pause in enumerate(seconds):
        now_us += pause * SECOND_US
        times.append(now_us)
        history = history.observed(AHEAD_US + number, now_us)
    return history, times


def test_nothing_is_stored_while_ts_follows_the_clock() -> None:
    """A `ts` that is up to a second ahead states its time well enough."""
    assert ClockHistory().observed(SECOND_US, 0) == ClockHistory()


def test_a_time_has_the_ts_of_the_last_observation_before_it() -> None:
    """A time between two observations has the earlier one, so that no commit counts as older than it is."""
    history, times = observed_each([10, 10, 10])
    assert [history.ts_at(time) - AHEAD_US for time in times] == [0, 1, 2]
    assert history.ts_at(times[1] - 1) == AHEAD_US


def test_a_time_before_the_first_observation_is_its_own_ts() -> None:
    """Commits from before the clock was ahead have the clock's `ts`."""
    history, times = observed_each([10])
    assert history.ts_at(times[0] - 1) == times[0] - 1


def test_a_time_after_the_clock_has_caught_up_is_its_own_ts() -> None:
    """From then on `ts` is the clock again."""
    history, _ = observed_each([10])
    assert history.ts_at(2 * AHEAD_US) == 2 * AHEAD_US


def test_one_observation_a_second_is_stored() -> None:
    """A busy writer adds no more, however many groups it commits."""
    history = ClockHistory()
    for number in range(100):
        history = history.observed(AHEAD_US + number, number * SECOND_US // 10)
    assert len(history.observations) == 10


def test_an_observation_in_the_future_is_dropped() -> None:
    """It was made before the clock stepped back once more."""
    history = ClockHistory((ClockObservation(50 * SECOND_US, AHEAD_US),)).observed(AHEAD_US + 1, 20 * SECOND_US)
    assert history.observations == (ClockObservation(20 * SECOND_US, AHEAD_US + 1),)


def test_a_file_created_while_the_clock_was_ahead_has_a_state_at_every_earlier_time() -> None:
    """The time of its first commits is unknown; the first observation is the oldest state that a user can mean."""
    history, times = observed_each([100])
    assert history.snapshot_at(times[0] - 60 * SECOND_US, created_us=AHEAD_US - 1) == AHEAD_US


def test_a_file_created_before_shows_its_former_state() -> None:
    """At a time before the clock was ahead, the state of that time is shown."""
    history, times = observed_each([100])
    assert history.snapshot_at(times[0] - 60 * SECOND_US, created_us=5) == times[0] - 60 * SECOND_US


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=600))
def test_ages_remain_precise_in_few_observations(pauses: list[int]) -> None:
    """No age is overestimated, and what thinning adds to an age is bounded by the age."""
    history, times = observed_each(pauses)
    assert len(history.observations) <= CLOCK_OBSERVATIONS_MAX
    for number, time in enumerate(times):
        assert history.ts_at(time) <= AHEAD_US + number
    assert history.ts_at(times[-1]) == AHEAD_US + len(times) - 1


def test_a_steady_day_is_remembered_within_a_tenth_of_each_age() -> None:
    """A write a second: the state of any age is found within a tenth of that age, and a few seconds."""
    history, times = observed_each([1] * 20_000)
    for age in (1, 10, 60, 600, 3600, 15_000):
        seen = history.ts_at(times[-1] - age * SECOND_US) - AHEAD_US
        assert 19_999 - age - age * 0.1 - 2 <= seen <= 19_999 - age
