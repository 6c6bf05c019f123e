"""
Encoded records of a random history, replayed into an empty file, which then answers every read like the first file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.log.test_document_log import commits, declarations
from tests.storage.maintenance.test_retention import change, everything, retention
from tests.support.imports import abandoned, began, filled, finished
from tests.support.records import OPERATIONS
from tests.support.storage import MemoryStore, drive
from tinyvex.errors import FileDamaged, ImportRefused, UnknownTable
from tinyvex.storage.log.apply import replay
from tinyvex.storage.log.commit_feed import Behind
from tinyvex.storage.log.commit_record import CommitRecord, Outcome
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.operations import (
    BackfillIndex,
    DropIndexEntries,
    ExpireRequests,
    MoveTablet,
    UpgradeDocuments,
)
from tinyvex.storage.log.record_codec import decode_record, encode_record
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.schema.table_drop import drop
from tinyvex.storage.schema.tablets import past_tablets
from tinyvex.values.codec import decode, encode

DAYS_15_US = 15 * 86_400_000_000
TABLES = ("items", "others")

rows = st.lists(st.fixed_dictionaries({}, optional={"n": st.integers(-3, 3)}), max_size=4)
meanwhile = st.lists(commits, max_size=3)
steps = st.one_of(
    st.tuples(st.just("commit"), commits),
    st.tuples(st.just("schema"), declarations, meanwhile),
    st.tuples(st.just("interrupted"), declarations, st.integers(0, 12)),
    st.tuples(st.just("upgrade"), declarations, st.sampled_from(["n", "other"]), st.integers(0, 3), meanwhile),
    st.tuples(
        st.just("import"), st.sampled_from(["replace", "replaceAll", "append"]), st.sampled_from(TABLES), rows,
        st.sampled_from(["finish", "abandon", "leave"]),
    ),
    st.tuples(st.just("rename"), declarations, meanwhile),
    st.tuples(st.just("drop")),
    st.tuples(st.just("wait")),
    st.tuples(st.just("sweep"), st.floats(0, 1)),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("index_backfill", "schema_change", "tablets"):
        monkeypatch.setattr(f"tinyvex.storage.schema.{module}.BACKFILL_STEP_ROWS", 2)
    monkeypatch.setattr("tinyvex.storage.log.apply.MOVE_STEP_ROWS", 2)
    monkeypatch.setattr("tinyvex.storage.log.apply.SCAN_PAGE_ROWS", 2)
    monkeypatch.setattr("tinyvex.storage.engine.group_commit.REQUEST_RECORDS_INSPECTED_STEP", 4)


class History:
    """A store, and the encoded records of its changes."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.encoded: list[bytes] = []
        self.timestamps: list[int] = []
        self.floor = 0
        self._listener = self.store.feed.follow(lambda: None)
        self._requests = 0
        self._versions = 0
        self._other = "others"
        self.declare({})

    def run(self, step: tuple[Any, ...]) -> None:
        getattr(self, f"_{step[0]}")(*step[1:])
        self.take()

    def take(self) -> None:
        """Follow the feed."""
        while (record := self._listener.take()) is not None:
            assert not isinstance(record, Behind)
            self.encoded.append(encode_record(record))
            self.timestamps.append(record.ts)

    def declare(self, indexes: dict[str, Any], **options: Any) -> None:
        """Change the schema; every version is different code."""
        self._versions += 1
        tables = {"items": indexes, self._other: {"by_n": ("n",)}}
        earlier = {self._other: ("others" if self._other == "moved" else "moved",)}
        schema = f'[{{"closed":false,"fields":[{{"name":"v{self._versions}","required":false,"type":"any"}}]}}]'
        given = {"fingerprint": str(self._versions), "renamed_from": earlier, "schemas": dict.fromkeys(tables, schema)}
        self.store.declare(tables, **(given | options))
        self.take()

    def records(self) -> list[CommitRecord]:
        return [decode_record(data) for data in self.encoded]

    # Steps.

    def _commit(self, operations: list[Any]) -> None:
        self._requests += 1
        self.store.run(change(operations, ("session", self._requests) if self._requests % 2 else None))

    def _schema(self, indexes: dict[str, Any], between: list[Any]) -> None:
        with self._between(between):
            self.declare(indexes)

    def _interrupted(self, indexes: dict[str, Any], units: int) -> None:
        left = iter(range(units))

        def stop() -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        self.store.between = stop
        with contextlib.suppress(KeyboardInterrupt):
            self.declare(indexes)
        self.store.between = None

    def _upgrade(self, indexes: dict[str, Any], name: str, value: int, between: list[Any]) -> None:
        with self._between(between):
            self.declare(
                indexes,
                validators={"items": with_default(name, value)},
                table_fingerprints={"items": f"{name} {value} {self._versions}"},
            )

    @contextlib.contextmanager
    def _between(self, between: list[Any]) -> Iterator[None]:
        """Run commits between the units of a longer operation."""
        waiting = list(between)

        def work() -> None:
            if waiting:
                self._commit(waiting.pop())

        self.store.between = work
        yield
        self.store.between = None

    def _import(self, mode: Any, table: str, contents: list[Any], end: str) -> None:
        with contextlib.suppress(ImportRefused):  # an interrupted change has left an index that is being built
            begun = self.store.run(began(mode, **{table: None}))
            self.store.run(filled(begun, table, *contents))
            if end != "leave":
                self.store.run((finished if end == "finish" else abandoned)(begun))

    def _rename(self, indexes: dict[str, Any], between: list[Any]) -> None:
        """Change the name of the other table; an import may have given its new name to another one."""
        self._other = "others" if self._other == "moved" else "moved"
        self._schema(indexes, between)

    def _drop(self) -> None:
        """Drop the other table; the next change of the schema creates it again."""
        with contextlib.suppress(UnknownTable):
            self.store.run(lambda snapshot, ts: Outcome(None, drop(snapshot, ts, self._other)))

    def _wait(self) -> None:
        assert self.store.runtime.clock_us is not None
        self.store.runtime.clock_us = self.store.last_ts + DAYS_15_US

    def _sweep(self, part: float) -> None:
        known = [ts for ts in self.timestamps if ts >= self.floor]
        self.floor = known[min(int(len(known) * part), len(known) - 1)]
        drive(retention(self.store, self.floor).sweep(thorough=True))


def with_default(name: str, value: int) -> Callable[[bytes], tuple[list[str], bytes]]:
    """Return a class whose field has a default."""
    return lambda json: ([], encode({name: value} | decode(json)))


def empty() -> MemoryStore:
    """Create an empty file, older than any history."""
    return MemoryStore(first_ts=1)


def catalog(snapshot: Snapshot) -> Any:
    """Return the contents of the catalog."""
    return [
        (table.name, table.number, table.tablet, table.fingerprint, table.maintained)
        for table in snapshot.catalog.tables()
    ]


def stored(store: MemoryStore, floor: int) -> dict[str, Any]:
    """Return the rows that housekeeping does not own: newer than the floor, in readable tablets."""
    execute = store.connection.execute
    cleared = {
        tablet.table.tablet
        for tablet in store.look(lambda snapshot: list(past_tablets(snapshot)))
        if tablet.state == "abandoned" or (tablet.state == "replaced" and tablet.document.stored.ts <= floor)
    }
    maintained = {
        index.id
        for table in store.look(lambda snapshot: snapshot.catalog.tables())
        for index in table.maintained
    }  # fmt: skip
    documents = execute("SELECT table_id, id, ts, json_value, deleted, prev_ts FROM documents WHERE ts > ?", (floor,))
    current = execute("SELECT index_id, key, table_id, id, ts FROM current JOIN documents USING (log_row)")
    entries = execute("SELECT index_id, key, ts, deleted, table_id, document_id FROM indexes WHERE ts > ?", (floor,))
    globals_ = dict(execute("SELECT key, json_value FROM globals").fetchall())
    return {
        "documents": sorted(row for row in documents if row[0] not in cleared),
        "current": sorted(row for row in current if row[0] in maintained),
        "indexes": sorted(row for row in entries if row[0] in maintained),
        "sessions": execute("SELECT * FROM sessions ORDER BY number").fetchall(),
        "requests": execute("SELECT * FROM requests ORDER BY ts").fetchall(),
        "globals": {
            name: value for name, value in globals_.items() if name in {"last_ts", "catalog_ts"} or "next_" in name
        },
    }


def replayed(source: History) -> MemoryStore:
    """Return a file with all of a history's records."""
    target = empty()
    for record in source.records():
        replay(target.connection, record)
    return target


def compare(source: History, target: MemoryStore) -> None:
    """Compare at every retained timestamp, and row by row."""
    for ts in source.timestamps:
        if ts >= source.floor:
            assert target.look(catalog, ts) == source.store.look(catalog, ts)
            assert target.look(everything, ts) == source.store.look(everything, ts)
    assert stored(target, source.floor) == stored(source.store, source.floor)
    assert check(source.store.connection) == []
    assert check(target.connection) == []


@settings(max_examples=40)
@given(st.lists(steps, max_size=12))
def test_a_replayed_history_is_the_same_at_every_retained_timestamp(history: list[Any]) -> None:
    """Documents, indexes, catalog, requests and numbers agree, and both files pass the check."""
    source = History()
    for step in history:
        source.run(step)
    compare(source, replayed(source))


INSERTS = [("insert", {"n": n}) for n in range(5)]
EVERYTHING: list[tuple[Any, ...]] = [
    ("commit", INSERTS),
    ("commit", INSERTS),
    ("commit", INSERTS),
    ("schema", {"by_n": ("n",)}, []),
    ("upgrade", {"by_n": ("n",), "by_other": ("other",)}, "other", 1, [[("insert", {"n": 9})], [("put", 0, {"n": 8})]]),
    ("schema", {}, []),
    ("interrupted", {"by_n": ("n",)}, 8),
    ("schema", {"by_pair": ("n", "other")}, []),
    ("import", "append", "items", [{"n": 1}, {"n": 2}, {"n": 3}], "finish"),
    ("import", "replace", "others", [{"n": 1}], "finish"),
    ("import", "append", "items", [{"n": 1}], "abandon"),
    ("rename", {"by_pair": ("n", "other")}, [[("insert", {"n": 9})]]),
    ("drop",),
    ("wait",),
    ("commit", INSERTS),
    ("commit", INSERTS),
    ("sweep", 0.5),
]


def test_a_history_with_every_operation_is_replayed() -> None:
    """Every operation is covered, whatever the random histories contain."""
    source = History()
    for step in EVERYTHING:
        source.run(step)
    used = {type(operation) for record in source.records() for operation in record.operations}
    assert used == set(OPERATIONS)
    compare(source, replayed(source))


@settings(max_examples=15)
@given(st.lists(steps, max_size=8), st.lists(st.integers(0, 100), max_size=10))
def test_a_record_that_the_file_contains_is_not_applied_again(history: list[Any], again: list[int]) -> None:
    """A contained record has no effect, even after an index was dropped or history deleted."""
    source = History()
    for step in history:
        source.run(step)
    before = dump(source.store)
    records = source.records()
    for number in again:
        assert not replay(source.store.connection, records[number % len(records)])
    assert dump(source.store) == before


def dump(store: MemoryStore) -> list[Any]:
    """Return every row of the file."""
    tables = ("documents", "indexes", "current", "sessions", "requests", "globals")
    return [store.connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


@pytest.mark.parametrize("step", [BackfillIndex, DropIndexEntries, ExpireRequests, MoveTablet, UpgradeDocuments])
def test_a_step_that_finds_other_rows_is_refused(step: type) -> None:
    """The record belongs to another file."""
    source = History()
    for each in EVERYTHING:
        source.run(each)
    target = empty()
    for record in source.records():
        operation: Any = next((one for one in record.operations if isinstance(one, step)), None)
        if operation is not None:
            wrong = msgspec.structs.replace(operation, rows=operation.rows + 1)
            operations = tuple(wrong if one is operation else one for one in record.operations)
            with pytest.raises(FileDamaged, match=f"{step.__name__} step found {operation.rows} rows"):
                replay(target.connection, CommitRecord(record.ts, operations))
            return
        replay(target.connection, record)
    raise AssertionError("no such step")
