"""`tinyvex restore`: replace the database with a backup."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option
from tinyvex.cli.output import confirm, size_text, time_text
from tinyvex.cli.terminal import progress_bar
from tinyvex.errors import DataFolderLocked


@click.command("restore", short_help="Replace the database with a backup.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@click.option("--dry-run", is_flag=True, help="Verify the backup and report what would happen; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def command(file: Path, data: Path | None, dry_run: bool, yes: bool) -> None:
    """
    Replace the database with FILE, a backup made by `tinyvex backup`.

    Stop the server first. The current database, even a damaged one, is renamed and stays in the data folder.
    The restored database gets a new epoch, so that returning clients discard cached results of the old one.

    \b
    tinyvex restore before.sqlite3
    """
    from tinyvex.runtime import Runtime
    from tinyvex.storage.file.data_folder import DataFolder, lock_holder
    from tinyvex.storage.maintenance.backup import inspect_backup, restore

    folder = find_data_folder(data)
    if (holder := lock_holder(folder)) is not None:
        raise DataFolderLocked(f"process {holder} uses the data folder `{folder}`; stop it first", pid=holder)
    source = file.absolute()
    with progress_bar("Verifying", terminal_only=True) as progress:
        backup = inspect_backup(source, progress)
    exists = DataFolder(folder).database.exists()
    click.echo(f"{file}: {size_text(backup.size_bytes)}, as of {time_text(backup.ts)}", err=True)
    click.echo(f"{folder}: {'the current database will be renamed' if exists else 'has no database yet'}", err=True)
    if dry_run:
        click.echo("nothing was changed", err=True)
        return
    if not yes:
        confirm("Restore?")

    async def run() -> Path | None:
        runtime = Runtime()
        runtime.bind(asyncio.get_running_loop())
        with progress_bar("Restoring") as progress:
            return restore(source, folder, runtime, progress)

    replaced = asyncio.run(run())
    if replaced is not None:
        click.echo(f"the previous database is now {replaced}", err=True)
