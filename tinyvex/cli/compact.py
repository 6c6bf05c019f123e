"""`tinyvex compact`: purge expired history and shrink the database file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option, retention_options
from tinyvex.cli.output import counted, size_text, time_text
from tinyvex.cli.terminal import echo, progress_bar

if TYPE_CHECKING:
    from tinyvex.storage.maintenance.compaction import Compaction


@click.command("compact", short_help="Purge expired revisions now, and shrink the file.")
@data_option
@retention_options
@click.option("--dry-run", is_flag=True, help="Report what would be purged; change nothing.")
def command(data: Path | None, retention_seconds: float, retention_bytes: int | None, dry_run: bool) -> None:
    """
    Purge expired revisions, then rewrite the file without the space that they occupied.

    Stop the server first. A running server purges expired revisions itself, and reuses their space.
    Data that unfinished imports left is deleted and counted as well.

    \b
    tinyvex compact --retention 1h
    """
    from tinyvex.runtime import Runtime
    from tinyvex.storage.maintenance.compaction import compact, preview
    from tinyvex.storage.maintenance.retention_policy import Policy

    folder = find_data_folder(data)
    policy = Policy(retention_seconds, retention_bytes)
    if dry_run:
        floor, revisions = preview(folder, policy, Runtime().now_us())
        purged = f"{counted(revisions, 'revision')} would be purged: states before {time_text(floor)}"
        echo(f"{folder}: {purged}; nothing was changed", err=True)
        return

    async def run() -> Compaction:
        runtime = Runtime()
        runtime.bind(asyncio.get_running_loop())
        with progress_bar("Compacting", terminal_only=True) as progress:
            return await compact(folder, runtime, policy, progress)

    done = asyncio.run(run())
    sizes = f"{size_text(done.bytes_before)} before, {size_text(done.bytes_after)} now"
    echo(f"{folder}: {counted(done.purged_revisions, 'revision')} purged; {sizes}", err=True)
