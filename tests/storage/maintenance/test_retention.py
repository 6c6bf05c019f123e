"""Promise 7: reads from the floor on do not change, all else is deleted, and no read is answered in part."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.storage.log.test_document_log import commits, declarations
from tests.support.storage import MemoryStore, drive, insert, numbers, opened, unit
from tinyvex import errors, limits
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.log.clock_history import ClockHistory
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN
from tinyvex.storage.maintenance import live_size
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.maintenance.compaction import preview
from tinyvex.storage.maintenance.live_size import LiveSize, measure
from tinyvex.storage.maintenance.retention import Retention
from tinyvex.storage.maintenance.retention_policy import HistoryState, Policy


@dataclass
class Until:
    """A policy with a fixed floor."""

    wanted: int
    bytes_max: int | None = 0

    def floor(self, state: HistoryState, now_us: int) -> int:
        return max(state.floor, min(self.wanted, state.last_ts))


def history_state(*, floor: int, middle_ts: int = 0, used_bytes: int = 0) -> HistoryState:
    """Create the state of a history whose newest commit is at 500 seconds."""
    return HistoryState(floor, 0, 500_000_000, middle_ts, used_bytes, ClockHistory(), LiveSize())


async def no_pause() -> None:
    """Return without pausing."""


def retention(store: Any, floor: int) -> Retention:
    """Create a retention that deletes up to a floor."""
    return Retention(store, Until(floor), lambda: 0, no_pause)  # type: ignore[arg-type]


def change(operations: list[tuple[Any, ...]], request: tuple[str, int] | None = None) -> Any:
    """Commit random operations."""

    def work(transaction: Transaction) -> None:
        table = transaction.catalog.table("items")
        keys = [row.internal for row in transaction.scan(table, table.index("by_creation_time"), KEY_MIN, KEY_MAX)]
        for kind, *rest in operations:
            if kind == "insert":
                keys.append(transaction.insert(table, rest[0]).internal)
            elif keys:
                internal = keys[rest[0] % len(keys)]
                transaction.put(table, internal, rest[1] if kind == "put" else None)
                if kind == "delete":
                    keys.remove(internal)

    return unit(work, request)


def everything(snapshot: Snapshot) -> Any:
    """Read everything at one timestamp: every table through every index, in both directions."""
    return [
        (
            table.name,
            name,
            [
                msgspec.structs.astuple(row)
                for row in snapshot.page(index, KEY_MIN, KEY_MAX, reverse=reverse, limit=10_000)
            ],
        )
        for table in sorted(snapshot.catalog.tables(), key=lambda table: table.tablet)
        for name, index in sorted(table.indexes.items())
        for reverse in (False, True)
    ]


def documents(store: MemoryStore) -> set[tuple[Any, ...]]:
    """Return every revision in the file."""
    return set(store.connection.execute("SELECT table_id, id, ts FROM documents"))


def readable(revisions: set[tuple[Any, ...]], floor: int, deletions: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Return the revisions visible at some timestamp from the floor on, and the deletions above it."""
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
    """Limit steps to three rows."""
    monkeypatch.setattr(limits, "RETENTION_STEP_ROWS", 3)


@settings(max_examples=200)
@example([{"by_n": ("n",)}, {"by_n": ("deep.m",)}, 1.0, {}], 1.0)
@given(st.lists(commits | declarations | st.floats(0, 1), max_size=12), st.floats(0, 1))
def test_from_the_floor_on_nothing_changes(steps: list[Any], last: float) -> None:
    """Every readable timestamp reads as before, every other is refused, and no unreadable revision is left."""
    store = MemoryStore()
    store.declare({"items": {}})
    floor = 0
    for step in [*steps, last]:
        if isinstance(step, dict):
            store.declare({"items": step})
        elif isinstance(step, list):
            store.run(change(step))
        else:
            floor = expire_and_compare(store, floor, step)
    assert check(store.connection) == []


def expire_and_compare(store: MemoryStore, floor: int, part: float) -> int:
    """Delete this fraction of the history; return the new floor."""
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
    """Overwrite one document many times, each time with another key."""
    stored = store.run(unit(insert({"n": 0})))
    for n in range(1, times):
        store.run(unit(lambda t, n=n: t.put(t.catalog.table("items"), stored.internal, {"n": n})))
    return stored.internal


def test_an_overwritten_document_keeps_one_revision_and_one_entry_for_each_index() -> None:
    """One revision and one entry for each index remain, however often the document was overwritten."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    overwritten(store, 50)
    assert drive(retention(store, store.last_ts).sweep(thorough=True)) >= 49
    tablet = store.look(lambda snapshot: snapshot.catalog.table("items").tablet)
    for table in ("documents", "indexes"):
        query = f"SELECT count(*) FROM {table} WHERE table_id = ?"
        assert store.connection.execute(query, (tablet,)).fetchone() == (1 if table == "documents" else 2,)


def test_the_entries_of_a_dropped_index_go() -> None:
    """They are deleted when no readable timestamp has the index."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    overwritten(store, 5)
    index_id = store.look(lambda snapshot: snapshot.catalog.table("items").index("by_n").id)
    store.declare({"items": {}})
    drive(retention(store, store.last_ts).sweep())
    assert store.connection.execute("SELECT count(*) FROM indexes WHERE index_id = ?", (index_id,)).fetchone() == (0,)


def entries_of_items(store: MemoryStore) -> int:
    """Return the number of index entries of the table `items`."""
    tablet = store.look(lambda snapshot: snapshot.catalog.table("items").tablet)
    (count,) = store.connection.execute("SELECT count(*) FROM indexes WHERE table_id = ?", (tablet,)).fetchone()
    return int(count)


def test_indexes_are_walked_when_it_is_worth_it() -> None:
    """A single revision among many documents does not justify a walk; a quarter of the entries does."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    store.run(unit(lambda t: [insert({"n": n})(t) for n in range(100)]))
    drive(retention(store, store.last_ts).sweep(thorough=True))
    internal = overwritten(store, 20)
    before = entries_of_items(store)
    drive(retention(store, store.last_ts).sweep())
    assert entries_of_items(store) == before
    for n in range(40):
        store.run(unit(lambda t, n=n: t.put(t.catalog.table("items"), internal, {"n": -n})))
    drive(retention(store, store.last_ts).sweep())
    assert entries_of_items(store) == 202


def test_index_entries_stay_bounded_over_short_runs() -> None:
    """Each run purges less than a walk needs, and the file adds up what they purged."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    internals = [overwritten(store, 1) for _ in range(10)]
    most = 0
    for run in range(100):
        for internal in internals[:2]:
            store.run(unit(lambda t, k=internal, n=run: t.put(t.catalog.table("items"), k, {"n": n})))
        drive(retention(store, store.last_ts).sweep())
        most = max(most, entries_of_items(store))
    assert most <= 50
    assert check(store.connection) == []


class Interrupted(Exception):
    """Ends a sweep in its pause, as the end of the process does."""


def test_an_interrupted_walk_continues_in_the_next_run() -> None:
    """Runs that end after one step each complete the sweep together."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    for _ in range(20):
        overwritten(store, 10)
    floor = store.last_ts

    async def interrupt() -> None:
        raise Interrupted

    runs = 0
    is_interrupted = True
    while is_interrupted:
        swept = retention(store, floor)
        swept._pause = interrupt
        try:
            drive(swept.sweep())
            is_interrupted = False
        except Interrupted:
            runs += 1
    assert runs > 20
    assert entries_of_items(store) == 40
    assert check(store.connection) == []


def test_the_floor_does_not_move_back_if_two_sweeps_overlap() -> None:
    """A sweep that decided earlier, for a lower floor, does not make purged history readable."""
    store = MemoryStore()
    store.declare({"items": {}})
    overwritten(store, 5)
    early = store.last_ts
    overwritten(store, 5)
    late = store.last_ts
    slow = retention(store, early)
    decide = slow._policy.floor

    def overtaken(state: HistoryState, now_us: int) -> int:
        drive(retention(store, late).sweep(thorough=True))
        return decide(state, now_us)

    slow._policy.floor = overtaken  # type: ignore[method-assign]
    drive(slow.sweep(thorough=True))
    stored = store.look(lambda snapshot: snapshot.globals())
    assert stored["floor_ts"] == late
    assert stored["swept_row"] == store.look(lambda snapshot: snapshot.newest_row())
    with pytest.raises(errors.SnapshotUnavailable):
        store.look(everything, early)
    assert check(store.connection) == []


def test_a_sweep_goes_on_where_the_last_one_ended() -> None:
    """Examined revisions are not examined again."""
    store = MemoryStore()
    store.declare({"items": {}})
    overwritten(store, 10)
    drive(retention(store, store.last_ts).sweep())
    seen: list[int] = []
    store.connection.set_trace_callback(
        lambda text: seen.append(1) if "log_row, ts FROM documents WHERE log_row > " in text else None
    )
    drive(retention(store, store.last_ts).sweep())
    store.connection.set_trace_callback(None)
    assert len(seen) == 1


@pytest.mark.parametrize("work", ["revisions", "entries"])
def test_deletion_keeps_up_with_writes(work: str) -> None:
    """The backlog shrinks with each step, however much is written in between."""
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


def test_deletion_keeps_up_if_groups_are_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that runs again with its group has the same size, so the number of steps does not change."""
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
    """A writer that runs each awaited unit several times, and commits only the last run."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.units = 0

    async def write(self, work: Any, **options: Any) -> Any:
        self.units += 1
        for _ in range(self.times - 1):
            self.look(lambda snapshot: work(snapshot, self.last_ts + 1))
        return await super().write(work, **options)


async def test_the_estimate_equals_the_deleted_rows(tmp_path: Any) -> None:
    """The estimate counts replaced revisions and deletions, from the end of the last sweep."""
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


async def test_rows_after_a_restart_expire_too(tmp_path: Any) -> None:
    """Rows after a restart are found, although the last rows of the log were deleted and numbers restart."""
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
        (520_000_000, 100, 450_000_000),  # too many bytes: half of the revisions go
        (480_000_000, 100, 450_000_000),  # the same
        (900_000_000, 10, 500_000_000),  # never above the newest commit
    ],
)
def test_the_policy(now: int, used: int, expected: int) -> None:
    """The floor is 100 seconds old, or newer above the size limit, and never decreases."""
    state = history_state(floor=100, middle_ts=450_000_000, used_bytes=used)
    assert Policy(seconds=100, bytes_max=50).floor(state, now) == expected


def test_the_floor_stays_away_from_now() -> None:
    """Active reads need the most recent states."""
    assert Policy(seconds=0).floor(history_state(floor=100), 500_000_000) == 490_000_000
    above = history_state(floor=495_000_000, used_bytes=1)
    assert Policy(seconds=100, bytes_max=0).floor(above, 500_000_000) == 495_000_000


async def test_readers_and_writers_during_a_sweep_see_complete_states(tmp_path: Any) -> None:
    """A reader that started before is served to its end; a later one is refused or correct."""
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


# A clock that was ahead.

HOUR_US = 3_600_000_000
YEAR_US = 365 * 24 * HOUR_US


class Machine:
    """A store in memory whose clock was a year ahead, and was then corrected."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000
        self.store = MemoryStore(self.now_us)
        self.store.declare({"items": {}})
        self.stored = self.store.run(unit(insert({"n": 0})))
        self.written = 0
        for offset in (YEAR_US, -YEAR_US):
            self.now_us += offset
            self.overwrite()
        self.policy = Policy(seconds=24 * 3600)

    def overwrite(self, after_us: int = 0) -> int:
        """Let time pass, and write a revision; return its `ts`."""
        self.now_us += after_us
        self.store.runtime.clock_us = self.now_us
        self.written += 1
        revision = {"n": self.written}
        self.store.run(unit(lambda t: t.put(t.catalog.table("items"), self.stored.internal, revision)))
        return self.store.last_ts

    def restart(self) -> None:
        """Open the file again."""
        self.store.reopen()

    def sweep(self) -> int:
        """Sweep; return the floor."""
        drive(Retention(self.store, self.policy, lambda: self.now_us, no_pause).sweep())  # type: ignore[arg-type]
        floor: int = self.store.look(lambda snapshot: snapshot.globals()["floor_ts"])
        return floor


def test_commits_after_a_corrected_clock_expire_by_their_real_age() -> None:
    """A revision an hour over three days: the last 24 hours are retained, although `ts` is a year ahead."""
    machine = Machine()
    timestamps = [machine.overwrite(HOUR_US) for _ in range(72)]
    assert machine.sweep() == timestamps[-25]


def test_ages_survive_a_restart_while_ts_is_ahead() -> None:
    """The commits before a restart expire as they would have without it."""
    machine = Machine()
    moments = [machine.overwrite(HOUR_US) for _ in range(12)]
    machine.restart()
    moments += [machine.overwrite(HOUR_US) for _ in range(18)]
    machine.restart()
    assert machine.sweep() == moments[-25]


def test_a_database_without_further_commits_expires_after_a_corrected_clock() -> None:
    """A sweep notices that `ts` is ahead; a day later the history up to the newest commit has expired."""
    machine = Machine()
    machine.sweep()
    machine.now_us += 25 * HOUR_US
    assert machine.sweep() == machine.store.last_ts


def test_a_corrected_clock_expires_nothing_early() -> None:
    """The commits that were made while the clock was ahead are as old as the correction, and not a year older."""
    machine = Machine()
    at_correction = machine.store.last_ts
    machine.overwrite(23 * HOUR_US)
    assert machine.sweep() < at_correction


def test_ages_are_right_again_after_the_clock_has_caught_up() -> None:
    """Two years later `ts` is the clock again, and the floor is 24 hours old."""
    machine = Machine()
    machine.overwrite(HOUR_US)
    machine.overwrite(2 * YEAR_US)
    assert machine.sweep() == machine.now_us - 24 * HOUR_US


def test_the_size_bound_counts_revisions_and_not_time() -> None:
    """Above the bound the older half of the revisions goes, although a gap of a year lies before the newest ones."""
    machine = Machine()
    moments = [machine.overwrite(60_000_000) for _ in range(40)]
    machine.policy = Policy(seconds=24 * 3600, bytes_max=1)
    assert machine.sweep() in moments[15:25]


def test_an_unfinished_import_is_abandoned_by_its_real_age() -> None:
    """The limit that a sweep gives to imports is a `ts` of a day ago, also if `ts` is a year ahead."""
    machine = Machine()
    moments = [machine.overwrite(HOUR_US) for _ in range(30)]
    limits_given: list[int] = []
    run = machine.store.write

    async def observed(work: Any) -> Any:
        if getattr(getattr(work, "func", None), "__name__", "") == "_abandon_all":
            limits_given.append(work.args[0])
        return await run(work)

    machine.store.write = observed  # type: ignore[method-assign]
    machine.sweep()
    assert limits_given == [moments[-25]]


# The size bound by default.


@pytest.fixture
def _low_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale the constant part of the bound, and the rows of a step, to a small database."""
    monkeypatch.setattr(limits, "RETENTION_BYTES", 400_000)
    monkeypatch.setattr(limits, "RETENTION_STEP_ROWS", 500)


@pytest.mark.usefixtures("_low_bound")
def test_the_file_of_a_busy_day_stays_within_the_bound() -> None:
    """Twenty documents are overwritten for a day; without the bound, the file would become several times as large."""
    machine = Machine()
    machine.policy = Policy()
    machine.store.run(unit(lambda t: [insert({"n": n, "text": "x" * 200})(t) for n in range(20)]))
    bound = Policy().bound(machine.store.look(measure))
    sizes = []
    for _ in range(24 * 60):
        for _ in range(5):
            machine.overwrite(12_000_000)
        machine.sweep()
        sizes.append(machine.store.look(lambda snapshot: snapshot.used_bytes()))
    assert machine.written * 100 > bound, "the day is too short to need the bound"
    assert max(sizes) < bound * 1.1


def test_the_default_bound_follows_the_live_data() -> None:
    """It is four times the live data plus 256 MiB."""
    assert Policy().bound(LiveSize(1 << 30, 0)) == (4 << 30) + (256 << 20)


def test_request_records_leave_half_of_the_bound_to_history() -> None:
    """They never expire early, so the bound moves instead of history being deleted entirely."""
    assert Policy().bound(LiveSize(0, 10 << 30)) == (10 << 30) + (128 << 20)


def test_a_given_bound_holds_whatever_the_live_data() -> None:
    """`--retention-size` overrides the default."""
    assert Policy(bytes_max=5).bound(LiveSize(1 << 30, 1 << 30)) == 5


async def test_live_data_is_measured_without_its_history(tmp_path: Any) -> None:
    """Overwritten and deleted revisions do not count; the size is close to what the file of the same data uses."""
    async with opened(tmp_path / "a") as churned, opened(tmp_path / "b") as fresh:
        for store, times in ((churned, 5), (fresh, 1)):
            stored = [await store.write(unit(insert({"n": n, "text": "x" * 1000}))) for n in range(100)]
            for again in range(times - 1):
                for one in stored:
                    revision = {"n": again, "text": "y" * 1000}
                    await store.write(unit(lambda t, o=one, r=revision: t.put(t.catalog.table("items"), o.internal, r)))
        sizes = [(await store.read(measure)).live_bytes for store in (churned, fresh)]
    assert 0.99 < sizes[0] / sizes[1] < 1.01
    assert 100_000 < sizes[1] < 150_000


async def test_measuring_continues_where_a_step_ended(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of three rows measure the same as one."""
    async with opened(tmp_path) as store:
        for n in range(10):
            await store.write(unit(insert({"n": n}), request=("session", n)))
        whole = await store.read(measure)
        monkeypatch.setattr(live_size, "LIVE_SIZE_STEP_ROWS", 3)
        assert await store.read(measure) == whole
    assert whole.request_bytes > 10 * 35 + 100
