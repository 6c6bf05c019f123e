"""Metrics: their values, their cost, and access to them."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.lowlevel
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import Response

import tinyvex as tv
from tests.support.http import SHELF, request, shelf_server
from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.client.blocking import connect_blocking
from tinyvex.server.http import metrics as metrics_module
from tinyvex.server.http.metrics import Metrics
from tinyvex.server.http.responses import text_response
from tinyvex.server.server import Server, ServerOptions
from tinyvex.storage.engine.store_statistics import Histogram
from tinyvex.sync.counters import Counters


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server with some activity."""
    with shelf_server(tmp_path_factory.mktemp("data")) as process:
        yield process


def metrics(server: ServerProcess) -> dict[str, float]:
    """Return the samples by name and labels, as Prometheus reads them."""
    status, headers, text = request(server.ready["port"], "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        "".join([sample.name, *(f'{{{label}="{value}"}}' for label, value in sample.labels.items())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(server: ServerProcess) -> None:
    """Connections, live queries, commits, their latency and group size match the server's short life."""
    samples = metrics(server)
    assert samples["tinyvex_connections"] >= 2  # the client's and the scrape's own
    assert samples["tinyvex_live_queries"] == 1
    assert samples["tinyvex_mutations_total"] == 1
    assert samples["tinyvex_commits_total"] >= 1
    assert samples["tinyvex_transitions_sent_total"] >= 2
    assert samples["tinyvex_recomputations_total"] >= 2
    assert samples["tinyvex_bytes_sent_total"] > 0
    assert samples["tinyvex_wal_bytes"] > 0
    assert samples['tinyvex_group_size_bucket{le="+Inf"}'] >= 1
    assert samples['tinyvex_commit_seconds_bucket{le="+Inf"}'] >= 1
    assert samples["tinyvex_commit_seconds_sum"] > 0


def test_every_metric_says_what_it_is(server: ServerProcess) -> None:
    """Each family has a type, a help sentence, and a name with the product's prefix."""
    families = list(text_string_to_metric_families(request(server.ready["port"], "/metrics")[2]))
    assert len(families) > 10
    for family in families:
        assert family.name.startswith("tinyvex_")
        assert family.type in {"counter", "gauge", "histogram"}
        assert family.documentation


MOVE_UP = [
    "tinyvex_connections",
    "tinyvex_connections_total",
    "tinyvex_live_queries",
    "tinyvex_messages_received_total",
    "tinyvex_bytes_received_total",
    "tinyvex_bytes_sent_total",
    "tinyvex_transitions_sent_total",
    "tinyvex_recomputations_total",
    "tinyvex_mutations_total",
    "tinyvex_mutations_failed_total",
    "tinyvex_actions_total",
    "tinyvex_queries_total",
    "tinyvex_commits_total",
    "tinyvex_commit_seconds_count",
    "tinyvex_commit_seconds_sum",
    'tinyvex_commit_seconds_bucket{le="+Inf"}',
    "tinyvex_group_size_count",
    "tinyvex_group_size_sum",
    "tinyvex_wal_bytes",
    "tinyvex_last_ts",
]


def test_metrics_move(tmp_path: Path) -> None:
    """A client's actions between two scrapes appear in the second."""
    with ServerProcess(SHELF, tmp_path / "data", "--no-token") as server:
        before = metrics(server)
        with connect_blocking(server.url) as client, client.subscribe("shelf:titles") as titles:
            assert next(titles) == []
            client.mutation("shelf:add", {"title": "Emma"})
            assert next(titles) == ["Emma"]
            with client.subscribe("shelf:pages", {"title": "Emma"}) as pages:
                assert next(pages) == 100
                client.mutation("shelf:add", {"title": "Emma"})
                with pytest.raises(tv.TinyvexError):
                    next(pages)
            with pytest.raises(tv.TinyvexError):
                client.mutation("shelf:nothing")
            client.action("shelf:add_twice", {"title": "Persuasion"})
            client.query("shelf:titles")
            after = metrics(server)
    assert [name for name in MOVE_UP if not after[name] > before[name]] == []


def test_states_that_a_slow_client_goes_past_are_counted(tmp_path: Path) -> None:
    """While one client does not read, other subscribers of the same query advance."""

    async def scenario() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        async with Server(ServerOptions(app=SHELF, data=tmp_path / "data", port=4800), runtime) as server:
            slow, quick = [await watching(server, runtime, session_id) for session_id in ("a-slow-one", "a-quick-one")]
            assert server.counters.transitions_skipped == 0
            slow.pause()
            for number in range(30):
                args = {"title": f"{number:02} " * 10_000}
                answer = await quick.ask("mutation", requestId=number, udfPath="shelf:add", args=args)
                await quick.message(lambda message, ts=answer["result"]["ts"]: end_of(message) >= ts)
            assert server.counters.transitions_skipped > 10

    run_virtual(scenario())


async def watching(server: Server, runtime: WorldRuntime, session_id: str) -> RawClient:
    """Return a client that has the first result of a query."""
    client = await RawClient.open(server.url, runtime)
    await client.answer(client.connect(sessionId=session_id))
    add = {"type": "Add", "queryId": 0, "udfPath": "shelf:titles", "args": {}}
    await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
    await client.notification("transition")
    return client


def end_of(message: dict[str, object]) -> int:
    """Return the `ts` that a message leads to."""
    params = message.get("params")
    return int(params["endVersion"]["ts"]) if isinstance(params, dict) and "endVersion" in params else 0


ALLOWED: Any = SimpleNamespace(state=SimpleNamespace(caller=SimpleNamespace(may_monitor=True)))
"""A request whose caller may read metrics."""


async def test_scrapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape beyond SCRAPES_MAX gets 503 immediately; one that ends or is cancelled makes room."""
    may_end = asyncio.Event()

    async def respond(*_: object) -> Response:
        await may_end.wait()
        return text_response("metrics")

    monkeypatch.setattr(metrics_module, "metrics_response", respond)
    metrics = Metrics(Counters(), None, Histogram([1.0]))  # type: ignore[arg-type]

    async def scrape() -> int:
        return (await metrics.answer(ALLOWED)).status_code

    async with asyncio.TaskGroup() as group:
        first = [group.create_task(scrape()) for _ in range(limits.SCRAPES_MAX)]
        assert await group.create_task(scrape()) == 503
        first.pop().cancel()
        another = group.create_task(scrape())
        await anyio.lowlevel.checkpoint()
        may_end.set()
    assert [task.result() for task in [*first, another]] == [200] * limits.SCRAPES_MAX


async def test_the_file_is_inspected_to_the_end_when_its_scrape_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library's thread inspects it. Abandoned, it would report to a closed loop and print a traceback."""
    begun, may_end = anyio.Event(), anyio.Event()
    ended = []

    async def inspect(_database: Path) -> Any:
        begun.set()
        await may_end.wait()
        ended.append(True)
        raise LookupError("not reported")

    async def scrape() -> None:
        with pytest.raises(LookupError):
            await metrics_module.metrics_response(Counters(), store, Histogram([1.0]))

    monkeypatch.setattr("tinyvex.storage.maintenance.table_statistics.inspect_file", inspect)
    store: Any = SimpleNamespace(folder=SimpleNamespace(database=Path("nowhere")))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scrape)
            await begun.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                may_end.set()
    assert ended == [True]
