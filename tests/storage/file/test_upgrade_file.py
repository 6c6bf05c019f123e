"""The upgrade of a file: interrupted at any point, it continues, and loses and adds nothing."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.make import HERE
from tests.support.disk import recording
from tests.support.old_format import as_format_1
from tests.support.postings import SEED
from tests.support.storage import bound_runtime, insert, opened, unit
from tinyvex.errors import DataFolderUnusable, FileDamaged, FileTooNew
from tinyvex.storage.engine.store import Store
from tinyvex.storage.file import database_file, format_2, format_changes, pragmas, upgrade
from tinyvex.storage.file.upgrade import upgrade_file
from tinyvex.storage.maintenance.backup import VerifiedBackup, back_up
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.storage.maintenance.export import export

TABLES = ("documents", "indexes", "current", "sessions", "requests", "globals")
WRITTEN_BEFORE = "SELECT log_row, ts, table_id, id, json_value, deleted, prev_ts FROM documents ORDER BY log_row"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create a data folder with the file of the first format."""
    path = tmp_path / "data"
    path.mkdir()
    shutil.copyfile(HERE / "format-1.sqlite3", path / "data.sqlite3")
    return path


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit every few rows."""
    monkeypatch.setattr(upgrade, "UPGRADE_STEP_ROWS", 7)


def rows(file: Path, *statements: str) -> list[Any]:
    """Return the rows of statements; by default everything that a file holds."""
    connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    try:
        queries = statements or [f"SELECT * FROM {table} ORDER BY 1, 2, 3" for table in TABLES]
        return [connection.execute(query).fetchall() for query in queries]
    finally:
        connection.close()


def place(folder: Path, files: dict[str, bytes], modified_ns: int) -> Path:
    """Write the files of a stopped machine into a folder; the database has not been modified since the upgrade began."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    os.utime(folder / "data.sqlite3", ns=(modified_ns, modified_ns))
    return folder / "data.sqlite3"


@pytest.mark.parametrize("stop", ["killed", "power lost", "power lost, any part kept"])
def test_an_upgrade_continues_wherever_it_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    """The process ends, or the power fails, at every write and sync: the next attempt creates the same file."""
    pick = random.Random(SEED)
    database = folder / "data.sqlite3"
    with recording(folder) as disk, monkeypatch.context() as patched:
        patched.setattr(upgrade, "UPGRADE_STEP_ROWS", 20)
        upgrade_file(database)
    expected = rows(database)
    modified_ns = 1_700_000_000_000_000_000
    assert len(disk.steps) > 100
    print("seed", SEED, len(disk.steps), "steps")
    for until in range(1, len(disk.steps) + 1):
        files = disk.written(until) if stop == "killed" else disk.files(until, pick if "any part" in stop else None)
        copy = place(tmp_path / str(until), files, modified_ns)
        upgrade_file(copy)
        assert rows(copy) == expected, until
        assert sorted(path.name for path in copy.parent.iterdir()) == ["data.sqlite3"]
        shutil.rmtree(copy.parent)


@pytest.mark.parametrize("after", [1, 2, 5, 8])
def test_an_interrupted_upgrade_continues_with_the_next_row(folder: Path, small_steps: None, after: int) -> None:
    """Rows that were committed are not copied again."""
    database = folder / "data.sqlite3"
    steps: list[int] = []

    def interrupt(done: int, _total: int) -> None:
        steps.append(done)
        if len(steps) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade_file(database, interrupt)
    assert database_file.read_format(database) == 1
    continued: list[tuple[int, int]] = []
    upgrade_file(database, lambda done, total: continued.append((done, total)))
    assert steps[-1] < continued[0][0] <= steps[-1] + 7
    assert continued[-1][0] == continued[-1][1]
    assert check_folder(folder) == []


def test_an_upgrade_begins_again_if_the_old_file_has_changed(folder: Path, small_steps: None) -> None:
    """An older version was started between the attempts: what it changed in rows that were copied is not lost."""
    database = folder / "data.sqlite3"
    ((last_table_rows,),) = rows(database, "SELECT COUNT(*) FROM globals")[0]

    def interrupt(done: int, total: int) -> None:
        if done >= total - last_table_rows:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade_file(database, interrupt)
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("UPDATE requests SET result = CAST('7' AS BLOB) WHERE ts = (SELECT MIN(ts) FROM requests)")
    connection.close()
    upgrade_file(database)
    assert rows(database, "SELECT result FROM requests ORDER BY ts LIMIT 1") == [[(b"7",)]]
    assert check_folder(folder) == []


def test_documents_are_the_same(folder: Path) -> None:
    """Every column that the old file has is unchanged."""
    database = folder / "data.sqlite3"
    before = rows(database, WRITTEN_BEFORE)
    upgrade_file(database)
    assert rows(database, WRITTEN_BEFORE) == before
    assert database.stat().st_mode & 0o077 == 0


def test_a_log_that_a_killed_server_left_is_part_of_the_upgrade(folder: Path) -> None:
    """Commits in the write-ahead log are in the new file."""
    database = folder / "data.sqlite3"
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    with connection:
        connection.execute("UPDATE requests SET result = CAST('7' AS BLOB)")
    files = {path.name: path.read_bytes() for path in folder.glob("data.sqlite3*") if path.suffix != ".sqlite3-shm"}
    connection.close()
    assert len(files["data.sqlite3-wal"]) > 0
    for name, data in files.items():
        (folder / name).write_bytes(data)
    upgrade_file(database)
    assert {result for (result,) in rows(database, "SELECT result FROM requests")[0]} == {b"7"}
    assert check_folder(folder) == []


DAMAGES = {
    "a text for an id": "UPDATE documents SET id = 'text' WHERE log_row = 3",
    "an entry without its revision": "UPDATE current SET log_row = 999999 WHERE key = (SELECT MAX(key) FROM current)",
    "a deleted page": "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 999 WHERE name = 'indexes'",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_and_stays(folder: Path, damage: str) -> None:
    """The old file is unchanged, so that the older version can still read what is left of it."""
    database = folder / "data.sqlite3"
    connection = sqlite3.connect(database)
    connection.executescript(damage)
    connection.close()
    before = database.read_bytes()[100:]
    with pytest.raises(FileDamaged):
        upgrade_file(database)
    assert database.read_bytes()[100:] == before
    assert database_file.read_format(database) == 1


def test_readers_refuse_an_older_file(folder: Path, tmp_path: Path) -> None:
    """Commands that only read do not upgrade it; the message has the way out."""
    for read in (
        lambda: check_folder(folder),
        lambda: export(folder, tmp_path / "export.zip"),
        lambda: database_file.open_reader(folder / "data.sqlite3"),
    ):
        with pytest.raises(DataFolderUnusable, match="older format 1; start a server"):
            read()
    assert database_file.read_format(folder / "data.sqlite3") == 1


def test_the_older_version_refuses_the_new_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compares the number in the file's header, before it reads anything else."""
    upgrade_file(folder / "data.sqlite3")
    monkeypatch.setattr(pragmas, "FORMAT_VERSION", 1)
    with pytest.raises(FileTooNew, match=r"has format 2, and this version of Tinyvex reads 1"):
        database_file.open_reader(folder / "data.sqlite3")


async def test_a_backup_of_an_older_file_can_be_restored(folder: Path, tmp_path: Path) -> None:
    """The backup has the older format; the restored database has the new one and is sound."""
    copy = back_up(folder, tmp_path / "copy")
    assert database_file.read_format(tmp_path / "copy") == 1
    backup = VerifiedBackup(tmp_path / "copy")
    assert (backup.ts, backup.size_bytes) == copy
    backup.restore(tmp_path / "restored", bound_runtime())
    assert check_folder(tmp_path / "restored") == []
    old, new = (dict(rows(path, "SELECT key, json_value FROM globals")[0]) for path in (
        tmp_path / "copy", tmp_path / "restored" / "data.sqlite3"))  # fmt: skip
    assert old.pop("epoch") != new.pop("epoch")
    assert old == new
    assert sorted(path.name for path in (tmp_path / "restored").iterdir()) == ["data.sqlite3", "lock"]


async def test_an_interrupted_restore_of_an_older_backup_leaves_nothing(
    folder: Path, tmp_path: Path, small_steps: None
) -> None:
    """Neither the copy that is upgraded, nor the unfinished upgrade: each takes as much room as the backup."""
    back_up(folder, tmp_path / "copy")
    upgraded = tmp_path / "restored" / "restoring.sqlite3.upgrade"

    def interrupt(_done: int, _total: int) -> None:
        if upgraded.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VerifiedBackup(tmp_path / "copy").restore(tmp_path / "restored", bound_runtime(), interrupt)
    assert sorted(path.name for path in (tmp_path / "restored").iterdir()) == ["lock"]


async def test_the_next_start_deletes_what_a_killed_restore_left(folder: Path) -> None:
    """The backup may never be restored again."""
    upgrade_file(folder / "data.sqlite3")
    left = [folder / f"restoring.sqlite3{suffix}" for suffix in ("", "-journal", ".upgrade", ".upgrade-journal")]
    for path in left:
        path.write_bytes(b"unfinished")
    await Store.open(folder, bound_runtime()).close()
    assert not [path for path in left if path.exists()]


async def test_a_backup_is_restored_over_an_older_database(folder: Path, tmp_path: Path) -> None:
    """The database that it replaces needs no upgrade."""
    async with opened(tmp_path / "other") as store:
        await store.write(unit(insert({"n": 1})))
    back_up(tmp_path / "other", tmp_path / "copy")
    replaced = VerifiedBackup(tmp_path / "copy").restore(folder, bound_runtime())
    assert check_folder(folder) == []
    assert replaced is not None
    assert database_file.read_format(replaced) == 1


async def test_an_unfinished_upgrade_is_deleted_once_the_file_is_new(folder: Path) -> None:
    """Such as when a backup was restored after the interruption."""
    upgrade_file(folder / "data.sqlite3")
    (folder / "data.sqlite3.upgrade").write_bytes(b"unfinished")
    await Store.open(folder, bound_runtime()).close()
    assert not (folder / "data.sqlite3.upgrade").exists()


def test_a_symbolic_link_stays_one(folder: Path, tmp_path: Path) -> None:
    """The file that it names is upgraded."""
    target = tmp_path / "elsewhere.sqlite3"
    (folder / "data.sqlite3").rename(target)
    (folder / "data.sqlite3").symlink_to(target)
    upgrade_file(folder / "data.sqlite3")
    assert (folder / "data.sqlite3").is_symlink()
    assert database_file.read_format(target) == pragmas.FORMAT_VERSION


UPGRADE = """
import sys, tinyvex.storage.file.upgrade as upgrade
from pathlib import Path
upgrade.UPGRADE_STEP_ROWS = 300
def report(done, total):
    print(done, flush=True)
    sys.stdin.readline()
upgrade.upgrade_file(Path(sys.argv[1]), report)
"""
"""Waits for a line after each report, so that it is at most one step ahead of the test."""


@pytest.fixture
async def large(tmp_path: Path) -> Path:
    """Create a file with 3,000 documents."""
    async with opened(tmp_path / "new") as store:
        for _ in range(10):
            await store.write(
                unit(lambda transaction: [insert({"n": n, "text": "x" * 50})(transaction) for n in range(300)])
            )
    return tmp_path / "new" / "data.sqlite3"


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
def test_a_process_that_is_killed_again_and_again_completes_the_upgrade(large: Path, tmp_path: Path) -> None:
    """Each process is killed after it has copied some rows; together they copy each row once."""
    pick = random.Random(SEED)
    print("seed", SEED)
    database = tmp_path / "data" / "data.sqlite3"
    database.parent.mkdir()
    as_format_1(large, database)
    expected = rows(large, WRITTEN_BEFORE)
    done, kills = 0, 0
    while database_file.read_format(database) == 1:
        command = [sys.executable, "-c", UPGRADE, str(database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            reports = []
            for _, line in zip(range(pick.randint(1, 12)), process.stdout, strict=False):
                reports.append(int(line))
                process.stdin.write("\n")
            process.send_signal(signal.SIGKILL)
        if reports:
            assert reports[0] > done, "it began again"
            done, kills = reports[-1], kills + 1
    assert kills > 2
    assert rows(database, WRITTEN_BEFORE) == expected
    assert check_folder(database.parent) == []


SLOW_SERVE = """
import sys, tinyvex.storage.file.upgrade as upgrade
from tinyvex.cli.main import run
upgrade.UPGRADE_STEP_ROWS = 1
sys.exit(run(["serve", *sys.argv[1:]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="stops by a signal")
def test_a_server_that_is_stopped_while_it_upgrades_ends_as_requested(large: Path, tmp_path: Path) -> None:
    """It exits with 0 and without a ready line, so no supervisor takes the stop for a failure."""
    as_format_1(large, tmp_path / "data.sqlite3")
    (tmp_path / "app.py").write_text("")
    command = [sys.executable, "-c", SLOW_SERVE, str(tmp_path / "app.py"), "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "upgrading" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        ready, log = process.communicate()
    assert (process.returncode, ready) == (0, ""), log
    assert "the next start continues" in log
    assert database_file.read_format(tmp_path / "data.sqlite3") == 1


COLUMNS = 'SELECT m.name, c.name, c.type, c."notnull", c.pk FROM sqlite_schema AS m, pragma_table_info(m.name) AS c ORDER BY 1, 2'
CONTENTS_OF_FORMAT_2 = "d951d32edf9d9e4e439381f3a2c20f6faef0a24b4d570445ea1c1b6f73f8fc97"
"""The digest of the fixture of format 1 after its upgrade to format 2: it must stay the same in every later version."""


def test_the_upgrade_to_format_2_is_frozen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of format 1 becomes the same file of format 2 in every version, whatever the newest format is."""
    monkeypatch.setattr(pragmas, "FORMAT_VERSION", 2)
    upgrade_file(folder / "data.sqlite3")
    contents = rows(folder / "data.sqlite3", COLUMNS, *(f"SELECT * FROM {table} ORDER BY 1, 2, 3" for table in TABLES))
    assert hashlib.sha256(repr(contents).encode()).hexdigest() == CONTENTS_OF_FORMAT_2


def test_a_change_uses_nothing_of_the_newest_format() -> None:
    """Otherwise a later format would change what the upgrade to an earlier one writes."""
    frozen = (format_changes, format_2)
    used = {
        getattr(value, "__module__", None) or getattr(value, "__name__", "")
        for module in frozen
        for value in vars(module).values()
    }
    ours = {name for name in used if name.startswith("tinyvex.")}
    assert ours <= {module.__name__ for module in frozen}
