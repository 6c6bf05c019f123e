"""`tinyvex wipe`: delete all documents and nothing else."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from tinyvex.cli.document_files import SourceTable
from tinyvex.cli.import_session import ImportSession, administrator, show_changes
from tinyvex.cli.logs import log_to_stderr
from tinyvex.cli.options import app_option, data_option
from tinyvex.cli.output import confirm, counted
from tinyvex.cli.terminal import echo
from tinyvex.values.suggestions import did_you_mean


@click.command("wipe", short_help="Delete all documents; keep tables, indexes and functions.")
@click.option(
    "--table", "tables", metavar="TABLE", multiple=True, help="Delete only the documents of this table; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Report what would be deleted; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@app_option
@data_option
def command(tables: tuple[str, ...], dry_run: bool, yes: bool, app: Path | None, data: Path | None) -> None:
    """
    Delete the documents of all tables in one commit. Tables, indexes and functions remain.

    To be able to undo it, export the documents first, and import that file with --replace-all.

    \b
    tinyvex export --path before.zip
    tinyvex wipe
    tinyvex import before.zip --replace-all
    """
    log_to_stderr("warning")
    anyio.run(_wipe, tables, dry_run, yes, app, data)


async def _wipe(tables: tuple[str, ...], dry_run: bool, yes: bool, app: Path | None, data: Path | None) -> None:
    async with administrator(app, data, needs_app=False) as client:
        session = ImportSession(client, "replace" if tables else "replaceAll")
        existing = await client.query("_system:tables")
        for table in tables:
            if table not in existing:
                names = ", ".join(f"`{name}`" for name in existing)
                hint = did_you_mean(table, existing)
                raise click.UsageError(f"there is no table `{table}`; the tables are {names}{hint}")
        changes = await session.changes(dict.fromkeys(tables, 0))
        show_changes(changes, are_done=False)
        deleted = sum(change.deleted for change in changes)
        if dry_run:
            echo(f"{counted(deleted, 'document')} would be deleted; nothing was changed", err=True)
            return
        if deleted and not yes:
            confirm("Delete them?")
        await session.run([SourceTable(table, None, table) for table in tables], lambda _: iter(()), lambda _: None)
    echo(f"{counted(deleted, 'document')} deleted", err=True)
