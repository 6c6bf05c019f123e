"""
A live query: its newest result, the older versions that clients hold, and results as of older snapshots.

A live query is shared by all subscriptions to the same function with the same arguments (`LiveQueryKey`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from tinyvex.sync.results import Result, Version

if TYPE_CHECKING:
    from tinyvex.errors import TinyvexError
    from tinyvex.functions.run.call import Call
    from tinyvex.functions.transaction.range_cache import CachedRanges
    from tinyvex.storage.engine.readers import Job

__all__ = ["VERSIONS_RETAINED_MAX", "LiveQuery", "LiveQueryKey", "SnapshotResult", "Subscriber"]

VERSIONS_RETAINED_MAX = 32
"""Older versions that a live query retains for clients that are behind; clients further behind get the full value."""


class LiveQueryKey(Struct, frozen=True, gc=False):
    """Calls with the same key share a live query."""

    path: str
    args: bytes
    """Canonical arguments."""
    admin: bool
    """Set if internal functions may be called."""
    identity: bytes | None
    """The identity, if an execution of this function has read it; see `LiveQueries`."""


class Subscriber(Protocol):
    """
    The callbacks of a live query.

    Attributes:
        session_id: the client that pays for computations.
    """

    session_id: str

    def invalidated(self, live: LiveQuery) -> bool:
        """Handle a commit that touched it; return whether the subscriber could send a new result now."""
        ...

    def computed(self, live: LiveQuery, changed: bool) -> None:
        """Handle the end of a computation."""

    def awaits(self, live: LiveQuery) -> bool:
        """Return whether a result of the live query is yet to be sent to it."""
        ...

    def fail(self, error: TinyvexError) -> None:
        """Close the client and unsubscribe all of its queries."""


class SnapshotResult:
    """
    The result as of an older snapshot.

    It is not evicted when memory runs short: the subscribers that wait for it would request it again indefinitely.

    Attributes:
        result: None while it is being computed.
        waiting: the number of queries that wait for it, by subscriber.
    """

    __slots__ = ("result", "waiting")

    def __init__(self) -> None:
        self.result: Result | None = None
        self.waiting: dict[Subscriber, int] = {}


class LiveQuery:
    """
    A query with subscribers.

    Attributes:
        key: decides which subscriptions share it.
        call: the call of every computation, under the identity of the first subscriber.
        subscribers: the number of subscriptions, by subscriber.
        result: the newest result; None until the first computation has finished.
        cached_ranges: the ranges that the newest result read, for the next computation; None if they were evicted.
        versions: the newest version, those that subscribers hold, and those reconstructed for `resume`; by hash.
        generation: the number of finished computations of the newest state.
        unchanged: the number of those with the same hash as before.
        seconds: the duration of the last one, including the wait for a reader.
        computing: whether one is running; at most one is.
        read: the read of the one that is running, queued or not; None if none is.
        snapshots: results as of older snapshots, by `ts`, while a subscriber waits for them.
        reconstructions: hashes offered in `resume` that are being reconstructed, with the subscribers that wait for each.
        mismatched_hashes: offered hashes whose reconstruction gave another result; ordered, the oldest first.
    """

    __slots__ = (
        "cached_ranges", "call", "computing", "generation", "key", "mismatched_hashes", "read", "reconstructions", "result",
        "seconds", "snapshots", "subscribers", "unchanged", "versions",
    )  # fmt: skip

    def __init__(self, key: LiveQueryKey, call: Call) -> None:
        self.key = key
        self.call = call
        self.subscribers: dict[Subscriber, int] = {}
        self.result: Result | None = None
        self.cached_ranges: CachedRanges | None = None
        self.versions: dict[str, Version] = {}
        self.generation = 0
        self.unchanged = 0
        self.seconds = 0.0
        self.computing = False
        self.read: Job | None = None
        self.snapshots: dict[int, SnapshotResult] = {}
        self.reconstructions: dict[str, dict[Subscriber, None]] = {}
        self.mismatched_hashes: dict[str, None] = {}

    def covers(self, ts: int, client_hash: str | None = None) -> bool:
        """Return whether the newest result is the answer at `ts` and can be sent to a client with `client_hash`."""
        return self.result is not None and self.result.covers(ts) and self.result.is_sendable(client_hash)

    def at(self, ts: int, client_hash: str | None = None) -> Result | None:
        """Return the result at `ts` if it is known and can be sent to a client with `client_hash`."""
        if self.covers(ts, client_hash):
            return self.result
        snapshot = self.snapshots.get(ts)
        return None if snapshot is None else snapshot.result

    @property
    def hash(self) -> str | None:
        """The hash of the newest result."""
        return None if self.result is None else self.result.hash

    @property
    def size(self) -> int:
        """The bytes of the newest result as JSON; 0 if it has no value, or the value was evicted."""
        body = None if self.result is None else self.result.version.body
        return 0 if body is None else body.size

    def hold(self, version: Version) -> Version:
        """Record that a version was sent to a subscription; return the one to `release` later."""
        existing = self.versions.get(version.hash)
        if existing is None:
            # A separate object: a snapshot's result retains its body for the subscribers that still wait for it.
            existing = self.versions[version.hash] = Version(version.hash, None)
        existing.body = existing.body or version.body
        existing.holders += 1
        return existing

    def release(self, version: Version) -> None:
        """Record that a subscription no longer holds this version."""
        version.holders -= 1
        if not version.holders:
            self._discard_if_old(version)

    def _discard_if_old(self, version: Version) -> None:
        if self.result is None or version is not self.result.version:
            version.body = None
            if self.versions.get(version.hash) is version:
                del self.versions[version.hash]

    def discard_old_versions(self) -> None:
        """Discard the older versions without a holder, and those above VERSIONS_RETAINED_MAX, the oldest first."""
        assert self.result is not None
        for version in list(self.versions.values()):
            if not version.holders:
                self._discard_if_old(version)
        for token in list(self.versions)[: max(0, len(self.versions) - VERSIONS_RETAINED_MAX)]:
            if token != self.result.hash:
                self.versions.pop(token).body = None
