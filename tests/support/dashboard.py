"""A browser tab with a server's dashboard, alongside another client."""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.support.browser import close_soon
from tests.support.process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "tests" / "support" / "library.py"
SCREENSHOTS = ROOT / "build" / "screenshots"
WINDOW = {"width": 1280, "height": 800}


def get(server: ServerProcess, path: str, token: str | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """Return the status, headers and text of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ready["port"], timeout=10)
    try:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def admin_token(server: ServerProcess) -> str:
    """Read the admin token from the discovery file."""
    data = Path(server.command[server.command.index("--data") + 1])
    return str(json.loads((data / "server.json").read_text(encoding="utf-8"))["adminToken"])


def page_of(server: ServerProcess) -> str:
    """Return the dashboard's address."""
    return f"http://127.0.0.1:{server.ready['port']}/_dashboard"


def link(server: ServerProcess) -> str:
    """Create a one-time link."""
    code = json.loads(get(server, "/_dashboard/link", admin_token(server))[2])["code"]
    return f"{page_of(server)}#code={code}"


@asynccontextmanager
async def context_of(browser: Browser, scheme: str = "light") -> AsyncIterator[BrowserContext]:
    """Open a context with its own cookies and storage."""
    context = await browser.new_context(viewport=WINDOW, color_scheme=scheme)  # type: ignore[arg-type]
    context.set_default_timeout(10_000)
    try:
        yield context
    finally:
        await close_soon(context)


@asynccontextmanager
async def open_tab(browser: Browser, server: ServerProcess, scheme: str = "light") -> AsyncIterator[Page]:
    """Open a tab with access; fail if it reported any error by the time it closes."""
    async with context_of(browser, scheme) as context:
        page = await context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
        await page.goto(link(server))
        await expect(page.get_by_role("status")).to_have_text("Live")
        yield page
        assert wrong == []


async def visit(page: Page, view: str) -> None:
    """Show another view in the same tab."""
    await page.evaluate("(view) => { location.hash = `#/${view}`; }", view)
