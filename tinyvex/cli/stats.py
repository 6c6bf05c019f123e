"""`tinyvex stats`: what is in the database file, in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option
from tinyvex.cli.output import Table, size_text, time_text


@click.command("stats", short_help="Say how large the database is, and what it keeps.")
@data_option
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json"]),
    default="pretty",
    show_default=True,
    help="For people, or one JSON object with sizes in bytes.",
)
def command(data: Path | None, output: str) -> None:
    """
    Count tables, documents, revisions and bytes, and say how far back states can be read.

    It only reads, and may run beside a server; it looks at every revision once.

    \b
    tinyvex stats --format json
    """
    from tinyvex.storage.file.data_folder import DataFolder
    from tinyvex.storage.maintenance.table_statistics import count

    files = DataFolder(find_data(data))
    files.require_database()
    counted = count(files)
    if output == "json":
        click.echo(json.dumps(counted.record(), indent=2, ensure_ascii=False))
        return
    table = Table(["table", "documents", "revisions", "bytes"])
    for row in counted.tables:
        table.add({**row._asdict(), "bytes": size_text(row.bytes)})
    table.end()
    click.echo()
    click.echo(
        f"file        {size_text(counted.file_bytes)}, of which {size_text(counted.free_bytes)} will be used again"
    )
    click.echo(f"log         {size_text(counted.wal_bytes)} not yet in it")
    click.echo(f"newest      {time_text(counted.last_ts)}")
    click.echo(f"oldest      {time_text(counted.floor_ts) if counted.floor_ts else 'everything is kept so far'}")
