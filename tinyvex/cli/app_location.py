"""
Find the app and the data folder that a command is about.

The app is the first of these:

1.  the argument APP;
2.  `[tool.tinyvex] app` of the nearest `pyproject.toml`;
3.  the app that was last served from the nearest `.tinyvex` folder.

"Nearest" is upwards from the working directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tinyvex.errors import AppNotFound

DATA_FOLDER = ".tinyvex"
LAST_SERVED_FILE = "served.json"
"""A file in the data folder that names the app last served from it."""


@dataclass(frozen=True, slots=True)
class AppLocation:
    """An app and its data folder."""

    app: Path
    data: Path

    def save(self) -> None:
        """Record in the data folder that this app was served from it; a folder that is not writable is left as it is."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            (self.data / LAST_SERVED_FILE).write_text(json.dumps({"app": str(self.app)}) + "\n", encoding="utf-8")
        except OSError:
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
    """
    start = (start or Path.cwd()).resolve()
    path = _argument(start / app) if app is not None else _configured(start) or _last_served(start, data)
    if path is None:
        raise AppNotFound("no app given; name a file or folder, or set `app` under [tool.tinyvex] in pyproject.toml")
    if not path.exists():
        raise AppNotFound(f"the app `{path}` does not exist")
    return AppLocation(path, (start / data).resolve() if data is not None else path.parent / DATA_FOLDER)


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
    if app is not None:
        return find_app(app, data, start=start).data
    if data is not None:
        return (start / data).resolve()
    for folder in _upwards(start):
        if (folder / DATA_FOLDER).is_dir():
            return folder / DATA_FOLDER
    return find_app(None, None, start=start).data


def _argument(path: Path) -> Path:
    path = path.resolve()
    configured = _app_in(path / "pyproject.toml")
    return configured if configured is not None else path


def _configured(start: Path) -> Path | None:
    for folder in _upwards(start):
        app = _app_in(folder / "pyproject.toml")
        if app is not None:
            return app
    return None


def _app_in(project_file: Path) -> Path | None:
    if not project_file.is_file():
        return None
    import tomllib

    try:
        project: dict[str, Any] = tomllib.loads(project_file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"`{project_file}` is not valid TOML: {error}") from None
    app = project.get("tool", {}).get("tinyvex", {}).get("app")
    return (project_file.parent / app).resolve() if isinstance(app, str) else None


def _last_served(start: Path, data: Path | None) -> Path | None:
    folders = [start / data] if data is not None else [folder / DATA_FOLDER for folder in _upwards(start)]
    for folder in folders:
        try:
            return Path(json.loads((folder / LAST_SERVED_FILE).read_text(encoding="utf-8"))["app"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _upwards(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents
