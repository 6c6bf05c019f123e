"""`tinyvex restore`: replace the database with a backup."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import FilePath, data_option
from tinyvex.cli.output import confirm, size_text, time_text
from tinyvex.cli.terminal import echo, progress_bar
from tinyvex.errors import DataFolderLocked

if TYPE_CHECKING:
    from tinyvex.storage.maintenance.backup import VerifiedBackup


@click.command("restore", short_help="Replace the database with a backup.")
@click.argument("file", type=FilePath(dir_okay=False))
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
    from tinyvex.storage.file.data_folder import DataFolder, lock_holder
    from tinyvex.storage.maintenance.backup import VerifiedBackup

    folder = find_data_folder(data)
    if (holder := lock_holder(folder)) is not None:
        raise DataFolderLocked(f"process {holder} uses the data folder `{folder}`; stop it first", pid=holder)
    with progress_bar("Verifying", terminal_only=True) as progress:
        backup = VerifiedBackup(file.absolute(), progress)
    with closing(backup):
        exists = DataFolder(folder).database.exists()
        echo(f"{file}: {size_text(backup.size_bytes)}, as of {time_text(backup.ts)}", err=True)
        echo(f"{folder}: {'the current database will be renamed' if exists else 'has no database yet'}", err=True)
        if dry_run:
            echo("nothing was changed", err=True)
            return
        if not yes:
            confirm("Restore?")
        replaced = asyncio.run(_restore(backup, folder))
    if replaced is not None:
        echo(f"the previous database is now {replaced}", err=True)


async def _restore(backup: VerifiedBackup, folder: Path) -> Path | None:
    from tinyvex.runtime import Runtime

    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    with progress_bar("Restoring") as progress:
        return backup.restore(folder, runtime, progress)
