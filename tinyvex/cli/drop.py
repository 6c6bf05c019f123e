"""`tinyvex drop`: remove a table that the app no longer declares."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from tinyvex.cli.import_session import administrator
from tinyvex.cli.logs import log_to_stderr
from tinyvex.cli.options import app_option, data_option
from tinyvex.cli.output import confirm, counted
from tinyvex.cli.terminal import echo
from tinyvex.errors import TableDeclared, UnknownTable
from tinyvex.values.suggestions import did_you_mean


@click.command("drop", short_help="Remove a table that the app no longer declares.")
@click.argument("table")
@click.option("--dry-run", is_flag=True, help="Report what would be deleted; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@app_option
@data_option
def command(table: str, dry_run: bool, yes: bool, app: Path | None, data: Path | None) -> None:
    """
    Remove TABLE with its documents and indexes.

    The app must not declare it any more. A table that was only renamed is not dropped: declare its new class with
    `renamed_from`, and the documents stay.

    Until its history has expired, the table can be read at an earlier time. The last two commands bring it back:

    \b
    tinyvex drop cards --dry-run
    tinyvex drop cards
    tinyvex data cards --at '10m ago' --limit 0 --order asc --format jsonl > cards.jsonl
    tinyvex import cards.jsonl --table cards
    """
    log_to_stderr("warning")
    anyio.run(_drop, table, dry_run, yes, app, data)


async def _drop(table: str, dry_run: bool, yes: bool, app: Path | None, data: Path | None) -> None:
    async with administrator(app, data) as client:
        existing = await client.query("_system:tables")
        if table not in existing:
            names = ", ".join(f"`{name}`" for name in existing)
            raise UnknownTable(f"there is no table `{table}`; the tables are {names}{did_you_mean(table, existing)}")
        if table in await client.query("_system:declared_tables"):
            raise TableDeclared(
                f"the app declares `{table}`; remove the declaration first, and name the app with --app if it was not served"
                f" since; or delete only the documents with `tinyvex wipe --table {table}`"
            )
        documents = await client.query("_system:count", {"table": table})
        if dry_run:
            echo(f"`{table}` would be dropped with {counted(documents, 'document')}; nothing was changed", err=True)
            return
        if documents and not yes:
            confirm(f"Drop `{table}` with {counted(documents, 'document')}?")
        await client.mutation("_system:drop_table", {"table": table})
    echo(f"`{table}` dropped with {counted(documents, 'document')}", err=True)
