"""`tinyvex import`: import documents from a file or from standard input."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from tinyvex.cli.document_files import FILE_FORMATS, DocumentFile, FileFormat, TableSurvey, open_documents, survey
from tinyvex.cli.import_session import (
    ImportMode,
    ImportSession,
    RowStyle,
    administrator,
    show_changes,
    with_current_names,
)
from tinyvex.cli.import_source import ImportSource, open_source
from tinyvex.cli.logs import log_to_stderr
from tinyvex.cli.options import app_option, data_option
from tinyvex.cli.output import confirm, counted
from tinyvex.cli.terminal import echo, progress_bar
from tinyvex.errors import ImportRefused

STYLES: dict[FileFormat, RowStyle] = {"zip": "stored", "jsonl": "written", "json": "written", "csv": "text"}


@click.command("import", short_help="Import documents from a file or a pipe.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True))
@click.option("--table", metavar="TABLE", help="Import into this table; for a zip, import only this table.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FILE_FORMATS),
    help="The format of FILE.  [default: by its suffix or first bytes]",
)
@click.option("--append", "modes", flag_value="append", multiple=True, help="Add to the existing documents.")
@click.option(
    "--replace", "modes", flag_value="replace", multiple=True, help="Replace the documents of the tables in FILE."
)
@click.option(
    "--replace-all",
    "modes",
    flag_value="replaceAll",
    multiple=True,
    help="Like --replace, and delete all other documents.",
)
@click.option("--dry-run", is_flag=True, help="Validate every document and report what would happen; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation before documents are deleted.")
@app_option
@data_option
def command(
    file: Path,
    table: str | None,
    file_format: FileFormat | None,
    modes: tuple[ImportMode, ...],
    dry_run: bool,
    yes: bool,
    app: Path | None,
    data: Path | None,
) -> None:
    """
    Import the documents of FILE: a zip made by `tinyvex export` or Convex, JSON lines, a JSON array, or CSV.

    The tables must be empty unless you pass --append, --replace or --replace-all.
    Every document is validated before anything changes. Then all tables change in one commit:
    clients see the old documents, then the new ones. A running server keeps serving.

    FILE may be a pipe, and `-` is standard input. Both are first copied into a temporary file.

    \b
    tinyvex import snapshot.zip --replace-all
    tinyvex import books.csv --table books --append
    curl https://example.com/books.jsonl | tinyvex import - --table books --append
    """
    log_to_stderr("warning")
    if len(set(modes)) > 1:
        raise click.UsageError("--append, --replace and --replace-all exclude each other; pass one of them")
    mode = modes[0] if modes else "empty"
    with open_source(file) as source:
        if source.is_stdin and mode in ("replace", "replaceAll") and not yes and not dry_run:
            raise click.UsageError(
                "documents will be deleted, and the question cannot be answered on standard input,"
                " which has the new documents; pass --yes or --dry-run"
            )
        file_format = _format(source, file_format, table)
        with open_documents(source.file, source.name, file_format, table) as documents:
            for name in documents.skipped:
                echo(f"{source.name}: skipped {name}", err=True)
            surveys = [survey(found, documents.rows(found)) for found in documents.tables]
            anyio.run(_import, documents, surveys, mode, dry_run, yes, app, data)


def _format(source: ImportSource, given: FileFormat | None, table: str | None) -> FileFormat:
    file_format = given or source.format
    if file_format is None:
        formats = "|".join(FILE_FORMATS)
        raise click.UsageError(
            f"neither the name nor the first bytes of `{source.name}` show its format; pass --format {formats}"
        )
    if table is None and file_format != "zip":
        raise click.UsageError(f"`{source.name}` does not name a table; pass --table TABLE")
    return file_format


async def _import(
    file: DocumentFile,
    surveys: list[TableSurvey],
    mode: ImportMode,
    dry_run: bool,
    yes: bool,
    app: Path | None,
    data: Path | None,
) -> None:
    async with administrator(app, data) as client:
        session = ImportSession(client, mode, STYLES[file.format])
        tables = await with_current_names(client, [found.table for found in surveys])
        counts = {table.name: found.rows for table, found in zip(tables, surveys, strict=True)}
        changes = await session.changes(counts)
        asks = any(change.deleted for change in changes) and not yes and not dry_run
        total = sum(counts.values())

        def should_finish() -> bool:
            if session.rows_sent != total:
                raise ImportRefused(
                    f"`{file.name}` changed while it was being read: it had {counted(total, 'document')},"
                    f" then {session.rows_sent:,}; nothing was changed"
                )
            if asks or dry_run:
                show_changes(changes, are_done=False)
            if asks:
                confirm("All documents are valid. Import them?")
            return not dry_run

        try:
            with progress_bar("Importing") as progress:
                await session.run(tables, file.rows, lambda done: progress(done, total), should_finish)
        except ImportRefused:
            for path, line, text in sorted(session.problems):
                echo(f"{path}:{line}: {text}", err=True)
            raise
        if not asks and not dry_run:
            show_changes(changes, are_done=True)
    outcome = "would be imported; nothing was changed" if dry_run else "imported"
    counts_text = f"{counted(total, 'document')} of {counted(len(counts), 'table')}"
    echo(f"{file.name}: {counts_text} {outcome}", err=True)
