"""`tinyvex check`: sound and damaged files."""

import sqlite3
from pathlib import Path

import pytest

from tests.support.process import ServerProcess
from tinyvex.cli.main import run

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert run(["run", "shelf:add", '{"title": "A"}', "--app", str(APP), "--data", str(tmp_path)]) == 0
    return tmp_path


def test_a_sound_file_has_no_problems(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 and no output on stdout."""
    capsys.readouterr()
    assert run(["check", "--data", str(folder)]) == 0
    assert capsys.readouterr().out == ""


def test_it_runs_alongside_a_server(folder: Path) -> None:
    """The check only reads."""
    with ServerProcess(APP, folder):
        assert run(["check", "--data", str(folder)]) == 0


def test_a_missing_derived_row_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem is a line, and the exit code is 24."""
    connection = sqlite3.connect(folder / "data.sqlite3")
    with connection:
        connection.execute("DELETE FROM current")
    connection.close()
    capsys.readouterr()
    assert run(["check", "--data", str(folder)]) == 24
    shown = capsys.readouterr()
    assert shown.out.strip()
    assert "(FileDamaged)" in shown.err


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """Exit code 22."""
    assert run(["check", "--data", str(tmp_path / "none")]) == 22
