"""
The feed of committed records, for any number of listeners.

Live queries must mark what a commit touches before its mutation is acknowledged, so the store calls them first and
synchronously (`Store.on_commits`). Everything else that follows the log (a replica, a scheduler, a replicated log) reads
the feed: each listener has a buffer of its own and takes records from it at its own pace. The writer never waits for a
listener, and one listener never waits for another.

A buffer is bounded by the number of its records and by their memory. A listener that does not keep up falls behind::

                   publish, fits                      publish
                    ┌───────┐                        ┌───────┐
                    ▼       │                        ▼       │
    follow ─────► following ┴── publish, does not ──► behind ┘
                    ▲           fit: buffer            │
                    │           discarded              │
                    └────────────── take ──────────────┘
                         `Behind(after, until)`

It then reads the revisions with after < ts <= until from the log (`Snapshot.revisions_since`), and receives every record
after `until` from the feed. The log keeps documents, not operations, so what it reads there is less than the feed has:

-   every revision of every document, with its `ts`, including those of the system tables: so tables, indexes, tablets and
    the code document too. Contents that were copied by `MoveTablet` or `UpgradeDocuments` are revisions like any others.
    Retention deletes none of them while `after` is at or above the floor; below it the read is refused, and the listener
    starts again from a whole snapshot. Abandoned tablets are an exception, because they are cleared immediately: if one was the
    source of a later `MoveTablet` or `UpgradeDocuments`, that step finds too few rows, and `apply` refuses it.
-   not the steps that derive index entries (`BackfillIndex`, `DropIndexEntries`): they follow from `_indexes`;
-   not `SetNumbers`, and not `StoreRequest` and `ExpireRequests`: read the newest state of globals and requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tinyvex.limits import LISTENER_BYTES_MAX, LISTENER_RECORDS_MAX
from tinyvex.storage.log.commit_record import CommitRecord

__all__ = ["Behind", "CommitFeed", "CommitListener"]


class Behind(NamedTuple):
    """
    Records that a listener missed: those with after < ts <= until.

    Attributes:
        after: the last record that the listener took, or that was committed before it began to follow.
        until: the last record that was published.
    """

    after: int
    until: int


class CommitListener:
    """
    The position of a listener in the feed; see `CommitFeed.follow`.

    Attributes:
        taken_ts: of the last record taken, or accounted for by `Behind`.
    """

    def __init__(self, ts: int, wake: Callable[[], None], leave: Callable[[CommitListener], None]) -> None:
        self.taken_ts = ts
        self._published_ts = ts
        self._wake = wake
        self._leave = leave
        self._buffer: deque[tuple[CommitRecord, int]] = deque()
        self._bytes = 0
        self._behind = False

    def take(self) -> CommitRecord | Behind | None:
        """Return the next record, or the interval that was missed, or None if there is nothing new."""
        if self._behind:
            self._behind = False
            behind = Behind(self.taken_ts, self._published_ts)
            self.taken_ts = self._published_ts
            return behind
        if not self._buffer:
            return None
        record, size = self._buffer.popleft()
        self._bytes -= size
        self.taken_ts = record.ts
        return record

    def close(self) -> None:
        """Stop following; idempotent."""
        self._leave(self)
        self._buffer.clear()
        self._bytes = 0

    def publish(self, records: Iterable[CommitRecord]) -> None:
        """Add records to the buffer, and wake the listener if it had nothing to take; called by the feed."""
        had_nothing = not self._buffer and not self._behind
        for record in records:
            self._published_ts = record.ts
            if not self._behind:
                self._add(record)
        if had_nothing:
            self._wake()

    def _add(self, record: CommitRecord) -> None:
        size = record.memory_bytes
        if len(self._buffer) >= LISTENER_RECORDS_MAX or self._bytes + size > LISTENER_BYTES_MAX:
            self._behind = True
            self._buffer.clear()
            self._bytes = 0
            return
        self._buffer.append((record, size))
        self._bytes += size


class CommitFeed:
    """
    Distributes committed records to listeners, in order.

    Args:
        ts: of the last commit before the feed begins.
        report: receives what a listener's `wake` raises; the other listeners are still served.
    """

    def __init__(self, ts: int, report: Callable[[Exception], None]) -> None:
        self._ts = ts
        self._report = report
        self._listeners: list[CommitListener] = []

    def follow(self, wake: Callable[[], None]) -> CommitListener:
        """
        Add a listener, which receives every record after the last one published.

        Args:
            wake: called when a buffer that was empty has something to take; it must return quickly.
        """
        listener = CommitListener(self._ts, wake, self._remove)
        self._listeners.append(listener)
        return listener

    def publish(self, records: list[CommitRecord]) -> None:
        """Hand the records of a group to every listener."""
        assert records[0].ts > self._ts, "commits are published in order"
        self._ts = records[-1].ts
        for listener in tuple(self._listeners):
            try:
                listener.publish(records)
            except Exception as error:  # noqa: BLE001 - a defective listener must not keep records from the others
                self._report(error)

    def _remove(self, listener: CommitListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
