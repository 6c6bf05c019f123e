"""
Which app and which data folder a command is about.

APP is looked for in this order: the argument; `[tool.tinyvex] app` of the nearest `pyproject.toml`;
the app that was served last from the nearest `.tinyvex` folder, going up from the working directory.
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
SERVED_FILE = "served.json"
"""In the data folder: which app was served from it last."""


@dataclass(frozen=True, slots=True)
class Place:
    """An app and its data folder."""

    app: Path
    data: Path

    def remember(self) -> None:
        """Note in the data folder that this app was served last; without right to write there nothing is noted."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            (self.data / SERVED_FILE).write_text(json.dumps({"app": str(self.app)}) + "\n", encoding="utf-8")
        except OSError:
            return


def find_place(app: Path | None, data: Path | None, *, start: Path | None = None) -> Place:
    """
    The app and data folder meant by a command's arguments.

    Args:
        app: the APP argument: a file, a package folder, or a project folder whose `pyproject.toml` names the app.
        data: the `--data` option.
        start: where to look from; the working directory when left out.

    Raises:
        AppNotFound: no app was named or found, or what was found does not exist.
    """
    start = (start or Path.cwd()).resolve()
    found = _argument(start / app) if app is not None else _configured(start) or _served_last(start, data)
    if found is None:
        raise AppNotFound("no app: name a file or folder, or set app under [tool.tinyvex] in pyproject.toml")
    if not found.exists():
        raise AppNotFound(f"no app at {found}")
    return Place(found, (start / data).resolve() if data is not None else found.parent / DATA_FOLDER)


def find_data(data: Path | None, *, start: Path | None = None) -> Path:
    """
    The data folder meant by a command that needs no app; an app's own when one can be found.

    Raises:
        AppNotFound: neither a data folder nor an app is near.
    """
    start = (start or Path.cwd()).resolve()
    if data is not None:
        return (start / data).resolve()
    for folder in _upwards(start):
        if (folder / DATA_FOLDER).is_dir():
            return folder / DATA_FOLDER
    return find_place(None, None, start=start).data


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
        raise click.UsageError(f"{project_file}: {error}") from None
    app = project.get("tool", {}).get("tinyvex", {}).get("app")
    return (project_file.parent / app).resolve() if isinstance(app, str) else None


def _served_last(start: Path, data: Path | None) -> Path | None:
    folders = [start / data] if data is not None else [folder / DATA_FOLDER for folder in _upwards(start)]
    for folder in folders:
        try:
            return Path(json.loads((folder / SERVED_FILE).read_text(encoding="utf-8"))["app"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _upwards(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents
