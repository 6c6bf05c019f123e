"""What the server counts; plain integers on the hot path, read by `/metrics` and by tests."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Totals since the server started, except the gauges: connections, live queries and what they keep, running actions, waiting bytes."""

    connections: int = 0
    live_queries: int = 0
    connections_total: int = 0
    messages_received: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    transitions_sent: int = 0
    kept_bytes: int = 0
    """About how much memory live queries' results, their ranges and older versions take."""
    transitions_skipped: int = 0
    """Times a slow client went past a state without being sent it."""
    recomputations: int = 0
    recomputations_unchanged: int = 0
    """Recomputations whose hash was the old one, so nothing was sent."""
    rows_read: int = 0
    """Rows that live queries fetched from the database."""
    rows_applied: int = 0
    """Rows that live queries took from commits instead, because they had kept the range."""
    rows_decoded: int = 0
    """Rows that were decoded to be compared."""
    diffs: int = 0
    """Comparisons of two versions of a result; each serves all who hold the older one."""
    patches_sent: int = 0
    values_sent: int = 0
    """Results sent whole."""
    unchanged_sent: int = 0
    """Results offered in `resume` that were still right."""
    results_found_again: int = 0
    """Older results computed again so that a client that resumes is sent a patch."""
    results_evicted: int = 0
    """Times a live query's kept state was given up because the memory was needed."""
    revisions_forgotten: int = 0
    """Revisions deleted because the retention policy does not keep them."""
    mutations: int = 0
    mutations_failed: int = 0
    mutations_replayed: int = 0
    """Mutations answered from their exactly-once record."""
    actions: int = 0
    actions_running: int = 0
    long_arguments_bytes: int = 0
    """Of calls that wait for an answer."""
    queries: int = 0
