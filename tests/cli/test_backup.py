"""Copying a database that is being written, taking it back, making it small, and counting what is in it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest

import tinyvex as tv
from tests.support.process import ServerProcess
from tinyvex.cli.main import run
from tinyvex.storage.backup import back_up
from tinyvex.storage.check import check_folder

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
    found: list[str] = json.loads(capsys.readouterr().out)
    return found


def epoch(data: Path) -> str:
    connection = sqlite3.connect(data / "data.sqlite3")
    (value,) = connection.execute("SELECT json_value FROM globals WHERE key = 'epoch'").fetchone()
    connection.close()
    return str(value)


def test_a_backup_brings_back_what_was_there(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the same folder or another; what was there meanwhile is set aside, and the epoch is a new one."""
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
    """Eight writers go on; the copy is sound, and has exactly the commits up to its moment."""
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
    found = connection.execute(query, (until,)).fetchall()
    connection.close()
    return found


def test_a_file_that_is_there_is_not_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    """Exit code 22; with --replace it is."""
    (tmp_path / "copy").write_text("mine")
    assert run(["backup", str(tmp_path / "copy"), "--data", str(folder)]) == 22
    assert (tmp_path / "copy").read_text() == "mine"
    assert run(["backup", str(tmp_path / "copy"), "--data", str(folder), "--replace"]) == 0


def test_a_running_server_is_not_restored_over(folder: Path, tmp_path: Path) -> None:
    """Exit code 21, and nothing is touched."""
    run(["backup", str(tmp_path / "copy"), "--data", str(folder)])
    with ServerProcess(APP, folder):
        assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--yes"]) == 21
    assert list(folder.glob("replaced-*")) == []


@pytest.mark.parametrize("damage", ["text", "truncated", "another program's", "a row is missing"])
def test_what_is_no_sound_backup_is_not_restored(folder: Path, tmp_path: Path, damage: str) -> None:
    """Exit code 24, and the database that is there stays."""
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


def test_a_restore_that_fails_at_the_end_leaves_the_database(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At no moment is there a folder without one, in which a server would begin anew."""
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
    """Without an answer nothing happens."""
    run(["backup", str(tmp_path / "copy"), "--data", str(folder)])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert run(["restore", str(tmp_path / "copy"), "--data", str(folder)]) == 130
    assert list(folder.glob("replaced-*")) == []


def test_a_dry_run_restores_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what would happen, and refuses what would be refused."""
    run(["backup", str(tmp_path / "copy"), "--data", str(folder)])
    before = (folder / "data.sqlite3").read_bytes()
    capsys.readouterr()
    assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--dry-run"]) == 0
    told = capsys.readouterr().err
    assert "its database will be set aside" in told
    assert "nothing was changed" in told
    assert (folder / "data.sqlite3").read_bytes() == before
    (tmp_path / "copy").write_bytes(b"no database")
    assert run(["restore", str(tmp_path / "copy"), "--data", str(folder), "--dry-run"]) == 24


def test_a_dry_run_compacts_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts, also beside a running server."""
    before = (folder / "data.sqlite3").read_bytes()
    assert run(["compact", "--data", str(folder), "--dry-run"]) == 0
    with ServerProcess(APP, folder):
        assert run(["compact", "--data", str(folder), "--dry-run"]) == 0
    assert capsys.readouterr().err.count("0 revisions would be forgotten") == 2
    assert (folder / "data.sqlite3").read_bytes() == before


def test_compacting_makes_the_file_small(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was forgotten leaves no room behind; what is there now stays."""
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


def test_compacting_leaves_a_running_server_alone(folder: Path) -> None:
    """Exit code 21."""
    with ServerProcess(APP, folder):
        assert run(["compact", "--data", str(folder)]) == 21


def test_stats_count_documents_and_revisions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a running server too."""
    add("B", folder)
    capsys.readouterr()
    with ServerProcess(APP, folder):
        assert run(["stats", "--data", str(folder), "--format", "json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    books = next(table for table in counted["tables"] if table["table"] == "books")
    assert (books["documents"], books["revisions"]) == (2, 2)
    assert counted["floor_ts"] == 0
    assert run(["stats", "--data", str(folder)]) == 0
    assert "books" in capsys.readouterr().out
