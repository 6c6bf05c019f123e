"""
Find the app and the data folder that a command is about.

The app is the first of these:

1.  the argument APP;
2.  `[tool.tinyvex] app` of the nearest `pyproject.toml`;
3.  the app that was last served from the nearest `.tinyvex` folder, or from the folder that `--data` names, if it is below
    the folder that contains the data folder. Only commands that run an app's functions consider it.

The data folder is the first of these:

1.  the option `--data`;
2.  `.tinyvex` next to the app of APP, or else of `pyproject.toml`;
3.  the nearest `.tinyvex` folder.

"Nearest" is upwards from the working directory, through folders that are the user's own, up to the home folder or a mount.
A command runs the app that it finds, so a project file or data folder of another user is ignored, and so is everything in
or above a folder of another user: anyone can create `/tmp/.tinyvex`. Windows has no such owners; the search ends at the
home folder and at a mount there too.

All functions follow the same order, so that a command that deletes data works on the folder that the other commands show.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from tinyvex.errors import AppNotFound, StorageError
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.file.private_file import other_owner, read_private, write_private_file

DATA_FOLDER = ".tinyvex"
PROJECT_FILE = "pyproject.toml"


class AppLocation(Struct, frozen=True):
    """An app and its data folder."""

    app: Path
    data: Path

    def save(self) -> None:
        """Record in the data folder that this app was served from it; a folder that is not writable is left as it is."""
        home = self.data.parent
        app = self.app.relative_to(home) if self.app.is_relative_to(home) else self.app
        folder = DataFolder(self.data)
        try:
            folder.prepare()
            write_private_file(folder.last_served, json.dumps({"app": app.as_posix()}).encode() + b"\n")
        except StorageError:
            return


def find_app(app: Path | None, data: Path | None, *, start: Path | None = None) -> AppLocation:
    """
    Return the app and data folder for a command's arguments.

    Args:
        app: the argument APP: a file, a package folder, or a project folder whose `pyproject.toml` names the app.
        data: the option `--data`.
        start: the folder from which to search; by default the working directory.

    Raises:
        AppNotFound: no app was named or found, or it does not exist.
        DataFolderUnusable: another user placed a file in the data folder.
    """
    start = (start or Path.cwd()).resolve()
    named = find_named_app(app, start=start)
    if named is not None:
        return AppLocation(named, named.parent / DATA_FOLDER if data is None else (start / data).resolve())
    nearest = _nearest_data_folder(start) if data is None else (start / data).resolve()
    last_served = None if nearest is None else _last_served(nearest)
    if nearest is None or last_served is None:
        raise AppNotFound(
            "no app given; name a file or folder, or set `app` under [tool.tinyvex] in pyproject.toml"
            + _ignored_sentence(start)
        )
    return AppLocation(_existing(last_served), nearest)


def find_named_app(app: Path | None, *, start: Path | None = None) -> Path | None:
    """
    Return the app that the argument or the nearest project file names, for a command that can do without; None if none does.

    Args:
        app: the argument APP or the option `--app`.
        start: the folder from which to search; by default the working directory.

    Raises:
        AppNotFound: the named app does not exist.
    """
    start = (start or Path.cwd()).resolve()
    named = _configured(start) if app is None else _argument(start / app)
    return None if named is None else _existing(named)


def _existing(app: Path) -> Path:
    if not app.exists():
        raise AppNotFound(f"the app `{app}` does not exist")
    return app


def find_data_folder(data: Path | None, app: Path | None = None, *, start: Path | None = None) -> Path:
    """
    Return the data folder for a command that can do without an app.

    Args:
        data: the option `--data`.
        app: the option `--app`.
        start: the folder from which to search; by default the working directory.

    Raises:
        AppNotFound: there is neither a data folder nor an app.
    """
    start = (start or Path.cwd()).resolve()
    if app is None and data is not None:
        return (start / data).resolve()
    if find_named_app(app, start=start) is None and (nearest := _nearest_data_folder(start)) is not None:
        return nearest
    return find_app(app, data, start=start).data


def _argument(path: Path) -> Path:
    path = path.resolve()
    configured = _app_in(path / PROJECT_FILE) if (path / PROJECT_FILE).is_file() else None
    return configured if configured is not None else path


def _configured(start: Path) -> Path | None:
    files = (folder / PROJECT_FILE for folder in _own_folders(start))
    apps = (_app_in(file) for file in files if file.is_file() and other_owner(file) is None)
    return next((app for app in apps if app is not None), None)


def _app_in(project_file: Path) -> Path | None:
    import tomllib

    try:
        project: dict[str, Any] = tomllib.loads(project_file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"`{project_file}` is not valid TOML: {error}") from None
    app = project.get("tool", {}).get("tinyvex", {}).get("app")
    return (project_file.parent / app).resolve() if isinstance(app, str) else None


def _nearest_data_folder(start: Path) -> Path | None:
    folders = (folder / DATA_FOLDER for folder in _own_folders(start))
    return next((folder for folder in folders if folder.is_dir() and other_owner(folder) is None), None)


def _last_served(data: Path) -> Path | None:
    """
    Return the app that was last served from a data folder; None if none was.

    Raises:
        AppNotFound: the app must be named, because a data folder from elsewhere could name any app of this machine.
    """
    try:
        recorded = Path(json.loads(read_private(DataFolder(data).last_served))["app"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    home = data.parent.resolve()
    app = (home / recorded).resolve()
    if (owner := other_owner(data)) is not None:
        reason = f"the data folder belongs to {owner}"
    elif not app.is_relative_to(home):
        reason = f"it is not in `{home}`"
    elif app.exists() and (owner := other_owner(app)) is not None:
        reason = f"it belongs to {owner}"
    else:
        return app
    raise AppNotFound(f"no app given; `{data}` last served `{app}`, but {reason}: name the app if you trust it")


def _own_folders(start: Path) -> Iterator[Path]:
    """Yield a folder and those above it, as far as the search goes."""
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111  # `Path.home` fails if there is none
    device = start.stat().st_dev
    for folder in (start, *start.parents):
        if folder.stat().st_dev != device or other_owner(folder) is not None:
            return
        yield folder
        if folder == home:
            return


def _ignored_sentence(start: Path) -> str:
    """Return a sentence about the nearest project file or data folder that was ignored for its owner; empty if none was."""
    for folder in (start, *start.parents):
        for path in (folder / PROJECT_FILE, folder / DATA_FOLDER):
            owner = (other_owner(path) or other_owner(folder)) if os.path.exists(path) else None  # noqa: PTH110  # never fails
            if owner is not None:
                return f". `{path}` was ignored, because it or its folder belongs to {owner}"
    return ""
