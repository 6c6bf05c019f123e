"""One live query: its newest result, older versions that clients hold, and results at other moments on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tinyvex.sync.results import Result, Version

if TYPE_CHECKING:
    from tinyvex.functions.run.call import Call
    from tinyvex.functions.transaction.range_cache import CachedRanges

__all__ = ["VERSIONS_KEPT_MAX", "Key", "LiveQuery", "Pin", "Subscriber"]

VERSIONS_KEPT_MAX = 32
"""Versions a live query keeps for clients that are behind; those further behind are sent the whole value."""

Key = tuple[str, bytes, bool, bytes | None]
"""Path, canonical arguments, whether internal functions are allowed, and, where executions look at it, the identity."""


class Subscriber(Protocol):
    """What a live query tells."""

    def invalidated(self, live: LiveQuery) -> bool:
        """A commit touched it; True when the subscriber could send a new result now."""
        ...

    def computed(self, live: LiveQuery, changed: bool) -> None:
        """A computation ended."""


class Pin:
    """
    The result at an older snapshot.

    It is never given up for want of memory: who waits for it would ask again, for ever.

    Attributes:
        result: None while it is being computed.
        waiting: by subscriber, how many of its queries.
    """

    __slots__ = ("result", "waiting")

    def __init__(self) -> None:
        self.result: Result | None = None
        self.waiting: dict[Subscriber, int] = {}


class LiveQuery:
    """
    One query that somebody watches.

    Attributes:
        call: what every computation runs, under the identity of the first who asked.
        result: the newest; None until the first computation has ended.
        kept: the ranges behind it, for the next computation; None where the memory was needed.
        versions: the newest, those that subscribers hold, and those found again for `resume`; by hash.
        generation: how many computations of the newest state have ended.
        unchanged: how many of them found what was known.
        seconds: how long the last of them took, waiting for a reader included.
        computing: whether one is under way; there is at most one.
        pins: results at older snapshots by `ts`, for as long as somebody waits to be told them.
        finding: hashes offered in `resume` that are being looked for, and who waits for each.
        not_found: those that were looked for in vain.
    """

    __slots__ = (
        "call", "computing", "finding", "generation", "kept", "key", "not_found", "pins", "result", "seconds",
        "subscribers", "unchanged", "versions",
    )  # fmt: skip

    def __init__(self, key: Key, call: Call) -> None:
        self.key = key
        self.call = call
        self.result: Result | None = None
        self.kept: CachedRanges | None = None
        self.versions: dict[str, Version] = {}
        self.generation = 0
        self.unchanged = 0
        self.seconds = 0.0
        self.computing = False
        self.pins: dict[int, Pin] = {}
        self.finding: dict[str, dict[Subscriber, None]] = {}
        self.not_found: dict[str, None] = {}
        self.subscribers: dict[Subscriber, int] = {}

    def covers(self, ts: int, held: str | None = None) -> bool:
        """Whether the newest result is the answer at `ts`, and can be told to a client that holds `held`."""
        return self.result is not None and self.result.covers(ts) and self.result.is_tellable(held)

    def at(self, ts: int, held: str | None = None) -> Result | None:
        """The result at `ts`, when it is known and can be told to a client that holds `held`."""
        if self.covers(ts, held):
            return self.result
        pin = self.pins.get(ts)
        return None if pin is None else pin.result

    @property
    def hash(self) -> str | None:
        """Of the newest result."""
        return None if self.result is None else self.result.hash

    def hold(self, version: Version) -> Version:
        """A subscription was told this version, or its like; returns the one that it holds."""
        held = self.versions.get(version.hash)
        if held is None:
            # One of its own: a pinned result keeps its body for those who were not told it yet.
            held = self.versions[version.hash] = Version(version.hash, None)
        held.body = held.body or version.body
        held.holders += 1
        return held

    def release(self, version: Version) -> None:
        """A subscription holds it no more."""
        version.holders -= 1
        if not version.holders:
            self._forget_unless_needed(version)

    def _forget_unless_needed(self, version: Version) -> None:
        if self.result is None or version is not self.result.version:
            version.body = None
            if self.versions.get(version.hash) is version:
                del self.versions[version.hash]

    def forget_unheld(self) -> None:
        """Forget the versions that nobody holds, but the newest; and of those held, all but the last few."""
        assert self.result is not None
        for version in list(self.versions.values()):
            if not version.holders:
                self._forget_unless_needed(version)
        for token in list(self.versions)[: max(0, len(self.versions) - VERSIONS_KEPT_MAX)]:
            if token != self.result.hash:
                self.versions.pop(token).body = None
