"""Promise 8, on the disk: another user of the machine chooses neither the code that a command runs nor the files it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.other_user import OtherUser, other_user
from tests.support.process import ENVIRONMENT, ServerProcess
from tinyvex.cli.main import run

SHELF = Path(__file__).resolve().parents[1] / "support" / "shelf.py"
UNUSABLE = 22
NOT_FOUND = 12

NEEDS_AN_APP = (["dev"], ["serve"], ["function-spec"], ["run", "chat:send"])
NEEDS_DATA = (["wipe", "--yes"], ["import", "rows.jsonl", "--table", "t"], ["data"], ["check"], ["drop", "t"])


@pytest.fixture
def mallory() -> Iterator[OtherUser]:
    """Another user of this machine."""
    with other_user() as user:
        yield user


@pytest.fixture
def work(mallory: OtherUser, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, below the folder that everyone may use."""
    folder = mallory.shared / "work"
    folder.mkdir(mode=0o700)
    (folder / "rows.jsonl").write_text("{}\n")
    monkeypatch.chdir(folder)
    return folder


def plant_code(user: OtherUser) -> None:
    """Let the other user write an app that shows whether it was imported."""
    user.run("echo 'import pathlib; pathlib.Path(__file__).with_name(\"stolen\").touch()' > evil.py")


def stolen(user: OtherUser) -> bool:
    """Return whether the other user's app was imported."""
    return (user.shared / "stolen").exists()


@pytest.mark.parametrize("command", [*NEEDS_AN_APP, *NEEDS_DATA], ids=" ".join)
@pytest.mark.parametrize("place", ["above", "here"])
def test_a_planted_data_folder_is_ignored(
    mallory: OtherUser,
    work: Path,
    place: str,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also in a working directory that everyone may use; the error has the owner."""
    plant_code(mallory)
    mallory.run('mkdir .tinyvex; echo \'{"app": "evil.py"}\' > .tinyvex/served.json')
    if place == "here":
        (work / "rows.jsonl").rename(mallory.shared / "rows.jsonl")
        monkeypatch.chdir(mallory.shared)
    assert run(command) == NOT_FOUND
    assert f"`{mallory.shared}/.tinyvex` was ignored" in (said := capsys.readouterr().err)
    assert f"belongs to the user with id {mallory.id}" in said
    assert not stolen(mallory)


@pytest.mark.parametrize("command", NEEDS_AN_APP, ids=" ".join)
def test_a_planted_project_file_is_ignored(mallory: OtherUser, work: Path, command: list[str]) -> None:
    """A project file names code, as a data folder does."""
    plant_code(mallory)
    mallory.run("printf '[tool.tinyvex]\\napp = \"evil.py\"\\n' > pyproject.toml")
    assert run(command) == NOT_FOUND
    assert not stolen(mallory)


def test_a_link_of_another_user_is_ignored(mallory: OtherUser, work: Path) -> None:
    """It would make a command delete the documents of another project of its own user."""
    with ServerProcess(SHELF, work / "data"):
        assert run(["run", "shelf:add", '{"title": "A"}', "--data", "data"]) == 0
    mallory.run(f"ln -s '{work}/data' .tinyvex")
    assert run(["wipe", "--yes"]) == NOT_FOUND
    assert run(["run", "shelf:titles", "--data", "data", "--app", str(SHELF)]) == 0


@pytest.mark.parametrize("command", [*NEEDS_AN_APP, *NEEDS_DATA], ids=" ".join)
def test_the_app_of_a_foreign_data_folder_is_not_run(mallory: OtherUser, work: Path, command: list[str]) -> None:
    """The user named the folder, and not the app."""
    plant_code(mallory)
    mallory.run('mkdir data; echo \'{"app": "evil.py"}\' > data/served.json')
    assert run([*command, "--data", str(mallory.shared / "data")]) in (NOT_FOUND, UNUSABLE)
    assert not stolen(mallory)


def test_a_database_in_a_foreign_folder_is_not_written(
    mallory: OtherUser, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its owner could replace every file of it; root is refused as well, whose files would lock the owner out."""
    data = mallory.shared / "data"
    data.mkdir()
    os.chown(data, mallory.id, mallory.id)
    assert run(["serve", str(SHELF), "--data", str(data)]) == UNUSABLE
    assert f"belongs to the user with id {mallory.id}; run the command as that user" in capsys.readouterr().err
    assert list(data.iterdir()) == []


def test_a_foreign_database_can_be_read(mallory: OtherUser, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root inspects the data of a user, for example to help."""
    data = mallory.shared / "data"
    with ServerProcess(SHELF, data):
        assert run(["run", "shelf:add", '{"title": "A"}', "--data", str(data)]) == 0
    for path in (data, *data.iterdir()):
        os.chown(path, mallory.id, mallory.id)
    assert run(["data", "books", "--data", str(data), "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["title"] == "A"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775], ids=oct)
def test_a_folder_that_others_may_write_is_refused(
    mallory: OtherUser, work: Path, mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error has the command that closes it; after that the folder is accepted."""
    data = mallory.shared / "data"
    data.mkdir()
    os.chown(data, -1, mallory.id)
    data.chmod(mode)
    assert run(["run", "shelf:add", '{"title": "A"}', "--app", str(SHELF), "--data", str(data)]) == UNUSABLE
    assert f"run `chmod go-w '{data}'`" in capsys.readouterr().err
    assert list(data.iterdir()) == []
    data.chmod(mode & ~0o022)
    assert run(["run", "shelf:add", '{"title": "A"}', "--app", str(SHELF), "--data", str(data)]) == 0


FILES = (
    "lock", "served.json", "server.json", "last-commit", "running", "stuck-calls", "pairing.json",
    "data.sqlite3", "data.sqlite3-wal", "data.sqlite3-shm", "data.sqlite3-journal",
)  # fmt: skip
REPLACED = ("served.json", "server.json", "pairing.json")


@pytest.mark.parametrize("name", FILES)
def test_a_planted_link_changes_no_other_file(mallory: OtherUser, work: Path, name: str) -> None:
    """It was placed while the folder was open to all. Whether the start is refused or not, its target stays as it is."""
    data, target = mallory.shared / "data", work / "precious"
    target.write_text("precious")
    target.chmod(0o644)
    data.mkdir()
    data.chmod(0o777)
    mallory.run(f"ln -s '{target}' 'data/{name}'")
    data.chmod(0o700)
    server = ServerProcess(SHELF, data)
    with suppress(AssertionError):  # it refuses to start
        server.start()
    run(["pair", "--data", str(data)])
    run(["data", "--data", str(data)])
    server.kill()
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("precious", 0o644)


def planted(user: OtherUser, name: str) -> Path:
    """Return a data folder in which the other user has placed a file while it was open to all."""
    data = user.shared / "data"
    data.mkdir()
    data.chmod(0o777)
    user.run(f"echo '{{}}' > 'data/{name}'")
    data.chmod(0o700)
    return data


@pytest.mark.parametrize("name", [name for name in FILES if name not in REPLACED])
def test_a_planted_file_is_refused(mallory: OtherUser, name: str) -> None:
    """Its owner may change it at any time; the error names it."""
    data = planted(mallory, name)
    command = [sys.executable, "-m", "tinyvex", "serve", str(SHELF), "--data", str(data)]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == UNUSABLE, ended.stderr
    assert f"`{data / name}` belongs to the user with id {mallory.id}" in ended.stderr


@pytest.mark.parametrize("name", REPLACED)
def test_a_planted_file_is_replaced(mallory: OtherUser, name: str) -> None:
    """A file that is written in one step belongs to the user afterwards."""
    data = planted(mallory, name)
    with ServerProcess(SHELF, data):
        assert run(["pair", "--data", str(data)]) == 0
        assert (data / name).stat().st_uid == os.geteuid()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process can be read only on Linux")
def test_a_server_that_crashes_leaves_no_memory_on_the_disk(tmp_path: Path) -> None:
    """A core dump would have the admin token, and could be readable by others."""
    import resource

    with ServerProcess(SHELF, tmp_path / "data") as server:
        assert resource.prlimit(server.process.pid, resource.RLIMIT_CORE)[0] == 0


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    """Every file is readable and every folder usable by the owner alone, also the folders above the data folder."""
    before = os.umask(0)
    try:
        data = tmp_path / "a" / "b" / "data"
        with ServerProcess(SHELF, data):
            assert run(["pair", "--data", str(data)]) == 0
            modes = {
                path.name: path.stat().st_mode & 0o777
                for path in (data.parent.parent, data.parent, data, *data.iterdir())
            }
    finally:
        os.umask(before)
    folders = {"a", "b", "data"}
    assert {name: mode for name, mode in modes.items() if mode != (0o700 if name in folders else 0o600)} == {}
    assert {"lock", "served.json", "server.json", "data.sqlite3", "last-commit"} <= modes.keys()
