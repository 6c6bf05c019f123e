"""`tinyvex wipe`: all documents are deleted in one commit, and nothing else."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinyvex as tv
from tests.support.process import ServerProcess
from tests.support.watching import Watcher
from tinyvex.cli.main import run
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.storage.maintenance.table_statistics import count

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


@pytest.fixture(params=["this process", "a server"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Two books and a reader, without and with a server."""
    folder = tmp_path / "data"
    (tmp_path / "r.csv").write_text("name\nR\n")
    options = ["--data", str(folder), "--app", str(APP)]

    def fill() -> None:
        for title in "AB":
            assert run(["run", "shelf:add", json.dumps({"title": title}), *options]) == 0
        assert run(["import", str(tmp_path / "r.csv"), "--table", "readers", *options]) == 0

    if request.param == "this process":
        fill()
        yield folder
    else:
        with ServerProcess(APP, folder):
            fill()
            yield folder
    assert check_folder(folder) == []


def wipe(data: Path, *options: str) -> int:
    """Run the command."""
    return run(["wipe", *options, "--app", str(APP), "--data", str(data)])


def counts(data: Path) -> dict[str, int]:
    """Return the number of documents in each table."""
    return {table.table: table.documents for table in count(DataFolder(data)).tables}


@pytest.mark.parametrize(
    ("options", "answer", "code"),
    [([], "y\n", 0), ([], "n\n", 130), ([], "", 2), (["--yes"], "", 0), (["--dry-run"], "", 0)],
    ids=["yes", "no", "no answer", "not asked", "dry run"],
)
def test_it_asks_first(
    data: Path, options: list[str], answer: str, code: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The question follows the number of deletions; without a yes nothing is deleted."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert wipe(data, *options) == code
    output = capsys.readouterr().err
    assert "  books    2 to delete\n  readers  1 to delete\n" in output
    assert ("Delete them?" in output) == (options == [])
    wiped = code == 0 and options != ["--dry-run"]
    assert counts(data) == ({"books": 0, "readers": 0} if wiped else {"books": 2, "readers": 1})
    assert ("3 documents deleted" in output) == wiped


def test_one_table_can_be_named(data: Path) -> None:
    """Other tables keep their documents."""
    assert wipe(data, "--table", "readers", "--yes") == 0
    assert counts(data) == {"books": 2, "readers": 0}


def test_an_unknown_table_is_a_usage_error(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2; the message lists the tables."""
    assert wipe(data, "--table", "nope", "--yes") == 2
    assert "there is no table `nope`; the tables are `books`, `readers`" in capsys.readouterr().err
    assert counts(data) == {"books": 2, "readers": 1}


def test_functions_still_work_afterwards(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They read through their indexes."""
    assert wipe(data, "--yes") == 0
    assert wipe(data) == 0  # nothing is left to ask about
    options = ["--data", str(data), "--app", str(APP)]
    assert run(["run", "shelf:add", '{"title": "C"}', *options]) == 0
    capsys.readouterr()
    assert run(["run", "shelf:titles", *options]) == 0
    assert json.loads(capsys.readouterr().out) == ["C"]


def test_no_app_is_needed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The documents are deleted without running any app's code, and the app finds its tables unchanged."""
    assert run(["wipe", "--yes", "--data", str(data)]) == 0
    assert counts(data) == {"books": 0, "readers": 0}
    options = ["--data", str(data), "--app", str(APP)]
    assert run(["run", "shelf:add", '{"title": "C"}', *options]) == 0
    capsys.readouterr()
    assert run(["run", "shelf:titles", *options]) == 0
    assert json.loads(capsys.readouterr().out) == ["C"]


def test_a_folder_without_database_is_not_wiped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No empty database is created to delete nothing."""
    assert run(["wipe", "--yes", "--data", str(tmp_path / "none")]) == 22
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


async def test_clients_see_the_deletion(tmp_path: Path) -> None:
    """They see all documents, then none, then new ones."""
    with ServerProcess(APP, tmp_path) as server:
        async with tv.connect(server.url, server.ready["token"]) as client:
            await client.mutation("shelf:add", {"title": "A"})
            watcher = Watcher(client, [("shelf:titles", None)])
            await watcher.until([["A"]])
            assert await asyncio.to_thread(run, ["wipe", "--yes", "--data", str(tmp_path)]) == 0
            await watcher.until([[]])
            await client.mutation("shelf:add", {"title": "B"})
            await watcher.until([["B"]])
            assert watcher.views == [[["A"]], [[]], [["B"]]]
