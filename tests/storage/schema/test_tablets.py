"""Tablets without a table: invisible, retained as long as they can be read, and deleted without a trace."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.log.test_document_log import commits, declarations
from tests.storage.maintenance.test_retention import change, everything, no_pause, retention
from tests.support.imports import abandoned, began, filled, finished, imported, states, tablet_of
from tests.support.storage import MemoryStore, bound_runtime, drive, insert, numbers, opened, seal, unit
from tinyvex import errors
from tinyvex.limits import IMPORT_SECONDS
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.log.apply import replay
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.maintenance.backup import VerifiedBackup, back_up
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.maintenance.compaction import compact, preview
from tinyvex.storage.maintenance.export import export
from tinyvex.storage.maintenance.retention import Retention
from tinyvex.storage.maintenance.retention_policy import Policy
from tinyvex.storage.maintenance.table_statistics import count
from tinyvex.storage.schema import tablets as module
from tinyvex.storage.schema.table_replacement import Mode
from tinyvex.storage.schema.tablets import abandon_all, clear_tablets

TABLES = {"items": {"by_n": ("n",)}, "others": {}}


@pytest.fixture
def log():
    """Open a table with three documents."""
    store = MemoryStore()
    store.declare(TABLES)
    store.run(unit(lambda t: [insert({"n": n})(t) for n in (2, 1, 3)]))
    yield store
    assert check(store.connection) == []


def rows_of(store: MemoryStore, tablet: int, index_ids: list[int]) -> tuple[int, int, int]:
    """Count a tablet's rows of each kind: revisions, index entries, entries of `current`."""
    ids = json.dumps(index_ids)
    indexed = "WHERE index_id IN (SELECT value FROM json_each(?))"
    statements = [
        ("SELECT COUNT(*) FROM documents WHERE table_id = ?", tablet),
        (f"SELECT COUNT(*) FROM indexes {indexed}", ids),
        (f"SELECT COUNT(*) FROM current {indexed}", ids),
    ]
    return tuple(store.connection.execute(text, (value,)).fetchone()[0] for text, value in statements)


def items(store: MemoryStore) -> tuple[int, list[int]]:
    """Return the table's tablet and indexes."""
    table = store.look(lambda snapshot: snapshot.catalog.table("items"))
    return table.tablet, [index.id for index in table.maintained]


def clear(store: Any, floor: int) -> int:
    """Delete what no timestamp from the floor on can read."""
    return drive(clear_tablets(store, floor, no_pause))


# Abandoned tablets.


def test_an_abandoned_tablet_is_deleted_immediately(log: MemoryStore) -> None:
    """Revisions, entries and their record are deleted immediately; the table is not affected."""
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", *({"n": n} for n in range(5))))
    index_ids = log.look(lambda snapshot: tablet_of(snapshot, begun, "items").index_ids)
    tablet = begun.tablets["items"]
    assert rows_of(log, tablet, index_ids) == (5, 10, 10)
    log.run(abandoned(begun))
    assert clear(log, 0) == 5
    assert rows_of(log, tablet, index_ids) == (0, 0, 0)
    assert log.look(states) == []
    assert log.look(numbers) == [1, 2, 3]


def test_a_cleared_tablet_is_not_cleared_again(log: MemoryStore) -> None:
    """Its document is still in the history of `_tablets`, but nothing of the tablet is left."""
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", {"n": 9}))
    log.run(abandoned(begun))
    clear(log, 0)
    assert begun.tablets["items"] in [
        tablet.table.tablet for tablet in log.look(lambda s: list(module.past_tablets(s)))
    ]
    units: list[None] = []
    log.between = lambda: units.append(None)
    assert clear(log, 0) == 0
    assert len(units) == 0


def test_a_replica_clears_what_another_file_has_cleared(log: MemoryStore) -> None:
    """The records contain no clearing, and the document of the tablet is gone; its history is not."""
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", *({"n": n} for n in range(5))))
    index_ids = log.look(lambda snapshot: tablet_of(snapshot, begun, "items").index_ids)
    log.run(abandoned(begun))
    clear(log, 0)
    replica = MemoryStore(first_ts=1)
    for record in log.commits:
        replay(replica.connection, record)
    replica.reopen()
    assert replica.look(states) == []
    assert rows_of(replica, begun.tablets["items"], index_ids) == (5, 10, 10)
    assert check(replica.connection) == []
    clear(replica, 0)
    assert rows_of(replica, begun.tablets["items"], index_ids) == (0, 0, 0)
    assert check(replica.connection) == []


def test_what_is_being_filled_is_not_touched(log: MemoryStore) -> None:
    """The floor does not matter."""
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", {"n": 9}))
    assert clear(log, log.last_ts) == 0
    log.run(finished(begun))
    assert log.look(numbers) == [9]


def test_appended_rows_are_deleted_from_their_source(log: MemoryStore) -> None:
    """The table has its own copies."""
    begun = imported(log, "append", {"items": [{"n": 0}, {"n": 4}]})
    assert clear(log, 0) == 2
    assert rows_of(log, begun.tablets["items"], [])[0] == 0
    assert log.look(numbers) == [0, 1, 2, 3, 4]


def test_clearing_goes_in_steps_with_pauses_between(log: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutations wait for one step at most, and the file is sound after each."""
    monkeypatch.setattr(module, "BACKFILL_STEP_ROWS", 2)
    pauses = []

    async def pause() -> None:
        assert check(log.connection) == []
        pauses.append(log.run(unit(insert({"n": 0}))))

    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", *({"n": n} for n in range(7))))
    log.run(abandoned(begun))
    drive(clear_tablets(log, 0, pause))
    assert len(pauses) > 6
    assert log.look(states) == []


async def test_a_start_abandons_unfinished_imports(tmp_path: Path) -> None:
    """The importing client is gone."""
    async with opened(tmp_path, TABLES) as store:
        begun = await store.write(began("replace", items=None))
        await store.write(filled(begun, "items", {"n": 9}))
    async with opened(tmp_path, TABLES) as store:
        await abandon_all(store)
        assert await store.read(states) == [("items", "abandoned")]
        with pytest.raises(errors.ImportRefused):
            await store.write(finished(begun))


async def test_where_nothing_was_being_filled_nothing_is_written(tmp_path: Path) -> None:
    """Such a start commits nothing."""
    async with opened(tmp_path, TABLES) as store:
        before = store.last_ts
        await abandon_all(store)
        assert store.last_ts == before


def test_an_import_without_a_client_is_abandoned_in_time(log: MemoryStore) -> None:
    """Its client may never return, and its data takes space; until the deadline it may reconnect."""
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", {"n": 9}))
    day_us = int(IMPORT_SECONDS * 1_000_000)
    for age, expected in ((day_us, [("items", "filling")]), (day_us + 1, [])):
        now = int(begun.import_id) + age
        drive(Retention(log, Policy(), lambda now=now: now, no_pause).sweep())  # type: ignore[arg-type, misc]
        assert log.look(states) == expected
    assert rows_of(log, begun.tablets["items"], []) == (0, 0, 0)
    with pytest.raises(errors.ImportRefused, match="abandoned"):
        log.run(finished(begun))


# Left behind.


def test_what_was_replaced_stays_while_it_can_be_read(log: MemoryStore) -> None:
    """It is deleted entirely once the floor has passed the change."""
    tablet, index_ids = items(log)
    before = log.last_ts
    imported(log, "replace", {"items": [{"n": 9}]})
    changed = log.last_ts
    drive(retention(log, changed - 1).sweep(thorough=True))
    assert log.look(numbers, changed - 1) == [1, 2, 3]
    assert rows_of(log, tablet, index_ids)[0] == 3
    drive(retention(log, changed).sweep(thorough=True))
    with pytest.raises(errors.SnapshotUnavailable):
        log.look(numbers, before)
    drive(retention(log, log.last_ts).sweep(thorough=True))  # the note of the dropped index was younger
    assert rows_of(log, tablet, index_ids) == (0, 0, 0)
    assert log.look(states) == []
    assert log.look(numbers) == [9]


def test_what_was_replaced_is_not_in_the_newest_entries(log: MemoryStore) -> None:
    """The current entries serve only the present."""
    tablet, index_ids = items(log)
    before = log.last_ts
    imported(log, "replace", {"items": [{"n": 9}]})
    drive(retention(log, 0).sweep())
    assert rows_of(log, tablet, index_ids) == (3, 6, 0)
    assert log.look(numbers, before) == [1, 2, 3]


def test_a_tablet_can_be_filled_and_later_left_behind(log: MemoryStore) -> None:
    """This can repeat while the records of earlier tablets still exist."""
    for n in range(3):
        imported(log, "replace", {"items": [{"n": n}]})
    assert log.look(states) == [("items", "replaced")] * 3
    drive(retention(log, log.last_ts).sweep(thorough=True))
    assert log.look(states) == []
    assert log.look(numbers) == [2]


def test_entries_of_an_old_import_under_way_are_kept(log: MemoryStore) -> None:
    """The floor may pass their time of writing, and they still become the table's."""
    begun = log.run(began("replace", items=None))
    log.run(filled(begun, "items", {"n": 8}, {"n": 7}))
    log.run(unit(insert({"n": 4})))
    drive(retention(log, log.last_ts).sweep(thorough=True))
    log.run(finished(begun))
    assert log.look(numbers) == log.look(numbers, log.last_ts) == [7, 8]


def test_entries_of_a_finished_import_are_kept(log: MemoryStore) -> None:
    """They are older than the commit that published them."""
    imported(log, "replace", {"items": [{"n": 8}, {"n": 7}]})
    finished_ts = log.last_ts
    log.run(unit(insert({"n": 9})))
    drive(retention(log, finished_ts).sweep(thorough=True))
    assert log.look(numbers, finished_ts) == [7, 8]
    drive(retention(log, log.last_ts).sweep(thorough=True))
    assert log.look(numbers, log.last_ts) == [7, 8, 9]


# Operations on whole files.

BROKEN = {
    "a document of nobody's tablet": "UPDATE documents SET table_id = 999 WHERE table_id = :filling",
    "a filled document with another id": (
        "UPDATE documents SET json_value = (SELECT json_value FROM documents WHERE table_id = :replaced LIMIT 1)"
        " WHERE table_id = :filling"
    ),
    "an entry without its document": "DELETE FROM documents WHERE table_id = :filling",
    "a tablet to be given again": "UPDATE globals SET json_value = :filling WHERE key = 'next_tablet'",
    "a note that cannot be read": "UPDATE documents SET json_value = CAST('{}' AS BLOB) WHERE table_id = 4",
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_damage_of_such_a_tablet_is_found(damage: str) -> None:
    """The check covers these tablets too."""
    store = MemoryStore()
    store.declare(TABLES)
    store.run(unit(insert({"n": 1})))
    replaced, _ = items(store)
    imported(store, "replace", {"items": []})
    begun = store.run(began("replace", items=None))
    store.run(filled(begun, "items", {"n": 2}))
    assert check(store.connection) == []
    numbered = {"replaced": replaced, "filling": begun.tablets["items"]}
    store.connection.execute(damage, {name: value for name, value in numbered.items() if f":{name}" in damage})
    seal(store.connection)
    assert check(store.connection) != []


async def with_all_kinds(store: Store) -> None:
    """Create documents 8 and 9, and behind them a replaced, an abandoned and a filling tablet."""
    await store.write(unit(insert({"n": 1})))
    for wanted in ([{"n": 8}], [{"n": 7}], [{"n": 6}]):
        begun = await store.write(began("replace", items=None))
        await store.write(filled(begun, "items", *wanted))
        if wanted == [{"n": 8}]:
            await store.write(finished(begun))
    await store.write(unit(insert({"n": 9})))
    assert await store.read(states) == [("items", "abandoned"), ("items", "filling"), ("items", "replaced")]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Create a closed database with all kinds of tablets."""
    async with opened(tmp_path / "data", TABLES) as store:
        await with_all_kinds(store)
    return tmp_path / "data"


async def test_a_backup_has_them_all(folder: Path, tmp_path: Path) -> None:
    """Once restored, it reads the same, now and before the replacement."""
    back_up(folder, tmp_path / "copy")
    VerifiedBackup(tmp_path / "copy").restore(tmp_path / "restored", bound_runtime())
    async with opened(tmp_path / "restored", TABLES) as store:
        assert await store.read(numbers) == [8, 9]
        (replaced,) = await store.read(
            lambda s: [t.document.stored.ts for t in module.tablets(s) if t.state == "replaced"]
        )
        assert await store.read(numbers, at=replaced - 1) == [1]
        assert len(await store.read(states)) == 3


@pytest.mark.parametrize("policy", [Policy(), Policy(seconds=0)])
async def test_compacting_keeps_what_can_be_read(folder: Path, policy: Policy) -> None:
    """Rows move, and nothing else changes."""
    await compact(folder, bound_runtime(), policy)
    async with opened(folder, TABLES) as store:
        assert await store.read(numbers) == [8, 9]


@pytest.mark.parametrize("policy", [Policy(), Policy(seconds=0)])
async def test_a_preview_counts_what_compacting_deletes(folder: Path, policy: Policy) -> None:
    """Replaced and unfinished imports, their own records, overwrites and deletions are counted alike, each once."""
    async with opened(folder, TABLES) as store:
        stored = await store.write(unit(insert({"n": 1})))
        for fields in ({"n": 2}, None):
            await store.write(unit(lambda t, f=fields: t.put(t.catalog.table("items"), stored.internal, f)))
        last_ts = store.last_ts
    runtime = bound_runtime()
    runtime.clock_us = last_ts + 3_600_000_000
    _, expected = preview(folder, policy, runtime.now_us())
    assert (await compact(folder, runtime, policy)).purged_revisions == expected
    assert expected > 0


async def test_compacting_deletes_what_an_import_left_unfinished(folder: Path) -> None:
    """No import can be running, because compacting owns the folder."""
    await compact(folder, bound_runtime(), Policy())
    async with opened(folder, TABLES) as store:
        assert await store.read(states) == [("items", "replaced")]


def test_an_export_has_what_the_tables_have(folder: Path, tmp_path: Path) -> None:
    """It contains neither a running import nor the past."""
    export(folder, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        lines = archive.read("items/documents.jsonl").splitlines()
    assert [json.loads(line)["n"] for line in lines] == [8, 9]


def test_statistics_count_what_the_tables_have(folder: Path) -> None:
    """A table's revisions are those of its current, former and filling tablets."""
    facts = count(DataFolder(folder))
    assert [(table.table, table.documents, table.revisions) for table in facts.tables] == [
        ("items", 2, 5),
        ("others", 0, 0),
    ]


# Anything, in any order.

rows = st.lists(st.fixed_dictionaries({}, optional={"n": st.integers(-3, 3)}), max_size=4)
imports = st.tuples(
    st.sampled_from(["replace", "replaceAll", "append"]), st.sampled_from(["items", "others"]), rows,
    st.sampled_from(["finish", "abandon", "leave"]),
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(commits | declarations | imports | st.floats(0, 1), max_size=14), st.floats(0, 1))
def test_readable_timestamps_never_change(steps: list[Any], last: float) -> None:
    """Across commits, index changes, imports and retention, the present is what was imported and written."""
    store = MemoryStore()
    store.declare({"items": {}, "others": {}})
    known: dict[int, Any] = {}
    floor = 0
    for step in [*steps, last]:
        if isinstance(step, dict):
            store.declare({"items": step, "others": {}})
        elif isinstance(step, list):
            store.run(change(step))
        elif isinstance(step, tuple):
            run_and_compare(store, *step)
        else:
            moments = [ts for ts in known if ts >= floor]
            wanted_floor = moments[min(int(len(moments) * step), len(moments) - 1)] if moments else floor
            drive(retention(store, wanted_floor).sweep(thorough=True))
            floor = max(floor, wanted_floor)
            assert {ts: store.look(users, ts) for ts in known if ts >= floor} == {
                ts: seen for ts, seen in known.items() if ts >= floor
            }
        known[store.last_ts] = store.look(users)
        assert check(store.connection) == []


def run_and_compare(store: MemoryStore, mode: Mode, table: str, contents: list[Any], end: str) -> None:
    """Run one import, which ends or does not; compare the tables before and after."""
    before = by_creation(store)
    begun = store.run(began(mode, **{table: None}))
    store.run(filled(begun, table, *contents))
    assert by_creation(store) == before
    if end == "abandon":
        store.run(abandoned(begun))
    if end != "finish":
        return
    store.run(finished(begun))
    expected = {name: [] if mode == "replaceAll" else kept for name, kept in before.items()}
    expected[table] = (before[table] if mode == "append" else []) + [repr(row.get("n")) for row in contents]
    assert by_creation(store) == expected


def users(snapshot: Snapshot) -> Any:
    """Return what users can read, through every index."""
    return [entry for entry in everything(snapshot) if not entry[0].startswith("_")]


def by_creation(store: MemoryStore) -> dict[str, list[str]]:
    """Return the numbers of each table's documents in order of creation, as text, because NaN equals nothing."""
    return {
        name: store.look(
            lambda snapshot, name=name: list(map(repr, numbers(snapshot, index="by_creation_time", table=name)))
        )
        for name in ("items", "others")
    }
