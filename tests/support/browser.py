"""A real Chromium, the one that this machine has, and pages of strangers for it to visit."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.support.required import required_program

CLOSE_SECONDS = 10.0
NAMES = ["chromium", "chromium-browser", "google-chrome"]


def find_chromium() -> str:
    """Its path; skips the test where there is none, and fails it under `make test-all`."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or required_program(NAMES[0])


@asynccontextmanager
async def running_browser(*arguments: str) -> AsyncIterator[Browser]:
    """A browser of its own, without windows, with a fresh profile."""
    path = find_chromium()
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, headless=True, chromium_sandbox=not is_root, args=list(arguments)
        )
        try:
            yield browser
        finally:
            await close_soon(browser)


async def close_soon(what: Browser | BrowserContext) -> None:
    """
    Close it; what does not close in time is left to the end of its program, which this program waits for.

    Chromium sometimes does not answer when it is told to close: that is no matter of ours.
    """
    with anyio.move_on_after(CLOSE_SECONDS):
        await what.close()


class _Page(BaseHTTPRequestHandler):
    """The same empty page for every path."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>A stranger</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def page_of_a_stranger() -> Iterator[str]:
    """A web server of another origin; where its page is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
