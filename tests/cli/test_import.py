"""`tinyvex import`, with and without a server: each mode, and the reports of what is wrong."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ServerProcess
from tinyvex.cli.main import run
from tinyvex.functions.system import import_functions
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.values.ids import DocumentId

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"
BOOKS = 10_001


class Shelf:
    """Commands on one data folder, and their output."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.said = ""

    def run(self, *arguments: str, answer: str = "") -> int:
        """Run a command with this input; return its exit code."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        self._capsys.readouterr()
        code = run([*arguments, "--data", str(self.data)])
        printed = self._capsys.readouterr()
        self.said = printed.err + printed.out
        return code

    def load(self, name: str, text: str | bytes, *options: str, answer: str = "") -> int:
        """Import a file."""
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        table = () if name.endswith(".zip") or "--table" in options else ("--table", "books")
        return self.run("import", str(path), *table, *options, "--app", str(APP), answer=answer)

    def add(self, *titles: str) -> None:
        """Add books through the app's function."""
        for title in titles:
            assert self.run("run", "shelf:add", json.dumps({"title": title}), "--app", str(APP)) == 0

    def exported(self) -> dict[str, list[dict[str, Any]]]:
        """Return each table's documents."""
        file = self.folder / "exported.zip"
        assert self.run("export", "--path", str(file), "--replace") == 0
        with zipfile.ZipFile(file) as archive:
            return {
                name.partition("/")[0]: [json.loads(line) for line in archive.read(name).splitlines()]
                for name in archive.namelist()
                if name.endswith("documents.jsonl") and name[0] != "_"
            }

    def titles(self) -> list[str]:
        """Return the titles of the books, oldest first."""
        return [book["title"] for book in self.exported()["books"]]


@pytest.fixture(params=["this process", "a server"])
def shelf(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shelf]:
    """Two books, without and with a server; the file is sound in the end."""
    made = Shelf(tmp_path, capsys, monkeypatch)
    if request.param == "this process":
        made.add("A", "B")
        yield made
    else:
        with ServerProcess(APP, made.data):
            made.add("A", "B")
            yield made
    assert check_folder(made.data) == []


@pytest.fixture
def alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """Two books and no server."""
    made = Shelf(tmp_path, capsys, monkeypatch)
    made.add("A", "B")
    yield made
    assert check_folder(made.data) == []


def lines(*titles: str) -> str:
    """Return books as JSON lines."""
    return "".join(json.dumps({"title": title}) + "\n" for title in titles)


def zipped(**tables: list[Any]) -> bytes:
    """Return an export with these documents and the table numbers from 10001 on."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        numbers = [{"name": name, "id": BOOKS + index} for index, name in enumerate(tables)]
        archive.writestr("_tables/documents.jsonl", "\n".join(map(json.dumps, numbers)))
        for name, documents in tables.items():
            archive.writestr(f"{name}/documents.jsonl", "\n".join(map(json.dumps, documents)))
    return buffer.getvalue()


# The modes.


def test_by_default_tables_must_be_empty(shelf: Shelf) -> None:
    """Exit code 3, and the message names the options; an empty table accepts documents."""
    assert shelf.load("new.jsonl", lines("C")) == 3
    assert "`books` has documents; append to them (--append) or replace them (--replace)" in shelf.said
    assert shelf.load("new.jsonl", '{"name":"R"}', "--table", "readers") == 0
    assert "  readers  1 created\n" in shelf.said
    assert "new.jsonl: 1 document of 1 table imported\n" in shelf.said
    assert shelf.titles() == ["A", "B"]
    assert shelf.exported()["readers"][0]["name"] == "R"


@pytest.mark.parametrize("options", [(), ("--append",), ("--replace", "--yes"), ("--append", "--dry-run")])
def test_a_truncated_file_reports_no_change(shelf: Shelf, options: tuple[str, ...]) -> None:
    """Counts of a file that is refused would look as if its beginning had been imported."""
    table = () if options else ("--table", "readers")
    assert shelf.load("new.jsonl", lines("C", "D") + '{"title": "E', *options, *table) == 3
    assert ("created" in shelf.said, "to create" in shelf.said) == (False, False), shelf.said
    assert shelf.titles() == ["A", "B"]


def test_appended_documents_are_added(shelf: Shelf) -> None:
    """Nothing is deleted, so there is no question; defaults are filled in."""
    assert shelf.load("new.jsonl", lines("C"), "--append") == 0
    assert "  books  1 created in addition to 2\n" in shelf.said
    assert shelf.titles() == ["A", "B", "C"]
    assert shelf.exported()["books"][2]["pages"] == 100


@pytest.mark.parametrize(
    ("options", "answer", "code"),
    [((), "y\n", 0), ((), "n\n", 130), ((), "", 2), (("--yes",), "", 0), (("--dry-run",), "", 0)],
    ids=["yes", "no", "no answer", "not asked", "dry run"],
)
def test_replacing_asks_first(shelf: Shelf, options: tuple[str, ...], answer: str, code: int) -> None:
    """
    The question follows the number of deletions. Without a yes nothing is changed, and the next import works.

    Documents are reported as deleted and created only after the commit.
    """
    assert shelf.load("new.jsonl", lines("C", "D"), "--replace", *options, answer=answer) == code
    changes = "2 deleted, 2 created" if options == ("--yes",) else "2 to delete, 2 to create"
    assert f"  books  {changes}\n" in shelf.said
    assert ("All documents are valid. Import them?" in shelf.said) == (options == ())
    changed = code == 0 and "--dry-run" not in options
    assert shelf.titles() == (["C", "D"] if changed else ["A", "B"])
    assert shelf.load("more.jsonl", lines("E"), "--append") == 0


def test_replacing_leaves_other_tables_and_replacing_all_does_not(shelf: Shelf) -> None:
    """All deletions are reported."""
    assert shelf.load("r.jsonl", '{"name":"R"}', "--table", "readers") == 0
    assert shelf.load("new.zip", zipped(books=[{"title": "C", "pages": 1}]), "--replace", "--yes") == 0
    assert [len(rows) for rows in shelf.exported().values()] == [1, 1]
    assert shelf.load("new.zip", zipped(books=[]), "--replace-all", "--yes") == 0
    assert "  books    1 deleted\n  readers  1 deleted\n" in shelf.said
    assert [len(rows) for rows in shelf.exported().values()] == [0, 0]


def test_a_dry_run_reports_problems(shelf: Shelf) -> None:
    """Its exit code is that of the import."""
    assert shelf.load("new.jsonl", "{}\n", "--replace", "--dry-run") == 3
    assert "new.jsonl:1: $.title: missing" in shelf.said
    assert shelf.load("new.jsonl", lines("C"), "--append", "--dry-run") == 0
    assert "new.jsonl: 1 document of 1 table would be imported; nothing was changed\n" in shelf.said
    assert shelf.titles() == ["A", "B"]


def test_an_existing_id_cannot_be_appended(shelf: Shelf) -> None:
    """The message has the line."""
    book = shelf.exported()["books"][1]
    assert shelf.load("new.jsonl", lines("C") + json.dumps(book), "--append") == 3
    assert f"new.jsonl:2: $._id: `{book['_id']}` exists already" in shelf.said


# What is wrong is named.


def test_every_invalid_line_is_reported(shelf: Shelf) -> None:
    """With file, line and field, in the file's order; nothing is changed."""
    text = '{"title":"C"}\n\n{"titel":"D","title":1}\n7\n{"title":"E","pages":"x"}\n{"title":"F"}\n{'
    assert shelf.load("new.jsonl", text, "--append") == 3
    named = [line for line in shelf.said.splitlines() if line.startswith("new.jsonl:")]
    expected = ["3: $.titel:", "3: $.title:", "4: a document must be a JSON object", "5: $.pages:", "7: "]
    assert len(named) == len(expected)
    assert [line.startswith(f"new.jsonl:{part}") for line, part in zip(named, expected, strict=True)] == [True] * 5
    assert "tinyvex: the file has 5 errors; nothing was changed (ImportRefused)" in shelf.said
    assert shelf.titles() == ["A", "B"]


@pytest.mark.parametrize("modes", [("--append", "--replace"), ("--replace-all", "--append", "--yes")])
def test_the_modes_exclude_each_other(shelf: Shelf, modes: tuple[str, ...]) -> None:
    """Two of them are a usage error. If one of them won, the import could delete documents that the user wanted to keep."""
    assert shelf.load("new.jsonl", lines("C"), *modes) == 2
    assert "--append, --replace and --replace-all exclude each other; pass one of them" in shelf.said
    assert shelf.titles() == ["A", "B"]


def test_invalid_lines_of_all_tables_of_a_zip_are_reported(alone: Shelf) -> None:
    """The message has the entry; problems of one table do not hide those of another."""
    assert alone.load("new.zip", zipped(books=[{"title": 1}], readers=[{"name": "R"}, {}]), "--replace") == 3
    assert "new.zip/books/documents.jsonl:1: $.title" in alone.said
    assert "new.zip/readers/documents.jsonl:2: $.name: missing" in alone.said


def test_without_the_app_a_declared_table_is_refused(alone: Shelf) -> None:
    """Only the table's class can validate its documents, and the app that was served last is not run unasked."""
    alone.folder.joinpath("new.jsonl").write_text(lines("C"))
    command = ["import", str(alone.folder / "new.jsonl"), "--append", "--table"]
    assert alone.run(*command, "books") == 3
    assert "an app declares table `books` and must validate its documents; name the app with --app" in alone.said
    assert alone.run(*command, "others") == 0
    assert alone.titles() == ["A", "B"]


def test_an_invalid_line_of_a_later_step_has_its_number(alone: Shelf) -> None:
    """Lines are sent to the server in steps."""
    text = lines(*map(str, range(1300))) + "{}\n" + lines("after")
    assert alone.load("new.jsonl", text, "--append") == 3
    assert "new.jsonl:1301: $.title: missing\n" in alone.said


def test_a_truncated_file_changes_nothing(alone: Shelf) -> None:
    """The file is read to its end before anything is sent."""
    assert alone.load("new.json", '[{"title": "C"},\n{"title": ', "--replace", "--yes") == 3
    assert "new.json:2: invalid JSON" in alone.said
    assert alone.titles() == ["A", "B"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["new.txt", "--table", "books"], "show its format; pass --format zip|jsonl|json|csv"),
        (["new.jsonl"], "`new.jsonl` does not name a table; pass --table TABLE"),
        (["none.jsonl", "--table", "books"], "does not exist"),
        (["new.jsonl", "--table", "books", "--format", "xml"], "'xml' is not one of"),
    ],
)
def test_wrong_usage(alone: Shelf, arguments: list[str], expected: str) -> None:
    """Exit code 2, and the message explains what to pass."""
    (alone.folder / "new.txt").write_text("title\nC\n")
    (alone.folder / "new.jsonl").write_text(lines("C"))
    assert alone.run("import", str(alone.folder / arguments[0]), *arguments[1:], "--app", str(APP)) == 2
    assert expected in alone.said


def test_invalid_table_names_are_refused(alone: Shelf) -> None:
    """Exit code 3."""
    assert alone.load("new.jsonl", lines("C"), "--table", "_tables") == 3
    assert "`_tables` cannot be a table name" in alone.said


def test_many_problems_are_counted_and_the_first_listed(alone: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong file does not flood the screen."""
    monkeypatch.setattr("tinyvex.cli.import_session.IMPORT_PROBLEMS_MAX", 10)
    assert alone.load("new.jsonl", "{}\n" * 2000, "--append") == 3
    assert alone.said.count("$.title: missing") == 10
    assert "tinyvex: the file has 2,000 errors; nothing was changed" in alone.said


# Formats.

FORMATS: dict[str, str] = {
    "new.json": '[{"title": "C", "pages": 7},\n {"title": "D"}]',
    "new.jsonl": '{"title": "C", "pages": 7}\n{"title": "D"}\n',
    "new.ndjson": '{"title": "C", "pages": 7}\r\n{"title": "D"}',
    "new.csv": "title,pages\nC,7\nD,\n",
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_imports_the_same_documents(alone: Shelf, name: str) -> None:
    """The format follows from the suffix or from `--format`."""
    for options, file in ((["--replace"], name), (["--replace", "--format", alias(name)], "other")):
        assert alone.load(file, FORMATS[name], "--yes", *options) == 0
        assert [(book["title"], book["pages"]) for book in alone.exported()["books"]] == [("C", 7), ("D", 100)]


def alias(name: str) -> str:
    """Return the name of the format for `--format`."""
    return {"new.json": "json", "new.csv": "csv"}.get(name, "jsonl")


def test_one_table_of_a_zip_can_be_imported(alone: Shelf) -> None:
    """Other tables stay unchanged."""
    data = zipped(books=[{"title": "C", "pages": 1}], readers=[{"name": "R"}])
    assert alone.load("new.zip", data, "--table", "readers") == 0
    assert [reader["name"] for reader in alone.exported()["readers"]] == ["R"]
    assert alone.titles() == ["A", "B"]


def test_ids_of_a_file_keep_their_table(alone: Shelf) -> None:
    """Documents with ids are imported under these ids."""
    ids = [DocumentId(BOOKS, bytes([n]) * 16).text for n in (1, 2)]
    rows = [{"_id": text, "_creationTime": 5.0, "title": text, "pages": 1} for text in ids]
    assert alone.load("new.zip", zipped(books=rows), "--replace", "--yes") == 0
    assert alone.exported()["books"] == rows


def test_a_line_of_very_many_values_is_not_decoded(alone: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of 8 MB, which are 8 KB in a zip, would become 2,700,000 objects."""
    lengths: list[int] = []
    decode = import_functions._decode
    monkeypatch.setattr(
        import_functions, "_decode", lambda text, *rest: lengths.append(len(text)) or decode(text, *rest)
    )
    text = '{"a": [' + "{}," * 2_700_000 + "{}]}\n" + '{"a": "' + "\\u0078" * 1_000_000 + '"}\n'
    assert alone.load("new.jsonl", text, "--table", "others") == 3
    assert "new.jsonl:1: the document is too long" in alone.said
    assert "new.jsonl:2:" not in alone.said
    assert lengths == [len(text.splitlines()[1])]
