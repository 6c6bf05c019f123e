"""
Relate the wall clock to timestamps that ran ahead of it.

A `ts` is the wall clock at the commit, so the age of a commit is usually the difference between the clock and its `ts`.
If the clock was ahead once and was then corrected, `ts` remains ahead and grows by one per commit, until the clock has
caught up. Meanwhile ages and times come from *observations*: "when the clock showed this, the newest commit was that `ts`".

Observations are made only while `ts` is ahead, at most one per CLOCK_OBSERVED_SECONDS, and stored in the global
`clock_history`. The commits that came before the first observation keep the age that their `ts` states; if their `ts` is
in the future, they count from the first observation on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from tinyvex.limits import CLOCK_AHEAD_SECONDS, CLOCK_OBSERVATIONS_MAX, CLOCK_OBSERVED_SECONDS

__all__ = ["CLOCK_HISTORY", "ClockHistory", "ClockObservation"]

CLOCK_HISTORY = "clock_history"
"""The name of the global."""


class ClockObservation(NamedTuple):
    """The newest `ts` when the wall clock showed `now_us`."""

    now_us: int
    ts: int


class ClockHistory(NamedTuple):
    """The observations, oldest first; both of their numbers grow."""

    observations: tuple[ClockObservation, ...] = ()

    @classmethod
    def stored(cls, stored_globals: Mapping[str, Any]) -> ClockHistory:
        """Return the history that a file has stored."""
        return cls(tuple(ClockObservation(*pair) for pair in stored_globals.get(CLOCK_HISTORY, ())))

    def observed(self, ts: int, now_us: int) -> ClockHistory:
        """Return the history with one more observation; the same history if there is nothing to remember."""
        if ts - now_us <= CLOCK_AHEAD_SECONDS * 1e6:
            return self
        # An observation in the future was made before the clock stepped back once more.
        known = self.observations[: bisect_right(self.observations, now_us, key=itemgetter(0))]
        if known and (known[-1].ts >= ts or now_us - known[-1].now_us < CLOCK_OBSERVED_SECONDS * 1e6):
            return self if len(known) == len(self.observations) else ClockHistory(known)
        return ClockHistory(_thinned((*known, ClockObservation(now_us, ts))))

    def ts_at(self, time_us: int) -> int:
        """
        Return the `ts` that separates the commits before a wall clock time from those after it.

        It is too small rather than too large: no commit counts as older than it is.
        """
        position = bisect_right(self.observations, time_us, key=itemgetter(0))
        return max(time_us, self.observations[position - 1].ts) if position else time_us

    def snapshot_at(self, time_us: int, created_us: int) -> int:
        """
        Return the `ts` of the state that a user calls by a wall clock time.

        If the file was created while the clock was ahead, the time of its first commits is unknown. The first
        observation then serves for every earlier time, because it is the oldest state that the user can mean.

        Args:
            time_us: the time.
            created_us: the clock when the file was created.
        """
        if self.observations and time_us < self.observations[0].now_us < created_us:
            return self.observations[0].ts
        return self.ts_at(time_us)


def _thinned(observations: tuple[ClockObservation, ...]) -> tuple[ClockObservation, ...]:
    """Drop the observation that is the closest to its neighbours, in relation to its age, if there are too many."""
    if len(observations) <= CLOCK_OBSERVATIONS_MAX:
        return observations
    newest_us = observations[-1].now_us

    def gap(position: int) -> float:
        before, after = observations[position - 1].now_us, observations[position + 1].now_us
        return (after - before) / (newest_us - before)

    dropped = min(range(1, len(observations) - 1), key=gap)
    return observations[:dropped] + observations[dropped + 1 :]
