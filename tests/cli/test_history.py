"""`tinyvex history`, with and without a server."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ServerProcess
from tinyvex.cli.history import changes
from tinyvex.cli.main import run
from tinyvex.storage.file.database_file import set_global
from tinyvex.values.ids import DocumentId, parse_id

APP = Path(__file__).resolve().parents[1] / "support" / "notebook.py"


class Notebook:
    """A data folder whose notes are written by commands."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def command(self, *arguments: str) -> str:
        """Return the output of a command that succeeds."""
        self._capsys.readouterr()
        app = ["--app", str(APP)] if arguments[0] == "run" else []
        assert run([*arguments, "--data", str(self.folder), *app]) == 0
        return self._capsys.readouterr().out

    def fail(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the message of a command that fails."""
        self._capsys.readouterr()
        return run([*arguments, "--data", str(self.folder)]), self._capsys.readouterr().err

    def write(self, title: str) -> str:
        """Create a note and return its id."""
        note: str = json.loads(self.command("run", "notebook:write", json.dumps({"title": title})))
        return note

    def change(self, note: str, **fields: Any) -> None:
        self.command("run", "notebook:change", json.dumps({"note": note, "fields": fields}))

    def remove(self, note: str) -> None:
        self.command("run", "notebook:remove", json.dumps({"note": note}))

    def history(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the revisions as JSON lines have them."""
        return [json.loads(line) for line in self.command("history", *arguments, "--format", "jsonl").splitlines()]


@pytest.fixture(params=["the file", "a server"])
def notebook(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Notebook]:
    made = Notebook(tmp_path, capsys)
    if request.param == "the file":
        made.write("First")  # a folder without a database has no history
        yield made
    else:
        with ServerProcess(APP, tmp_path):
            yield made


def test_revisions_are_listed_oldest_first(notebook: Notebook) -> None:
    """Each has its `ts`, the kind of change, the changed fields and the document; a deletion has no document."""
    note = notebook.write("A")
    notebook.change(note, title="B")
    notebook.change(note, tags={"red": 1})
    notebook.remove(note)
    revisions = notebook.history(note)
    assert [revision["change"] for revision in revisions] == ["created", "changed", "changed", "deleted"]
    assert [revision.get("fields") for revision in revisions] == [
        None,
        {"title": {"before": "A", "after": "B"}},
        {"tags": {"before": None, "after": {"red": 1}}},
        None,
    ]
    assert [revision["document"] and revision["document"]["title"] for revision in revisions] == ["A", "B", "B", None]
    moments = [revision["ts"] for revision in revisions]
    assert moments == sorted(moments)
    assert moments[0] == pytest.approx(revisions[0]["document"]["_creationTime"] * 1000, abs=1)


def test_for_people_there_is_a_line_for_each_field(notebook: Notebook) -> None:
    """An added field is marked +, a changed one ~ with both values."""
    note = notebook.write("A")
    notebook.change(note, title="B")
    lines = [line.split("  ", 1)[-1].strip() for line in notebook.command("history", note).splitlines()]
    assert lines == ["created", "+ rank: 0", "+ tags: null", '+ title: "A"', "changed", '~ title: "A" → "B"']


def test_json_is_one_array(notebook: Notebook) -> None:
    """It has the same revisions as JSON lines."""
    note = notebook.write("A")
    assert json.loads(notebook.command("history", note, "--format", "json")) == notebook.history(note)


def test_the_table_may_be_named(notebook: Notebook) -> None:
    """It must be the table of the id."""
    note = notebook.write("A")
    assert notebook.history("notes", note) == notebook.history(note)
    code, shown = notebook.fail("history", "books", note)
    assert code == 3
    assert "`notes`" in shown


def test_an_invalid_id_is_an_error(notebook: Notebook) -> None:
    """Exit code 3, as for any call."""
    code, shown = notebook.fail("history", "nothing")
    assert code == 3
    assert "InvalidId" in shown


def test_an_unknown_id_is_an_error(notebook: Notebook) -> None:
    """An empty history is not a history."""
    never = DocumentId(parse_id(notebook.write("A")).table, bytes(16)).text
    code, shown = notebook.fail("history", never)
    assert code == 3
    assert f"no revision of `{never}` is retained" in shown


def test_too_many_words_are_a_usage_error(notebook: Notebook) -> None:
    """Exit code 2."""
    assert notebook.fail("history", "a", "b", "c")[0] == 2


def test_many_revisions_come_in_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No revision is lost or repeated between pages, and each is compared with the previous one."""
    notebook = Notebook(tmp_path, capsys)
    monkeypatch.setattr("tinyvex.functions.system.system_queries.SCAN_PAGE_ROWS", 3)
    note = notebook.write("0")
    for number in range(1, 8):
        notebook.change(note, title=str(number))
    revisions = notebook.history(note)
    assert [revision["document"]["title"] for revision in revisions] == [str(number) for number in range(8)]
    assert [revision["fields"]["title"]["before"] for revision in revisions[1:]] == [str(n) for n in range(7)]


@pytest.fixture
def purged(notebook: Notebook) -> tuple[Notebook, str, list[int]]:
    """A note with three revisions, the first of which is below the floor, and their times."""
    note = notebook.write("A")
    notebook.change(note, title="B")
    notebook.change(note, title="C")
    moments = [revision["ts"] for revision in notebook.history(note)]
    connection = sqlite3.connect(notebook.folder / "data.sqlite3")
    with connection:
        set_global(connection, "floor_ts", moments[1] + 1)
    connection.close()
    return notebook, note, moments


def test_revisions_below_the_floor_are_not_shown(
    purged: tuple[Notebook, str, list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first revision is the state at the floor, and a note on stderr reports that older ones have expired."""
    notebook, note, moments = purged
    revisions = notebook.history(note)
    assert [(revision["ts"], revision["change"]) for revision in revisions] == [
        (moments[1], "kept"),
        (moments[2], "changed"),
    ]
    assert run(["history", note, "--data", str(notebook.folder)]) == 0
    assert capsys.readouterr().err == "(older revisions have expired)\n"


def test_changes_descend_into_objects() -> None:
    """A field inside an object has a path; arrays and encoded values are compared as a whole."""
    before = {"same": 1, "gone": 2, "inner": {"a": 1, "b": 1}, "list": [1, 2], "big": {"$integer": "AA"}}
    after = {"same": 1, "come": 3, "inner": {"a": 1, "b": 2}, "list": [1, 3], "big": {"$integer": "BB"}}
    assert changes(before, after) == {
        "gone": {"before": 2},
        "inner.b": {"before": 1, "after": 2},
        "list": {"before": [1, 2], "after": [1, 3]},
        "big": {"before": {"$integer": "AA"}, "after": {"$integer": "BB"}},
        "come": {"after": 3},
    }
