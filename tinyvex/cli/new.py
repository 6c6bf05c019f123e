"""`tinyvex new`: create a folder with a first app."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path

import click

from tinyvex.errors import DataFolderUnusable

TEMPLATES = {
    "app.py": "app.py.template",
    "test_app.py": "test_app.py.template",
    "client.py": "client.py.template",
    "pyproject.toml": "pyproject.toml.template",
    ".gitignore": "gitignore.template",
}
"""The files of the new folder, each with its template."""


@click.command("new", short_help="Create a folder with an app, its test and a client.")
@click.argument("folder", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """
    Create FOLDER with a small app, its test, and a client to try it.

    Existing files are never overwritten.

    \b
    tinyvex new notes
    """
    existing = [name for name in TEMPLATES if (folder / name).exists()]
    if existing:
        names = ", ".join(f"`{name}`" for name in existing)
        raise click.UsageError(f"`{folder}` already contains {names}; nothing was written")
    try:
        _write(folder)
    except OSError as error:
        raise DataFolderUnusable(f"`{folder}` cannot be created: {error.strerror}") from None
    click.echo(
        f"Created {folder}: {', '.join(TEMPLATES)}\n\n"
        f"  cd {shlex.quote(str(folder))}\n"
        "  tinyvex dev                          # serves app.py and reloads it on save\n"
        '  python client.py "Water the plants"  # in one or more other terminals'
    )


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.resolve().name
    templates = files("tinyvex.cli") / "scaffold"
    for target, template in TEMPLATES.items():
        text = (templates / template).read_text(encoding="utf-8").format(name=name, package=_package_name(name))
        (folder / target).write_text(text, encoding="utf-8", newline="\n")


def _package_name(name: str) -> str:
    """Return a name that `pyproject.toml` accepts: letters, digits and inner hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "app"
