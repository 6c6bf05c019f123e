"""`tinyvex import` brings documents in from a file."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from tinyvex.cli.document_files import FORMATS, DocumentFile, Format, format_of, open_documents
from tinyvex.cli.import_session import Import, Mode, Style, administrator, show_changes
from tinyvex.cli.logs import log_to_stderr
from tinyvex.cli.options import app_option, data_option
from tinyvex.cli.output import confirm, counted, progress_bar
from tinyvex.errors import ImportRefused

STYLES: dict[Format, Style] = {"zip": "stored", "jsonl": "written", "json": "written", "csv": "text"}


@click.command("import", short_help="Bring documents in from a file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--table", metavar="TABLE", help="Whose documents they are; of a zip, the only table to take.")
@click.option("--format", "file_format", type=click.Choice(FORMATS), help="What FILE is, where its name does not tell.")
@click.option("--append", "mode", flag_value="append", help="Add to the documents that are there.")
@click.option("--replace", "mode", flag_value="replace", help="Replace the documents of the tables in FILE.")
@click.option("--replace-all", "mode", flag_value="replaceAll", help="And empty all other tables.")
@click.option("--dry-run", is_flag=True, help="Check every document and say what would happen; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before documents are deleted.")
@app_option
@data_option
def command(
    file: Path,
    table: str | None,
    file_format: Format | None,
    mode: Mode | None,
    dry_run: bool,
    yes: bool,
    app: Path | None,
    data: Path | None,
) -> None:
    """
    Bring the documents of FILE in: a zip that `tinyvex export` or Convex made, JSON lines, a JSON array, or CSV.

    The tables must be empty, unless you say --append, --replace or --replace-all.
    Every document is checked before anything changes, and then all tables change at once:
    clients see the old documents, then the new ones. A running server goes on serving.

    \b
    tinyvex import snapshot.zip --replace-all
    tinyvex import books.csv --table books --append
    """
    log_to_stderr("warning")
    file_format = file_format or format_of(file)
    if file_format is None:
        raise click.UsageError(f"{file}: its name does not tell what it is; say --format {'|'.join(FORMATS)}")
    if table is None and file_format != "zip":
        raise click.UsageError(f"--table says whose documents are in {file.name}")
    with open_documents(file, file_format, table) as documents:
        for name in documents.left_out:
            click.echo(f"{file.name}: {name} is left out", err=True)
        counts = {found.name: sum(1 for _ in documents.rows(found)) for found in documents.tables}
        anyio.run(_import, documents, counts, mode or "empty", dry_run, yes, app, data)


async def _import(
    file: DocumentFile,
    counts: dict[str, int],
    mode: Mode,
    dry: bool,
    yes: bool,
    app: Path | None,
    data: Path | None,
) -> None:
    async with administrator(app, data) as client:
        work = Import(client, mode, STYLES[file.format])
        changes = await work.changes(counts)
        show_changes(changes)
        total = sum(counts.values())
        done = 0
        with progress_bar("Importing") as show:

            def progress(more: int) -> None:
                nonlocal done
                done += more
                show(done, total)

            def go_on() -> bool:
                if any(change.deleted for change in changes) and not yes and not dry:
                    confirm("All of it fits. Go on?")
                return not dry

            try:
                await work.run(file.tables, file.rows, progress, go_on)
            except ImportRefused:
                for place, line, text in sorted(work.problems):
                    click.echo(f"{place}:{line}: {text}", err=True)
                raise
    said = "would be imported; nothing was changed" if dry else "imported"
    click.echo(f"{file.path.name}: {counted(total, 'document')} of {counted(len(counts), 'table')} {said}", err=True)
