"""`tinyvex data`, beside a server and without one."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.process import ServerProcess
from tinyvex.cli.main import run

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"
BOOKS = 130

Data = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with many books and no server."""
    path = tmp_path_factory.mktemp("shelf")
    assert run(["run", "shelf:add_many", json.dumps({"count": BOOKS}), "--app", str(APP), "--data", str(path)]) == 0
    return path


@pytest.fixture(scope="module", params=["the file", "a server"])
def place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Path]:
    """The same folder, first without and then with a server that owns it."""
    if request.param == "the file":
        yield folder
    else:
        with ServerProcess(APP, folder):
            yield folder


@pytest.fixture
def data(place: Path, capsys: pytest.CaptureFixture[str]) -> Data:
    def show(*arguments: str) -> str:
        capsys.readouterr()
        assert run(["data", *arguments, "--data", str(place)]) == 0
        return capsys.readouterr().out

    return show


def test_tables_are_listed_with_their_counts(data: Data) -> None:
    """Without a table: every table, empty ones too."""
    assert json.loads(data("--format", "json")) == [
        {"table": "books", "documents": BOOKS},
        {"table": "readers", "documents": 0},
    ]


def test_tables_are_aligned_for_people(data: Data) -> None:
    """The default form has one line per table under a heading."""
    assert data().split() == ["table", "documents", "-------", "---------", "books", str(BOOKS), "readers", "0"]


def test_documents_are_newest_first(data: Data) -> None:
    """One JSON document per line, as stored, the newest first."""
    lines = [json.loads(line) for line in data("books", "--format", "jsonl", "--limit", "3").splitlines()]
    assert [line["title"] for line in lines] == ["Volume 0129", "Volume 0128", "Volume 0127"]
    assert set(lines[0]) == {"_id", "_creationTime", "title", "pages"}


def test_documents_in_order_of_creation(data: Data) -> None:
    """`--order asc` begins with the oldest."""
    lines = [json.loads(line) for line in data("books", "--format", "jsonl", "--order", "asc").splitlines()]
    assert [line["pages"] for line in lines] == list(range(100))


def test_all_documents(data: Data) -> None:
    """`--limit 0` shows all of them, over many pages."""
    assert len(json.loads(data("books", "--format", "json", "--limit", "0"))) == BOOKS


def test_an_empty_table_is_an_empty_array(data: Data) -> None:
    """JSON stays JSON when there is nothing."""
    assert json.loads(data("readers", "--format", "json")) == []
    assert data("readers", "--format", "jsonl") == ""


def test_documents_are_aligned_for_people(data: Data) -> None:
    """The id comes first, the time of creation last."""
    heading, _, first, *_ = data("books", "--limit", "2").splitlines()
    assert heading.split() == ["_id", "pages", "title", "_creationTime"]
    assert "Volume 0129" in first


def test_an_unknown_table_is_an_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names it, and the exit code is a function's."""
    assert run(["data", "nothing", "--data", str(place)]) == 3
    assert "nothing" in capsys.readouterr().err


def test_a_missing_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Looking makes no folder."""
    assert run(["data", "--data", str(tmp_path / "none")]) == 22
    assert not (tmp_path / "none").exists()
    assert "none" in capsys.readouterr().err
