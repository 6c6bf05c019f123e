"""Counters of the server: plain integers on the hot path, read by `/metrics`, the dashboard and tests."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Counters"]


class Counters(Struct):
    """
    Totals since the server started.

    The gauges are the exception: `connections`, `live_queries`, `cached_bytes`, `actions_running` and
    `long_arguments_bytes`.
    """

    connections: int = 0
    live_queries: int = 0
    connections_total: int = 0
    messages_received: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    transitions_sent: int = 0
    cached_bytes: int = 0
    """About how many bytes live queries use for results, cached ranges and older versions."""
    transitions_skipped: int = 0
    """Results that a slow client was not sent, because a newer one replaced them first."""
    recomputations: int = 0
    recomputations_unchanged: int = 0
    """Recomputations with the same hash as before; nothing was sent for them."""
    rows_read: int = 0
    """Rows that live queries read from the database."""
    rows_applied: int = 0
    """Rows that live queries took from commits instead, because the range was cached."""
    rows_decoded: int = 0
    """Rows that were decoded to be compared."""
    diffs: int = 0
    """Comparisons of two versions of a result; each serves all clients that hold the older one."""
    patches_sent: int = 0
    values_sent: int = 0
    """Results sent as full values."""
    unchanged_sent: int = 0
    """Results offered in `resume` that were current."""
    results_reconstructed: int = 0
    """Older results that were reconstructed, so that a resuming client is sent a patch."""
    results_evicted: int = 0
    """Evictions of a live query's cached state."""
    revisions_purged: int = 0
    """Revisions deleted by the retention policy."""
    mutations: int = 0
    mutations_failed: int = 0
    mutations_replayed: int = 0
    """Mutations answered from their exactly-once record."""
    actions: int = 0
    actions_running: int = 0
    long_arguments_bytes: int = 0
    """Long arguments of unanswered calls."""
    queries: int = 0
