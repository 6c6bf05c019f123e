"""
The decisions about transitions: when one is sent, and what it contains for each query. (pure)

`SyncState` holds the state of one connection. The session (`sync.session`) executes its decisions; no other file decides.

::

    commands ──► check_modify, add, remove, answered ─┐
    commits  ──► invalidated                          ├──► plan ──► Wait | Refresh | ComputeAt | Reconstruct | Send
    results  ──► (stored in the live queries) ────────┘                                                         │
                                                          StateTransition or None (skipped) ◄── take_transition ┘

**When.** A transition moves *all* queries of the connection to one `ts`. Queries that are not dirty are right at every
`ts` up to the published one, so `plan` looks only at dirty queries:

1.  Refresh the dirty queries whose newest result does not cover `published`, once each (`Refresh`, then `Wait`).
2.  If all results cover `published` now, send a transition to `published`.
3.  If commits overtook some results meanwhile, send a transition to the largest `ts` that all their intervals share.
4.  If their intervals share no `ts`, choose the newest start of an interval, and compute the queries that do not cover
    it as of exactly that `ts` (`ComputeAt`). So a transition follows after at most two rounds, however fast others write.

Each step asks for at most PLAN_QUERIES_MAX queries at a time, so that a turn is short. A client that subscribes to thousands
of queries has a turn after almost every result. Such a turn looks at the query whose computation is `_awaited`, and at
`unplanned` queries, but not at all dirty ones.

The transition is skipped if no query has a change and none is due. One is due after every answer to a mutation or
action, and after every change of the query set or the identity.

**What.** For each dirty query, `take_transition` compares the result at `ts` with the one that the client holds; the
first line that applies decides:

===========  ==========================================================================================================
nothing      it was sent on this connection, and its hash is that of the result
`Failure`    the function failed
`Unchanged`  the hash that the client offered in `resume` is that of the result
`Patch`      the client applies patches; the server has the body that the client holds; a patch is shorter than the
             value (`sync.diff`) and was quick to compute (`Result.patch_from`)
`FullValue`  in all other cases
===========  ==========================================================================================================

A query that left the query set is `Removed`, once.

**Resume.** A client that reconnects offers, for each query, the hash of the result that it still has, and a `ts` at which
that result was right. Only the hash counts; the `ts` is where the server looks:

1.  If it is the hash of the current result, the client is sent `Unchanged`: a few bytes, however long the result is.
2.  If the live query still has that version, because another client holds it, the client is sent a `Patch`.
3.  Otherwise the result is computed as of the offered `ts` before the transition is sent (`Reconstruct`), once for all
    clients that offer the same hash. If its hash is the one offered, the client is sent a `Patch`.
4.  If it is not (the history has expired, the code has changed, the offer was wrong), the client is sent a `FullValue`, and
    the live query remembers the hash, so that the next client with the same offer costs no computation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from tinyvex import errors, limits
from tinyvex.sync.commands import QueryModification, RemoveQuery, ResumeOffer
from tinyvex.sync.counters import Counters
from tinyvex.sync.events import (
    Failure,
    FullValue,
    Patch,
    QueryChange,
    Removed,
    StateTransition,
    SyncVersion,
    Unchanged,
)

if TYPE_CHECKING:
    from tinyvex.sync.live_query import LiveQuery
    from tinyvex.sync.results import Result, Version

__all__ = ["WAIT", "ComputeAt", "Plan", "Reconstruct", "Refresh", "Send", "SyncState", "SyncedQuery", "Wait"]


class SyncedQuery(Struct, eq=False):
    """A query of the query set."""

    query_id: int
    live: LiveQuery
    client_hash: str | None = None
    """The hash of the result that the client holds; None until one was sent or offered in `resume`."""
    is_sent: bool = False
    """Set when a transition of this connection contained the query: one must, even if the offered hash is right."""
    version: Version | None = None
    """The version that the client holds, from the first transition with the query on."""
    resume_ts: int | None = None
    """A `ts` at which the offered hash was right; None from the first transition with the query on."""
    snapshot_ts: int | None = None
    """The older snapshot that was requested from the live query in this round (step 4)."""
    is_reconstructing: bool = False
    """Set when the reconstruction of the offered result was requested."""
    refreshed_from: int | None = None
    """The live query's generation when this round requested a refresh (step 1); None if it did not."""

    def covers(self, ts: int) -> bool:
        """Return whether the newest result is the answer at `ts` and can be sent to this client."""
        return self.live.covers(ts, self.client_hash)

    def at(self, ts: int) -> Result | None:
        """Return the result at `ts` if it is known and can be sent to this client."""
        return self.live.at(ts, self.client_hash)

    def mark_sent(self, result: Result) -> None:
        """Record that a transition contains this result."""
        self.release_version()
        self.version = self.live.hold(result.version)
        self.client_hash, self.is_sent, self.resume_ts = result.hash, True, None

    def release_version(self) -> None:
        """Release the version that the client holds; no patch from it will be needed."""
        if self.version is not None:
            self.live.release(self.version)
            self.version = None

    def lacks_base(self, ts: int) -> bool:
        """Return whether only the offered result is missing for a patch, and it may yet be reconstructed."""
        if self.resume_ts is None or self.client_hash is None or self.client_hash in self.live.mismatched_hashes:
            return False
        if self.is_reconstructing and self.client_hash not in self.live.reconstructions:
            return False  # it was reconstructed, and evicted again
        result = self.at(ts)
        assert result is not None, "plan() found a result for every dirty query"
        if result.error is not None or result.read_now or result.hash == self.client_hash:
            return False
        return self.client_hash not in self.live.versions


class Wait(Struct, frozen=True):
    """Do nothing until something happens."""


class Refresh(Struct, frozen=True):
    """Compute these queries as of the newest snapshot."""

    queries: tuple[SyncedQuery, ...]


class ComputeAt(Struct, frozen=True):
    """Compute these queries as of `ts`."""

    queries: tuple[SyncedQuery, ...]
    ts: int


class Reconstruct(Struct, frozen=True):
    """Compute these queries as of their `resume_ts`."""

    queries: tuple[SyncedQuery, ...]


class Send(Struct, frozen=True):
    """Every result at `ts` is known: take the transition to it."""

    ts: int


Plan = Wait | Refresh | ComputeAt | Reconstruct | Send
WAIT = Wait()


class SyncState(Struct):
    """The query set, the versions, and the changes that are still to be sent."""

    takes_patches: bool = False
    """Set if the client applies patches."""
    counters: Counters = field(default_factory=Counters)
    sent: SyncVersion = SyncVersion(query_set=0, identity=0, ts=0)
    """The client's version once it has read everything sent; grows with every transition."""
    query_set: int = 0
    """The query-set version received; `sent.query_set` follows with the next transition."""
    identity: int = 0
    """The identity version received; `sent.identity` follows with the next transition."""
    queries: dict[int, SyncedQuery] = field(default_factory=dict)
    removed: dict[int, None] = field(default_factory=dict)
    """Query ids to be sent as `Removed`; ordered."""
    dirty: dict[SyncedQuery, None] = field(default_factory=dict)
    """Queries that may have a new result; ordered. All others are right at every `ts` from `known` to `published`."""
    unplanned: dict[SyncedQuery, None] = field(default_factory=dict)
    """The dirty queries that `plan` has yet to look at: they changed, or a new round began; ordered."""
    _awaited: SyncedQuery | None = None
    """A query that was being computed when `plan` returned `Wait`."""
    known: int = 0
    """The `ts` at which the client's results are known to be right: `sent.ts`, or later after a skipped transition."""
    transition_due: bool = False
    """Set by an answer: a transition must follow even if it is empty."""
    must_reach: int = 0
    """The largest `ts` in an answer; a transition stays due until one has reached it."""
    target_ts: int | None = None
    """The `ts` of the next transition, once step 4 has chosen one."""

    # Commands.

    def check_modify(self, base: int, new: int, modifications: Sequence[QueryModification]) -> None:
        """
        Refuse a change of the query set that cannot be applied as a whole.

        Raises:
            BaseVersionMismatch: it does not continue the last version received, or does not increase it.
            DuplicateQueryId, UnknownQueryId, TooManyQueries: no part of it may be applied.
        """
        if base != self.query_set or new <= base:
            raise errors.BaseVersionMismatch(
                f"the query set is at version {self.query_set}; a change from {base} to {new} does not continue it"
            )
        ids = set(self.queries)
        for modification in modifications:
            query_id = modification.query_id
            if isinstance(modification, RemoveQuery):
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

    def add(self, query_id: int, live: LiveQuery, resume: ResumeOffer | None = None) -> SyncedQuery:
        """Add a query to the set."""
        query = SyncedQuery(query_id, live)
        if resume is not None:
            query.client_hash = resume.hash
            query.resume_ts = resume.ts if self.takes_patches else None
        self.queries[query_id] = query
        self.invalidated(query)
        self.removed.pop(query_id, None)
        return query

    def remove(self, query_id: int) -> SyncedQuery:
        """Remove a query from the set."""
        query = self.queries.pop(query_id)
        self.dirty.pop(query, None)
        self.unplanned.pop(query, None)
        self.removed[query_id] = None
        return query

    def check_identity(self, base: int) -> None:
        """
        Refuse a change of identity that does not continue the last version received.

        Raises:
            BaseVersionMismatch: it does not.
        """
        if base != self.identity:
            raise errors.BaseVersionMismatch(
                f"the identity is at version {self.identity}; a change from {base} does not continue it"
            )

    def answered(self, ts: int) -> None:
        """Record that an answer was sent: a transition must follow, and one must reach `ts` in the end."""
        self.transition_due = True
        self.must_reach = max(self.must_reach, ts)

    def invalidated(self, query: SyncedQuery) -> None:
        """Record that a commit touched the query, or that its live query changed."""
        self.dirty[query] = self.unplanned[query] = None

    # When.

    def plan(self, published: int) -> Plan:
        """Return the next step; see the module's four steps."""
        if not self._has_work():
            return WAIT
        requested = self._request(published)
        if requested:
            return Refresh(requested) if self.target_ts is None else ComputeAt(requested, self.target_ts)
        return WAIT if self._awaits(published) else self._proceed(published)

    def _request(self, published: int) -> tuple[SyncedQuery, ...]:
        """Return the next unplanned queries that need a computation; from now on it counts as requested."""
        requested: list[SyncedQuery] = []
        for query in list(self.unplanned):
            if len(requested) == limits.PLAN_QUERIES_MAX:
                break
            del self.unplanned[query]
            if self.target_ts is None:
                if query.refreshed_from is None and not query.covers(published):
                    query.refreshed_from = query.live.generation
                    requested.append(query)
            elif query.snapshot_ts is None and query.at(self.target_ts) is None:
                query.snapshot_ts = self.target_ts
                requested.append(query)
        return tuple(requested)

    def _awaits(self, published: int) -> bool:
        """Return whether a requested computation has not finished."""
        awaited = self._awaited
        if awaited is None or awaited not in self.dirty or not self._is_pending(awaited, published):
            # The last one, because the computations of one client finish about in order.
            self._awaited = next((query for query in reversed(self.dirty) if self._is_pending(query, published)), None)
        return self._awaited is not None

    def _is_pending(self, query: SyncedQuery, published: int) -> bool:
        if query.is_reconstructing and query.client_hash in query.live.reconstructions:
            return True
        if self.target_ts is None:
            return query.live.generation == query.refreshed_from and not query.covers(published)
        return query.snapshot_ts is not None and query.at(self.target_ts) is None

    def _proceed(self, published: int) -> Plan:
        """Return the next step after all requested computations have finished."""
        if self.target_ts is not None:
            unknown = [query for query in self.dirty if query.at(self.target_ts) is None]
            return self._plan_again(unknown, published) if unknown else self._send(self.target_ts)
        stale = [query for query in self.dirty if not query.covers(published)]
        if not stale:
            return self._send(published)
        evicted = [query for query in stale if query.refreshed_from is None]  # it needed no refresh, and now does
        if evicted:
            return self._plan_again(evicted, published)
        shared = self._shared_ts(published)
        if shared is not None:
            return self._send(shared)
        self.target_ts = self._newest_since()
        return self._plan_again(self.dirty, published)

    def _plan_again(self, queries: Iterable[SyncedQuery], published: int) -> Plan:
        self.unplanned = dict.fromkeys(queries)
        return self.plan(published)

    def check_size(self) -> None:
        """
        Check the results that wait for the next transition, before all of them are computed.

        Raises:
            MessageTooLarge: those that must be sent as full values are too long together already.
        """
        bodies = [
            query.live.result.version.body
            for query in self.dirty
            if query.client_hash is None and query.live.result is not None
        ]
        size = sum([body.size for body in bodies if body is not None])
        if size > limits.TRANSITION_BYTES_MAX:
            raise errors.MessageTooLarge(
                f"the results of this connection's queries have {size:,} bytes together, and some are not computed yet; "
                f"the limit is {limits.TRANSITION_BYTES_MAX:,}"
            )

    def _has_work(self) -> bool:
        sent = self.sent
        return bool(
            self.dirty
            or self.transition_due
            or self.must_reach > sent.ts
            or sent.query_set != self.query_set
            or sent.identity != self.identity
        )

    def _newest_since(self) -> int:
        starts = [query.live.result.since for query in self.dirty if query.live.result is not None]
        return max([self.known, *starts])

    def _shared_ts(self, published: int) -> int | None:
        """Return the largest `ts` at which the newest results of all dirty queries hold; None if there is none."""
        ends = [query.live.result.until for query in self.dirty if query.live.result is not None]
        ts = min([published, *(until - 1 for until in ends if until is not None)])
        if ts < self._newest_since() or not all(query.at(ts) for query in self.dirty):
            return None
        return ts

    def _send(self, ts: int) -> Plan:
        """Send the transition to `ts`, after the results that resuming clients offered were reconstructed."""
        lacking = [query for query in self.dirty if query.resume_ts is not None and query.lacks_base(ts)]
        if not lacking:
            return Send(ts)
        unrequested = tuple(query for query in lacking if not query.is_reconstructing)[: limits.PLAN_QUERIES_MAX]
        for query in unrequested:
            query.is_reconstructing = True
        return Reconstruct(unrequested) if unrequested else WAIT

    def is_waiting(self) -> bool:
        """Return whether an unchanged result may complete a transition: one is due, or other queries are dirty."""
        return self.must_send() or len(self.dirty) > 1

    def must_send(self) -> bool:
        """Return whether a transition is due even if no query has changed."""
        sent = self.sent
        return bool(
            self.transition_due
            or self.must_reach > sent.ts
            or self.removed
            or sent.query_set != self.query_set
            or sent.identity != self.identity
        )

    # What.

    def take_transition(self, ts: int, published: int, now_us: int) -> StateTransition | None:
        """
        Return the transition to `ts`, which counts as sent; None if it is skipped.

        Args:
            ts: from `Send`.
            published: the last `ts` published; queries that are right at both become clean.
            now_us: the server's clock.
        """
        assert ts >= self.known, "versions never decrease"
        changed = self._changed(ts)
        self.known = ts
        if not changed and not self.must_send():
            self._settle(ts, published)
            return None
        changes: list[QueryChange] = [Removed(query_id) for query_id in self.removed] if self.removed else []
        # All changes are chosen first: to mark one as sent may discard the body that another's patch begins from.
        for query, result in changed:
            changes.append(self._change(query, result))
        for query, result in changed:
            query.mark_sent(result)
        start, end = self.sent, SyncVersion(self.query_set, self.identity, ts)
        self.sent = end
        self.transition_due = False
        self.removed.clear()
        self.counters.transitions_sent += 1
        self._settle(ts, published)
        return StateTransition(start, end, now_us, changes)

    def _changed(self, ts: int) -> list[tuple[SyncedQuery, Result]]:
        """Return the dirty queries whose result at `ts` was not sent to the client, by query id."""
        changed = []
        for query in self.dirty:
            result = query.at(ts)
            assert result is not None, "plan() found a result for every dirty query"
            if not query.is_sent or query.client_hash != result.hash:
                changed.append((query, result))
        if len(changed) > 1:
            changed.sort(key=lambda change: change[0].query_id)
        return changed

    def _change(self, query: SyncedQuery, result: Result) -> QueryChange:
        """Return the smallest change that leads the client from the result that it holds to this one."""
        counters = self.counters
        if result.error is not None:
            return Failure(query.query_id, result)
        if query.client_hash == result.hash:
            counters.unchanged_sent += 1
            return Unchanged(query.query_id, result)
        if self.takes_patches:
            base = query.version or query.live.versions.get(query.client_hash or "")
            if base is not None and (patch := result.patch_from(base, counters)) is not None:
                counters.patches_sent += 1
                return Patch(query.query_id, result, patch)
        counters.values_sent += 1
        return FullValue(query.query_id, result)

    def _settle(self, ts: int, published: int) -> None:
        """
        Mark the queries as clean whose newest result the client now holds.

        That result must hold at `ts` too: a client that was sent the state at an older snapshot lacks the newest result.
        """
        self.target_ts = None
        dirty: dict[SyncedQuery, None] = {}
        for query in self.dirty:
            query.refreshed_from = None
            if not (query.covers(published) and (ts == published or query.covers(ts))):
                dirty[query] = None
        self.dirty, self.unplanned = dirty, dirty.copy()

    def validate(self) -> None:
        """Assert the invariants."""
        assert self.sent.ts <= self.known
        assert self.sent.query_set <= self.query_set
        assert self.sent.identity <= self.identity
        assert all(self.queries.get(query.query_id) is query for query in self.dirty), "dirty queries are in the set"
        assert self.unplanned.keys() <= self.dirty.keys(), "unplanned queries are dirty"
        assert not self.removed.keys() & self.queries.keys(), "removed queries are not in the set"
