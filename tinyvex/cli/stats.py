"""`tinyvex stats`: count what the database file holds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option
from tinyvex.cli.output import TablePrinter, size_text, time_text
from tinyvex.cli.terminal import echo


@click.command("stats", short_help="Report the size of the database and of its history.")
@data_option
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json"]),
    default="pretty",
    show_default=True,
    help="pretty: tables for people. json: one object, with sizes in bytes.",
)
def command(data: Path | None, output: str) -> None:
    """
    Count tables, documents, revisions and bytes, and report how far back history is retained.

    The command only reads, and can run alongside a server. It reads every revision once.

    \b
    tinyvex stats --format json
    """
    from tinyvex.storage.file.data_folder import DataFolder
    from tinyvex.storage.maintenance.table_statistics import count

    folder = DataFolder(find_data_folder(data))
    folder.require_database()
    facts = count(folder)
    if output == "json":
        echo(json.dumps(facts.record(), indent=2, ensure_ascii=False))
        return
    printer = TablePrinter(["table", "documents", "revisions", "bytes"])
    for table in facts.tables:
        printer.add({**table._asdict(), "bytes": size_text(table.bytes)})
    printer.end()
    echo()
    echo(f"file        {size_text(facts.file_bytes)}, of which {size_text(facts.free_bytes)} are free for reuse")
    live = f"{size_text(facts.live_bytes)}, and {size_text(facts.request_bytes)} of stored results of mutations"
    echo(f"live        {live}")
    echo(f"bound       {size_text(facts.bound_bytes)}; above it history is shortened (--retention-size)")
    echo(f"log         {size_text(facts.wal_bytes)} not yet copied into the file")
    echo(f"newest      {time_text(facts.last_ts)}")
    echo(f"oldest      {time_text(facts.floor_ts) if facts.floor_ts else 'all history is still retained'}")
