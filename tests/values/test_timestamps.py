"""Timestamps increase strictly."""

from hypothesis import given
from hypothesis import strategies as st

from tinyvex.values.timestamps import TS_MAX, creation_time, next_creation_time, next_ts


@given(st.integers(0, TS_MAX - 1), st.integers(0, TS_MAX))
def test_the_next_ts_is_later_than_the_last(last: int, now_us: int) -> None:
    """It is later even if the clock stands still or steps back."""
    assert next_ts(last, now_us) > last


@given(st.integers(0, TS_MAX - 1), st.integers(1, TS_MAX))
def test_the_next_ts_is_the_clock_if_it_is_later(last: int, now_us: int) -> None:
    """A commit has the wall-clock time unless the last timestamp was later."""
    if now_us > last:
        assert next_ts(last, now_us) == now_us


@given(st.integers(1, TS_MAX))
def test_creation_times_increase_inside_a_transaction(ts: int) -> None:
    """No two documents of a transaction have the same creation time."""
    first = creation_time(ts)
    assert first < next_creation_time(first) < next_creation_time(next_creation_time(first))


def test_a_creation_time_is_in_milliseconds() -> None:
    """The unit is that of JavaScript's Date."""
    assert creation_time(1_700_000_000_123_456) == 1_700_000_000_123.456
