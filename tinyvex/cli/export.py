"""`tinyvex export`: write all documents into a zip file."""

from __future__ import annotations

from pathlib import Path

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import FilePath, data_option
from tinyvex.cli.output import counted, size_text, time_text
from tinyvex.cli.terminal import echo, progress_bar


@click.command("export", short_help="Write all documents into a zip file of JSON lines.")
@click.option(
    "--path", "file", required=True, metavar="FILE.zip", type=FilePath(dir_okay=False),
    help="The file to write.",
)  # fmt: skip
@data_option
@click.option("--replace", is_flag=True, help="Replace FILE.zip if it exists.")
def command(file: Path, data: Path | None, replace: bool) -> None:
    """
    Write the documents of all tables into FILE.zip as a consistent snapshot, one JSON document per line.

    A server can keep serving and writing. FILE.zip appears only when it is complete.

    \b
    tinyvex export --path notes.zip
    """
    from tinyvex.storage.maintenance.export import export

    folder = find_data_folder(data)
    with progress_bar("Exporting") as progress:
        done = export(folder, file.absolute(), progress, replace=replace)
    counts = f"{counted(done.documents, 'document')} of {counted(done.tables, 'table')}"
    echo(f"{file}: {counts}, {size_text(done.size_bytes)}, as of {time_text(done.ts)}", err=True)
