"""`tinyvex new` creates a project that works unchanged."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ENVIRONMENT
from tinyvex.cli import new
from tinyvex.cli.app_location import find_app
from tinyvex.cli.main import run
from tinyvex.cli.new import TEMPLATES
from tinyvex.errors import DataFolderUnusable


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert run(["new", "My notes"]) == 0
    return tmp_path / "My notes"


def test_it_creates_every_file(project: Path) -> None:
    """App, test, client, project file and .gitignore exist."""
    assert {path.name for path in project.iterdir()} == set(TEMPLATES)


def test_its_app_is_found(project: Path) -> None:
    """Inside the new folder, commands find the app."""
    assert find_app(None, None, start=project).app == project / "app.py"


def test_its_files_are_python(project: Path) -> None:
    """The templates are valid Python, without remaining braces."""
    for path in project.glob("*.py"):
        compile(path.read_text(), str(path), "exec")
        assert "{{" not in path.read_text()


def test_its_own_test_passes(project: Path) -> None:
    """The generated test passes unchanged."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_it_overwrites_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run in the same folder is refused and changes nothing."""
    (project / "app.py").write_text("mine")
    assert run(["new", "My notes"]) == 2
    assert (project / "app.py").read_text() == "mine"
    assert "nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["README.md", "app.py", ".gitignore", "src"])
def test_a_folder_with_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A misspelt or omitted name would otherwise mix the project with other files; the message has their names."""
    (tmp_path / name).mkdir()
    assert run(["new", str(tmp_path)]) == 2
    assert f"already contains `{name}`; nothing was written; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_with_only_hidden_files_is_filled(tmp_path: Path) -> None:
    """As after `git init`."""
    (tmp_path / ".git").mkdir()
    assert run(["new", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {".git", *TEMPLATES}


def test_a_full_disk_leaves_no_part_of_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 23; after room was made, the same command works."""
    package_name = new._package_name

    def fail(name: str) -> str:
        if (tmp_path / "app.py").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return package_name(name)

    with monkeypatch.context() as full:
        full.setattr(new, "_package_name", fail)
        assert run(["new", str(tmp_path)]) == 23
    assert "cannot be created: the disk is full; free some space, then retry (DiskFull)" in capsys.readouterr().err
    assert run(["new", str(tmp_path)]) == 0


def test_its_client_reports_a_missing_server(project: Path) -> None:
    """The last line, after some seconds; the client's log has the reason."""
    client = project / "client.py"
    client.write_text(
        client.read_text().replace(":4800", ":1").replace("wait_connected(), 5)", "wait_connected(), 0.01)")
    )
    ended = subprocess.run([sys.executable, str(client)], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    lines = ended.stderr.splitlines()
    assert (ended.returncode, lines[-1]) == (1, "no server at ws://127.0.0.1:1: start one with `tinyvex dev`")
    assert "the connection was refused" in lines[0]
    assert len(lines) == 2


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is reported in one line, with the reason."""
    (tmp_path / "notes").touch()
    assert run(["new", str(tmp_path / "notes")]) == DataFolderUnusable.exit_code
    assert f"tinyvex: `{tmp_path / 'notes'}` cannot be created: File exists" in capsys.readouterr().err
    assert run(["new", str(tmp_path / "notes" / "inner")]) == DataFolderUnusable.exit_code
    assert "inner` cannot be created: Not a directory" in capsys.readouterr().err
