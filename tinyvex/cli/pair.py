"""`tinyvex pair`: issue a one-time code with which a program gets a token of its own."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option, duration
from tinyvex.cli.terminal import echo
from tinyvex.limits import PAIRING_SECONDS


@click.command("pair", short_help="Issue a one-time code with which a program gets its own token.")
@click.option("--name", default="unnamed", show_default=True, help="The token's name in `tinyvex tokens`.")
@click.option("--expires-in", metavar="DURATION", type=duration, help="End the token after this time, such as `30d`.")
@data_option
def command(name: str, expires_in: float | None, data: Path | None) -> None:
    """
    Print a code with which a program connects once and receives a token of its own.

    The program passes `pairing:CODE` instead of a token.
    The code is valid for five minutes. A new code replaces the previous one.
    If the server uses TLS, its certificate's fingerprint is printed as well, for the program to pin.

    \b
    tinyvex pair --name tablet
    """
    from tinyvex.server.access.pairing import Pairing
    from tinyvex.server.services.discovery import find_server
    from tinyvex.storage.file.data_folder import DataFolder

    folder = find_data_folder(data)
    DataFolder(folder).require_folder()
    code = Pairing(folder, lambda: time.time_ns() // 1000, secrets.token_hex).offer(name, expires_in)
    echo(code)
    echo(f"valid once, for {PAIRING_SECONDS / 60:g} minutes: pairing:{code}", err=True)
    server = find_server(folder)
    if server is None:
        echo("no server is running on this data folder; start one before the code expires", err=True)
    elif server.tls_fingerprint is not None:
        echo(f"the server's certificate: {server.tls_fingerprint}", err=True)
