"""Promise 8: pages of other origins in a real browser, and what they can reach of a server on the user's machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Frame, Page

from tests.support.browser import close_soon, page_of_a_stranger, running_browser
from tests.support.process import ServerProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"

TRY_WEBSOCKET = """
([url, token]) => new Promise((resolve) => {
  let opened = false, answer = null;
  const socket = new WebSocket(url + "/sync");
  const connect = { protocolVersion: 1, sessionId: "session-of-a-page", token };
  socket.onopen = () => {
    opened = true;
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tinyvex/connect", params: connect }));
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.id !== 1) return;
    answer = message;
    if (message.result) socket.close();
  };
  socket.onclose = () => resolve({ opened, answer });
})
"""
"""Open a WebSocket and send `tinyvex/connect`; return whether it opened, and the answer."""

TRY_FETCH = """
([url, mode]) => fetch(url, { mode }).then(
  async (answer) => ({ type: answer.type, status: answer.status, text: await answer.text() }),
  (error) => ({ failed: error.name }),
)
"""
"""Return what a page can read of an address."""


class Site:
    """A server, and the address of a page of a foreign origin."""

    def __init__(self, server: ServerProcess, stranger: str) -> None:
        self.url = server.url
        self.port = server.ready["port"]
        self.token = server.ready["token"]
        self.http = f"http://127.0.0.1:{self.port}"
        self.stranger = stranger


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    """Close the module's servers at its end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def site(stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Run a server that allows no other origin."""
    stranger = stack.enter_context(page_of_a_stranger())
    return Site(stack.enter_context(ServerProcess(APP, tmp_path_factory.mktemp("closed"))), stranger)


@pytest.fixture(scope="module")
def open_site(stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Run a server that allows the foreign origin."""
    stranger = stack.enter_context(page_of_a_stranger())
    allowing = ServerProcess(APP, tmp_path_factory.mktemp("open"), "--allow-origin", stranger)
    return Site(stack.enter_context(allowing), stranger)


REBOUND = "--host-resolver-rules=MAP evil.example 127.0.0.1"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Run one browser for all tests, in which a foreign name resolves to this machine."""
    async with running_browser(REBOUND) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Open a page of its own."""
    context = await browser.new_context()
    yield await context.new_page()
    await close_soon(context)


async def try_websocket(page: Page | Frame, site: Site, token: str | None, url: str | None = None) -> dict[str, Any]:
    """Return whether the page could open the WebSocket, and the answer to its first request."""
    return dict(await page.evaluate(TRY_WEBSOCKET, [url or site.url, token or ""]))


NOTHING = {"opened": False, "answer": None}


async def test_a_page_of_another_origin_cannot_open_the_websocket(page: Page, site: Site) -> None:
    """A foreign page is refused even with the right token; the server's own origin is accepted."""
    await page.goto(site.stranger)
    assert await try_websocket(page, site, site.token) == NOTHING
    await page.goto(f"{site.http}/healthz")
    assert "result" in (await try_websocket(page, site, site.token))["answer"]


async def test_an_allowed_page_with_the_token_is_accepted(page: Page, open_site: Site) -> None:
    """A page of an allowed origin with the token is accepted."""
    await page.goto(open_site.stranger)
    assert "result" in (await try_websocket(page, open_site, open_site.token))["answer"]


@pytest.mark.parametrize("token", ["", "guessed"])
async def test_an_allowed_page_without_the_token_gets_nothing(page: Page, open_site: Site, token: str) -> None:
    """An allowed page without the token can open the WebSocket, and receives only the error."""
    await page.goto(open_site.stranger)
    outcome = await try_websocket(page, open_site, token)
    assert outcome["opened"]
    assert "result" not in outcome["answer"]
    assert outcome["answer"]["error"]["data"]["name"] == "Unauthenticated"


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/sync", "/nothing"])
async def test_a_page_of_another_origin_reads_no_answer(page: Page, site: Site, path: str) -> None:
    """The browser withholds every answer, and an opaque request reveals nothing."""
    await page.goto(site.stranger)
    assert await page.evaluate(TRY_FETCH, [site.http + path, "cors"]) == {"failed": "TypeError"}
    unread = await page.evaluate(TRY_FETCH, [site.http + path, "no-cors"])
    assert unread in ({"type": "opaque", "status": 0, "text": ""}, {"failed": "TypeError"})


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
async def test_a_page_of_an_allowed_origin_reads_no_answer_either(page: Page, open_site: Site, path: str) -> None:
    """`--allow-origin` opens the WebSocket, which requires a token, but not endpoints without one."""
    await page.goto(open_site.stranger)
    assert await page.evaluate(TRY_FETCH, [open_site.http + path, "cors"]) == {"failed": "TypeError"}


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
async def test_an_answer_cannot_be_run_as_a_script(page: Page, site: Site, path: str) -> None:
    """A `script` element may load any address, but the answers reveal nothing to the page."""
    load = """(url) => new Promise((resolve) => {
      const known = new Set(Object.keys(window)), script = document.createElement("script"), errors = [];
      window.onerror = (message) => errors.push(message);
      script.onload = script.onerror = () =>
        resolve({ errors, left: Object.keys(window).filter((name) => !known.has(name)) });
      script.src = url;
      document.head.append(script);
    })"""
    await page.goto(site.stranger)
    outcome = await page.evaluate(load, site.http + path)
    assert outcome["left"] == []
    assert set(outcome["errors"]) <= {"Script error."}


async def visit_rebound(page: Page, site: Site) -> None:
    """Open a page under a foreign name that resolves to the user's machine; an error page will do."""
    await page.goto(f"http://evil.example:{site.port}/trap")
    assert await page.evaluate("self.origin") == f"http://evil.example:{site.port}"


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
async def test_a_rebound_name_is_answered_403(page: Page, site: Site, path: str) -> None:
    """The browser would show the answer to a rebound name as same-origin; the server refuses it."""
    await visit_rebound(page, site)
    outcome = await page.evaluate(TRY_FETCH, [f"http://evil.example:{site.port}{path}", "cors"])
    assert (outcome["type"], outcome["status"]) == ("basic", 403)
    assert outcome["text"].startswith("Host ")


async def test_a_rebound_name_cannot_open_the_websocket(page: Page, site: Site) -> None:
    """A rebound name's `Origin` matches its `Host`, but the `Host` is not the server's."""
    await visit_rebound(page, site)
    rebound = f"ws://evil.example:{site.port}"
    assert await try_websocket(page, site, site.token, rebound) == NOTHING


FRAMES = {
    "sandbox": "<iframe sandbox='allow-scripts' srcdoc='boxed'></iframe>",
    "data URL": "<iframe src='data:text/html,boxed'></iframe>",
}


@pytest.mark.parametrize("kind", FRAMES)
async def test_a_page_of_no_origin_cannot_open_the_websocket(page: Page, open_site: Site, kind: str) -> None:
    """A sandboxed frame and a data URL have the origin `null`, even within an allowed page, and are refused."""
    await page.goto(open_site.stranger)
    async with page.expect_event("framenavigated"):
        await page.evaluate("(text) => { document.body.innerHTML = text }", FRAMES[kind])
    frame = page.frames[-1]
    assert await frame.evaluate("self.origin") == "null"
    assert await try_websocket(frame, open_site, open_site.token) == NOTHING
