"""Promise 7: what can be read from the floor on stays as it was, all else is forgotten, and nothing is half-served."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.storage.log.test_document_log import commits, declarations
from tests.support.storage import MemoryStore, drive, insert, numbers, opened, unit
from tinyvex import errors, limits
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.maintenance.compaction import preview
from tinyvex.storage.maintenance.retention import Policy, Retention


@dataclass
class Until:
    """A policy that wants one floor."""

    wanted: int

    def floor(self, now_us: int, last_ts: int, floor: int, used_bytes: int) -> int:
        return max(floor, min(self.wanted, last_ts))


async def no_pause() -> None:
    """Nobody waits."""


def retention(store: Any, floor: int) -> Retention:
    """Forgets up to a floor."""
    return Retention(store, Until(floor), lambda: 0, no_pause)  # type: ignore[arg-type]


def change(operations: list[tuple[Any, ...]], request: tuple[str, int] | None = None) -> Any:
    """A commit of random operations."""

    def work(transaction: Transaction) -> None:
        table = transaction.catalog.table("items")
        held = [row.internal for row in transaction.scan(table, table.index("by_creation_time"), KEY_MIN, KEY_MAX)]
        for kind, *rest in operations:
            if kind == "insert":
                held.append(transaction.insert(table, rest[0]).internal)
            elif held:
                internal = held[rest[0] % len(held)]
                transaction.put(table, internal, rest[1] if kind == "put" else None)
                if kind == "delete":
                    held.remove(internal)

    return unit(work, request)


def everything(snapshot: Snapshot) -> Any:
    """All that can be read at one moment: every table through every index, both ways."""
    return [
        (
            table.name,
            name,
            [tuple(row) for row in snapshot.page(index, KEY_MIN, KEY_MAX, reverse=reverse, limit=10_000)],
        )
        for table in sorted(snapshot.catalog.tables(), key=lambda table: table.tablet)
        for name, index in sorted(table.indexes.items())
        for reverse in (False, True)
    ]


def documents(store: MemoryStore) -> set[tuple[Any, ...]]:
    """Every revision in the file."""
    return set(store.connection.execute("SELECT table_id, id, ts FROM documents"))


def readable(revisions: set[tuple[Any, ...]], floor: int, deletions: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Those that some moment from the floor on can see, and deletions above it."""
    newest: dict[tuple[Any, ...], int] = {}
    for tablet, internal, ts in revisions:
        if ts <= floor:
            newest[tablet, internal] = max(ts, newest.get((tablet, internal), 0))
    return {
        revision
        for revision in revisions
        if revision[2] > floor or (newest[revision[:2]] == revision[2] and revision not in deletions)
    }


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows at a time."""
    monkeypatch.setattr(limits, "RETENTION_STEP_ROWS", 3)


@settings(max_examples=200)
@example([{"by_n": ("n",)}, {"by_n": ("deep.m",)}, 1.0, {}], 1.0)
@given(st.lists(commits | declarations | st.floats(0, 1), max_size=12), st.floats(0, 1))
def test_from_the_floor_on_nothing_changes(steps: list[Any], last: float) -> None:
    """Every readable moment reads as before, every other is refused, and no unreadable revision is left."""
    store = MemoryStore()
    store.declare({"items": {}})
    floor = 0
    for step in [*steps, last]:
        if isinstance(step, dict):
            store.declare({"items": step})
        elif isinstance(step, list):
            store.run(change(step))
        else:
            floor = forget_and_compare(store, floor, step)
    assert check(store.connection) == []


def forget_and_compare(store: MemoryStore, floor: int, part: float) -> int:
    """Forget this part of what is known; the new floor."""
    moments = [commit.ts for commit in store.commits if commit.ts >= floor]
    wanted = max(floor, moments[min(int(len(moments) * part), len(moments) - 1)])
    before = {ts: store.look(everything, ts) for ts in moments if ts >= wanted}
    revisions = documents(store)
    deletions = set(store.connection.execute("SELECT table_id, id, ts FROM documents WHERE deleted"))
    drive(retention(store, wanted).sweep(thorough=True))
    assert {ts: store.look(everything, ts) for ts in before} == before
    for ts in moments:
        if ts < wanted:
            with pytest.raises(errors.SnapshotUnavailable):
                store.look(everything, ts)
    assert documents(store) == readable(revisions, wanted, deletions)
    assert check(store.connection) == []
    return wanted


def overwritten(store: MemoryStore, times: int) -> bytes:
    """One document, many revisions, each with another key."""
    stored = store.run(unit(insert({"n": 0})))
    for n in range(1, times):
        store.run(unit(lambda t, n=n: t.put(t.catalog.table("items"), stored.internal, {"n": n})))
    return stored.internal


def test_of_a_document_that_is_overwritten_one_revision_and_one_entry_for_each_index_stay() -> None:
    """However often it was."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    overwritten(store, 50)
    assert drive(retention(store, store.last_ts).sweep(thorough=True)) >= 49
    tablet = store.look(lambda snapshot: snapshot.catalog.table("items").tablet)
    for table in ("documents", "indexes"):
        query = f"SELECT count(*) FROM {table} WHERE table_id = ?"
        assert store.connection.execute(query, (tablet,)).fetchone() == (1 if table == "documents" else 2,)


def test_the_entries_of_a_dropped_index_go() -> None:
    """When no readable moment knows the index any more."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    overwritten(store, 5)
    index_id = store.look(lambda snapshot: snapshot.catalog.table("items").index("by_n").id)
    store.declare({"items": {}})
    drive(retention(store, store.last_ts).sweep())
    assert store.connection.execute("SELECT count(*) FROM indexes WHERE index_id = ?", (index_id,)).fetchone() == (0,)


def test_indexes_are_walked_when_it_is_worth_it() -> None:
    """Not for one revision among many documents."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    store.run(unit(lambda t: [insert({"n": n})(t) for n in range(100)]))
    swept = retention(store, 0)
    swept._policy = Until(store.last_ts)  # type: ignore[assignment]
    drive(swept.sweep(thorough=True))
    walks: list[int] = []
    swept._walk_indexes = lambda floor: record(walks, floor)  # type: ignore[method-assign, assignment, return-value]
    internal = overwritten(store, 20)
    swept._policy = Until(store.last_ts)  # type: ignore[assignment]
    drive(swept.sweep())
    assert walks == []
    for n in range(30):
        store.run(unit(lambda t, n=n: t.put(t.catalog.table("items"), internal, {"n": -n})))
    swept._policy = Until(store.last_ts)  # type: ignore[assignment]
    drive(swept.sweep())
    assert len(walks) == 1


async def record(walks: list[int], floor: int) -> None:
    """Instead of a walk."""
    walks.append(floor)


def test_a_sweep_goes_on_where_the_last_one_ended() -> None:
    """Revisions that were looked at are not looked at again."""
    store = MemoryStore()
    store.declare({"items": {}})
    overwritten(store, 10)
    drive(retention(store, store.last_ts).sweep())
    seen: list[int] = []
    store.connection.set_trace_callback(lambda text: seen.append(1) if "SELECT log_row, ts" in text else None)
    drive(retention(store, store.last_ts).sweep())
    store.connection.set_trace_callback(None)
    assert len(seen) == 1


@pytest.mark.parametrize("work", ["revisions", "entries"])
def test_forgetting_keeps_up_with_writing(work: str) -> None:
    """However much is written between two steps: what is left gets less with each."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)} if work == "entries" else {}})
    internal = overwritten(store, 300)
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1
        for n in range(30):
            store.run(unit(lambda t, n=n: t.put(t.catalog.table("items"), internal, {"n": n, "again": pauses})))

    swept = retention(store, store.last_ts)
    swept._pause = pause
    drive(swept.sweep(thorough=work == "entries"))
    assert pauses < 20, "three rows at a time, it would be over a hundred"


def test_forgetting_keeps_up_where_groups_are_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that runs again with its group is as large as it was: as many steps as if each had run once."""
    monkeypatch.setattr(limits, "RETENTION_STEP_ROWS", 1)
    steps = []
    for times in (1, 2):
        store = OftenRolledBack(times)
        store.declare({"items": {}})
        store.run(unit(lambda t: [insert({"n": n})(t) for n in range(300)]))
        store.between = lambda store=store: store.run(unit(lambda t: [insert({"n": n})(t) for n in range(10)]))
        before = store.units
        drive(retention(store, store.last_ts).sweep(thorough=True))
        steps.append(store.units - before)
        assert check(store.connection) == []
    assert steps[0] == steps[1] < 200


class OftenRolledBack(MemoryStore):
    """Each unit that is waited for runs several times, the last time for good."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.units = 0

    async def write(self, work: Any) -> Any:
        self.units += 1
        for _ in range(self.times - 1):
            self.look(lambda snapshot: work(snapshot, self.last_ts + 1))
        return await super().write(work)


async def test_what_would_be_forgotten_is_what_is(tmp_path: Any) -> None:
    """Revisions that later ones replaced and deletions, from where the last sweep ended."""
    async with opened(tmp_path) as store:
        floors = []
        for n in range(20):
            stored = await store.write(unit(insert({"n": n})))
            for again in range(n % 3):
                await store.write(
                    unit(lambda t, s=stored, a=again: t.put(t.catalog.table("items"), s.internal, {"n": a}))
                )
            if n % 4 == 0:
                await store.write(unit(lambda t, s=stored: t.put(t.catalog.table("items"), s.internal, None)))
            floors.append(store.last_ts)
        for floor in (floors[7], floors[7], floors[-1]):
            expected = preview(tmp_path, Until(floor), 0)  # type: ignore[arg-type]
            assert expected == (floor, await retention(store, floor).sweep())


async def test_what_follows_a_restart_is_forgotten_too(tmp_path: Any) -> None:
    """The last rows of the log were forgotten as a whole; those that come next have other numbers."""
    async with opened(tmp_path) as store:
        stored = await store.write(unit(insert({"n": 0})))
        await store.write(unit(lambda t: t.put(t.catalog.table("items"), stored.internal, None)))
        await retention(store, store.last_ts).sweep()
    async with opened(tmp_path) as store:
        stored = await store.write(unit(insert({"n": 0})))
        for n in range(1, 5):
            await store.write(unit(lambda t, n=n: t.put(t.catalog.table("items"), stored.internal, {"n": n})))
        assert await retention(store, store.last_ts).sweep() == 4


@pytest.mark.parametrize(
    ("now", "used", "expected"),
    [
        (1_000, 10, 100),  # nothing is old enough
        (520_000_000, 10, 420_000_000),  # age alone
        (520_000_000, 100, 460_000_000),  # too many bytes: half of what is left goes
        (505_000_000, 100, 452_500_000),  # the same
        (900_000_000, 10, 500_000_000),  # never above the newest commit
    ],
)
def test_the_policy(now: int, used: int, expected: int) -> None:
    """100 seconds, or less when there are too many bytes; the floor never goes back."""
    assert Policy(seconds=100, bytes_max=50).floor(now, 500_000_000, 100, used) == expected


def test_the_floor_never_comes_near_to_now() -> None:
    """Reads that are under way need the states of the last moments."""
    assert Policy(seconds=0).floor(500_000_000, 500_000_000, 100, 0) == 490_000_000
    assert Policy(seconds=100, bytes_max=0).floor(500_000_000, 500_000_000, 495_000_000, 1) == 495_000_000


async def test_readers_and_writers_beside_a_sweep_see_whole_states(tmp_path: Any) -> None:
    """A reader that began before is served to its end; one that comes later is refused, or right."""
    pick = random.Random(7)
    async with opened(tmp_path, {"items": {"by_n": ("n",)}}) as store:
        await store.write(unit(lambda t: [insert({"n": n})(t) for n in range(40)]))
        moments: dict[int, list[int]] = {store.last_ts: list(range(40))}

        async def write() -> None:
            for number in range(100, 160):
                values = moments[store.last_ts][:]
                values[pick.randrange(len(values))] = number
                old = moments[store.last_ts]
                changed = next(n for n in old if n not in values)

                def put(t: Transaction, changed: int = changed, number: int = number) -> None:
                    table = t.catalog.table("items")
                    rows = t.scan(table, table.index("by_n"), KEY_MIN, KEY_MAX)
                    row = next(
                        row for row in rows if b'"n":%d}' % changed in row.json or b'"n":%d,' % changed in row.json
                    )
                    t.put(table, row.internal, {"n": number})

                await store.write(unit(put))
                moments[store.last_ts] = values

        async def read() -> None:
            for _ in range(200):
                at = pick.choice(list(moments))
                with contextlib.suppress(errors.SnapshotUnavailable):
                    assert await store.read(numbers, at=at) == sorted(moments[at])

        async def forget() -> None:
            for _ in range(30):
                await retention(store, pick.choice(list(moments))).sweep(thorough=pick.random() < 0.5)

        await asyncio.gather(write(), read(), read(), forget())
        await retention(store, store.last_ts).sweep()
        with pytest.raises(errors.SnapshotUnavailable):
            await store.read(numbers, at=min(moments))
        assert await store.read(numbers) == sorted(moments[store.last_ts])
