"""The app and data folder that a command uses."""

import os
from pathlib import Path

import click
import pytest

from tinyvex.cli import app_location
from tinyvex.cli.app_location import AppLocation, find_app, find_data_folder
from tinyvex.errors import AppNotFound


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose pyproject.toml names chat.py as the app."""
    (tmp_path / "pyproject.toml").write_text('[tool.tinyvex]\napp = "chat.py"\n')
    (tmp_path / "chat.py").touch()
    (tmp_path / "other.py").touch()
    return tmp_path


def test_the_argument_comes_first(project: Path) -> None:
    """A named app takes precedence over pyproject.toml."""
    assert find_app(Path("other.py"), None, start=project).app == project / "other.py"


def test_the_project_file_names_the_app(project: Path) -> None:
    """Without an argument, `[tool.tinyvex] app` decides."""
    assert find_app(None, None, start=project).app == project / "chat.py"


def test_the_project_file_is_found_from_below(project: Path) -> None:
    """The nearest pyproject.toml upwards that has the entry decides."""
    below = project / "a" / "b"
    below.mkdir(parents=True)
    (below / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert find_app(None, None, start=below).app == project / "chat.py"


def test_a_project_folder_stands_for_its_app(project: Path) -> None:
    """A folder whose pyproject.toml names an app stands for that app."""
    assert find_app(Path(project.name), None, start=project.parent).app == project / "chat.py"


def test_a_package_folder_is_an_app(tmp_path: Path) -> None:
    """A folder without such an entry is the app itself; its data folder is next to it."""
    (tmp_path / "chat").mkdir()
    assert find_app(Path("chat"), None, start=tmp_path) == AppLocation(tmp_path / "chat", tmp_path / ".tinyvex")


def test_the_app_served_last_comes_last(tmp_path: Path) -> None:
    """Without argument and project file, the data folder names its app."""
    (tmp_path / "chat.py").touch()
    AppLocation(tmp_path / "chat.py", tmp_path / ".tinyvex").save()
    assert find_app(None, None, start=tmp_path).app == tmp_path / "chat.py"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_the_data_folder_is_private(tmp_path: Path) -> None:
    """A command that creates it, such as an import without a server, lets no other user in."""
    AppLocation(tmp_path / "chat.py", tmp_path / ".tinyvex").save()
    assert (tmp_path / ".tinyvex").stat().st_mode & 0o777 == 0o700


def test_a_named_data_folder_names_its_app(tmp_path: Path) -> None:
    """With only `--data`, the app is the one last served from that folder."""
    (tmp_path / "chat.py").touch()
    AppLocation(tmp_path / "chat.py", tmp_path / "elsewhere").save()
    assert find_app(None, Path("elsewhere"), start=tmp_path).app == tmp_path / "chat.py"


def test_data_is_next_to_the_app(project: Path) -> None:
    """The default data folder is `.tinyvex` next to the app."""
    assert find_app(None, None, start=project).data == project / ".tinyvex"


def test_data_can_be_elsewhere(project: Path) -> None:
    """`--data` is relative to the working directory."""
    assert find_app(None, Path("d"), start=project).data == project / "d"


def test_no_app_is_an_error(tmp_path: Path) -> None:
    """If no app is named or found, the error explains how to name one."""
    with pytest.raises(AppNotFound, match="pyproject"):
        find_app(None, None, start=tmp_path)


def test_a_missing_app_is_an_error(tmp_path: Path) -> None:
    """The error has the path of a named app that does not exist."""
    with pytest.raises(AppNotFound, match=r"nothing\.py"):
        find_app(Path("nothing.py"), None, start=tmp_path)


def test_a_broken_project_file_is_an_error(tmp_path: Path) -> None:
    """The error has the path of a pyproject.toml that does not parse."""
    (tmp_path / "pyproject.toml").write_text("[tool")
    with pytest.raises(click.UsageError, match=r"pyproject\.toml"):
        find_app(None, None, start=tmp_path)


def test_data_is_found_without_an_app(tmp_path: Path) -> None:
    """A command that only reads data uses the nearest `.tinyvex`, upwards."""
    (tmp_path / ".tinyvex").mkdir()
    below = tmp_path / "a"
    below.mkdir()
    assert find_data_folder(None, start=below) == tmp_path / ".tinyvex"


def test_an_app_served_from_below_keeps_its_data_folder(tmp_path: Path) -> None:
    """An app that `--data` served from the nearest `.tinyvex` is found with that folder, not with one next to the app."""
    app, data = tmp_path / "apps" / "chat.py", tmp_path / ".tinyvex"
    app.parent.mkdir()
    app.touch()
    AppLocation(app, data).save()
    assert find_app(None, None, start=tmp_path) == AppLocation(app, data)
    assert find_data_folder(None, start=tmp_path) == data


def test_an_app_served_from_elsewhere_must_be_named(tmp_path: Path) -> None:
    """A data folder that was copied from another machine could name any app of this one, so its name is only shown."""
    app, data = tmp_path / "apps" / "chat.py", tmp_path / "data" / ".tinyvex"
    app.parent.mkdir()
    app.touch()
    AppLocation(app, data).save()
    with pytest.raises(AppNotFound, match=r"last served `.*chat\.py`, but it is not in .*: name the app"):
        find_app(None, None, start=data.parent)
    assert find_data_folder(None, start=data.parent) == data


def test_an_app_that_moved_with_its_data_is_found(tmp_path: Path) -> None:
    """The data folder names its app relative to the folder that has both."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "chat.py").touch()
    AppLocation(tmp_path / "here" / "chat.py", tmp_path / "here" / ".tinyvex").save()
    (tmp_path / "here").rename(tmp_path / "there")
    assert find_app(None, None, start=tmp_path / "there").app == tmp_path / "there" / "chat.py"


@pytest.mark.parametrize("recorded", ["../outside.py", "x/../../outside.py", "link/outside.py", "/etc/outside.py"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, recorded: str) -> None:
    """Neither dots nor a link nor an absolute path in `served.json` names an app outside."""
    home = tmp_path / "home"
    (home / ".tinyvex").mkdir(parents=True, mode=0o700)
    if os.name != "nt":
        (home / "link").symlink_to(tmp_path)
    (tmp_path / "outside.py").touch()
    (home / ".tinyvex" / "served.json").write_text(f'{{"app": "{recorded}"}}')
    with pytest.raises(AppNotFound):
        find_app(None, None, start=home)


def test_the_search_ends_at_the_home_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project file in the home folder is found from below, one above the home folder is not."""
    home = project / "home"
    (home / "work").mkdir(parents=True)
    assert find_app(None, None, start=home / "work").app == project / "chat.py"
    monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(home))
    with pytest.raises(AppNotFound):
        find_app(None, None, start=home / "work")
    (home / ".tinyvex").mkdir()
    assert find_data_folder(None, start=home / "work") == home / ".tinyvex"


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="needs a folder on another mount")
def test_the_search_ends_at_a_mount() -> None:
    """The folders above a mount belong to another disk."""
    assert list(app_location._own_folders(Path("/proc"))) == [Path("/proc")]


def test_an_outer_data_folder_is_not_used(tmp_path: Path) -> None:
    """If the nearest data folder names no app, a command that needs one fails. It must not delete data further up."""
    (tmp_path / "chat.py").touch()
    AppLocation(tmp_path / "chat.py", tmp_path / ".tinyvex").save()
    inner = tmp_path / "inner"
    (inner / ".tinyvex").mkdir(parents=True)
    assert find_data_folder(None, start=inner) == inner / ".tinyvex"
    with pytest.raises(AppNotFound, match="no app given"):
        find_app(None, None, start=inner)


def test_the_project_file_decides_where_data_is(project: Path) -> None:
    """Commands show the data of the app that `dev` serves, even if another data folder is nearer than the app's own."""
    (project / "src").mkdir()
    (project / "src" / "chat.py").touch()
    (project / "pyproject.toml").write_text('[tool.tinyvex]\napp = "src/chat.py"\n')
    (project / ".tinyvex").mkdir()
    assert find_data_folder(None, start=project) == find_app(None, None, start=project).data
    assert find_data_folder(None, start=project) == project / "src" / ".tinyvex"


def test_an_unwritable_data_folder_is_left_alone(tmp_path: Path) -> None:
    """A command does not fail because it cannot record the app."""
    (tmp_path / "file").touch()
    AppLocation(tmp_path / "chat.py", tmp_path / "file" / "data").save()
