"""`tinyvex check`: verify the database file."""

from __future__ import annotations

from pathlib import Path

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option
from tinyvex.cli.output import counted
from tinyvex.cli.terminal import echo, progress_bar
from tinyvex.errors import FileDamaged


@click.command("check", short_help="Verify the database file.")
@data_option
def command(data: Path | None) -> None:
    """
    Verify every row's checksum, that tables and indexes agree, that documents fit their tables' classes, and that no
    acknowledged commit is missing.

    The check only reads, and can run alongside a server.
    It prints each problem as a line on stdout. If there are problems, the exit code is 24.

    \b
    tinyvex check --data data
    """
    from tinyvex.storage.maintenance.check import check_folder

    folder = find_data_folder(data)
    with progress_bar("Checking", terminal_only=True) as progress:
        problems = check_folder(folder, progress)
    for problem in problems:
        echo(problem)
    if problems:
        raise FileDamaged(f"`{folder}` has {counted(len(problems), 'problem')}; keep a copy and restore a backup")
    echo(f"{folder}: no problems", err=True)
