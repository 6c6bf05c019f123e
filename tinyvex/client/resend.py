"""
Resending after a lost connection (pure).

When a socket is lost, the client keeps the session and opens another socket. Nothing on the server outlives the old
socket except the record of committed mutations, so the client sends its state again:

1.  `tinyvex/connect`, with the same `sessionId`, and `tinyvex/authenticate` if the client has a user.
2.  Every subscribed query, in one `tinyvex/modifyQuerySet` from version 0 to 1 (more if one message is too small),
    under the query ids it always had. A query whose result is known carries `resume`, so that an unchanged result
    is not sent again.
3.  Every unfinished mutation of the socket's identity (`identity`), in the order of the calls and under its original
    `requestId`. The server returns the stored result of a mutation that did commit, instead of running it again.
    Anonymous mutations, if there is a user too, precede step 1's `tinyvex/authenticate`.

An action or one-shot query that was sent is not repeated, because the server does not record it: its caller gets
ConnectionLost. One that was never sent stays in the queue.

Meanwhile callers keep seeing the results of the old socket. A new version becomes visible once a transition has brought
back all queries of step 2, at or past the `ts` that was visible before. Until then no mutation completes either. So
callers only move forward, from one consistent version to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tinyvex.client.pending_requests import CallKind, PendingRequest, PendingRequests, RequestPhase

if TYPE_CHECKING:
    from tinyvex.client.identity import CallIdentity
    from tinyvex.client.query_set import QuerySet
    from tinyvex.wire.messages import StateVersion

__all__ = ["Resend"]


class Resend:
    """
    The progress of one session in restoring its state on the current socket.

    Args:
        queries: the subscribed queries; a lost connection marks them as unsent.
        requests: the unfinished calls; a lost connection queues them again.

    Attributes:
        resending_queries: whether some query was not sent on this socket yet.
        visible_ts: the `ts` of the version that callers see, in this epoch.
    """

    def __init__(self, queries: QuerySet, requests: PendingRequests) -> None:
        self._queries = queries
        self._requests = requests
        self.visible_ts = 0
        self.start()

    def start(self) -> None:
        """Begin with a new socket, on which nothing was sent."""
        self.resending_queries = True
        self._restored_query_set = 0
        self._mutations: dict[int, PendingRequest] = {}

    def connected(self) -> None:
        """Record the mutations that this socket has to finish before the session has caught up."""
        self._mutations = {r.number: r for r in self._requests if r.kind is CallKind.MUTATION}

    def queries_sent(self, query_set: int) -> None:
        """Record the query-set version that was sent; while `resending_queries`, callers wait for it."""
        if self.resending_queries:
            self._restored_query_set = query_set

    def finished(self, request: PendingRequest) -> None:
        """Record that a request is finished."""
        self._mutations.pop(request.number, None)

    def restores(self, version: StateVersion) -> bool:
        """Return whether `version` has all queries of the lost socket and is not older than the visible version."""
        return (
            not self.resending_queries
            and version.query_set >= self._restored_query_set
            and version.ts >= self.visible_ts
            and not self._queries.awaits_full_values
        )

    def mutations_finished(self, may_send: Callable[[CallIdentity], bool]) -> bool:
        """
        Return whether every mutation that was unfinished when the socket connected has finished.

        Those that wait for a caller who is not signed in do not count.
        """
        return not any(
            request.phase is not RequestPhase.QUEUED or may_send(request.caller) for request in self._mutations.values()
        )

    def connection_lost(self, consistent_ts: int | None) -> list[PendingRequest]:
        """
        Prepare for the next socket.

        Args:
            consistent_ts: the `ts` of the last consistent version; None if this socket never reached one.

        Returns:
            The requests that must fail: they may have run, and running them twice is not safe.
        """
        failed = [r for r in self._requests if r.kind is not CallKind.MUTATION and r.phase is RequestPhase.SENT]
        for request in failed:
            self._requests.remove(request)
        self._requests.requeue()
        self._queries.mark_all_unsent(consistent_ts)
        return failed

    def history_changed(self) -> list[PendingRequest]:
        """
        Discard everything that belongs to the old history, after the database was restored from a backup or replaced.

        Returns:
            The mutations that are now complete: they were answered, so they did commit, and no transition of the new
            history can cover their `ts`.
        """
        self._queries.discard_results()
        self.visible_ts = 0
        return self._requests.finish_ever_answered()
