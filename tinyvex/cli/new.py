"""`tinyvex new`: the beginning of an app, in a folder of its own."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path

import click

FILES = {
    "app.py": "app.py.template",
    "test_app.py": "test_app.py.template",
    "client.py": "client.py.template",
    "pyproject.toml": "pyproject.toml.template",
    ".gitignore": "gitignore.template",
}
"""What the new folder holds, and the template each file comes from."""


@click.command("new", short_help="Make a folder with an app, its test and a client.")
@click.argument("folder", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """
    Make FOLDER with a small app, a test of it, and a client to try it with.

    Nothing that exists is overwritten.

    \b
    tinyvex new notes
    """
    present = [name for name in FILES if (folder / name).exists()]
    if present:
        raise click.UsageError(f"{folder} has {', '.join(present)} already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.resolve().name
    templates = files("tinyvex.cli") / "scaffold"
    for target, template in FILES.items():
        text = (templates / template).read_text(encoding="utf-8").format(name=name, package=_package_name(name))
        (folder / target).write_text(text, encoding="utf-8", newline="\n")
    click.echo(
        f"Made {folder}: {', '.join(FILES)}\n\n"
        f"  cd {shlex.quote(str(folder))}\n"
        "  tinyvex dev                          # serves app.py and reloads it on save\n"
        '  python client.py "Water the plants"  # in another terminal, or in several'
    )


def _package_name(name: str) -> str:
    """A name that a `pyproject.toml` accepts: letters, digits and inner hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "app"
