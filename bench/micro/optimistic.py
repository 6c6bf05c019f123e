"""Optimistic updates over one long result: calls while earlier mutations are pending, and a new result below them."""

from __future__ import annotations

from collections.abc import Callable

from bench.harness import Bench
from bench.workloads import document
from tinyvex.client.optimistic import LocalStore, OptimisticUpdates, QueryKey
from tinyvex.client.query_value import QueryValue
from tinyvex.values import codec

KEY: QueryKey = ("m:list", b"{}")


class Server:
    """The server's result of one query."""

    def __init__(self, value: QueryValue) -> None:
        self.value = value

    def server_value(self, key: QueryKey) -> QueryValue | None:
        return self.value if key == KEY else None

    def subscribed_keys(self, path: str) -> list[QueryKey]:
        return [KEY] if path == KEY[0] else []


def run(bench: Bench) -> None:
    rows = bench.parameter("rows", 50, 1_000)
    pending = bench.parameter("pending", 10, 100)
    random = bench.random()
    json = codec.encode([document(random) for _ in range(rows)])
    name = f"{rows:,} rows, {pending} pending"
    server = Server(QueryValue(json, "one"))
    updates = call_all(server, pending)
    bench.hash([updates.results[KEY].json])
    bench.time(f"{name}, all calls", lambda: call_all(Server(QueryValue(json, "one")), pending))
    values = [QueryValue(json, "one"), QueryValue(json, "other")]
    for value in values:
        assert value.value is not None

    def change() -> None:
        values.reverse()
        server.value = values[0]
        updates.refresh()

    bench.time(f"{name}, a new result", change)


def call_all(server: Server, pending: int) -> OptimisticUpdates:
    updates = OptimisticUpdates(server)
    for number in range(pending):
        update = append(number)
        updates.add(number, "m:add", update, updates.run(update))
    return updates


def append(number: int) -> Callable[[LocalStore], None]:
    return lambda store: store.set("m:list", {}, [*store.get("m:list", {}), {"n": number}])
