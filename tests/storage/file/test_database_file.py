"""The database file on disk: it opens wherever a process was killed that ended its log."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.make import HERE
from tests.support.disk import recording
from tests.support.storage import ITEMS, bound_runtime, insert, numbers, opened, unit
from tinyvex.errors import FileDamaged
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file import database_file, pragmas
from tinyvex.storage.file.pragmas import PAGE_BYTES
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.storage.maintenance.compaction import compact
from tinyvex.storage.maintenance.retention_policy import Policy


@pytest.mark.parametrize("linked", [False, True], ids=["in the folder", "behind a link"])
async def test_a_start_after_a_kill_inside_end_log_has_everything(tmp_path: Path, linked: bool) -> None:
    """Compactions and upgrades end the log; a killed one leaves a rollback journal, which a reader cannot roll back."""
    async with opened(tmp_path / "data", ITEMS) as store:
        await store.write(unit(insert({"n": 1})))
    with recording(tmp_path / "data") as disk:
        with closing(sqlite3.connect(tmp_path / "data" / "data.sqlite3")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        database_file.end_log_of(tmp_path / "data" / "data.sqlite3")
    journals = 0
    for until in range(len(disk.steps) + 1):
        folder = tmp_path / str(until)
        folder.mkdir()
        place = folder
        if linked:
            place = tmp_path / f"disk {until}"
            place.mkdir()
            (folder / "data.sqlite3").symlink_to(place / "data.sqlite3")
        for name, data in disk.written(until).items():
            (place / name).write_bytes(data)
        journals += (place / "data.sqlite3-journal").exists()
        store = Store.open(folder, bound_runtime())
        assert await store.read(numbers) == [1]
        await store.close()
        assert check_folder(folder) == []
    assert journals > 0


def page_bytes(database: Path) -> int:
    """Return the size of a file's pages, from its header."""
    return int.from_bytes(database.read_bytes()[16:18], "big")


async def test_every_file_has_small_pages(tmp_path: Path) -> None:
    """New, upgraded and compacted ones: a commit writes each page that it touches."""
    async with opened(tmp_path / "new", ITEMS) as store:
        await store.write(unit(insert({"n": 1})))
    assert page_bytes(tmp_path / "new" / "data.sqlite3") == PAGE_BYTES
    await compact(tmp_path / "new", bound_runtime(), Policy())
    assert page_bytes(tmp_path / "new" / "data.sqlite3") == PAGE_BYTES
    (tmp_path / "old").mkdir()
    shutil.copyfile(HERE / "format-1.sqlite3", tmp_path / "old" / "data.sqlite3")
    await Store.open(tmp_path / "old", bound_runtime()).close()
    assert page_bytes(tmp_path / "old" / "data.sqlite3") == PAGE_BYTES


async def test_a_small_mutation_writes_few_bytes(tmp_path: Path) -> None:
    """A document with two index entries and a stored result: 16 KB of the write-ahead log, 42 with pages of 4096 bytes."""
    async with opened(tmp_path, ITEMS) as store:
        for first in range(0, 5_000, 500):
            documents = [insert({"n": n % 50}) for n in range(first, first + 500)]
            await store.write(unit(lambda transaction, d=documents: [one(transaction) for one in d]))
    async with opened(tmp_path, ITEMS) as store:  # its log is empty
        for number in range(100):
            work = insert({"n": number % 50, "text": "x" * 200})
            await store.write(unit(work, ("session", number), acknowledged_below=number))
        written = store.folder.wal.stat().st_size / 100
    assert 5_000 < written < 20_000, written


def test_deleted_content_costs_no_pages(tmp_path: Path) -> None:
    """Whatever the build of SQLite: 2 stands for FAST."""
    with closing(sqlite3.connect(tmp_path / "file")) as connection:
        pragmas.for_writer(connection, "full")
        assert connection.execute("PRAGMA secure_delete").fetchone() == (2,)


@pytest.mark.parametrize(
    "statement",
    ["CREATE TRIGGER spy AFTER INSERT ON documents BEGIN DELETE FROM requests; END", "CREATE VIEW spy AS SELECT 1"],
)
@pytest.mark.parametrize("read_only", [True, False])
async def test_a_foreign_trigger_or_view_is_refused(tmp_path: Path, statement: str, read_only: bool) -> None:
    """`check` reports it, and so does every process that would use the file."""
    async with opened(tmp_path, ITEMS) as store:
        await store.write(unit(insert({"n": 1})))
    with closing(sqlite3.connect(tmp_path / "data.sqlite3")) as connection:
        connection.execute(statement)
    assert any("spy does not belong to Tinyvex" in problem for problem in check_folder(tmp_path))
    with pytest.raises(FileDamaged, match="`spy`, which does not belong to Tinyvex"):
        Store.open(tmp_path, bound_runtime(), read_only=read_only)
