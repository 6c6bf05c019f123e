"""`tinyvex browse` lists the servers that announce themselves on the local network."""

from __future__ import annotations

import asyncio
import json

import click
import msgspec

from tinyvex.cli.output import JsonArray
from tinyvex.errors import StartError

SECONDS = 3.0


@click.command("browse", short_help="List the servers that announce themselves on the local network.")
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True, max=600),
    default=SECONDS,
    show_default=True,
    help="How long to listen.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json"]),
    default="pretty",
    show_default=True,
    help="For people, or JSON.",
)
def command(seconds: float, output: str) -> None:
    """
    List the servers that announce themselves with `tinyvex serve --advertise`.

    The list is what they say of themselves: compare a fingerprint with the one that `tinyvex pair` prints there.

    \b
    tinyvex browse
    """
    from tinyvex.server.services.mdns import browse

    try:
        found = asyncio.run(browse(seconds))
    except OSError as error:
        raise StartError(f"multicast DNS does not work here: {error.strerror or error}") from error
    if output == "json":
        printer = JsonArray()
        for server in found:
            printer.add(msgspec.to_builtins(server))
        printer.end()
        return
    for server in found:
        click.echo(f"{shown(server.name)}\n  url  {server.url}\n  db   {shown(server.database_id)}")
        if server.tls_fingerprint is not None:
            click.echo(f"  tls  {server.tls_fingerprint}")
    if not found:
        click.echo("nobody announces a server here", err=True)


def shown(text: str) -> str:
    """A stranger's text, so that it cannot write over the terminal."""
    return text if text.isprintable() else json.dumps(text)
