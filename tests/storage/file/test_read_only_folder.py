"""Reading a database in a folder that cannot be written, without and with a log, and alongside its owner."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.process import ServerProcess
from tests.support.read_only import read_only
from tinyvex.cli.main import run
from tinyvex.errors import DataFolderLocked, DataFolderUnusable
from tinyvex.storage.file.data_folder import DataFolder, lock_holder
from tinyvex.storage.file.database_file import open_reader
from tinyvex.storage.file.read_only_folder import open_immutable

APP = Path(__file__).resolve().parents[2] / "support" / "shelf.py"
READING = [
    ["check"], ["data"], ["data", "books"], ["data", "--at", "0s ago"], ["stats"], ["compact", "--dry-run"],
    ["run", "shelf:titles", "--app", str(APP)], ["run", "--inline-query", "1"], ["tokens"],
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A database with one book, closed cleanly."""
    add("A", tmp_path / "data")
    return tmp_path / "data"


def add(title: str, data: Path) -> None:
    assert run(["run", "shelf:add", json.dumps({"title": title}), "--app", str(APP), "--data", str(data)]) == 0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def leave_log(folder: Path) -> None:
    """Leave the log of a killed process, with a table that is not in the file."""
    killed = folder.with_name("killed")
    with closing(sqlite3.connect(folder / "data.sqlite3", isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE in_log(a)")
        shutil.copytree(folder, killed)
    shutil.rmtree(folder)
    killed.rename(folder)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_every_reading_command_works(folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """After a clean stop the file is complete, and nothing is written next to it."""
    before = names(folder)
    with read_only(folder) as unwritable:
        assert run([*command, "--data", str(unwritable)]) == 0, capsys.readouterr().err
        assert names(unwritable) == before


def test_copies_are_made_and_restored(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A backup, an export and a restore read from the folder; `history` shows a document's revisions."""
    with read_only(folder) as unwritable:
        here = ["--data", str(unwritable)]
        assert run(["backup", str(tmp_path / "copy"), *here]) == 0
        assert run(["export", "--path", str(tmp_path / "copy.zip"), *here]) == 0
        capsys.readouterr()
        assert run(["data", "books", "--format", "jsonl", *here]) == 0
        assert run(["history", json.loads(capsys.readouterr().out)["_id"], *here]) == 0
        source = str(unwritable / "data.sqlite3")
        assert run(["restore", source, "--data", str(tmp_path / "new"), "--yes"]) == 0
    assert run(["check", "--data", str(tmp_path / "new")]) == 0


def test_a_log_must_be_recovered_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 22: without the log the database would be an older one, and its index cannot be created there."""
    leave_log(folder)
    (folder / "data.sqlite3-shm").unlink()
    with read_only(folder) as unwritable:
        assert run(["stats", "--data", str(unwritable)]) == 22
    said = capsys.readouterr().err
    assert "data.sqlite3-wal` may have commits that are not yet in the database" in said
    assert "copy the whole folder to a disk that can, and use the copy" in said
    assert run(["stats", "--data", str(folder)]) == 0


def test_a_log_with_its_index_is_read(folder: Path) -> None:
    """SQLite needs no write then, and the commits in the log are visible."""
    leave_log(folder)
    with read_only(folder) as unwritable, closing(open_reader(unwritable / "data.sqlite3")) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema WHERE name = 'in_log'").fetchall() == [("in_log",)]


def test_an_empty_log_is_no_obstacle(folder: Path) -> None:
    """A killed server whose log was copied completely leaves one."""
    (folder / "data.sqlite3-wal").touch()
    with read_only(folder) as unwritable:
        assert run(["check", "--data", str(unwritable)]) == 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can mount a folder twice")
def test_a_server_that_writes_through_another_mount_is_followed(folder: Path) -> None:
    """Its log is read in place; the file is not treated as immutable."""
    with read_only(folder) as unwritable, ServerProcess(APP, folder):
        add("B", folder)
        with closing(open_reader(unwritable / "data.sqlite3")) as connection:
            (revisions,) = connection.execute("SELECT COUNT(*) FROM documents WHERE table_id > 100").fetchone()
        assert revisions == 2


def test_no_process_can_own_the_folder_meanwhile(folder: Path) -> None:
    """The lock is shared by the readers, and free again when the last is closed."""
    readers = [open_immutable(folder / "data.sqlite3") for _ in range(2)]
    for reader in readers:
        with pytest.raises(DataFolderLocked):
            DataFolder(folder).lock()
        reader.close()
        reader.close()
    DataFolder(folder).lock().release()


def test_readers_are_no_owners(folder: Path) -> None:
    """A second command that reads finds no process that owns the folder, and reads as well."""
    with closing(open_immutable(folder / "data.sqlite3")):
        assert lock_holder(folder) is None
        assert run(["run", "--inline-query", "1", "--data", str(folder)]) == 0


def test_a_folder_with_an_owner_is_not_immutable(folder: Path) -> None:
    """The owner may have written nothing yet."""
    lock = DataFolder(folder).lock()
    with pytest.raises(DataFolderLocked, match=f"process {os.getpid()} owns"):
        open_immutable(folder / "data.sqlite3")
    lock.release()


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_refusal_releases_the_lock(folder: Path, suffix: str) -> None:
    """A rollback journal has to be recovered too."""
    (folder / f"data.sqlite3{suffix}").write_bytes(b"pages")
    with pytest.raises(DataFolderUnusable, match="may have commits"):
        open_immutable(folder / "data.sqlite3")
    DataFolder(folder).lock().release()
