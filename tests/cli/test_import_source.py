"""Sources that an import can read only once, or that change while it reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ENVIRONMENT
from tinyvex.cli import import_documents
from tinyvex.cli.import_source import open_source, sniff
from tinyvex.cli.main import run
from tinyvex.errors import ImportRefused
from tinyvex.storage.maintenance.export import export

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"
needs_pipes = pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in the file system")


def text(*titles: str) -> str:
    """Return books as JSON lines."""
    return "".join(json.dumps({"title": title}) + "\n" for title in titles)


def titles_of(data: Path) -> list[str]:
    """Return the titles of the books in a data folder, oldest first."""
    file = data.parent / "exported.zip"
    export(data, file, replace=True)
    with zipfile.ZipFile(file) as archive:
        return [json.loads(line)["title"] for line in archive.read("books/documents.jsonl").splitlines()]


class Ended:
    """A command that has ended."""

    def __init__(self, folder: Path, *arguments: str, stdin: Any = b"") -> None:
        where = ["--app", str(APP), "--data", str(folder / "data")]
        given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        ended = subprocess.run(
            [sys.executable, "-m", "tinyvex", *arguments, *where],
            capture_output=True,
            env=ENVIRONMENT,
            cwd=folder,
            timeout=60,
            check=False,
            **given,
        )
        self.code, self.said = ended.returncode, ended.stderr.decode()


FORMATS = {"jsonl": text("A", "B").encode(), "json": b'[{"title": "A"}, {"title": "B"}]', "csv": b"title\nA\nB\n"}


@pytest.mark.parametrize("name", FORMATS)
def test_standard_input_is_imported(tmp_path: Path, name: str) -> None:
    """JSON is recognised by its first byte; CSV needs `--format`. The reported count is what the table has."""
    options = ("--format", "csv") if name == "csv" else ()
    ended = Ended(tmp_path, "import", "-", "--table", "books", *options, stdin=FORMATS[name])
    assert (ended.code, "stdin: 2 documents of 1 table imported\n" in ended.said) == (0, True), ended.said
    assert titles_of(tmp_path / "data") == ["A", "B"]


def test_a_zip_is_imported_from_standard_input(tmp_path: Path) -> None:
    """A zip is read from its end, so it needs the copy."""
    assert Ended(tmp_path, "import", "-", "--table", "books", stdin=FORMATS["jsonl"]).code == 0
    assert run(["export", "--path", str(tmp_path / "all.zip"), "--data", str(tmp_path / "data")]) == 0
    ended = Ended(tmp_path, "import", "-", "--replace-all", "--yes", stdin=(tmp_path / "all.zip").read_bytes())
    assert ended.code == 0, ended.said
    assert titles_of(tmp_path / "data") == ["A", "B"]


@needs_pipes
@pytest.mark.parametrize("name", ["pipe.jsonl", "pipe"])
def test_a_named_pipe_is_imported(tmp_path: Path, name: str) -> None:
    """It is opened once: a second opening would wait for another writer, without end."""
    os.mkfifo(tmp_path / name)
    writer = threading.Thread(target=(tmp_path / name).write_text, args=(text("A", "B"),))
    writer.start()
    ended = Ended(tmp_path, "import", str(tmp_path / name), "--table", "books")
    writer.join()
    assert (ended.code, "2 documents of 1 table imported" in ended.said) == (0, True), ended.said
    assert titles_of(tmp_path / "data") == ["A", "B"]


@needs_pipes
def test_standard_input_has_other_names(tmp_path: Path) -> None:
    """`/dev/stdin` is standard input too."""
    ended = Ended(tmp_path, "import", "/dev/stdin", "--table", "books", stdin=FORMATS["jsonl"])
    assert ended.code == 0, ended.said
    assert titles_of(tmp_path / "data") == ["A", "B"]


def test_a_redirected_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    """The shell may have read its first lines."""
    (tmp_path / "books").write_text("a heading\n" + text("A"))
    with (tmp_path / "books").open("rb", buffering=0) as file:
        file.seek(len("a heading\n"))
        ended = Ended(tmp_path, "import", "-", "--table", "books", stdin=file)
    assert ended.code == 0, ended.said
    assert titles_of(tmp_path / "data") == ["A"]


@pytest.mark.parametrize("mode", ["--replace", "--replace-all"])
def test_a_question_cannot_be_answered_in_the_documents(tmp_path: Path, mode: str) -> None:
    """The refusal comes before anything is read; --yes skips the question."""
    assert Ended(tmp_path, "import", "-", "--table", "books", stdin=FORMATS["jsonl"]).code == 0
    ended = Ended(tmp_path, "import", "-", "--table", "books", mode, stdin=FORMATS["jsonl"])
    assert (ended.code, "pass --yes or --dry-run" in ended.said) == (2, True), ended.said
    assert Ended(tmp_path, "import", "-", "--table", "books", mode, "--yes", stdin=text("C").encode()).code == 0
    assert titles_of(tmp_path / "data") == ["C"]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    """Empty input has no format either."""
    for data in (b"", b"title\nA\n"):
        ended = Ended(tmp_path, "import", "-", "--table", "books", stdin=data)
        assert ended.code == 2
        assert "neither the name nor the first bytes of `stdin` show its format; pass --format" in ended.said


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        (b'{"a": 1}', "jsonl"), (b"\n \t{", "jsonl"), (b"\xef\xbb\xbf[", "json"), (b"  [1]", "json"),
        (b"PK\x03\x04rest", "zip"), (b"PK\x05\x06", "zip"), (b"PK,b\n", None), (b"a,b\n", None), (b"", None),
    ],
)  # fmt: skip
def test_the_first_bytes_show_the_format(beginning: bytes, expected: str | None) -> None:
    """A byte order mark and blanks may come first."""
    assert sniff(beginning) == expected


def replaced_after_counting(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Call `change` between the two readings."""
    real = import_documents._import

    async def changing(*arguments: Any) -> None:
        change()
        await real(*arguments)

    monkeypatch.setattr(import_documents, "_import", changing)


def import_file(tmp_path: Path) -> int:
    return run(
        ["import", str(tmp_path / "b.jsonl"), "--table", "books", "--app", str(APP), "--data", str(tmp_path / "data")]
    )


def test_a_file_replaced_meanwhile_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both readings see the file that was opened."""
    (tmp_path / "b.jsonl").write_text(text("A", "B"))
    (tmp_path / "new").write_text(text("C"))
    replaced_after_counting(monkeypatch, lambda: (tmp_path / "new").replace(tmp_path / "b.jsonl"))
    assert import_file(tmp_path) == 0
    assert "2 documents of 1 table imported" in capsys.readouterr().err
    assert titles_of(tmp_path / "data") == ["A", "B"]


@pytest.mark.parametrize("after", [("A",), ("A", "B", "C"), ()], ids=["shorter", "longer", "empty"])
def test_a_file_changed_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], after: tuple[str, ...]
) -> None:
    """The user was shown another count; exit code 3, and nothing is changed."""
    (tmp_path / "b.jsonl").write_text(text("A", "B"))
    replaced_after_counting(monkeypatch, lambda: (tmp_path / "b.jsonl").write_text(text(*after)))
    assert import_file(tmp_path) == ImportRefused.exit_code
    assert "`b.jsonl` changed while it was being read: it had 2 documents, then" in capsys.readouterr().err
    assert titles_of(tmp_path / "data") == []


def test_a_copy_that_does_not_fit_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 23; the message has the folder and how to choose another."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    reading, writing = os.pipe()
    os.write(writing, text("A").encode())
    os.close(writing)
    full = partial(open, "/dev/full", "r+b", buffering=0)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    monkeypatch.setattr("tinyvex.cli.import_source._open", lambda _: os.fdopen(reading, "rb"))
    assert import_file_from(Path("-"), tmp_path) == 23
    assert "set TMPDIR to a folder on another disk (DiskFull)" in capsys.readouterr().err


def import_file_from(path: Path, tmp_path: Path) -> int:
    return run(["import", str(path), "--table", "books", "--app", str(APP), "--data", str(tmp_path / "data")])


def test_a_file_that_is_not_readable_is_refused(tmp_path: Path) -> None:
    """The reason is the system's."""
    with pytest.raises(ImportRefused, match=r"`gone` cannot be read: No such file"), open_source(tmp_path / "gone"):
        pass
