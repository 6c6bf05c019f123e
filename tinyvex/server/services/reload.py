"""
Load the app and the certificate again while they are served: on SIGHUP in `serve`, the app on a save in `dev`.

A reload that fails changes nothing: the last good version of the app, or the old certificate, stays in use. The failure
is logged with the file and line, and the service counts as failing until a reload succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from tinyvex.errors import TinyvexError
from tinyvex.server.services.background_service import BackgroundService

if TYPE_CHECKING:
    from tinyvex.server.options import ServerOptions

__all__ = ["Reload", "Reloadable"]

log = logging.getLogger("tinyvex.app")


class Reloadable(Protocol):
    """The parts of a server that a reload uses."""

    options: ServerOptions

    async def reload(self) -> object:
        """
        Load the app again and switch to it.

        Raises:
            TinyvexError: the last good version stays in use.
        """
        ...

    def reload_certificate(self) -> None:
        """
        Use the current content of the certificate's files for new connections.

        Raises:
            StartError: the files cannot be used; the old certificate stays in use.
            OSError: the new certificate is in use, but the discovery file cannot be written.
        """

    @property
    def certificate_fingerprint(self) -> str | None:
        """The fingerprint of the certificate in use; None without TLS."""
        ...


class Reload(BackgroundService):
    """
    Runs one requested reload after another.

    Any number of requests that arrive before a reload begins are served by that one.
    """

    name = "reload"

    def __init__(self, server: Reloadable) -> None:
        super().__init__()
        self._server = server
        self._requested = asyncio.Event()
        self._certificate_requested = False
        self._errors: dict[str, str] = {}

    def request(self, *, certificate: bool) -> None:
        """
        Request a reload; call it on the loop, also before the server has started.

        Args:
            certificate: load the certificate as well as the app.
        """
        self._certificate_requested = self._certificate_requested or certificate
        self._requested.set()

    async def run(self) -> None:
        """Serve requests."""
        while True:
            await self._requested.wait()
            certificate, self._certificate_requested = self._certificate_requested, False
            self._requested.clear()
            await self._reload_app()
            if certificate:
                self._reload_certificate()

    async def _reload_app(self) -> None:
        try:
            await self._server.reload()
        except TinyvexError as error:
            from tinyvex.storage.schema.violation_lines import violation_lines

            text = "\n".join([str(error), *violation_lines(error)])
            log.error("%s\nthe last good version keeps serving", text, extra={"error": error.name})
            self._report("app", text)
        else:
            log.info("reloaded %s", self._server.options.app_name)
            self._report("app", None)

    def _reload_certificate(self) -> None:
        before = self._server.certificate_fingerprint
        try:
            self._server.reload_certificate()
        except TinyvexError as error:
            log.error("%s\nthe old certificate stays in use", error, extra={"error": error.name})
            self._report("certificate", str(error))
            return
        except OSError as error:
            log.error("the new certificate is in use, but %s cannot be written: %s", error.filename, error.strerror)
            self._report("certificate", f"{error.filename} cannot be written: {error.strerror}")
            return
        self._report("certificate", None)
        if self._server.certificate_fingerprint != before:
            log.info("new connections use the certificate %s", self._server.certificate_fingerprint)

    def _report(self, part: str, error: str | None) -> None:
        """Record the outcome for one part: the service is healthy when no part has failed last."""
        if error is None:
            self._errors.pop(part, None)
        else:
            self._errors[part] = error
        if self._errors:
            self.report_failure("\n".join(self._errors.values()))
        else:
            self.report_ok()
