"""`tinyvex export` writes all documents into a zip file."""

from __future__ import annotations

from pathlib import Path

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option
from tinyvex.cli.output import counted, progress_bar, size_text, time_text


@click.command("export", short_help="Write all documents into a zip file of JSON lines.")
@click.option(
    "--path", "file", required=True, metavar="FILE.zip", type=click.Path(path_type=Path, dir_okay=False),
    help="The file to make.",
)  # fmt: skip
@data_option
@click.option("--replace", is_flag=True, help="Put it in the place of a file that is there.")
def command(file: Path, data: Path | None, replace: bool) -> None:
    """
    Write the documents of all tables into FILE.zip, as they are at this moment, one JSON document on each line.

    A server may go on serving and writing. FILE.zip appears when it is whole.

    \b
    tinyvex export --path notes.zip
    """
    from tinyvex.storage.maintenance.export import export

    with progress_bar("Exporting") as progress:
        done = export(find_data(data), file.absolute(), progress, replace=replace)
    counts = f"{counted(done.documents, 'document')} of {counted(done.tables, 'table')}"
    click.echo(f"{file}: {counts}, {size_text(done.size_bytes)}, as of {time_text(done.ts)}", err=True)
