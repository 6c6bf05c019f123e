"""A table may exceed memory: reading a part of it, or all of it in sequence, holds one page."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ServerProcess
from tests.support.storage import ITEMS, bound_runtime, declare, insert, unit
from tinyvex.client.blocking import connect_blocking
from tinyvex.functions.app.registry import App
from tinyvex.functions.transaction.database import DatabaseReader
from tinyvex.functions.transaction.execution import Execution
from tinyvex.functions.transaction.query_builder import Query
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.engine.store import Store
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN

DOCUMENTS = 60_000
TEXT_BYTES = 600
UNIT_DOCUMENTS = 15_000
DATA_BYTES = DOCUMENTS * TEXT_BYTES

PEAK_BYTES_MAX = 2 << 20
"""Bound on Python's memory during a query: some pages of a scan, far less than the data."""

RESIDENT_BYTES_MAX = 12 << 20
"""Additional memory of a process with a large file: SQLite's caches."""

assert DATA_BYTES > 15 * PEAK_BYTES_MAX
assert DATA_BYTES > 2.5 * RESIDENT_BYTES_MAX

APP = """
import tinyvex as tv

@tv.table("items", indexes={"by_n": ["n"]})
class Item(tv.Document):
    n: int
    text: str

@tv.query
def take_ten(ctx: tv.QueryCtx) -> int:
    return len(ctx.db.query(Item).take(10))

@tv.query
def last(ctx: tv.QueryCtx) -> int:
    return ctx.db.query(Item).with_index("by_n").order("desc").first().n

@tv.query
def total(ctx: tv.QueryCtx) -> int:
    return sum(len(item.text) for item in ctx.db.query(Item))
"""


def insert_many(start: int) -> Callable[[Transaction], None]:
    """Create work that inserts a unit's worth of documents."""

    def work(transaction: Transaction) -> None:
        table = transaction.catalog.table("items")
        for n in range(start, start + UNIT_DOCUMENTS):
            transaction.insert(table, {"n": n, "text": f"{n:06}" * (TEXT_BYTES // 6)})

    return work


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a closed data folder with many documents, one of them changed by the last commit."""
    folder = tmp_path_factory.mktemp("large")

    async def fill() -> None:
        store = Store.open(folder, bound_runtime())
        await declare(store, ITEMS)
        for start in range(0, DOCUMENTS, UNIT_DOCUMENTS):
            await store.write(unit(insert_many(start)))
        await store.write(unit(insert({"n": -1, "text": ""})))
        await store.close()

    asyncio.run(fill())
    assert (folder / "data.sqlite3").stat().st_size > DATA_BYTES
    return folder


def take_ten(query: Query[Any]) -> int:
    return len(query.take(10))


def first(query: Query[Any]) -> int:
    return int(query.first()["n"])


def last(query: Query[Any]) -> int:
    return int(query.with_index("by_n").order("desc").first()["n"])


def early_break(query: Query[Any]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda item: item["n"] < 1_000, query))


def whole_iteration(query: Query[Any]) -> int:
    return sum(1 for _ in query)


def rare_filter(query: Query[Any]) -> int:
    return len(query.filter(lambda item: item["n"] % 20_000 == 0).collect())


def count(query: Query[Any]) -> int:
    return query.count()


def middle_page(query: Query[Any]) -> int:
    return len(query.with_index("by_n").gte("n", DOCUMENTS // 2).paginate(None, 50).items)


async def peak_of(folder: Path, read: Callable[[Query[Any]], int], *, older: bool) -> tuple[int, int]:
    """Return a read's value, and the peak memory of Python during it."""
    store = Store.open(folder, bound_runtime(), read_only=True)

    def run(snapshot: Snapshot) -> int:
        transaction = Transaction(snapshot, ts=snapshot.ts, writable=False, random=random.Random(0))
        return read(DatabaseReader(transaction, App([], []), Execution(transaction.reads)).query("items"))

    at = store.last_ts - 1 if older else None
    try:
        await store.read(take_ten_of, at=at)  # whatever is imported or cached once
        tracemalloc.start()
        try:
            value = await store.read(run, at=at)
            return value, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    finally:
        await store.close()


def take_ten_of(snapshot: Snapshot) -> int:
    table = snapshot.catalog.table("items")
    return len(snapshot.page(table.index("by_n"), KEY_MIN, KEY_MAX, limit=10))


READS = [
    (take_ten, False, 10),
    (take_ten, True, 10),
    (first, False, 0),
    (last, False, DOCUMENTS - 1),
    (early_break, False, 1_000),
    (whole_iteration, False, DOCUMENTS + 1),
    (whole_iteration, True, DOCUMENTS),
    (rare_filter, False, 3),
    (count, False, DOCUMENTS + 1),
    (middle_page, False, 50),
]


@pytest.mark.parametrize(
    ("read", "older", "expected"),
    READS,
    ids=[f"{read.__name__}-{'older' if older else 'newest'}" for read, older, _ in READS],
)
async def test_what_a_query_holds_is_a_page(
    large: Path, read: Callable[[Query[Any]], int], older: bool, expected: int
) -> None:
    """The peak is bounded for any query, also at an older timestamp, although the table is not."""
    value, peak = await peak_of(large, read, older=older)
    assert value == expected
    assert peak < PEAK_BYTES_MAX


async def test_what_is_collected_is_held(large: Path) -> None:
    """The measure detects a query that collects everything."""
    value, peak = await peak_of(large, lambda query: len(query.collect()), older=False)
    assert value == DOCUMENTS + 1
    assert peak > DATA_BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's memory from /proc")
def test_a_server_of_a_large_file_is_as_small_as_one_of_an_empty_file(large: Path, tmp_path: Path) -> None:
    """The memory is the same after the start, when idle, and after reading a part or all in sequence."""
    (tmp_path / "app.py").write_text(APP)
    shutil.copytree(large, tmp_path / "large")  # the server writes into it
    with (
        ServerProcess(tmp_path / "app.py", tmp_path / "empty", "--no-token") as small,
        ServerProcess(tmp_path / "app.py", tmp_path / "large", "--no-token") as server,
    ):
        assert peak_resident(server) - peak_resident(small) < RESIDENT_BYTES_MAX
        with connect_blocking(small.url) as client:
            assert client.query("app:take_ten") == 0
        with connect_blocking(server.url) as client:
            assert client.query("app:take_ten") == 10
            assert client.query("app:last") == DOCUMENTS - 1
            assert client.query("app:total") == DATA_BYTES
        assert peak_resident(server) - peak_resident(small) < RESIDENT_BYTES_MAX


def peak_resident(server: ServerProcess) -> int:
    """Return a process's peak resident memory in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
