"""`tinyvex dashboard`: a link to what a running server does and holds."""

from __future__ import annotations

import asyncio
import html
import json
import os
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from tinyvex.cli.app_location import find_data
from tinyvex.cli.options import data_option
from tinyvex.cli.session import CONNECT_SECONDS, running_server
from tinyvex.errors import ConnectionLost
from tinyvex.limits import DASHBOARD_LINK_SECONDS

if TYPE_CHECKING:
    from tinyvex.server.services.discovery import Discovery

PAGE = "dashboard.html"
"""In the data folder: what the browser is told to open."""


@click.command("dashboard", short_help="Look at a running server's data, functions and activity in a browser.")
@data_option
@click.option("--no-open", is_flag=True, help="Only print the link.")
def command(data: Path | None, no_open: bool) -> None:
    """
    Print a link to the dashboard of the running server, and open it in the browser.

    It shows documents and live queries as they change, runs functions, and has the log.
    The link is good once and for a minute, and lets one browser tab in until the server stops.

    \b
    tinyvex dashboard
    """
    folder = find_data(data)
    found = running_server(folder)
    if found is None:
        raise ConnectionLost(f"no server runs on the data folder {folder}: start one with `tinyvex dev`")
    link = f"{page(found)}#code={asyncio.run(_ask_for_code(found))}"
    click.echo(link)
    click.echo(f"good once, for {DASHBOARD_LINK_SECONDS:g} seconds", err=True)
    if not no_open and not _open(folder / PAGE, link):
        click.echo("no browser could be opened: open the link yourself", err=True)


def page(found: Discovery) -> str:
    """Where the dashboard is."""
    return f"{found.url.replace('ws', 'http', 1)}/_dashboard"


def _open(leading: Path, link: str) -> bool:
    """
    Open a page that leads to the link; whether there is a browser.

    Not the link itself: everybody of this machine sees what programs are started with,
    and whoever shows its code first is let in. The page is its owner's alone, and worth nothing once the link is used.
    """
    text = html.escape(link)
    try:
        leading.unlink(missing_ok=True)
        with os.fdopen(os.open(leading, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(
                '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Tinyvex</title>'
                f'<meta http-equiv="refresh" content="0; url={text}"><a href="{text}">The dashboard</a>\n'
            )
    except OSError:
        return False
    if webbrowser.open(leading.resolve().as_uri()):
        return True
    leading.unlink(missing_ok=True)
    return False


async def _ask_for_code(found: Discovery) -> str:
    """
    A code from the server, which takes it for an administrator because of the admin token.

    Raises:
        ConnectionLost: the server does not answer, or answers otherwise.
        ServerUntrusted: somebody else does.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            head, _, body = (await _get(found, "/_dashboard/link")).partition(b"\r\n\r\n")
    except (OSError, TimeoutError) as error:
        raise ConnectionLost(f"the server at {found.url}, process {found.pid}, does not answer") from error
    status = head.partition(b"\r\n")[0].decode(errors="replace")
    if " 200 " not in status:
        raise ConnectionLost(f"the server at {found.url}, process {found.pid}, gives no link: {status}")
    return str(json.loads(body)["code"])


async def _get(found: Discovery, path: str) -> bytes:
    """The whole answer to a request with the admin token, on a connection that ends with it."""
    from tinyvex.client.server_verification import ServerVerification

    place = urlsplit(found.url)
    trust = ServerVerification(found.tls_fingerprint, secure=place.scheme == "wss")
    reader, writer = await asyncio.open_connection(place.hostname, place.port, ssl=trust.context)
    try:
        trust.check(writer.transport)
        head = [f"GET {path} HTTP/1.1", f"Host: {place.netloc}", f"Authorization: Bearer {found.admin_token}"]
        writer.write("".join(f"{line}\r\n" for line in [*head, ""]).encode())
        return await reader.read()
    finally:
        writer.transport.abort()  # all was read, or nothing more is wanted: no farewell in TLS is waited for
        with suppress(OSError):
            await writer.wait_closed()
