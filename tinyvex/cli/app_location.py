"""
Find the app and the data folder that a command is about.

The app is the first of these:

1.  the argument APP;
2.  `[tool.tinyvex] app` of the nearest `pyproject.toml`;
3.  the app that was last served from the nearest `.tinyvex` folder.

The data folder is the first of these:

1.  the option `--data`;
2.  `.tinyvex` next to the app of APP, or else of `pyproject.toml`;
3.  the nearest `.tinyvex` folder.

"Nearest" is upwards from the working directory. Both functions follow the same order, so that a command that deletes data
works on the folder that the other commands show.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from tinyvex.errors import AppNotFound
from tinyvex.storage.file.data_folder import DataFolder

DATA_FOLDER = ".tinyvex"


class AppLocation(Struct, frozen=True):
    """An app and its data folder."""

    app: Path
    data: Path

    def save(self) -> None:
        """Record in the data folder that this app was served from it; a folder that is not writable is left as it is."""
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            DataFolder(self.data).last_served.write_text(json.dumps({"app": str(self.app)}) + "\n", encoding="utf-8")
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
    named = _named(start, app)
    if named is not None:
        path, folder = named, named.parent / DATA_FOLDER if data is None else (start / data).resolve()
    else:
        nearest = _nearest_data_folder(start) if data is None else (start / data).resolve()
        last_served = None if nearest is None else _last_served(nearest)
        if nearest is None or last_served is None:
            raise AppNotFound(
                "no app given; name a file or folder, or set `app` under [tool.tinyvex] in pyproject.toml"
            )
        path, folder = last_served, nearest
    if not path.exists():
        raise AppNotFound(f"the app `{path}` does not exist")
    return AppLocation(path, folder)


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
    if _named(start, app) is None and (nearest := _nearest_data_folder(start)) is not None:
        return nearest
    return find_app(app, data, start=start).data


def _named(start: Path, app: Path | None) -> Path | None:
    """Return the app that the argument or the nearest `pyproject.toml` names, or None."""
    return _configured(start) if app is None else _argument(start / app)


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


def _nearest_data_folder(start: Path) -> Path | None:
    return next((path for folder in _upwards(start) if (path := folder / DATA_FOLDER).is_dir()), None)


def _last_served(data: Path) -> Path | None:
    try:
        return Path(json.loads(DataFolder(data).last_served.read_text(encoding="utf-8"))["app"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _upwards(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents
