"""
`/metrics`: everything counted, in the Prometheus text format, for callers with a token.

`prometheus_client` writes the text. It is imported by the first scrape, so that it adds nothing to the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import Response

from tinyvex import limits
from tinyvex.server.http.responses import text_response, token_refused

if TYPE_CHECKING:
    from starlette.requests import Request

    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.engine.store_statistics import Histogram
    from tinyvex.storage.maintenance.table_statistics import FileFacts
    from tinyvex.sync.counters import Counters

__all__ = ["Metrics", "metrics_response"]


class Metrics:
    """The metrics of one server."""

    def __init__(self, counters: Counters, store: Store, collections: Histogram) -> None:
        self._counters = counters
        self._store = store
        self._collections = collections
        self._scrapes = 0

    async def answer(self, request: Request) -> Response:
        """Answer a request, unless SCRAPES_MAX are being answered: each costs a thread and an open file."""
        if not request.state.caller.may_monitor:
            return token_refused(request.state.caller)
        if self._scrapes >= limits.SCRAPES_MAX:
            return text_response(f"{self._scrapes} other scrapes are being answered.", HTTPStatus.SERVICE_UNAVAILABLE)
        self._scrapes += 1
        try:
            return await metrics_response(self._counters, self._store, self._collections)
        finally:
            self._scrapes -= 1


async def metrics_response(counters: Counters, store: Store, collections: Histogram) -> Response:
    """Return the metrics."""
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

    from tinyvex.storage.maintenance.table_statistics import inspect_file

    # A library's thread inspects the file. If the loop closes before it reports, it ends with a traceback.
    registry = CollectorRegistry()
    with anyio.CancelScope(shield=True):
        registry.register(_Collector(counters, store, collections, await inspect_file(store.folder.database)))
    headers = {"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
    return Response(generate_latest(registry), HTTPStatus.OK, headers)


GAUGES = {
    "connections": "Open connections",
    "live_queries": "Live queries with at least one subscriber",
    "actions_running": "Running actions",
    "long_arguments_bytes": "Bytes of long arguments of unanswered calls",
    "cached_bytes": "Approximate bytes cached by live queries: results, ranges and older versions",
}
COUNTERS = {
    "connections_total": "Connections accepted since the start",
    "messages_received": "Messages from clients",
    "bytes_received": "Bytes from clients",
    "bytes_sent": "Bytes to clients",
    "transitions_sent": "Transitions sent",
    "transitions_skipped": "States that were not sent to a slow client",
    "recomputations": "Executions of live queries",
    "recomputations_unchanged": "Executions of live queries with an unchanged result",
    "rows_read": "Rows that live queries read from the database",
    "rows_applied": "Rows that live queries took from commits instead of the database",
    "rows_decoded": "Rows decoded for a comparison",
    "diffs": "Comparisons of two versions of a result",
    "patches_sent": "Results sent as patches",
    "values_sent": "Results sent as full values",
    "unchanged_sent": "Results that a reconnecting client held and that were still current",
    "results_reconstructed": "Older results reconstructed to send a patch from them",
    "results_evicted": "Evictions of a live query's cached results",
    "revisions_purged": "Revisions purged by the retention policy",
    "mutations": "Mutations answered",
    "mutations_failed": "Mutations that failed",
    "mutations_replayed": "Mutations answered with the stored result of an earlier attempt",
    "actions": "Actions started",
    "queries": "One-shot queries",
}


class _Collector:
    """Reads the counters for one scrape; nothing is stored between scrapes."""

    def __init__(self, counters: Counters, store: Store, collections: Histogram, file: FileFacts) -> None:
        self._counters = counters
        self._store = store
        self._collections = collections
        self._file = file

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, text in GAUGES.items():
            yield GaugeMetricFamily(f"tinyvex_{name}", text, value=getattr(self._counters, name))
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(
                f"tinyvex_{name.removesuffix('_total')}", text, value=getattr(self._counters, name)
            )
        statistics = self._store.statistics()
        yield CounterMetricFamily("tinyvex_commits", "Mutations committed", value=statistics.commits)
        yield CounterMetricFamily(
            "tinyvex_checkpoints", "Checkpoints of the write-ahead log", value=statistics.checkpoints
        )
        yield GaugeMetricFamily("tinyvex_wal_bytes", "Size of the write-ahead log", value=statistics.wal_bytes)
        yield GaugeMetricFamily("tinyvex_file_bytes", "Size of the database file", value=statistics.file_bytes)
        yield GaugeMetricFamily("tinyvex_writer_queue", "Queued and running mutations", value=statistics.queue_length)
        yield GaugeMetricFamily(
            "tinyvex_last_ts", "Timestamp of the last commit, microseconds since the epoch", value=self._store.last_ts
        )
        yield from self._collect_file()
        for name, text, histogram in (
            ("tinyvex_commit_seconds", "Duration of a COMMIT", statistics.commit_seconds),
            ("tinyvex_group_size", "Mutations per COMMIT", statistics.group_sizes),
            ("tinyvex_collection_seconds", "Duration of a full garbage collection: no thread runs", self._collections),
        ):
            yield HistogramMetricFamily(name, text, buckets=_buckets(histogram), sum_value=histogram.total)

    def _collect_file(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        file = self._file
        free_bytes = file.free_pages * file.page_bytes
        yield GaugeMetricFamily(
            "tinyvex_file_free_bytes", "Free bytes in the database file, which new rows fill first", value=free_bytes
        )
        yield GaugeMetricFamily("tinyvex_tables", "Tables", value=file.tables)
        yield CounterMetricFamily("tinyvex_revisions", "Revisions appended to the log", value=file.revisions)
        yield InfoMetricFamily("tinyvex_sqlite", "The SQLite library", value={"version": file.sqlite_version})


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return cumulative counts by upper bound, as the format requires."""
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
