"""`tinyvex tokens` lists the tokens that were handed out by pairing, and takes them back."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option
from tinyvex.cli.output import Table, time_text


@click.command("tokens", short_help="List tokens that were handed out by pairing, or revoke one.")
@click.option("--revoke", metavar="ID", help="Make this token worthless; its connections are closed.")
@data_option
def command(revoke: str | None, data: Path | None) -> None:
    """
    List the tokens that were handed out by `tinyvex pair`, or revoke one.

    The tokens themselves only their programs have: here are their ids, names and times.

    \b
    tinyvex tokens
    """
    from tinyvex.server.access.pairing import Pairing

    pairing = Pairing(find_data(data), lambda: time.time_ns() // 1000, secrets.token_hex)
    if revoke is not None:
        if not pairing.revoke(revoke):
            raise click.UsageError(f"there is no token with the id {revoke}")
        click.echo(f"{revoke} is worthless now", err=True)
        return
    table = Table(["id", "name", "created"])
    for token in pairing.tokens():
        table.add({"id": token.id, "name": token.name, "created": time_text(token.created_us)})
    table.end()
