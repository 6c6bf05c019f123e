"""`tinyvex new`: create a folder with a first app."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path

import click

from tinyvex.cli.terminal import echo
from tinyvex.storage.file.os_errors import translate_os_error

TEMPLATES = {
    "app.py": "app.py.template",
    "test_app.py": "test_app.py.template",
    "client.py": "client.py.template",
    "pyproject.toml": "pyproject.toml.template",
    ".gitignore": "gitignore.template",
}
"""The files of the new folder, each with its template."""

NAMES_SHOWN = 3


@click.command("new", short_help="Create a folder with an app, its test and a client.")
@click.argument("folder", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """
    Create FOLDER with a small app, its test, and a client to try it.

    FOLDER must not exist, or contain only hidden files such as `.git`. Existing files are never overwritten.

    \b
    tinyvex new notes
    """
    existing = _existing(folder)
    if existing:
        names = ", ".join(f"`{name}`" for name in existing[:NAMES_SHOWN]) + (
            ", …" if len(existing) > NAMES_SHOWN else ""
        )
        raise click.UsageError(f"`{folder}` already contains {names}; nothing was written; name a new folder")
    written: list[Path] = []
    try:
        _write(folder, written)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise translate_os_error(error, f"`{folder}` cannot be created") from None
    echo(
        f"Created {folder}: {', '.join(TEMPLATES)}\n\n"
        f"  cd {shlex.quote(str(folder))}\n"
        "  tinyvex dev                          # serves app.py and reloads it on save\n"
        '  python client.py "Water the plants"  # in one or more other terminals'
    )


def _existing(folder: Path) -> list[str]:
    """Return the names in a folder with which a new project would be mixed up; none if it does not exist."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:  # there is no such folder; what else is wrong is reported when it is written
        return []
    return [name for name in names if not name.startswith(".") or name in TEMPLATES]


def _write(folder: Path, written: list[Path]) -> None:
    """Write the files, each of which must be new; add each to `written` when it exists."""
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.resolve().name
    templates = files("tinyvex.cli") / "scaffold"
    for target, template in TEMPLATES.items():
        text = (templates / template).read_text(encoding="utf-8").format(name=name, package=_package_name(name))
        with (folder / target).open("x", encoding="utf-8", newline="\n") as file:
            written.append(folder / target)
            file.write(text)


def _package_name(name: str) -> str:
    """Return a name that `pyproject.toml` accepts: letters, digits and inner hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "app"
