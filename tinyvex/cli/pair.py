"""`tinyvex pair` lets one more program in."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option
from tinyvex.limits import PAIRING_SECONDS, PAIRING_TRIES_MAX


@click.command("pair", short_help="Make a one-time code with which a program gets a token of its own.")
@click.option("--name", default="unnamed", show_default=True, help="What the token is called in `tinyvex tokens`.")
@data_option
def command(name: str, data: Path | None) -> None:
    """
    Print a code that a program connects with, once, and gets a token of its own for.

    The program gives it where a token goes, as pairing:CODE.
    The code is good for five minutes; a few wrong ones end that. A newer code takes the place of an older one.
    Where the server has TLS, its certificate's fingerprint is told too, for the program to pin.

    \b
    tinyvex pair --name tablet
    """
    from tinyvex.server.access.pairing import Pairing
    from tinyvex.server.services.discovery import find_server

    folder = find_data(data)
    code = Pairing(folder, lambda: time.time_ns() // 1000, secrets.token_hex).offer(name)
    click.echo(code)
    click.echo(
        f"good once, for {PAIRING_SECONDS / 60:g} minutes and {PAIRING_TRIES_MAX} tries: pairing:{code}", err=True
    )
    server = find_server(folder)
    if server is not None and server.tls_fingerprint is not None:
        click.echo(f"the server's certificate: {server.tls_fingerprint}", err=True)
