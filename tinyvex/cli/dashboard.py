"""`tinyvex dashboard`: open the dashboard of a running server."""

from __future__ import annotations

import html
import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyvex.cli.admin_request import request_as_admin
from tinyvex.cli.app_location import find_data_folder
from tinyvex.cli.options import data_option
from tinyvex.cli.session import running_server
from tinyvex.cli.terminal import echo
from tinyvex.errors import ConnectionLost, StorageError
from tinyvex.limits import DASHBOARD_LINK_SECONDS
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.file.private_file import write_private_file

if TYPE_CHECKING:
    from tinyvex.server.services.discovery import Discovery


@click.command("dashboard", short_help="Open a running server's data, functions and activity in a browser.")
@data_option
@click.option("--no-open", is_flag=True, help="Only print the link.")
def command(data: Path | None, no_open: bool) -> None:
    """
    Print a link to the dashboard of the running server, and open it in the browser.

    The dashboard shows documents and live queries as they change, runs functions, and displays the log.
    The link works once, within a minute, and admits one browser tab until the server stops.

    \b
    tinyvex dashboard
    """
    folder = find_data_folder(data)
    server = running_server(folder)
    if server is None:
        raise ConnectionLost(f"no server runs on the data folder `{folder}`; start one with `tinyvex dev`")
    link = f"{dashboard_url(server)}#code={json.loads(request_as_admin(server, 'GET', '/_dashboard/link'))['code']}"
    echo(link)
    echo(f"valid once, for {DASHBOARD_LINK_SECONDS:g} seconds", err=True)
    if not no_open and not _open(DataFolder(folder).dashboard_page, link):
        echo("no browser could be opened; open the link yourself", err=True)


def dashboard_url(server: Discovery) -> str:
    """Return the dashboard's URL without a code."""
    return f"{server.url.replace('ws', 'http', 1)}/_dashboard"


def _open(redirect: Path, link: str) -> bool:
    """
    Open a page that redirects to the link; return whether there is a browser.

    The browser is not started with the link itself: command lines are visible to other users in the process list, and
    the first to present the link's code is admitted. The page is readable only by its owner.
    """
    text = html.escape(link)
    page = (
        '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Tinyvex</title>'
        f'<meta http-equiv="refresh" content="0; url={text}"><a href="{text}">The dashboard</a>\n'
    )
    try:
        write_private_file(redirect, page.encode())
    except StorageError:
        return False
    if webbrowser.open(redirect.resolve().as_uri()):
        return True
    redirect.unlink(missing_ok=True)
    return False
