"""
The queries a client wants, what was said about them on this socket, and what is shown of them (pure).

A query's result passes three fields, in this order::

    transition ──► _staged ──settle──► Query.result ──show──► Query.shown

`_staged` holds back a fresh socket's results until all queries of the old one have theirs again,
so that what is shown moves from one consistent version to the next, and never backwards.
`result` is the server's last word in that consistent set; `shown` has the optimistic updates on top.

Whether a query is known to the server: it is in `_unsent_adds`, or in `_on_server`, or in both `_on_server` and
`_unsent_removes`.

A query whose patch did not fit is doubted: it is removed and added again in one message, so that the server says it whole,
and until a transition has done so nothing new is shown of any query.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from msgspec import Raw

from tinyvex import limits
from tinyvex.client.frames import call_size_bytes, too_large
from tinyvex.client.optimistic import Key
from tinyvex.client.query_value import QueryValue
from tinyvex.errors import TinyvexError, TooManyQueries, UpdateRejected
from tinyvex.wire import error_objects
from tinyvex.wire.json_patch import PatchFailed
from tinyvex.wire.messages import (
    Modification,
    QueryAdd,
    QueryFailed,
    QueryRemove,
    QueryRemoved,
    QueryUnchanged,
    QueryUpdated,
    Resume,
)

__all__ = ["ClientQuery", "Failure", "Outcome", "QuerySet"]

logger = logging.getLogger(__name__)

MODIFICATIONS_PER_MESSAGE_MAX = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Failure:  # noqa: PLW1641 - compared, never a key
    """A query failed; two failures are the same when nothing but the server's request id differs."""

    error: TinyvexError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failure) and self._identity() == other._identity()

    def _identity(self) -> tuple[object, ...]:
        data = {key: value for key, value in self.error.data.items() if key != "requestId"}
        return self.error.name, self.error.message, data


Outcome: TypeAlias = QueryValue | Failure


@dataclass(slots=True, eq=False)
class ClientQuery:
    """One subscribed query; `revision` grows with every change of `shown`."""

    query_id: int
    path: str
    args: bytes
    holders: int = 0
    result: Outcome | None = None
    valid_ts: int = 0
    """The `ts` at which `result` was last known to be right: set when a socket is lost, for `resume`."""
    shown: Outcome | None = None
    revision: int = 0

    @property
    def key(self) -> Key:
        """What makes two subscriptions the same query."""
        return self.path, self.args


class ResultCounters(Protocol):
    """Where results are counted."""

    values_received: int
    patches_applied: int
    patches_failed: int


class QuerySet:
    """All queries of a session."""

    def __init__(self, counters: ResultCounters) -> None:
        self._counters = counters
        self._next_id = 0
        self._queries: dict[int, ClientQuery] = {}
        self._by_key: dict[Key, ClientQuery] = {}
        self._unsent_adds: dict[int, ClientQuery] = {}
        self._unsent_removes: dict[int, ClientQuery] = {}
        self._on_server: set[int] = set()
        self._staged: dict[int, Outcome] = {}
        self._patched: dict[int, ClientQuery] = {}
        """Of those staged, which a patch made."""
        self._doubted: dict[int, int | None] = {}
        """Queries to be said whole, with the query-set version that asks for it; None while it is not sent."""
        self._stale: dict[Key, None] = {}
        self._layer: Mapping[Key, bytes] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __getitem__(self, query_id: int) -> ClientQuery:
        return self._queries[query_id]

    def __iter__(self) -> Iterator[ClientQuery]:
        return iter(self._by_key.values())

    # What the callers want.

    def subscribe(self, path: str, args: bytes) -> ClientQuery:
        """
        Hold a query; one that is held already, or was let go but not yet removed, is shared.

        Raises:
            TooManyQueries: the client's bound is reached.
        """
        query = self._by_key.get((path, args))
        if query is None:
            if len(self._by_key) >= limits.CLIENT_QUERIES_MAX:
                raise TooManyQueries(f"a client has at most {limits.CLIENT_QUERIES_MAX} queries")
            query = ClientQuery(self._next_id, path, args)
            self._next_id += 1
            self._queries[query.query_id] = self._by_key[query.key] = self._unsent_adds[query.query_id] = query
            self._stale[query.key] = None
        self._unsent_removes.pop(query.query_id, None)
        query.holders += 1
        return query

    def release(self, query_id: int) -> None:
        """Let go of a query; when nobody else holds it, it leaves the query set."""
        query = self._queries[query_id]
        query.holders -= 1
        if query.holders:
            return
        if query_id in self._on_server:
            self._unsent_removes[query_id] = query
        else:
            del self._unsent_adds[query_id]
            self._forget(query)

    def _forget(self, query: ClientQuery) -> None:
        del self._queries[query.query_id], self._by_key[query.key]
        self._staged.pop(query.query_id, None)
        self._patched.pop(query.query_id, None)
        self._doubted.pop(query.query_id, None)
        self._stale.pop(query.key, None)

    # What the server is told.

    @property
    def has_unsent(self) -> bool:
        """Whether the server's query set is not the one wanted."""
        return bool(self._unsent_adds or self._unsent_removes) or None in self._doubted.values()

    def take_changes(self, version: int, queries_max: int, bytes_max: int) -> list[QueryAdd | QueryRemove]:
        """
        What to send in one `modifyQuerySet` that reaches `version`; it counts as sent.

        A query for which the server has no room fails here, so that it cannot spoil the message for the others.
        """
        changes: list[QueryAdd | QueryRemove] = []
        for query_id in list(self._unsent_removes)[:MODIFICATIONS_PER_MESSAGE_MAX]:
            self._on_server.discard(query_id)
            self._forget(self._unsent_removes.pop(query_id))
            changes.append(QueryRemove(query_id=query_id))
        size_bytes = 0
        for query_id in [query_id for query_id, asked in self._doubted.items() if asked is None]:
            query = self._queries[query_id]
            size_bytes += call_size_bytes(query.path, query.args)
            if changes and (size_bytes > bytes_max or len(changes) + 2 > MODIFICATIONS_PER_MESSAGE_MAX):
                return changes
            self._doubted[query_id] = version
            changes += [QueryRemove(query_id=query_id), _add(query, whole=True)]
        for query in list(self._unsent_adds.values()):
            if len(changes) >= MODIFICATIONS_PER_MESSAGE_MAX:
                break
            refusal = self._refusal(query, queries_max, bytes_max)
            if refusal is not None:
                query.result = Failure(refusal)
                self._stale[query.key] = None
                continue
            size_bytes += call_size_bytes(query.path, query.args)
            if size_bytes > bytes_max and changes:
                break
            del self._unsent_adds[query.query_id]
            self._on_server.add(query.query_id)
            changes.append(_add(query))
        return changes

    def _refusal(self, query: ClientQuery, queries_max: int, bytes_max: int) -> TinyvexError | None:
        if len(self._on_server) >= queries_max:
            return TooManyQueries(f"the server takes at most {queries_max} queries on one connection")
        return too_large(query.path, query.args, bytes_max)

    # What the server says.

    def stage(self, modification: Modification, query_set: int) -> None:
        """
        Take in one change of a transition to the version `query_set`.

        A patch that does not fit changes nothing: the query is doubted from then on.

        Raises:
            UpdateRejected: it is about a query that never was, or says what cannot be.
        """
        query = self._queries.get(modification.query_id)
        if query is None or query.query_id not in self._on_server:
            if modification.query_id >= self._next_id:
                raise UpdateRejected(f"the server speaks of query {modification.query_id}, which was never added")
            return
        if query.query_id in self._doubted and not self._is_answer(modification, query_set):
            return
        match modification:
            case QueryUpdated(value=Raw() as value):
                self._counters.values_received += 1
                self._stage(query, QueryValue(bytes(value), modification.hash))
            case QueryUpdated(patch=Raw() as patch):
                self._stage_patch(query, bytes(patch), modification.hash)
            case QueryUpdated():
                raise UpdateRejected(f"the update of query {query.query_id} has neither value nor patch")
            case QueryFailed(error=error):
                self._stage(query, Failure(error_objects.from_object(error)))
            case QueryUnchanged(hash=hash):
                if not isinstance(query.result, QueryValue) or query.result.hash != hash:
                    raise UpdateRejected(f"query {query.query_id} is said to be unchanged from a result not held")
            case QueryRemoved():
                raise UpdateRejected(f"query {query.query_id} was removed without being asked for")

    def _stage(self, query: ClientQuery, outcome: Outcome) -> None:
        self._staged[query.query_id] = outcome
        self._patched.pop(query.query_id, None)

    def _stage_patch(self, query: ClientQuery, patch: bytes, hash: str) -> None:  # noqa: A002 - the protocol's name
        base = self._staged.get(query.query_id, query.result)
        try:
            if not isinstance(base, QueryValue):
                raise PatchFailed("no result is held that it could build on")
            patched = base.patched(patch, hash)
        except PatchFailed as error:
            self._counters.patches_failed += 1
            self.doubt(query, f"a patch does not fit: {error}")
        else:
            self._counters.patches_applied += 1
            self._stage(query, patched)
            self._patched[query.query_id] = query

    # What is not believed.

    def doubt(self, query: ClientQuery, why: str, *, wrong: bool = False) -> None:
        """
        Have a query said whole; nothing where that is under way.

        Args:
            query: which.
            why: for the log.
            wrong: what is held is not what its hash stands for, so it must not be offered in `resume` either.
        """
        if wrong and isinstance(query.result, QueryValue):
            query.result.hash = ""
        if query.query_id in self._on_server and query.query_id not in self._doubted:
            logger.error("%s is asked for again as a whole: %s", query.path, why)
            self._doubted[query.query_id] = None

    def _is_answer(self, modification: Modification, query_set: int) -> bool:
        """Whether a doubted query is said whole; what was on its way before builds on what is doubted."""
        asked = self._doubted[modification.query_id]
        if asked is None or query_set < asked:
            return False
        is_whole = isinstance(modification, QueryUpdated) and isinstance(modification.value, Raw)
        if not (is_whole or isinstance(modification, QueryFailed)):
            raise UpdateRejected(f"query {modification.query_id} was asked for as a whole")
        del self._doubted[modification.query_id]
        return True

    @property
    def has_doubts(self) -> bool:
        """Whether anything is still to be said whole."""
        return bool(self._doubted)

    def check_answers(self, query_set: int) -> None:
        """
        A transition to `query_set` has said what it had to say.

        Raises:
            UpdateRejected: a query that was added again is not in it.
        """
        if any(asked is not None and asked <= query_set for asked in self._doubted.values()):
            raise UpdateRejected("a transition lacks a query that was added again")

    def settle(self) -> list[ClientQuery]:
        """What was staged belongs to one consistent version: make it the result; returns those that patches made."""
        for query_id, outcome in self._staged.items():
            query = self._queries[query_id]
            query.result = outcome
            self._stale[query.key] = None
        patched = list(self._patched.values())
        self._staged.clear()
        self._patched.clear()
        return patched

    # What is shown.

    def base(self) -> Mapping[Key, bytes]:
        """The server's results, by query."""
        return {query.key: query.result.json for query in self if isinstance(query.result, QueryValue)}

    def show(self, layer: Mapping[Key, bytes]) -> list[int]:
        """Put the optimistic `layer` over the results; returns the queries for which that shows something else."""
        changed = []
        for key in {**self._stale, **self._layer, **layer}:
            query = self._by_key.get(key)
            if query is None:
                continue
            shown = QueryValue(layer[key]) if key in layer else query.result
            if shown is None:
                if key in self._layer:
                    query.shown = None
            elif shown != query.shown:
                query.shown = shown
                query.revision += 1
                changed.append(query.query_id)
        self._stale.clear()
        self._layer = layer
        return changed

    # Sockets come and go.

    def lost(self, settled_ts: int | None) -> None:
        """
        The socket is gone; the next one is told everything again.

        Args:
            settled_ts: the `ts` of the consistent version shown last, None when this socket never reached one.
        """
        for query in list(self._unsent_removes.values()):
            self._forget(query)
        self._unsent_removes.clear()
        self._on_server.clear()
        self._staged.clear()
        self._patched.clear()
        self._doubted.clear()
        self._unsent_adds = dict(self._queries)
        if settled_ts is not None:
            for query in self:
                query.valid_ts = settled_ts

    def drop_results(self) -> None:
        """Another epoch: nothing held is of use; what is shown stays until there is something new."""
        for query in self:
            query.result = None


def _add(query: ClientQuery, *, whole: bool = False) -> QueryAdd:
    resume = None
    if not whole and isinstance(query.result, QueryValue) and query.result.hash:
        resume = Resume(ts=query.valid_ts, hash=query.result.hash)
    return QueryAdd(query_id=query.query_id, udf_path=query.path, args=Raw(query.args), resume=resume)
