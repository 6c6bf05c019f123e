"""
Results that patches made, compared with a fresh one-shot query at the same `ts` (pure).

For development and tests: it doubles the server's work.
What disagrees is a defect of a server or of this client; it is counted, told, and asked for again as a whole value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tinyvex.client.query_set import ClientQuery
from tinyvex.client.query_value import QueryValue
from tinyvex.client.requests import Answer, Kind, PendingRequest, Requests

__all__ = ["PatchCounters", "PatchVerification"]

CHECKS_MAX = 64
"""Under way at once; results that come faster are not all checked."""


@dataclass(slots=True)
class PatchCounters:
    """
    What a client has received since it was made.

    Attributes:
        values_received: results that came whole.
        patches_applied: results that came as a patch.
        patches_failed: patches that did not fit; the whole value was asked for.
        chunks_received: parts of long transitions.
        checks_passed: patched results that a fresh query agreed with; counted with `verify` only.
        checks_failed: those that it did not agree with.
    """

    values_received: int = 0
    patches_applied: int = 0
    patches_failed: int = 0
    chunks_received: int = 0
    checks_passed: int = 0
    checks_failed: int = 0


class PatchVerification:
    """The checks under way, by request number."""

    def __init__(self, counters: PatchCounters) -> None:
        self._counters = counters
        self._checks: dict[int, tuple[ClientQuery, QueryValue]] = {}

    def __contains__(self, request: PendingRequest) -> bool:
        return request.number in self._checks

    def begin(self, queries: Iterable[ClientQuery], requests: Requests, ts: int) -> None:
        """Ask for what these queries return at `ts`."""
        for query in queries:
            if isinstance(query.result, QueryValue) and len(self._checks) < CHECKS_MAX:
                request = requests.add(Kind.QUERY, query.path, query.args, at=ts)
                self._checks[request.number] = query, query.result

    def end(self, request: PendingRequest, answer: Answer | None) -> ClientQuery | None:
        """
        The answer came, or none did (the snapshot is gone, the socket is lost).

        Returns:
            The query whose result was wrong.
        """
        query, value = self._checks.pop(request.number)
        if answer is None:
            return None
        if value.says(answer.value):
            self._counters.checks_passed += 1
            return None
        self._counters.checks_failed += 1
        return query
