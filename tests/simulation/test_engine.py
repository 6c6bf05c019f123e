"""
The engine under faults and kills, in seeded runs: every read equals a model, whatever failed in between.

A run mixes mutations, schema changes, imports and sweeps, some of them concurrently, on a disk that fails now and then. Between
them the process is killed: its files are copied as they are, and another store opens them. After each step every index of
every table equals a dict per table, and after a kill so does the file: what was refused is absent, what was acknowledged is
there, and only what was answered with `OutcomeUnknown` may be either.

`make simulate SEED=7 WORLDS=1` repeats the steps of one, though not the order in which the system runs its threads;
`WORLDS=1000` runs more: one for every twelve worlds of `test_worlds.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.disk import FULL, IOERR_FSYNC, IOERR_TRUNCATE, IOERR_WRITE, OK, Disk, Step, recording
from tests.support.imports import began, filled, finished
from tests.support.storage import Transaction, bound_runtime, declare, unit
from tinyvex import errors
from tinyvex.storage.engine.store import Store
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.storage.maintenance.retention import Retention
from tinyvex.storage.maintenance.retention_policy import HistoryState
from tinyvex.values.codec import decode, encode

FIRST_SEED = int(os.environ.get("SEED", "1"))
RUNS = -(-int(os.environ.get("WORLDS", "50")) // 12)

STEPS = 40
TABLES = ("notes", "rows")
FILES = "data.sqlite3", "data.sqlite3-wal", "last-commit"
FAULTS = {
    "sync": ("sync", IOERR_FSYNC),
    "dead": ("sync", IOERR_FSYNC),  # and everything after it
    "write": ("write", IOERR_WRITE),
    "full": ("write", FULL),
    "truncate": ("truncate", IOERR_TRUNCATE),
}
SESSION = "session"

State = dict[str, dict[bytes, int]]


class Change(NamedTuple):
    """The effect of a mutation or an import: new values by table and document, None for a deletion; and replaced tables."""

    values: list[tuple[str, bytes, int | None]]
    replaced: dict[str, dict[bytes, int]]
    request: int | None = None

    def applied(self, state: State) -> State:
        after = {name: dict(self.replaced.get(name, rows)) for name, rows in state.items()}
        for table, internal, n in self.values:
            if n is None:
                after[table].pop(internal, None)
            else:
                after[table][internal] = n
        return after


class Floor:
    """A retention policy whose floor is a given timestamp."""

    bytes_max = 0

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted

    def floor(self, state: HistoryState, now_us: int) -> int:
        return max(state.floor, min(self.wanted, state.last_ts))


def with_default(json: bytes) -> tuple[list[str], bytes]:
    """Return a class whose `m` defaults to a hundred."""
    return [], encode({"m": 100} | decode(json))


class Run:
    """One seeded run."""

    def __init__(self, seed: int, folder: Path, disk: Disk) -> None:
        self.pick = random.Random(seed)
        self.folder = folder
        self.disk = disk
        self.counts: Counter[str] = Counter()
        self.model: State = {name: {} for name in TABLES}
        self.doubts: list[Change] = []
        self.requests: set[int] = set()
        self.next_request = 0
        self.code = 0
        self.past: list[int] = []
        self.store: Store

    async def run(self) -> None:
        self.store = Store.open(self.folder, bound_runtime())
        await declare(self.store, {name: {"by_n": ("n",)} for name in TABLES})
        for _ in range(STEPS):
            step = self.pick.choice(
                [self.mutate, self.mutate, self.change_schema, self.import_rows, self.sweep, self.kill]
            )
            if step == self.kill:
                await self.kill()
                continue
            self.break_disk()
            await step()
            self.disk.fails = lambda step: OK
            self.past.append(self.store.last_ts)
            assert await self.store.read(contents) == self.model
            if self.doubts and self.pick.random() < 0.7:
                await self.kill()
        await self.kill()
        await self.store.close()
        assert check_folder(self.folder) == []

    def break_disk(self) -> None:
        """Let the disk fail in a third of the steps: once, a few times or until the end of the step."""
        if self.pick.random() > 0.35:
            return
        name = self.pick.choice(sorted(FAULTS))
        kind, code = FAULTS[name]
        left, times = self.pick.randint(0, 12 if kind == "write" else 4), self.pick.choice((1, 1, 2, 3, 1_000))
        is_dead = False

        def fails(step: Step) -> int:
            nonlocal left, times, is_dead
            if is_dead:
                return IOERR_WRITE
            if step.kind != kind or not times:
                return OK
            left -= 1
            if left >= 0:
                return OK
            times -= 1
            is_dead = name == "dead"
            self.counts[f"fault {name}"] += 1
            return code

        self.disk.fails = fails

    async def settle(self, work: Awaitable[Any], change: Callable[[], Change] | None, name: str) -> None:
        """Await one operation, and apply its change to the model if it succeeded."""
        try:
            await work
        except errors.OutcomeUnknown:
            self.counts[f"{name} unknown"] += 1
            if change is not None:
                self.doubts.append(change())
        except (errors.StorageError, errors.ImportRefused):  # the latter while an index is being built
            self.counts[f"{name} refused"] += 1
        else:
            self.counts[name] += 1
            if change is not None:
                done = change()
                self.model = done.applied(self.model)
                if done.request is not None:
                    self.requests.add(done.request)

    # The steps.

    def mutation(self, tables: tuple[str, ...] = TABLES) -> Awaitable[None]:
        """Change some documents of some tables, under a request id."""
        seed, request = self.pick.random(), self.next_request
        self.next_request += 1
        values: list[tuple[str, bytes, int | None]] = []

        def work(transaction: Transaction) -> None:
            values.clear()  # it may run more than once
            pick = random.Random(seed)
            for _ in range(pick.randint(1, 6)):
                table = transaction.catalog.table(pick.choice(tables))
                rows = list(transaction.scan(table, table.index("by_creation_time"), KEY_MIN, KEY_MAX))
                n = pick.randint(0, 1_000)
                if not rows or pick.random() < 0.5:
                    document = {"n": n, "text": "x" * pick.choice((0, 10, 3_000))}
                    values.append((table.name, transaction.insert(table, document).internal, n))
                elif pick.random() < 0.6:
                    row = pick.choice(rows)
                    transaction.put(table, row.internal, decode(row.json) | {"n": n})
                    values.append((table.name, row.internal, n))
                else:
                    row = pick.choice(rows)
                    transaction.put(table, row.internal, None)
                    values.append((table.name, row.internal, None))

        async def write() -> None:
            await self.store.write(unit(work, (SESSION, request)))

        return self.settle(write(), lambda: Change(list(values), {}, request), "mutation")

    async def mutate(self) -> None:
        await asyncio.gather(*(self.mutation() for _ in range(self.pick.randint(1, 4))))

    async def change_schema(self) -> None:
        """Change indexes and classes while mutations run."""
        indexes = {"by_n": ("n",), "by_m": ("m",), "by_n_m": ("n", "m")}
        tables = {name: {key: indexes[key] for key in indexes if self.pick.random() < 0.6} for name in TABLES}
        self.code += 1
        code = str(self.code)
        validators = {name: with_default for name in TABLES if self.pick.random() < 0.7}

        async def change() -> None:
            await declare(
                self.store, tables, validators=validators, fingerprint=code, table_fingerprints=dict.fromkeys(TABLES, code)
            )  # fmt: skip

        await asyncio.gather(self.settle(change(), None, "schema"), *(self.mutation() for _ in range(3)))

    async def import_rows(self) -> None:
        """Replace the contents of one table while mutations write the other."""
        numbers = [self.pick.randint(0, 1_000) for _ in range(self.pick.randint(0, 20))]
        rows: dict[bytes, int] = {}

        async def replace() -> None:
            begun = await self.store.write(began("replace", rows=None))
            half = len(numbers) // 2
            for part in (numbers[:half], numbers[half:]):
                added = await self.store.write(filled(begun, "rows", *({"n": n} for n in part)))
                rows.update(zip(added, part, strict=True))
            await self.store.write(finished(begun))

        await asyncio.gather(
            self.settle(replace(), lambda: Change([], {"rows": dict(rows)}), "import"), self.mutation(("notes",))
        )

    async def sweep(self) -> None:
        """Purge some of the history while mutations run."""
        floor = self.pick.choice(self.past) if self.past else 0
        thorough = self.pick.random() < 0.5

        async def pause() -> None:
            await asyncio.sleep(0)

        retention = Retention(self.store, Floor(floor), self.store._runtime.now_us, pause)  # type: ignore[arg-type]
        await asyncio.gather(
            self.settle(retention.sweep(thorough=thorough), None, "sweep"), *(self.mutation() for _ in range(2))
        )

    async def kill(self) -> None:
        """Open the files as they are now with another store, and compare."""
        left = {name: (self.folder / name).read_bytes() for name in FILES}
        await self.store.close()
        for path in self.folder.glob("data.sqlite3-*"):
            path.unlink()
        for name, data in left.items():
            (self.folder / name).write_bytes(data)
        self.store = Store.open(self.folder, bound_runtime())
        there = await self.store.read(contents)
        possible = [
            (state_of(self.model, doubts), {change.request for change in doubts})
            for size in range(len(self.doubts) + 1)
            for doubts in itertools.combinations(self.doubts, size)
        ]
        assert there in [state for state, _ in possible]
        stored = await self.store.read(self.stored_requests)
        assert any(there == state and stored == self.requests | (more - {None}) for state, more in possible), (
            stored ^ self.requests
        )
        self.counts["kill"] += 1
        self.counts["kill that decided"] += there != self.model
        self.model, self.requests, self.doubts = there, stored, []

    def stored_requests(self, snapshot: Snapshot) -> set[int]:
        return {n for n in range(self.next_request) if snapshot.request(SESSION, n).record is not None}


def state_of(model: State, doubts: tuple[Change, ...]) -> State:
    for change in doubts:
        model = change.applied(model)
    return model


def contents(snapshot: Snapshot) -> State:
    """Read every table through every index, which all have the same documents."""
    state: State = {}
    for name in TABLES:
        table = snapshot.catalog.table(name)
        by_index = []
        for index in table.indexes.values():
            page = snapshot.page(index, KEY_MIN, KEY_MAX, limit=10_000)
            assert page.complete
            by_index.append({row.internal: decode(row.json)["n"] for row in page})
        assert all(rows == by_index[0] for rows in by_index)
        state[name] = by_index[0]
    return state


@pytest.fixture(scope="module")
def totals() -> Any:
    """Print the totals of all runs."""
    counted: Counter[str] = Counter()
    yield counted
    print(f"\nseeds {FIRST_SEED} to {FIRST_SEED + RUNS - 1}: {dict(sorted(counted.items()))}")


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + RUNS))
async def test_the_engine_equals_a_model_under_faults_and_kills(
    seed: int, tmp_path: Path, totals: Counter[str]
) -> None:
    """Acknowledged changes are visible and survive, refused ones are neither, and the file is intact."""
    print(f"seed {seed}")
    folder = tmp_path / "data"
    async with asyncio.timeout(300):
        with recording(folder) as disk:
            run = Run(seed, folder, disk)
            await run.run()
    totals.update(run.counts)
