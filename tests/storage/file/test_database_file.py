"""The database file on disk: it opens wherever a process was killed that ended its log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.disk import recording
from tests.support.storage import ITEMS, bound_runtime, insert, numbers, opened, unit
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file import database_file
from tinyvex.storage.maintenance.check import check_folder


async def test_a_start_after_a_kill_inside_end_log_has_everything(tmp_path: Path) -> None:
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
        for name, data in disk.written(until).items():
            (folder / name).write_bytes(data)
        journals += (folder / "data.sqlite3-journal").exists()
        store = Store.open(folder, bound_runtime())
        assert await store.read(numbers) == [1]
        await store.close()
        assert check_folder(folder) == []
    assert journals > 0
