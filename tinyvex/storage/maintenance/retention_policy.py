"""The amount of history to retain: where a sweep moves the floor to. (pure)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from tinyvex import limits

if TYPE_CHECKING:
    from tinyvex.storage.log.clock_history import ClockHistory
    from tinyvex.storage.log.document_log import Snapshot
    from tinyvex.storage.maintenance.live_size import LiveSize

__all__ = ["HistoryState", "Policy"]


class Policy(Struct, frozen=True):
    """
    The amount of history to retain.

    Attributes:
        seconds: the age up to which every state can be read.
        bytes_max: while the file uses more than this, less history is retained; None for a bound that follows the live
            data.
    """

    seconds: float = limits.RETENTION_SECONDS
    bytes_max: int | None = None

    @property
    def interval_seconds(self) -> float:
        """The pause between two sweeps."""
        return max(min(limits.RETENTION_INTERVAL_SECONDS, self.seconds / 10), limits.RETENTION_PAUSE_SECONDS)

    def bound(self, size: LiveSize) -> int:
        """Return the bytes above which less history is retained."""
        if self.bytes_max is not None:
            return self.bytes_max
        bound = limits.RETENTION_LIVE_FACTOR * size.live_bytes + limits.RETENTION_BYTES
        # Exactly-once outlasts the bound. Half of it is left to history, however many records there are.
        return max(bound, size.request_bytes + bound // 2)

    def floor(self, state: HistoryState, now_us: int) -> int:
        """
        Return the new floor.

        It never moves back, never exceeds the newest commit, and stays RETENTION_SECONDS_MIN before the present.

        If the file uses too many bytes, half of the remaining revisions go. How much that saves is only known after the
        sweep, so the next sweep decides again.

        Args:
            state: the history in the file.
            now_us: the current time.
        """
        wanted = state.clock.ts_at(now_us - int(self.seconds * 1_000_000))
        if state.used_bytes > self.bound(state.size):
            wanted = max(wanted, state.middle_ts)
        latest = state.clock.ts_at(now_us - int(limits.RETENTION_SECONDS_MIN * 1_000_000))
        return max(state.floor, min(wanted, latest, state.last_ts))


class HistoryState(Struct, frozen=True):
    """
    The state of the history in the file.

    Attributes:
        floor: the first readable timestamp.
        swept_row: the last row of the log that a sweep has read.
        last_ts: the newest commit.
        middle_ts: of the revision in the middle of those that no sweep has read.
        used_bytes: the bytes of the file that are in use.
        clock: states the ages of commits.
        size: what no bound can free, as last measured.
    """

    floor: int
    swept_row: int
    last_ts: int
    middle_ts: int
    used_bytes: int
    clock: ClockHistory
    size: LiveSize

    @classmethod
    def of(cls, snapshot: Snapshot, clock: ClockHistory, size: LiveSize) -> HistoryState:
        """Read the state of the newest snapshot."""
        stored = snapshot.globals()
        swept_row = stored.get("swept_row", 0)
        middle_ts = snapshot.ts_of_row((swept_row + snapshot.newest_row()) // 2)
        return cls(stored["floor_ts"], swept_row, snapshot.ts, middle_ts, snapshot.used_bytes(), clock, size)
