"""Backups of a database in use, their restoration, compaction, and statistics."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import tinyvex as tv
from tests.support.process import ServerProcess
from tinyvex.cli.main import run
from tinyvex.storage.maintenance.backup import back_up
from tinyvex.storage.maintenance.check import check_folder

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A database with one book."""
    data = tmp_path / "data"
    add("A", data)
    return data


def add(title: str, data: Path) -> None:
    assert run(["run", "shelf:add", json.dumps({"title": title}), "--app", str(APP), "--data", str(data)]) == 0


def titles(data: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert run(["run", "shelf:titles", "{}", "--app", str(APP), "--data", str(data)]) == 0
    names: list[str] = json.loads(capsys.readouterr().out)
    return names


def epoch(data: Path) -> str:
    connection = sqlite3.connect(data / "data.sqlite3")
    (value,) = connection.execute("SELECT json_value FROM globals WHERE key = 'epoch'").fetchone()
    connection.close()
    return str(value)


def test_a_backup_can_be_restored(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the same folder or another; the replaced database is renamed, and the epoch changes."""
    assert run(["backup", str(tmp_path / "copy.sqlite3"), "--data", str(folder)]) == 0
    add("B", folder)
    before = epoch(folder)
    assert run(["restore", str(tmp_path / "copy.sqlite3"), "--data", str(folder), "--yes"]) == 0
    assert titles(folder, capsys) == ["A"]
    assert epoch(folder) != before
    assert check_folder(folder) == []
    [aside] = folder.glob("replaced-*.sqlite3")
    assert run(["restore", str(aside), "--data", str(tmp_path / "elsewhere"), "--yes"]) == 0
    assert titles(tmp_path / "elsewhere", capsys) == ["A", "B"]


@pytest.mark.slow
async def test_a_backup_under_load_is_the_log_at_its_ts(tmp_path: Path) -> None:
    """While eight writers continue, the copy is sound and has exactly the commits up to its ts."""
    with ServerProcess(APP, tmp_path / "data") as server:
        async with tv.connect(server.url, server.ready["token"]) as client:

            async def write(writer: int) -> None:
                for number in range(150):
                    await client.mutation("shelf:add", {"title": f"{writer}-{number}", "pages": number})

            writers = [asyncio.create_task(write(writer)) for writer in range(8)]
            await client.mutation("shelf:add", {"title": "before"})
            copies = []
            for number in range(3):
                file = tmp_path / f"copy-{number}" / "data.sqlite3"
                file.parent.mkdir()
                copies.append((file, await asyncio.to_thread(back_up, tmp_path / "data", file)))
            await asyncio.gather(*writers)
            for file, copy in copies:
                assert check_folder(file.parent) == []
                assert revisions(file) == revisions(tmp_path / "data" / "data.sqlite3", copy.ts)
            assert revisions(copies[0][0]) != revisions(tmp_path / "data" / "data.sqlite3")


def revisions(file: Path, until: int = 2**62) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(file)
    query = "SELECT ts, table_id, id, json_value FROM documents WHERE ts <= ? ORDER BY log_row"
    rows = connection.execute(query, (until,)).fetchall()
    connection.close()
    return rows


def test_an_existing_file_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    """Exit code 22; with --replace it is replaced."""
    (tmp_path / "copy").write_text("mine")
    assert run(["backup", str(tmp_path / "copy"), "--data", str(folder)]) == 22
    assert (tmp_path / "copy").read_text() == "mine"
    assert run(["backup", str(tmp_path / "copy"), "--data", str(folder), "--replace"]) == 0


@pytest.mark.parametrize("name", ["../link", "../DIR/data.sqlite3", "data.SQLITE3", "../../elsewhere/server.json"])
@pytest.mark.parametrize("command", [["backup"], ["export", "--path"]])
def test_the_database_itself_is_not_overwritten(
    command: list[str], name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 22 even with --replace, by links and other spellings, and in other data folders."""
    (tmp_path / "link").symlink_to(folder / "data.sqlite3")
    (tmp_path / "DIR").symlink_to(folder)
    add("other", tmp_path.parent / "elsewhere")
    assert run([*command, str(folder / name), "--data", str(folder), "--replace"]) == 22
    assert "belongs to the database in" in capsys.readouterr().err
    assert titles(folder, capsys) == ["A"]


@pytest.mark.parametrize("command", [["backup"], ["export", "--path"]])
def test_no_file_of_a_running_server_is_overwritten(
    command: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 22 for everything that a server and the commands write; without server.json no command finds the server."""
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    with ServerProcess(APP, folder):
        add("B", folder)
        assert run(["dashboard", "--data", str(folder)]) == 0
        assert run(["pair", "--data", str(folder)]) == 0
        own = sorted(path.name for path in folder.iterdir())
        assert {"server.json", "served.json", "lock", "data.sqlite3-wal", "dashboard.html", "pairing.json"} < set(own)
        (folder / "tokens.json").write_text("{}")
        for name in [*own, "tokens.json", "stuck-calls", "running", "data.sqlite3.unfinished", "data.sqlite3.new"]:
            assert run([*command, str(folder / name), "--data", str(folder), "--replace"]) == 22, name
        assert sorted(path.name for path in folder.iterdir()) == sorted([*own, "tokens.json"])
        add("C", folder)
    assert run([*command, str(folder / "mine"), "--data", str(folder)]) == 0


@pytest.mark.parametrize("command", [["backup"], ["export", "--path"], ["restore"]])
def test_a_dash_is_not_a_file(command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2: these commands need a file in which they can seek."""
    assert run([*command, "-", "--data", str(folder)]) == 2
    assert "`-` is not a file here; name a file" in capsys.readouterr().err


def test_a_backup_through_a_link_replaces_the_file(folder: Path, tmp_path: Path) -> None:
    """The link stays, so a nightly backup continues to reach the other disk."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "nightly").symlink_to(tmp_path / "real")
    assert run(["backup", str(tmp_path / "nightly"), "--data", str(folder), "--replace"]) == 0
    assert (tmp_path / "nightly").is_symlink()
    assert run(["restore", str(tmp_path / "real"), "--data", str(tmp_path / "other"), "--yes"]) == 0


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_copy_is_not_written_next_to_a_foreign_log(folder: Path, tmp_path: Path, suffix: str) -> None:
    """Exit code 22: SQLite would replay that log into the copy."""
    (tmp_path / f"copy{suffix}").write_bytes(b"of another")
    assert run(["backup", str(tmp_path / "copy"), "--data", str(folder)]) == 22
    assert not (tmp_path / "copy").exists()


def leave_log(folder: Path, name: str = "data.sqlite3") -> bytes:
    """Leave a log as a killed process does, with a table that no database of ours has."""
    connection = sqlite3.connect(folder / name, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE foreign_table(a)")
    log = (folder / f"{name}-wal").read_bytes()
    connection.close()
    (folder / f"{name}-wal").write_bytes(log)
    return log


@pytest.mark.parametrize("damage", ["text", "truncated", "another program's", "too new", "gone"])
def test_a_damaged_database_is_renamed_with_its_log(
    folder: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No page of its log reaches the database that replaces it."""
    run(["backup", str(tmp_path / "copy"), "--data", str(folder)])
    log, database = leave_log(folder), folder / "data.sqlite3"
    if damage == "text":
        database.write_text("no database")
    elif damage == "truncated":
        database.write_bytes(database.read_bytes()[:5_000])
    elif damage == "gone":
        database.unlink()
    else:
        data = bytearray(database.read_bytes())
        place = 68 if damage == "another program's" else 60  # application_id and user_version, in the file's head
        data[place : place + 4] = (99).to_bytes(4, "big")
        database.write_bytes(data)
        (folder / "data.sqlite3-wal").unlink()
    before = database.read_bytes() if database.exists() else None
    assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--yes"]) == 0
    assert titles(folder, capsys) == ["A"]
    assert check_folder(folder) == []
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT name FROM sqlite_schema WHERE name = 'foreign_table'").fetchall() == []
    connection.close()
    renamed = {path.name.partition(".")[2]: path for path in folder.glob("replaced-*")}
    assert (renamed["sqlite3"].read_bytes() if "sqlite3" in renamed else None) == before
    if damage == "gone":
        assert renamed["sqlite3-wal"].read_bytes() == log


def test_a_failed_restore_restores_the_log(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database that could not be replaced is unchanged, even if it is damaged."""
    run(["backup", str(tmp_path / "copy"), "--data", str(folder)])
    leave_log(folder)
    (folder / "data.sqlite3").write_text("no database")
    before = {path.name for path in folder.iterdir()}
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target.name == "data.sqlite3":
            raise OSError(5, "Input/output error")
        return replace(path, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", fail)
        assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--yes"]) == 22
    assert {path.name for path in folder.iterdir()} - {"data.sqlite3-shm"} == before - {"data.sqlite3-shm"}


def test_a_restore_keeps_a_symbolic_link(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new database is on the other disk, and the old one stays under its second name."""
    assert run(["backup", str(tmp_path / "copy"), "--data", str(folder)]) == 0
    add("B", folder)
    (tmp_path / "disk").mkdir()
    (folder / "data.sqlite3").rename(tmp_path / "disk" / "data.sqlite3")
    (folder / "data.sqlite3").symlink_to(tmp_path / "disk" / "data.sqlite3")
    assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--yes"]) == 0
    assert (folder / "data.sqlite3").is_symlink()
    assert titles(folder, capsys) == ["A"]
    [aside] = folder.glob("replaced-*.sqlite3")
    assert run(["restore", str(aside), "--data", str(tmp_path / "elsewhere"), "--yes"]) == 0
    assert titles(tmp_path / "elsewhere", capsys) == ["A", "B"]


def test_a_restore_through_a_link_moves_the_log_of_a_damaged_database(folder: Path, tmp_path: Path) -> None:
    """The log is next to the file that the link leads to; there it would be replayed into the restored database."""
    assert run(["backup", str(tmp_path / "copy"), "--data", str(folder)]) == 0
    disk = tmp_path / "disk"
    disk.mkdir()
    (folder / "data.sqlite3").rename(disk / "real.sqlite3")
    (folder / "data.sqlite3").symlink_to(disk / "real.sqlite3")
    log = leave_log(disk, "real.sqlite3")
    os.truncate(disk / "real.sqlite3", 5_000)
    assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--yes"]) == 0
    assert [path.name for path in disk.iterdir()] == ["real.sqlite3"]
    [aside] = folder.glob("replaced-*.sqlite3-wal")
    assert aside.read_bytes() == log
    assert check_folder(folder) == []


def test_what_was_verified_is_restored(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that takes the backup's name while the command asks is not restored."""
    copy = tmp_path / "copy"
    assert run(["backup", str(copy), "--data", str(folder)]) == 0
    add("B", folder)

    def answer(_: str) -> str:
        (tmp_path / "other").write_text("no database")
        (tmp_path / "other").replace(copy)
        return "y"

    monkeypatch.setattr("click.termui.visible_prompt_func", answer)
    assert run(["restore", str(copy), "--data", str(folder)]) == 0
    assert titles(folder, capsys) == ["A"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in the file system")
def test_a_pipe_is_not_a_backup(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 22, with what to do; it does not wait for the pipe's writer."""
    os.mkfifo(tmp_path / "pipe")
    assert run(["restore", str(tmp_path / "pipe"), "--data", str(folder), "--yes"]) == 22
    assert "is not a regular file; copy the backup into a file first" in capsys.readouterr().err


def test_the_database_can_be_restored_from_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only its epoch changes."""
    before = epoch(folder)
    assert run(["restore", str(folder / "data.sqlite3"), "--data", str(folder), "--yes"]) == 0
    assert titles(folder, capsys) == ["A"]
    assert epoch(folder) != before


def test_a_running_server_is_not_restored_over(folder: Path, tmp_path: Path) -> None:
    """Exit code 21, and nothing is changed."""
    run(["backup", str(tmp_path / "copy"), "--data", str(folder)])
    with ServerProcess(APP, folder):
        assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--yes"]) == 21
    assert list(folder.glob("replaced-*")) == []


@pytest.mark.parametrize("damage", ["text", "truncated", "another program's", "a row is missing"])
def test_an_unsound_backup_is_not_restored(folder: Path, tmp_path: Path, damage: str) -> None:
    """Exit code 24, and the current database stays."""
    copy = tmp_path / "copy"
    run(["backup", str(copy), "--data", str(folder)])
    if damage == "text":
        copy.write_text("no database")
    elif damage == "truncated":
        copy.write_bytes(copy.read_bytes()[:9_000])
    else:
        connection = sqlite3.connect(copy)
        connection.execute("PRAGMA application_id = 7" if damage == "another program's" else "DELETE FROM current")
        connection.commit()
        connection.close()
    before = (folder / "data.sqlite3").read_bytes()
    assert run(["restore", str(copy), "--data", str(folder), "--yes"]) == 24
    assert (folder / "data.sqlite3").read_bytes() == before


def test_a_restore_that_fails_at_the_end_keeps_the_database(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder always has a database; a server would otherwise create an empty one."""
    copy = tmp_path / "copy"
    run(["backup", str(copy), "--data", str(folder)])
    add("B", folder)
    there: list[bool] = []

    def fail(path: Path, target: Path) -> Path:
        there.append((folder / "data.sqlite3").exists())
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", fail)
        assert run(["restore", str(copy), "--data", str(folder), "--yes"]) == 22
    assert there == [True]
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".sqlite3") == ["data.sqlite3"]
    assert titles(folder, capsys) == ["A", "B"]


def test_restoring_asks_first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer nothing is changed."""
    run(["backup", str(tmp_path / "copy"), "--data", str(folder)])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert run(["restore", str(tmp_path / "copy"), "--data", str(folder)]) == 130
    assert list(folder.glob("replaced-*")) == []


def test_a_dry_run_restores_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It reports what would happen, and refuses what a restore would refuse."""
    run(["backup", str(tmp_path / "copy"), "--data", str(folder)])
    before = (folder / "data.sqlite3").read_bytes()
    capsys.readouterr()
    assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--dry-run"]) == 0
    output = capsys.readouterr().err
    assert "the current database will be renamed" in output
    assert "nothing was changed" in output
    assert (folder / "data.sqlite3").read_bytes() == before
    (tmp_path / "copy").write_bytes(b"no database")
    assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--dry-run"]) == 24


def test_a_dry_run_compacts_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts the revisions, also alongside a running server."""
    before = (folder / "data.sqlite3").read_bytes()
    assert run(["compact", "--data", str(folder), "--dry-run"]) == 0
    with ServerProcess(APP, folder):
        assert run(["compact", "--data", str(folder), "--dry-run"]) == 0
    assert capsys.readouterr().err.count("0 revisions would be purged") == 2
    assert (folder / "data.sqlite3").read_bytes() == before


def test_compacting_shrinks_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Purged revisions occupy no space afterwards; current documents stay."""
    arguments = ["run", "shelf:add_many", '{"count": 5000}', "--app", str(APP), "--data", str(folder)]
    assert run(arguments) == 0
    connection = sqlite3.connect(folder / "data.sqlite3")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with connection:  # as a retention sweep would leave it
        connection.execute("CREATE TABLE ballast(a)")
        connection.execute("INSERT INTO ballast VALUES (randomblob(3000000))")
        connection.execute("DROP TABLE ballast")
    connection.close()
    before = (folder / "data.sqlite3").stat().st_size
    assert run(["compact", "--data", str(folder)]) == 0
    assert (folder / "data.sqlite3").stat().st_size < before - 2_500_000
    assert check_folder(folder) == []
    assert len(titles(folder, capsys)) == 5001


COMPACT_IN_LITTLE_MEMORY = """
import sqlite3, sys
from tinyvex.cli.main import run
sqlite3.connect(":memory:").execute("PRAGMA hard_heap_limit = 50000000")
sys.exit(run(["compact", "--data", sys.argv[1]]))
"""


def test_compacting_takes_little_memory(folder: Path) -> None:
    """The new file is written to disk, so memory does not depend on its size."""
    connection = sqlite3.connect(folder / "data.sqlite3")
    with connection:
        connection.execute("CREATE TABLE ballast(a)")
        connection.executemany("INSERT INTO ballast VALUES (zeroblob(100000))", [()] * 1_000)
    connection.close()
    subprocess.run([sys.executable, "-c", COMPACT_IN_LITTLE_MEMORY, folder], check=True, timeout=60)
    assert (folder / "data.sqlite3").stat().st_size > 100_000_000


def test_a_failed_compaction_keeps_the_database(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The database is unchanged, and no other file remains."""

    def fail(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", fail)
        assert run(["compact", "--data", str(folder)]) == 23
    assert sorted(path.name for path in folder.glob("data*")) == ["data.sqlite3"]
    assert titles(folder, capsys) == ["A"]


def test_compacting_keeps_a_symbolic_link(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the file in the folder is a link to another disk, it still is afterwards."""
    (tmp_path / "disk").mkdir()
    (folder / "data.sqlite3").rename(tmp_path / "disk" / "data.sqlite3")
    (folder / "data.sqlite3").symlink_to(tmp_path / "disk" / "data.sqlite3")
    assert run(["compact", "--data", str(folder)]) == 0
    assert (folder / "data.sqlite3").is_symlink()
    assert titles(folder, capsys) == ["A"]


def test_compacting_does_not_disturb_readers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reports why nothing was changed."""
    add("B", folder)
    monkeypatch.setattr(
        "tinyvex.storage.file.pragmas.busy_timeout",
        lambda connection, _=0: connection.execute("PRAGMA busy_timeout = 1"),
    )
    reader = sqlite3.connect(folder / "data.sqlite3", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM globals").fetchall()
    assert run(["compact", "--data", str(folder)]) == 20
    assert "another program is using the database file" in capsys.readouterr().err
    reader.close()
    assert titles(folder, capsys) == ["A", "B"]


def test_compacting_does_not_disturb_a_server(folder: Path) -> None:
    """Exit code 21."""
    with ServerProcess(APP, folder):
        assert run(["compact", "--data", str(folder)]) == 21


def test_stats_count_documents_and_revisions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The counts are the same alongside a running server."""
    add("B", folder)
    capsys.readouterr()
    with ServerProcess(APP, folder):
        assert run(["stats", "--data", str(folder), "--format", "json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    books = next(table for table in counted["tables"] if table["table"] == "books")
    assert (books["documents"], books["revisions"]) == (2, 2)
    assert counted["floor_ts"] == 0
    assert run(["stats", "--data", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("books") for line in lines)
    assert max(map(len, lines)) <= 80
