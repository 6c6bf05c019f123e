"""`tinyvex backup` makes a copy of the database while it is used."""

from __future__ import annotations

from pathlib import Path

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option
from tinyvex.cli.output import progress_bar, size_text, time_text


@click.command("backup", short_help="Copy the database into a file, also while it is served.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@click.option("--replace", is_flag=True, help="Put the copy in the place of a file that is there.")
def command(file: Path, data: Path | None, replace: bool) -> None:
    """
    Copy the database into FILE, as it is at this moment.

    A server may go on serving and writing.
    FILE appears when the copy is whole and on the disk; `tinyvex restore FILE` takes it back.

    \b
    tinyvex backup before.sqlite3
    """
    from tinyvex.storage.maintenance.backup import back_up

    folder = find_data(data)
    with progress_bar("Copying") as progress:
        copy = back_up(folder, file.absolute(), progress, replace=replace)
    click.echo(f"{file}: {size_text(copy.size_bytes)}, as of {time_text(copy.ts)}", err=True)
