"""`tinyvex check`: verify the database file."""

from __future__ import annotations

from pathlib import Path

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option
from tinyvex.errors import DataFolderUnusable, FileDamaged


@click.command("check", short_help="Verify the database file.")
@data_option
def command(data: Path | None) -> None:
    """
    Verify the database file against the storage invariants.

    It only reads, and may run beside a server.
    Each problem is a line on stdout; with any, the exit code is 24.

    \b
    tinyvex check --data data
    """
    from tinyvex.storage.maintenance.check import check_folder

    folder = find_data(data)
    if not folder.is_dir():
        raise DataFolderUnusable(f"there is no data folder {folder}")
    problems = check_folder(folder)
    for problem in problems:
        click.echo(problem)
    if problems:
        raise FileDamaged(f"{folder}: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
    click.echo(f"{folder}: no problems", err=True)
