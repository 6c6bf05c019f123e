"""`tinyvex drop`, with and without a server: a table that the app no longer declares is removed, and can come back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import ServerProcess
from tinyvex.cli.main import run
from tinyvex.storage.maintenance.check import check_folder

BEFORE = """
import tinyvex as tv

@tv.table("cards", indexes={"by_n": ["n"]})
class Card(tv.Document):
    n: int

@tv.table("notes")
class Note(tv.Document):
    text: str
"""
AFTER = BEFORE.partition('@tv.table("cards"')[0] + '@tv.table("notes")' + BEFORE.partition('@tv.table("notes")')[2]


class Folder:
    """Commands on one data folder, and their output."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.app = folder / "app.py"
        self.options = ["--data", str(folder / "data"), "--app", str(self.app)]
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.out = self.err = ""

    def run(self, *arguments: str, answer: str = "", app: bool = True) -> int:
        """Run a command with this input; return its exit code."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        self._capsys.readouterr()
        code = run([*arguments, *self.options[: 4 if app else 2]])
        self.out, self.err = self._capsys.readouterr()
        return code

    def tables(self) -> dict[str, int]:
        """Return the number of documents of each table."""
        assert self.run("data", "--format", "jsonl", app=False) == 0
        return {row["table"]: row["documents"] for row in map(json.loads, self.out.splitlines())}


@pytest.fixture(params=["this process", "a server"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Folder]:
    """Two cards that the app declared formerly, without and with a server."""
    made = Folder(tmp_path, capsys, monkeypatch)
    made.app.write_text(BEFORE)
    (tmp_path / "cards.jsonl").write_text('{"n": 2}\n{"n": 1}\n')
    assert made.run("import", str(tmp_path / "cards.jsonl"), "--table", "cards") == 0
    made.app.write_text(AFTER)
    if request.param == "this process":
        yield made
    else:
        with ServerProcess(made.app, tmp_path / "data"):
            yield made
    assert check_folder(tmp_path / "data") == []


def test_a_table_without_a_declaration_is_dropped(folder: Folder) -> None:
    """The others stay."""
    assert folder.run("drop", "cards", "--yes") == 0
    assert "`cards` dropped with 2 documents" in folder.err
    assert folder.tables() == {"notes": 0}


def test_without_the_app_its_last_declarations_count(folder: Folder) -> None:
    """A table that the app declared when it was served last is not dropped, any other is."""
    is_served = folder.run("function-spec", app=False) == 0  # it needs the app or a server
    assert folder.run("drop", "cards", "--yes", app=False) == (0 if is_served else 3)
    assert folder.run("drop", "notes", "--yes", app=False) == 3
    assert "the app declares `notes`" in folder.err
    if not is_served:
        assert folder.run("run", "app:nothing") == 3
        assert folder.run("drop", "cards", "--yes") == 0


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, {"notes": 0}), ("n\n", 130, {"cards": 2, "notes": 0}), ("", 2, {"cards": 2, "notes": 0})])  # fmt: skip
def test_documents_are_deleted_after_a_yes_only(folder: Folder, answer: str, code: int, left: dict[str, int]) -> None:
    """The question names the table and the number of its documents."""
    assert folder.run("drop", "cards", answer=answer) == code
    assert "Drop `cards` with 2 documents?" in folder.err
    assert folder.tables() == left


def test_a_dry_run_changes_nothing(folder: Folder) -> None:
    """It reports the number of documents."""
    assert folder.run("drop", "cards", "--dry-run") == 0
    assert "`cards` would be dropped with 2 documents; nothing was changed" in folder.err
    assert folder.tables() == {"cards": 2, "notes": 0}


@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_a_declared_table_is_refused(folder: Folder, option: str) -> None:
    """The running app needs it; the message has another way."""
    assert folder.run("drop", "notes", option) == 3
    assert "the app declares `notes`" in folder.err
    assert "`tinyvex wipe --table notes` (TableDeclared)" in folder.err


def test_an_unknown_table_is_refused(folder: Folder) -> None:
    """With a suggestion."""
    assert folder.run("drop", "card", "--yes") == 3
    assert (
        "there is no table `card`; the tables are `cards`, `notes`; did you mean `cards`? (UnknownTable)" in folder.err
    )


def test_it_can_be_undone_from_history(folder: Folder, tmp_path: Path) -> None:
    """As `--help` describes: the documents come back with their ids and creation times."""
    assert folder.run("data", "cards", "--order", "asc", "--format", "jsonl", app=False) == 0
    before = folder.out
    assert folder.run("stats", "--format", "json", app=False) == 0
    ts = json.loads(folder.out)["last_ts"]
    assert folder.run("drop", "cards", "--yes") == 0
    assert (
        folder.run("data", "cards", "--at", str(ts), "--limit", "0", "--order", "asc", "--format", "jsonl", app=False)
        == 0
    )
    assert folder.out == before
    (tmp_path / "back.jsonl").write_text(folder.out)
    assert folder.run("import", str(tmp_path / "back.jsonl"), "--table", "cards") == 0
    assert folder.run("data", "cards", "--order", "asc", "--format", "jsonl", app=False) == 0
    assert folder.out == before
