"""
The client's queries: what the server knows of them, what it sent, and what callers see (pure).

A result passes through three fields::

    transition ──► _staged ──apply_staged──► ClientQuery.result ──show──► ClientQuery.shown

`_staged` buffers the results of a new socket until all queries of the old socket have one again, so that callers see
one consistent version after the other. `result` is the server's result in the last consistent version. `shown` is that
result with the optimistic updates applied.

A query is unsent (in `_unsent_adds`), on the server (in `_on_server`), or on the server and about to be removed (in
`_on_server` and `_unsent_removes`).

If a patch fails to apply, the query is removed and added again in one message to fetch the full value. Nothing new is
shown of any query until the full value has arrived, because the results would not belong to one version.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Protocol, TypeAlias

from msgspec import Raw, Struct

from tinyvex import limits
from tinyvex.client.function_log import log_function_lines
from tinyvex.client.optimistic import QueryKey
from tinyvex.client.query_value import QueryValue
from tinyvex.client.rpc import call_size_bytes, refuse_too_large
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

__all__ = ["ClientQuery", "QueryFailure", "QueryResult", "QuerySet"]

logger = logging.getLogger(__name__)

MODIFICATIONS_PER_MESSAGE_MAX = 4096


class QueryFailure(Struct, frozen=True, eq=False):  # noqa: PLW1641 - compared, never a key
    """The error of a query. Two failures are equal if they differ in nothing but the server's request id."""

    error: TinyvexError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueryFailure) and self._identity() == other._identity()

    def _identity(self) -> tuple[object, ...]:
        data = {key: value for key, value in self.error.data.items() if key != "requestId"}
        return self.error.name, self.error.message, data


QueryResult: TypeAlias = QueryValue | QueryFailure


class ClientQuery(Struct, eq=False):
    """
    A subscribed query.

    Attributes:
        subscribers: the number of subscriptions that share the query.
        result: the server's result in the last consistent version.
        valid_ts: the `ts` at which `result` was last known to be current; set when a socket is lost, for `resume`.
        shown: the result that callers see.
        revision: increases with every change of `shown`.
    """

    query_id: int
    path: str
    args: bytes
    subscribers: int = 0
    result: QueryResult | None = None
    valid_ts: int = 0
    shown: QueryResult | None = None
    revision: int = 0

    @property
    def key(self) -> QueryKey:
        """The path and arguments; subscriptions with an equal key share the query."""
        return self.path, self.args


class ResultCounters(Protocol):
    """The counters of received results."""

    values_received: int
    patches_applied: int
    patches_failed: int


class QuerySet:
    """All queries of a session. Iterates over them in the order of their ids."""

    def __init__(self, counters: ResultCounters) -> None:
        self._counters = counters
        self._next_id = 0
        self._queries: dict[int, ClientQuery] = {}
        self._by_key: dict[QueryKey, ClientQuery] = {}
        self._unsent_adds: dict[int, ClientQuery] = {}
        self._unsent_removes: dict[int, ClientQuery] = {}
        self._on_server: set[int] = set()
        self._staged: dict[int, QueryResult] = {}
        self._patched: dict[int, ClientQuery] = {}
        """The queries whose staged result was built from a patch."""
        self._full_value_requests: dict[int, int | None] = {}
        """Queries that must send their full value, with the query-set version that asks for it; None if unsent."""
        self._stale: dict[QueryKey, None] = {}
        """Queries whose `result` changed since `show`; ordered."""
        self._layer: Mapping[QueryKey, QueryValue] = {}

    def __iter__(self) -> Iterator[ClientQuery]:
        return iter(self._by_key.values())

    # Subscriptions.

    def subscribe(self, path: str, args: bytes) -> ClientQuery:
        """
        Add a subscription; it shares an existing query with an equal key, even one whose removal is not sent yet.

        Raises:
            TooManyQueries: the client has CLIENT_QUERIES_MAX queries.
        """
        query = self._by_key.get((path, args))
        if query is None:
            if len(self._by_key) >= limits.CLIENT_QUERIES_MAX:
                raise TooManyQueries(f"a client can subscribe to at most {limits.CLIENT_QUERIES_MAX} queries")
            query = ClientQuery(self._next_id, path, args)
            self._next_id += 1
            self._queries[query.query_id] = self._by_key[query.key] = self._unsent_adds[query.query_id] = query
            self._stale[query.key] = None
        self._unsent_removes.pop(query.query_id, None)
        query.subscribers += 1
        return query

    def release(self, query_id: int) -> None:
        """Remove one subscription; the last one removes the query."""
        query = self._queries[query_id]
        query.subscribers -= 1
        if query.subscribers:
            return
        if query_id in self._on_server:
            self._unsent_removes[query_id] = query
        else:
            del self._unsent_adds[query_id]
            self._discard(query)

    def _discard(self, query: ClientQuery) -> None:
        del self._queries[query.query_id], self._by_key[query.key]
        self._staged.pop(query.query_id, None)
        self._patched.pop(query.query_id, None)
        self._full_value_requests.pop(query.query_id, None)
        self._stale.pop(query.key, None)

    # Modifications to send.

    @property
    def has_unsent(self) -> bool:
        """Return whether there are modifications to send."""
        return bool(self._unsent_adds or self._unsent_removes) or None in self._full_value_requests.values()

    def next_modifications(self, version: int, queries_max: int, bytes_max: int) -> list[QueryAdd | QueryRemove]:
        """
        Return the modifications of the next message, which count as sent.

        A query that the server has no room for fails here: in the message it would cause the rejection of the others.

        Args:
            version: the query-set version that the message leads to.
            queries_max: the server's limit of queries on a connection.
            bytes_max: the server's limit of a message.
        """
        modifications: list[QueryAdd | QueryRemove] = []
        for query_id in list(self._unsent_removes)[:MODIFICATIONS_PER_MESSAGE_MAX]:
            self._on_server.discard(query_id)
            self._discard(self._unsent_removes.pop(query_id))
            modifications.append(QueryRemove(query_id=query_id))
        size_bytes = 0
        for query_id in [query_id for query_id, sent in self._full_value_requests.items() if sent is None]:
            query = self._queries[query_id]
            size_bytes += call_size_bytes(query.path, query.args)
            if modifications and (size_bytes > bytes_max or len(modifications) + 2 > MODIFICATIONS_PER_MESSAGE_MAX):
                return modifications
            self._full_value_requests[query_id] = version
            modifications += [QueryRemove(query_id=query_id), _add(query, offer_resume=False)]
        for query in list(self._unsent_adds.values()):
            if len(modifications) >= MODIFICATIONS_PER_MESSAGE_MAX:
                break
            refusal = self._refusal(query, queries_max, bytes_max)
            if refusal is not None:
                query.result = QueryFailure(refusal)
                self._stale[query.key] = None
                continue
            size_bytes += call_size_bytes(query.path, query.args)
            if size_bytes > bytes_max and modifications:
                break
            del self._unsent_adds[query.query_id]
            self._on_server.add(query.query_id)
            modifications.append(_add(query))
        return modifications

    def _refusal(self, query: ClientQuery, queries_max: int, bytes_max: int) -> TinyvexError | None:
        if len(self._on_server) >= queries_max:
            return TooManyQueries(f"the server accepts at most {queries_max} queries on a connection")
        return refuse_too_large(query.path, query.args, bytes_max)

    # Modifications received.

    def stage(self, modification: Modification, query_set: int) -> None:
        """
        Buffer one modification of a transition to the query-set version `query_set`.

        A patch that does not apply leaves the staged result unchanged and requests the full value.

        Raises:
            UpdateRejected: the modification contradicts what was sent before.
        """
        query = self._queries.get(modification.query_id)
        if query is None or query.query_id not in self._on_server:
            if modification.query_id >= self._next_id:
                raise UpdateRejected(f"a transition modifies the query {modification.query_id}, which was never added")
            return
        if query.query_id in self._full_value_requests and not self._accept_full_value(modification, query_set):
            return
        match modification:
            case QueryUpdated(value=Raw() as value):
                self._counters.values_received += 1
                self._stage(query, QueryValue(bytes(value), modification.hash))
                log_function_lines(query.path, modification.log_lines)
            case QueryUpdated(patch=Raw() as patch):
                log_function_lines(query.path, modification.log_lines)
                self._stage_patch(query, bytes(patch), modification.hash)
            case QueryUpdated():
                raise UpdateRejected(f"the update of query {query.query_id} has neither a value nor a patch")
            case QueryFailed(error=error, log_lines=log_lines):
                failure = error_objects.from_object(error)
                failure.log_lines = tuple(log_lines)
                self._stage(query, QueryFailure(failure))
                log_function_lines(query.path, log_lines)
            case QueryUnchanged(hash=hash):
                if not isinstance(query.result, QueryValue) or query.result.hash != hash:
                    raise UpdateRejected(f"query {query.query_id} is unchanged from a result that this client lacks")
            case QueryRemoved():
                raise UpdateRejected(f"query {query.query_id} was removed, but this client did not ask for that")

    def _stage(self, query: ClientQuery, result: QueryResult) -> None:
        self._staged[query.query_id] = result
        self._patched.pop(query.query_id, None)

    def _stage_patch(self, query: ClientQuery, patch: bytes, hash: str) -> None:  # noqa: A002 - the protocol's name
        base = self._staged.get(query.query_id, query.result)
        try:
            if not isinstance(base, QueryValue):
                raise PatchFailed("the client has no result to apply it to")
            patched = base.patched(patch, hash)
        except PatchFailed as error:
            self._counters.patches_failed += 1
            self.request_full_value(query, f"a patch does not apply: {error}")
        else:
            self._counters.patches_applied += 1
            self._stage(query, patched)
            self._patched[query.query_id] = query

    def apply_staged(self) -> list[ClientQuery]:
        """
        Make the staged results current; the caller has checked that they belong to one consistent version.

        Returns:
            The queries whose new result was built from patches.
        """
        for query_id, result in self._staged.items():
            query = self._queries[query_id]
            query.result = result
            self._stale[query.key] = None
        patched = list(self._patched.values())
        self._staged.clear()
        self._patched.clear()
        return patched

    # Full values.

    def request_full_value(self, query: ClientQuery, reason: str, *, hash_is_wrong: bool = False) -> None:
        """
        Ask the server for the query's full value, unless that is under way.

        Args:
            query: the query.
            reason: for the log.
            hash_is_wrong: the result is not the one that its hash stands for, so it must not be offered in `resume`.
        """
        if hash_is_wrong and isinstance(query.result, QueryValue):
            query.result.hash = ""
        if query.query_id in self._on_server and query.query_id not in self._full_value_requests:
            logger.error("requesting the full value of %s: %s", query.path, reason)
            self._full_value_requests[query.query_id] = None

    def _accept_full_value(self, modification: Modification, query_set: int) -> bool:
        """
        Return whether a modification is the full value that was requested, and end the request if it is.

        A modification that was sent before the server saw the request must be ignored.
        """
        requested = self._full_value_requests[modification.query_id]
        if requested is None or query_set < requested:
            return False
        has_value = isinstance(modification, QueryUpdated) and isinstance(modification.value, Raw)
        if not (has_value or isinstance(modification, QueryFailed)):
            raise UpdateRejected(f"query {modification.query_id} was added again, but has no full value")
        del self._full_value_requests[modification.query_id]
        return True

    @property
    def awaits_full_values(self) -> bool:
        """Return whether any full value was requested and has not arrived."""
        return bool(self._full_value_requests)

    def check_full_values(self, query_set: int) -> None:
        """
        Check, after a transition to `query_set`, that it brought every full value requested by then.

        Raises:
            UpdateRejected: the transition lacks one.
        """
        for query_id, requested in self._full_value_requests.items():
            if requested is not None and requested <= query_set:
                raise UpdateRejected(f"a transition lacks the query {query_id}, which was added again")

    # Results shown.

    def server_value(self, key: QueryKey) -> QueryValue | None:
        """Return the server's value of a query; None if it has none, or is not subscribed."""
        query = self._by_key.get(key)
        return query.result if query is not None and isinstance(query.result, QueryValue) else None

    def subscribed_keys(self, path: str) -> list[QueryKey]:
        """Return the subscribed queries of a path."""
        return [key for key in self._by_key if key[0] == path]

    def show(self, layer: Mapping[QueryKey, QueryValue]) -> list[int]:
        """
        Update `shown` of every query from the server's results and the optimistic `layer` above them.

        Returns:
            The ids of the queries whose `shown` changed.
        """
        changed = []
        for key in {**self._stale, **self._layer, **layer}:
            query = self._by_key.get(key)
            if query is None:
                continue
            shown = layer.get(key) or query.result
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

    # Lost connections and restored databases.

    def mark_all_unsent(self, consistent_ts: int | None) -> None:
        """
        Prepare to add every query again on another socket, under its id.

        Args:
            consistent_ts: the `ts` of the last consistent version; None if this socket never reached one.
        """
        for query in list(self._unsent_removes.values()):
            self._discard(query)
        self._unsent_removes.clear()
        self._on_server.clear()
        self._staged.clear()
        self._patched.clear()
        self._full_value_requests.clear()
        self._unsent_adds = dict(self._queries)
        if consistent_ts is not None:
            for query in self:
                query.valid_ts = consistent_ts

    def discard_results(self) -> None:
        """Discard the server's results; callers see the old ones until new ones arrive."""
        for query in self:
            query.result = None


def _add(query: ClientQuery, *, offer_resume: bool = True) -> QueryAdd:
    resume = None
    if offer_resume and isinstance(query.result, QueryValue) and query.result.hash:
        resume = Resume(ts=query.valid_ts, hash=query.result.hash)
    return QueryAdd(query_id=query.query_id, udf_path=query.path, args=Raw(query.args), resume=resume)
