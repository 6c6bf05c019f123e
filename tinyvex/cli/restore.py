"""`tinyvex restore` makes a backup the database again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from tinyvex.cli.app_location import find_place
from tinyvex.cli.options import data_option
from tinyvex.cli.output import confirm, progress_bar, size_text, time_text
from tinyvex.errors import DataFolderLocked


@click.command("restore", short_help="Make a backup the database again.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@click.option("--dry-run", is_flag=True, help="Read the backup through and say what would happen; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(file: Path, data: Path | None, dry_run: bool, yes: bool) -> None:
    """
    Make FILE, which `tinyvex backup` made, the database again.

    No server may run. The database that is there now, also a damaged one, is kept under another name beside it.
    Clients that come back hold nothing of it for the one they knew: the restored database has a new epoch.

    \b
    tinyvex restore before.sqlite3
    """
    from tinyvex.runtime import Runtime
    from tinyvex.storage.file.data_folder import DataFolder, lock_holder
    from tinyvex.storage.maintenance.backup import look_at, restore

    folder = data.absolute() if data is not None else find_place(None, None).data
    if (holder := lock_holder(folder)) is not None:
        raise DataFolderLocked(f"process {holder} uses {folder}; stop it first", pid=holder)
    source = file.absolute()
    copy = look_at(source)
    there = DataFolder(folder).database.exists()
    click.echo(f"{file}: {size_text(copy.size_bytes)}, as of {time_text(copy.ts)}", err=True)
    click.echo(f"{folder}: {'its database will be set aside' if there else 'has no database yet'}", err=True)
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

    before = asyncio.run(run())
    if before is not None:
        click.echo(f"what was there is now {before}", err=True)
