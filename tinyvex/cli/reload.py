"""Loading the app again while it is served, on a save in `dev`; on SIGHUP in `serve`, and the certificate with it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tinyvex.cli.main import violations
from tinyvex.errors import TinyvexError

if TYPE_CHECKING:
    from pathlib import Path

    from tinyvex.server.server import Server

__all__ = ["Reloads", "reload", "reload_certificate"]

log = logging.getLogger("tinyvex.app")


async def reload(server: Server, app: Path) -> None:
    """Load the app again; what is wrong with it is logged, and the last good version serves on."""
    try:
        await server.reload()
    except TinyvexError as error:
        text = "\n".join([str(error), *violations(error)])
        log.error("%s\nthe last good version keeps serving", text, extra={"error": error.name})
    else:
        log.info("reloaded %s", app.name)


def reload_certificate(server: Server) -> None:
    """Use what the certificate's files hold now; what is wrong with them is logged, and the old one serves on."""
    before = server.listening.fingerprint
    try:
        server.reload_certificate()
    except TinyvexError as error:
        log.error("%s\nthe old certificate is served on", error, extra={"error": error.name})
    except OSError as error:
        log.error("the new certificate is served, but %s cannot be written: %s", error.filename, error.strerror)
    else:
        if server.listening.fingerprint != before:
            log.info("new connections get the certificate %s", server.listening.fingerprint)


class Reloads:
    """
    Reloads that were asked for: any number of them before the next one begins count as one.

    Args:
        app: what is loaded again.
    """

    def __init__(self, app: Path) -> None:
        self._app = app
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """On the loop: the app is to be loaded again, also where one is being loaded just now."""
        self._asked.set()

    async def run(self, server: Server) -> None:
        """Do what was asked for, one after another, without end."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await reload(server, self._app)
            reload_certificate(server)
