"""
Verification of patches against fresh queries (pure).

For development and tests: every result that was built from patches is compared with a one-shot query at the same `ts`,
which doubles the server's work. A difference is a defect of the server or of this client. It is counted and logged, and
the full value is requested.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from tinyvex.client.identity import ANONYMOUS, CallIdentity
from tinyvex.client.pending_requests import Answer, CallKind, PendingRequest, PendingRequests
from tinyvex.client.query_set import ClientQuery
from tinyvex.client.query_value import QueryValue

__all__ = ["PatchCounters", "PatchVerification"]

CHECKS_MAX = 64
"""Checks that run concurrently; further results are not checked."""


class PatchCounters(Struct):
    """
    Counters of what a client has received since it was created.

    Attributes:
        values_received: results sent as a full value.
        patches_applied: results sent as a patch.
        patches_failed: patches that did not apply; the full value was requested.
        chunks_received: chunks of long transitions.
        checks_passed: patched results equal to a fresh query; counted only with `verify`.
        checks_failed: patched results different from a fresh query.
    """

    values_received: int = 0
    patches_applied: int = 0
    patches_failed: int = 0
    chunks_received: int = 0
    checks_passed: int = 0
    checks_failed: int = 0


class PatchVerification:
    """The checks in progress, by request number."""

    def __init__(self, counters: PatchCounters) -> None:
        self._counters = counters
        self._checks: dict[int, tuple[ClientQuery, QueryValue]] = {}

    def __contains__(self, request: PendingRequest) -> bool:
        return request.number in self._checks

    def start(
        self, queries: Iterable[ClientQuery], requests: PendingRequests, ts: int, caller: CallIdentity = ANONYMOUS
    ) -> None:
        """Queue a one-shot query of `caller` at `ts` for each query, at most CHECKS_MAX."""
        for query in queries:
            if isinstance(query.result, QueryValue) and len(self._checks) < CHECKS_MAX:
                request = requests.add(CallKind.QUERY, query.path, query.args, at=ts, caller=caller)
                self._checks[request.number] = query, query.result

    def finish(self, request: PendingRequest, answer: Answer | None) -> ClientQuery | None:
        """
        Compare the answer of a check.

        Args:
            request: the check's request.
            answer: None if the check failed: the snapshot has expired or the connection was lost.

        Returns:
            The query, if its patched result was wrong.
        """
        query, value = self._checks.pop(request.number)
        if answer is None:
            return None
        if value.is_same_json(answer.value):
            self._counters.checks_passed += 1
            return None
        self._counters.checks_failed += 1
        return query
