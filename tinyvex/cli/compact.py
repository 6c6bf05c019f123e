"""`tinyvex compact` makes the database file as small as what is in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option, retention_options
from tinyvex.cli.output import counted, size_text, time_text


@click.command("compact", short_help="Forget old revisions now, and make the file small.")
@data_option
@retention_options
@click.option("--dry-run", is_flag=True, help="Say what would be forgotten; forget nothing.")
def command(data: Path | None, retention_seconds: float, retention_bytes: int | None, dry_run: bool) -> None:
    """
    Forget the revisions that are not kept any more, then write the file anew without the room they took.

    No server may run: it forgets by itself, and uses the room again.

    \b
    tinyvex compact --retention 1h
    """
    from tinyvex.runtime import Runtime
    from tinyvex.storage.maintenance.compaction import compact, look_ahead
    from tinyvex.storage.maintenance.retention import Policy

    folder = find_data(data)
    policy = Policy(retention_seconds, retention_bytes)
    if dry_run:
        floor, revisions = look_ahead(folder, policy, Runtime().now_us())
        told = f"{counted(revisions, 'revision')} would be forgotten: states before {time_text(floor)}"
        click.echo(f"{folder}: {told}; nothing was changed", err=True)
        return

    async def run() -> tuple[int, int, int]:
        runtime = Runtime()
        runtime.bind(asyncio.get_running_loop())
        return await compact(folder, runtime, policy)

    forgotten, before, after = asyncio.run(run())
    sizes = f"{size_text(before)} before, {size_text(after)} now"
    click.echo(f"{folder}: {counted(forgotten, 'revision')} forgotten; {sizes}", err=True)
