"""`tinyvex compact` makes the database file as small as what is in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from tinyvex.cli.options import data_option, retention_options
from tinyvex.cli.output import size_text
from tinyvex.cli.place import find_data


@click.command("compact", short_help="Forget old revisions now, and make the file small.")
@data_option
@retention_options
def command(data: Path | None, retention_seconds: float, retention_bytes: int | None) -> None:
    """
    Forget the revisions that are not kept any more, then write the file anew without the room they took.

    No server may run: it forgets by itself, and uses the room again.

    \b
    tinyvex compact --retention 1h
    """
    from tinyvex.runtime import Runtime
    from tinyvex.storage.compaction import compact
    from tinyvex.storage.retention import Policy

    folder = find_data(data)

    async def run() -> tuple[int, int, int]:
        runtime = Runtime()
        runtime.bind(asyncio.get_running_loop())
        return await compact(folder, runtime, Policy(retention_seconds, retention_bytes))

    forgotten, before, after = asyncio.run(run())
    sizes = f"{size_text(before)} before, {size_text(after)} now"
    click.echo(f"{folder}: {forgotten:,} revisions forgotten; {sizes}", err=True)
