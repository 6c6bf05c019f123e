"""What the server counts; plain integers on the hot path, read by `/metrics` and by tests."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Totals since the server started, except the two gauges at the top."""

    connections: int = 0
    live_queries: int = 0
    connections_total: int = 0
    messages_received: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    transitions_sent: int = 0
    transitions_skipped: int = 0
    """Times a slow client went past a state without being sent it."""
    recomputations: int = 0
    recomputations_unchanged: int = 0
    """Recomputations whose hash was the old one, so nothing was sent."""
    mutations: int = 0
    mutations_failed: int = 0
    mutations_replayed: int = 0
    """Mutations answered from their exactly-once record."""
    actions: int = 0
    queries: int = 0
