"""`tinyvex backup`: copy the database while a server may be using it."""

from __future__ import annotations

from pathlib import Path

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import FilePath, data_option
from tinyvex.cli.output import size_text, time_text
from tinyvex.cli.terminal import echo, progress_bar


@click.command("backup", short_help="Copy the database into a file, even while it is served.")
@click.argument("file", type=FilePath(dir_okay=False))
@data_option
@click.option("--replace", is_flag=True, help="Replace FILE if it exists.")
def command(file: Path, data: Path | None, replace: bool) -> None:
    """
    Copy the database into FILE as a consistent snapshot.

    A server can keep serving and writing.
    FILE appears only when it is complete and on disk. To restore it, run `tinyvex restore FILE`.

    \b
    tinyvex backup before.sqlite3
    """
    from tinyvex.storage.maintenance.backup import back_up

    folder = find_data_folder(data)
    with progress_bar("Copying") as progress:
        backup = back_up(folder, file.absolute(), progress, replace=replace)
    echo(f"{file}: {size_text(backup.size_bytes)}, as of {time_text(backup.ts)}", err=True)
