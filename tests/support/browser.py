"""The Chromium of this machine, and pages of a foreign origin for it to visit."""

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
    """Return its path; if there is none, skip the test, or fail it under `make test-all`."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    return path or required_program(NAMES[0])


@asynccontextmanager
async def running_browser(*arguments: str) -> AsyncIterator[Browser]:
    """Run a headless browser with a fresh profile."""
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
    Close a browser, or leave it to exit together with its driver, which is awaited.

    Chromium sometimes does not respond to a request to close; that is not a failure of the product.
    """
    with anyio.move_on_after(CLOSE_SECONDS):
        await what.close()


class _Page(BaseHTTPRequestHandler):
    """A handler that returns the same empty page for every path."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>A stranger</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def page_of_a_stranger() -> Iterator[str]:
    """Run a web server of another origin and return its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
