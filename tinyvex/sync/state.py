"""
What one connection owes its client. (pure)

The state describes itself: `plan` looks at it and says what to do next, and nothing else decides.

::

    client's messages ──► modify, authenticate, answered ─┐
    commits           ──► invalidated                     ├──► plan ──► Wait | Refresh | Pin | Send
    results           ──► (kept by the live queries)      ┘                              │
                                                            advance ◄────────────────────┘

A transition moves *all* queries to one `ts`. Those that are not dirty are right at every `ts` up to the published one,
so only dirty ones are looked at:

1.  Dirty queries whose newest result does not cover `published` are refreshed, once each (`Refresh`, then `Wait`).
2.  If all cover it now, the transition goes to `published`.
3.  If commits overtook some of them again, the transition goes to the largest `ts` that all their intervals share.
4.  If they share none, the newest start of an interval is taken,
    and the queries that do not cover it are computed at exactly that `ts` (`Pin`).
    So a transition follows after two rounds at most, however fast others write.

Before a transition is sent, the old result of a query that resumes and has changed is computed once more (`FindAgain`),
so that the client can be sent a patch from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tinyvex import errors, limits
from tinyvex.wire.messages import QueryAdd, QueryRemove, StateVersion

if TYPE_CHECKING:
    from tinyvex.sync.live_query import LiveQuery
    from tinyvex.sync.results import Result, Version

__all__ = ["WAIT", "FindAgain", "Pin", "Plan", "Refresh", "Send", "SyncState", "SyncedQuery", "Wait"]


@dataclass(slots=True, eq=False)
class SyncedQuery:
    """One query of the query set."""

    query_id: int
    live: LiveQuery
    held: str | None = None
    """The hash of the result the client holds: None until one was sent or offered in `resume`."""
    told: bool = False
    """Whether a transition of this connection had it: it must, even when `resume` offered the right hash."""
    version: Version | None = None
    """The same with its body, once a transition had it."""
    resume_ts: int | None = None
    """A `ts` at which the hash offered in `resume` was right; None once a transition had the query."""
    pinned: int | None = None
    """The older snapshot that was asked for in this round."""
    seeking: bool = False
    """Whether that result was asked for, to be computed again."""
    asked: int | None = None
    """The live query's generation when a refresh was asked for in this round; None when none was."""

    def covers(self, ts: int) -> bool:
        """Whether the newest result is the answer at `ts`, and can be told to this client."""
        return self.live.covers(ts, self.held)

    def at(self, ts: int) -> Result | None:
        """The result at `ts`, when it is known and can be told to this client."""
        return self.live.at(ts, self.held)

    def tell(self, result: Result) -> None:
        """A transition has this result."""
        self.forget_version()
        self.version = self.live.hold(result.version)
        self.held, self.told, self.resume_ts = result.hash, True, None

    def forget_version(self) -> None:
        """The body of what the client holds is of no more use here."""
        if self.version is not None:
            self.live.release(self.version)
            self.version = None

    def lacks_base(self, ts: int) -> bool:
        """Whether a patch could be made if the result offered in `resume` were known, and it may yet be."""
        if self.resume_ts is None or self.held is None or self.held in self.live.not_found:
            return False
        if self.seeking and self.held not in self.live.finding:
            return False  # found, and forgotten again
        result = self.at(ts)
        assert result is not None, "what can be sent is known"
        if result.failure is not None or result.read_now or result.hash == self.held:
            return False
        return self.held not in self.live.versions


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something happens."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Compute the newest state of these."""

    queries: tuple[SyncedQuery, ...]


@dataclass(frozen=True, slots=True)
class Pin:
    """Compute the state at `ts` of these."""

    queries: tuple[SyncedQuery, ...]
    ts: int


@dataclass(frozen=True, slots=True)
class FindAgain:
    """Compute what these were at their `resume_ts`."""

    queries: tuple[SyncedQuery, ...]


@dataclass(slots=True)  # not frozen: this one is made for every delivery, and that would cost more than all else here
class Send:
    """Everything is known at `ts`: send a transition to it, unless nothing changed and none is owed."""

    ts: int


Plan = Wait | Refresh | Pin | FindAgain | Send
WAIT = Wait()


@dataclass(slots=True)
class SyncState:
    """The query set, the versions, and what is still to be told."""

    sent: StateVersion = StateVersion(query_set=0, identity=0, ts=0)
    """Where the client is once it has read everything sent; grows with every transition."""
    query_set: int = 0
    """The query-set version received; `sent.query_set` follows with the next transition."""
    identity: int = 0
    """The identity version received."""
    queries: dict[int, SyncedQuery] = field(default_factory=dict)
    removed: dict[int, None] = field(default_factory=dict)
    """Query ids to be told as removed; ordered."""
    dirty: dict[SyncedQuery, None] = field(default_factory=dict)
    """Queries that may have a new result; ordered. All others are right at every `ts` from `known` to `published`."""
    known: int = 0
    """The `ts` at which the client's results are known to be right: `sent.ts`, or later where nothing had changed."""
    owed: bool = False
    """A transition must follow even if it is empty: a response went out."""
    must_reach: int = 0
    """The largest `ts` in a response; until a transition has reached it, one is owed."""
    pin_ts: int | None = None
    """The `ts` that the next transition goes to, once step 4 was needed."""

    # What the client asks.

    def check_modify(self, base: int, new: int, modifications: Sequence[QueryAdd | QueryRemove]) -> None:
        """
        Refuse a change of the query set that cannot be applied whole.

        Raises:
            BaseVersionMismatch: it does not continue from the last version received, or does not go forward.
            DuplicateQueryId, UnknownQueryId, TooManyQueries: nothing of it may be applied.
        """
        if base != self.query_set or new <= base:
            raise errors.BaseVersionMismatch(
                f"the query set is at version {self.query_set}; a change from {base} to {new} does not continue it"
            )
        ids = set(self.queries)
        for modification in modifications:
            query_id = modification.query_id
            if isinstance(modification, QueryRemove):
                if query_id not in ids:
                    raise errors.UnknownQueryId(f"query id {query_id} is not in the query set")
                ids.discard(query_id)
            else:
                if query_id in ids:
                    raise errors.DuplicateQueryId(f"query id {query_id} is in the query set already")
                ids.add(query_id)
        if len(ids) > limits.QUERIES_PER_CONNECTION_MAX:
            raise errors.TooManyQueries(
                f"{len(ids)} queries on one connection; the limit is {limits.QUERIES_PER_CONNECTION_MAX}"
            )

    def add(self, query_id: int, live: LiveQuery, resume_hash: str | None, resume_ts: int | None = None) -> SyncedQuery:
        """Put a query into the set; `resume_ts` where an older result may be computed again for a patch."""
        query = SyncedQuery(query_id, live, held=resume_hash, resume_ts=resume_ts)
        self.queries[query_id] = query
        self.dirty[query] = None
        self.removed.pop(query_id, None)
        return query

    def remove(self, query_id: int) -> SyncedQuery:
        """Take a query out of the set."""
        query = self.queries.pop(query_id)
        self.dirty.pop(query, None)
        self.removed[query_id] = None
        return query

    def check_authenticate(self, base: int) -> None:
        """
        Refuse an identity change that does not continue from the last version received.

        Raises:
            BaseVersionMismatch: it does not.
        """
        if base != self.identity:
            raise errors.BaseVersionMismatch(
                f"the identity is at version {self.identity}; a change from {base} does not continue it"
            )

    def answered(self, ts: int) -> None:
        """A response went out: a transition must follow, at or past `ts` in the end."""
        self.owed = True
        self.must_reach = max(self.must_reach, ts)

    # What happens.

    def invalidated(self, query: SyncedQuery) -> None:
        """A commit touched the query."""
        self.dirty[query] = None

    # What to do.

    def plan(self, published: int) -> Plan:
        """What to do next; see the module's four steps."""
        if not self._has_work():
            return WAIT
        if self.pin_ts is None:
            stale = [query for query in self.dirty if not query.covers(published)]
            if not stale:
                return self._send(published)
            unasked = tuple(query for query in stale if query.asked is None)
            if unasked:
                for query in unasked:
                    query.asked = query.live.generation
                return Refresh(unasked)
            if any(query.live.generation == query.asked for query in stale):
                return WAIT
            shared = self._shared_ts(published)
            if shared is not None:
                return self._send(shared)
            self.pin_ts = self._newest_since()
        return self._plan_pin(self.pin_ts)

    def _has_work(self) -> bool:
        sent = self.sent
        return bool(
            self.dirty
            or self.owed
            or self.must_reach > sent.ts
            or sent.query_set != self.query_set
            or sent.identity != self.identity
        )

    def _newest_since(self) -> int:
        starts = [query.live.result.since for query in self.dirty if query.live.result is not None]
        return max([self.known, *starts])

    def _shared_ts(self, published: int) -> int | None:
        """The largest `ts` at which the newest results of all dirty queries hold, if there is one."""
        ends = [query.live.result.until for query in self.dirty if query.live.result is not None]
        ts = min([published, *(until - 1 for until in ends if until is not None)])
        if ts < self._newest_since() or not all(query.at(ts) for query in self.dirty):
            return None
        return ts

    def _plan_pin(self, ts: int) -> Plan:
        unknown = tuple(query for query in self.dirty if query.at(ts) is None)
        if not unknown:
            return self._send(ts)
        unasked = tuple(query for query in unknown if query.pinned is None)
        for query in unasked:
            query.pinned = ts
        return Pin(unasked, ts) if unasked else WAIT

    def _send(self, ts: int) -> Plan:
        """All is known at `ts`; but a query that resumes may first need what the client says it holds."""
        lacking = [query for query in self.dirty if query.resume_ts is not None and query.lacks_base(ts)]
        if not lacking:
            return Send(ts)
        unasked = tuple(query for query in lacking if not query.seeking)
        for query in unasked:
            query.seeking = True
        return FindAgain(unasked) if unasked else WAIT

    def is_waiting(self) -> bool:
        """Whether an unchanged result may still complete a transition: one is due, or it was not the only dirty query."""
        return self.must_send() or len(self.dirty) > 1

    # What was done.

    def changes(self, ts: int) -> list[tuple[SyncedQuery, Result]]:
        """The dirty queries whose result at `ts` the client has not been told, by query id."""
        found = []
        for query in self.dirty:
            result = query.at(ts)
            assert result is not None, "plan() said so"
            if not query.told or query.held != result.hash:
                found.append((query, result))
        if len(found) > 1:
            found.sort(key=lambda change: change[0].query_id)
        return found

    def must_send(self) -> bool:
        """Whether a transition is due even without a changed result."""
        sent = self.sent
        return bool(
            self.owed
            or self.must_reach > sent.ts
            or self.removed
            or sent.query_set != self.query_set
            or sent.identity != self.identity
        )

    def advance(self, ts: int, published: int) -> tuple[StateVersion, StateVersion]:
        """The transition to `ts` was sent: from which version to which. Dirty queries right at `published` are clean."""
        start = self.sent
        assert ts >= start.ts, "versions never go back"
        self.sent = StateVersion(query_set=self.query_set, identity=self.identity, ts=ts)
        self.known = ts
        self.owed = False
        self.removed.clear()
        self._settle(ts, published)
        return start, self.sent

    def skip(self, ts: int, published: int) -> None:
        """Nothing had changed at `ts` and nothing was owed: no transition is sent."""
        assert ts >= self.known, "versions never go back"
        self.known = ts
        self._settle(ts, published)

    def _settle(self, ts: int, published: int) -> None:
        """
        Clean are the queries of which the client now has the newest result.

        It must hold at `ts` too: a client that was told a pinned result has not heard of the newest.
        """
        self.pin_ts = None
        still: dict[SyncedQuery, None] = {}
        for query in self.dirty:
            query.asked = None
            if not (query.covers(published) and (ts == published or query.covers(ts))):
                still[query] = None
        self.dirty = still

    def validate(self) -> None:
        """Assert what always holds."""
        assert self.sent.ts <= self.known
        assert self.sent.query_set <= self.query_set
        assert self.sent.identity <= self.identity
        assert all(self.queries.get(query.query_id) is query for query in self.dirty), "dirty queries are in the set"
        assert not self.removed.keys() & self.queries.keys(), "removed queries are not in the set"
