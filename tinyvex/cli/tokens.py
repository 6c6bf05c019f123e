"""`tinyvex tokens`: list and revoke issued tokens, issue one to a monitor, and renew the server's own."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option
from tinyvex.cli.output import TablePrinter, time_text
from tinyvex.cli.terminal import echo
from tinyvex.errors import ConnectionLost


@click.command(
    "tokens", short_help="List issued tokens, revoke one, issue one to a monitor, or renew the server's own."
)
@click.option("--revoke", metavar="ID", help="Revoke this token and close its connections.")
@click.option("--renew", is_flag=True, help="Replace the running server's admin token and client token.")
@click.option("--monitor", metavar="NAME", help="Issue a token that only reads /metrics and /healthz, and print it.")
@data_option
def command(revoke: str | None, renew: bool, monitor: str | None, data: Path | None) -> None:
    """
    List the tokens that were issued, revoke one, issue one to a monitor, or renew the server's own.

    The list has their ids, names, rights, creation times, last uses and ends.
    The tokens themselves are known only to their programs.
    --renew replaces the two tokens in `server.json`, closes the connections that the old ones admitted,
    and signs out the dashboard. Issued tokens stay valid.

    \b
    tinyvex tokens --monitor prometheus > prometheus.token
    tinyvex tokens
    """
    from tinyvex.server.access.pairing import Pairing
    from tinyvex.server.access.token_uses import read_token_uses
    from tinyvex.storage.file.data_folder import DataFolder

    folder = find_data_folder(data)
    DataFolder(folder).require_folder()
    if renew + (revoke is not None) + (monitor is not None) > 1:
        raise click.UsageError("--monitor, --renew and --revoke exclude each other")
    if renew:
        _renew(folder)
        return
    pairing = Pairing(folder, lambda: time.time_ns() // 1000, secrets.token_hex)
    if revoke is not None:
        if not pairing.revoke(revoke):
            raise click.UsageError(f"no token has the id `{revoke}`; `tinyvex tokens` lists the ids")
        echo(f"{revoke} is revoked", err=True)
        return
    if monitor is not None:
        echo(pairing.issue_monitor(monitor))
        return
    tokens = pairing.tokens()
    if not tokens:
        echo("no tokens; `tinyvex pair` prints a code with which a program gets one", err=True)
        return
    used_us = read_token_uses(DataFolder(folder).token_uses)
    printer = TablePrinter(["id", "name", "rights", "created", "used", "expires"])
    for token in tokens:
        printer.add(
            {
                "id": token.id,
                "name": token.name,
                "rights": "monitor" if token.is_monitor else "client",
                "created": time_text(token.created_us),
                "used": time_text(used_us[token.id]) if token.id in used_us else "never",
                "expires": "never" if token.expires_us is None else time_text(token.expires_us),
            }
        )
    printer.end()


def _renew(folder: Path) -> None:
    """
    Renew the tokens of the server on a data folder.

    Raises:
        ConnectionLost: no server runs, or it does not answer.
    """
    from tinyvex.cli.admin_request import request_as_admin
    from tinyvex.cli.session import running_server

    server = running_server(folder)
    if server is None:
        raise ConnectionLost(f"no server runs on the data folder `{folder}`; a start creates new tokens")
    request_as_admin(server, "POST", "/_dashboard/tokens")
    echo("the admin token and the client token were renewed; `server.json` in the data folder has them", err=True)
