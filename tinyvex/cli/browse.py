"""`tinyvex browse`: list the servers that announce themselves on the local network."""

from __future__ import annotations

import asyncio
import json

import click
import msgspec

from tinyvex.cli.output import JsonArrayPrinter
from tinyvex.cli.terminal import echo
from tinyvex.errors import StartError

LISTEN_SECONDS = 3.0


@click.command("browse", short_help="List the servers that announce themselves on the local network.")
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True, max=600),
    default=LISTEN_SECONDS,
    show_default=True,
    help="How long to listen.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json"]),
    default="pretty",
    show_default=True,
    help="pretty: lines for people. json: one array.",
)
def command(seconds: float, output: str) -> None:
    """
    List the servers that announce themselves with `tinyvex serve --advertise`.

    Announcements are not authenticated: compare the fingerprint with the output of `tinyvex pair` on that machine.

    \b
    tinyvex browse
    """
    from tinyvex.server.services.mdns import browse

    try:
        servers = asyncio.run(browse(seconds))
    except OSError as error:
        raise StartError(f"multicast DNS is not available here: {error.strerror or error}") from error
    if output == "json":
        printer = JsonArrayPrinter()
        for server in servers:
            printer.add(msgspec.to_builtins(server))
        printer.end()
        return
    for server in servers:
        echo(f"{printable(server.name)}\n  url  {server.url}\n  db   {printable(server.database_id)}")
        if server.tls_fingerprint is not None:
            echo(f"  tls  {server.tls_fingerprint}")
    if not servers:
        echo("no server announces itself on this network", err=True)


def printable(text: str) -> str:
    """Escape text from the network that could control the terminal."""
    return text if text.isprintable() else json.dumps(text)
