"""`tinyvex tokens`: list and revoke the tokens issued by pairing."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option
from tinyvex.cli.output import TablePrinter, time_text
from tinyvex.cli.terminal import echo


@click.command("tokens", short_help="List the tokens issued by pairing, or revoke one.")
@click.option("--revoke", metavar="ID", help="Revoke this token and close its connections.")
@data_option
def command(revoke: str | None, data: Path | None) -> None:
    """
    List the tokens that were issued through `tinyvex pair`, or revoke one.

    The list has their ids, names and creation times. The tokens themselves are known only to their programs.

    \b
    tinyvex tokens
    """
    from tinyvex.server.access.pairing import Pairing
    from tinyvex.storage.file.data_folder import DataFolder

    folder = find_data_folder(data)
    DataFolder(folder).require_folder()
    pairing = Pairing(folder, lambda: time.time_ns() // 1000, secrets.token_hex)
    if revoke is not None:
        if not pairing.revoke(revoke):
            raise click.UsageError(f"no token has the id `{revoke}`; `tinyvex tokens` lists the ids")
        echo(f"{revoke} is revoked", err=True)
        return
    tokens = pairing.tokens()
    if not tokens:
        echo("no tokens; `tinyvex pair` prints a code with which a program gets one", err=True)
        return
    printer = TablePrinter(["id", "name", "created"])
    for token in tokens:
        printer.add({"id": token.id, "name": token.name, "created": time_text(token.created_us)})
    printer.end()
