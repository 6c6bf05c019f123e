"""
Plain HTTP on the server's port: health, metrics, the dashboard, and a 404 for the rest.

`prometheus_client` writes the metrics text; all that metrics need is imported at the first scrape,
because starting fast comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Response

from tinyvex import limits
from tinyvex.server.access import origin_rules
from tinyvex.version import __version__

if TYPE_CHECKING:
    from websockets.http11 import Request

    from tinyvex.server.access.token_auth import TokenAuth
    from tinyvex.server.http.dashboard import Dashboard
    from tinyvex.server.transport.connection import Answer
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.engine.store_statistics import Histogram
    from tinyvex.storage.maintenance.table_statistics import FileFacts
    from tinyvex.sync.counters import Counters

__all__ = ["Routes", "health", "metrics", "text_response"]


class Routes:
    """
    What is answered under which path.

    Args:
        rules: who may ask.
        admission: whose token is good, where other machines may ask.
        dashboard: answers below `/_dashboard`.
        counters: for the metrics.
        store: whose health it is.
    """

    def __init__(
        self,
        rules: origin_rules.AccessRules,
        admission: TokenAuth,
        dashboard: Dashboard,
        counters: Counters,
        store: Store,
    ) -> None:
        self._rules = rules
        self._admission = admission
        self._dashboard = dashboard
        self._counters = counters
        self._store = store
        self._scrapes = 0

    def answer(self, request: Request, connections: int) -> Answer:
        """Refuse strangers, answer plain HTTP, let WebSocket upgrades of /sync go on."""
        headers = request.headers
        refused = origin_rules.refusal(self._rules, headers.get_all("Host"), headers.get_all("Origin"))
        if refused is not None:
            return text_response(HTTPStatus.FORBIDDEN, refused + "\n")
        if connections > limits.CONNECTIONS_MAX:
            return text_response(HTTPStatus.SERVICE_UNAVAILABLE, f"{limits.CONNECTIONS_MAX} connections are open.\n")
        path, _, query = request.path.partition("?")
        if path == "/sync":
            return None
        if path in {"/healthz", "/metrics"}:
            if self._rules.is_exposed and not self._admission.knows(
                origin_rules.bearer_token(headers.get_all("Authorization")) or ""
            ):
                return text_response(HTTPStatus.UNAUTHORIZED, "A token is needed: Authorization: Bearer TOKEN.\n")
            return health(__version__, self._store) if path == "/healthz" else self._scrape
        found = self._dashboard.answer(path, query, headers)
        return found if found is not None else text_response(HTTPStatus.NOT_FOUND, "Not found.\n")

    async def _scrape(self) -> Response:
        """The metrics, unless so many ask for them that somebody means harm: any page may, though it is told nothing."""
        if self._scrapes >= limits.SCRAPES_MAX:
            return text_response(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._scrapes} others are answered just now.\n")
        self._scrapes += 1
        try:
            return await metrics(self._counters, self._store)
        finally:
            self._scrapes -= 1


def text_response(status: HTTPStatus, text: str, content_type: str = "text/plain; charset=utf-8") -> Response:
    """A small whole answer, after which the connection closes."""
    body = text.encode()
    headers = Headers()
    headers["Content-Type"] = content_type
    headers["Content-Length"] = str(len(body))
    headers["Cache-Control"] = "no-store"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, body)


def health(version: str, store: Store) -> Response:
    """Alive, which version, and the `ts` of the last commit."""
    state = {"status": "ok", "version": version, "lastTs": store.last_ts, "databaseId": store.database_id}
    return text_response(HTTPStatus.OK, msgspec.json.encode(state).decode() + "\n", "application/json")


async def metrics(counters: Counters, store: Store) -> Response:
    """Everything counted, in the Prometheus text format."""
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

    from tinyvex.storage.maintenance.table_statistics import inspect_file

    # A thread of a library does this; where the loop is closed before it has answered, it ends with a traceback.
    registry = CollectorRegistry()
    with anyio.CancelScope(shield=True):
        registry.register(_Collector(counters, store, await inspect_file(store.folder.database)))
    return text_response(HTTPStatus.OK, generate_latest(registry).decode(), CONTENT_TYPE_PLAIN_0_0_4)


GAUGES = {
    "connections": "Open connections",
    "live_queries": "Live queries that somebody watches",
    "actions_running": "Actions that run",
    "long_arguments_bytes": "Long arguments of calls that wait for an answer",
    "kept_bytes": "Memory that live queries keep, about: results, their ranges, older versions",
}
COUNTERS = {
    "connections_total": "Connections since the start",
    "messages_received": "Messages from clients",
    "bytes_received": "Bytes from clients",
    "bytes_sent": "Bytes to clients",
    "transitions_sent": "Transitions sent",
    "transitions_skipped": "States that a slow client went past",
    "recomputations": "Runs of live queries",
    "recomputations_unchanged": "Runs of live queries whose result had not changed",
    "rows_read": "Rows that live queries read from the database",
    "rows_applied": "Rows that live queries took from commits instead",
    "rows_decoded": "Rows decoded to be compared",
    "diffs": "Versions of results compared",
    "patches_sent": "Results sent as patches",
    "values_sent": "Results sent whole",
    "unchanged_sent": "Results offered by a client that came back, and still right",
    "results_found_again": "Older results computed again to send a patch from them",
    "results_evicted": "Times a live query gave up what it kept",
    "revisions_forgotten": "Revisions deleted because the retention policy does not keep them",
    "mutations": "Mutations answered",
    "mutations_failed": "Mutations that failed",
    "mutations_replayed": "Mutations answered from their exactly-once record",
    "actions": "Actions started",
    "queries": "One-shot queries",
}


class _Collector:
    """Reads the counters at a scrape; nothing is kept for Prometheus between scrapes."""

    def __init__(self, counters: Counters, store: Store, file: FileFacts) -> None:
        self._counters = counters
        self._store = store
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
        yield GaugeMetricFamily("tinyvex_writer_queue", "Mutations that wait or run", value=statistics.queue_length)
        yield GaugeMetricFamily(
            "tinyvex_last_ts", "The last commit, microseconds since the epoch", value=self._store.last_ts
        )
        yield from self._collect_file()
        for name, text, histogram in (
            ("tinyvex_commit_seconds", "Time of one COMMIT", statistics.commit_seconds),
            ("tinyvex_group_size", "Mutations per COMMIT", statistics.group_sizes),
        ):
            yield HistogramMetricFamily(name, text, buckets=_buckets(histogram), sum_value=histogram.total)

    def _collect_file(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        file = self._file
        free_bytes = file.free_pages * file.page_bytes
        yield GaugeMetricFamily("tinyvex_file_free_bytes", "Of the file, what new rows fill first", value=free_bytes)
        yield GaugeMetricFamily("tinyvex_tables", "Tables", value=file.tables)
        yield CounterMetricFamily("tinyvex_revisions", "Revisions appended to the log", value=file.revisions)
        yield InfoMetricFamily("tinyvex_sqlite", "The SQLite library", value={"version": file.sqlite_version})


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as the format wants them."""
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
