"""Access to the dashboard in a real Chromium, and its defence against foreign pages and hostile documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from anyio import to_thread
from playwright.async_api import Browser, Page, expect

import tinyvex as tv
from tests.support.browser import close_soon, page_of_a_stranger
from tests.support.certificates import Certificates
from tests.support.dashboard import APP, context_of, link, open_tab, page_of, visit
from tests.support.process import ServerProcess
from tests.support.relay import relay_to
from tinyvex.cli.main import run

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Open a tab without access."""
    async with context_of(browser) as context:
        yield await context.new_page()


async def expect_gate(page: Page, title: str) -> None:
    """Expect this title and the next step, and nothing else."""
    await expect(page.get_by_role("heading")).to_have_text([title])
    await expect(page.get_by_role("alert")).to_contain_text("tinyvex dashboard")
    await expect(page.get_by_role("navigation")).to_have_count(0)


async def try_now(page: Page) -> None:
    """Click "Try now", unless the page has reconnected by itself in the meantime."""
    button = page.locator(".banner button")
    await button.evaluate("(button) => button.closest('[hidden]') === null && button.click()")


async def test_the_address_alone_gives_no_access(page: Page, server: ServerProcess) -> None:
    """The address alone gives no access; the page explains how to create a link."""
    await page.goto(page_of(server))
    await expect_gate(page, "Open this page with a link")


async def test_a_link_works_in_a_tab_without_access(page: Page, server: ServerProcess) -> None:
    """A link works in a tab without access, although for the browser only the fragment changes."""
    await page.goto(page_of(server))
    await expect_gate(page, "Open this page with a link")
    await page.goto(link(server))
    await expect(page.get_by_role("status")).to_have_text("Live")


async def test_a_wrong_code_gives_no_access(page: Page, server: ServerProcess) -> None:
    """A wrong code gives no access, and the page says so."""
    await page.goto(f"{page_of(server)}#code=guessed")
    await expect_gate(page, "This link is no longer valid")


async def test_a_code_admits_one_tab(browser: Browser, page: Page, server: ServerProcess) -> None:
    """The code disappears from the address, does not work in another tab, and the first tab survives a reload."""
    address = link(server)
    await page.goto(address)
    await expect(page.get_by_role("status")).to_have_text("Live")
    assert "code" not in page.url
    async with context_of(browser) as context:
        other = await context.new_page()
        await other.goto(address)
        await expect_gate(other, "This link is no longer valid")
    await page.reload()
    await expect(page.get_by_role("status")).to_have_text("Live")


async def test_a_used_link_leaves_a_tabs_access_intact(page: Page, server: ServerProcess) -> None:
    """A used link in a tab with access leaves that access intact."""
    address = link(server)
    await page.goto(address)
    await expect(page.get_by_role("status")).to_have_text("Live")
    await page.goto(address)
    await expect(page.get_by_role("status")).to_have_text("Live")


async def test_a_lost_connection_is_reported_and_restored(page: Page, server: ServerProcess) -> None:
    """After a reconnect the view, which stayed visible, shows the writes made in between."""
    async with relay_to(server.ready["port"]) as wire:
        await page.goto(link(server).replace(f":{server.ready['port']}/", f":{wire.port}/"))
        await visit(page, "data/readers")
        await expect(page.get_by_role("main")).to_contain_text("No documents")
        wire.cut()
        await expect(page.get_by_role("alert")).to_contain_text("Connection lost")
        await expect(page.get_by_role("heading", name="readers")).to_be_visible()
        async with tv.connect(server.url, server.ready["token"]) as client:
            await client.mutation("library:register", {"name": "Emma", "card": tv.Int64(1)})
        wire.mend()
        await try_now(page)
        await expect(page.get_by_role("status")).to_have_text("Live")
        await expect(page.get_by_role("alert")).to_have_count(0)
        await expect(page.get_by_role("grid")).to_contain_text("Emma")


async def test_a_silent_connection_is_reported(page: Page, server: ServerProcess) -> None:
    """Unanswered polls reveal a dead network long before the heartbeat; a lost network closes no socket."""
    await page.goto(link(server))
    await expect(page.get_by_role("status")).to_have_text("Live")
    await page.context.set_offline(True)
    await expect(page.get_by_role("alert")).to_contain_text("Connection lost")
    await page.context.set_offline(False)
    await try_now(page)
    await expect(page.get_by_role("status")).to_have_text("Live")


async def test_a_restarted_server_is_reported(browser: Browser, tmp_path: Path) -> None:
    """The tab first reports the lost connection, then that the restarted server needs a new link."""
    with ServerProcess(APP, tmp_path / "data") as server:
        server.command += ["--port", str(server.ready["port"])]
        async with open_tab(browser, server) as page:
            await to_thread.run_sync(server.kill)
            await expect(page.get_by_role("alert")).to_contain_text("Connection lost")
            await expect(page.get_by_role("status")).to_have_text("Reconnecting")
            await to_thread.run_sync(server.start)
            await expect_gate(page, "The server was restarted")
            await page.goto(link(server))
            await expect(page.get_by_role("status")).to_have_text("Live")


async def test_a_link_works_over_tls(browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The content security policy also allows an encrypted socket."""
    made = Certificates(tmp_path / "certificates")
    with ServerProcess(APP, tmp_path / "data", *made.options):
        await to_thread.run_sync(run, ["dashboard", "--data", str(tmp_path / "data"), "--no-open"])
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        await page.goto(capsys.readouterr().out.strip())
        await expect(page.get_by_role("status")).to_have_text("Live")
        await close_soon(context)


HOSTILE = "<img src=x onerror='window.stolen = 1'><script>window.stolen = 1</script>"


async def test_markup_in_a_document_stays_text(browser: Browser, server: ServerProcess) -> None:
    """Markup in a document stays text in the table, the JSON and a result; it creates no elements and nothing runs."""
    async with tv.connect(server.url, server.ready["token"]) as client, open_tab(browser, server) as page:
        await client.mutation("library:add", {"title": HOSTILE, "tags": [HOSTILE]})
        await visit(page, "data/books")
        row = page.get_by_role("grid").locator("tbody tr").first
        await expect(row).to_contain_text(HOSTILE)
        await row.click()
        await expect(page.get_by_role("article")).to_contain_text(HOSTILE)
        await visit(page, "functions/library%3Atitles")
        await page.get_by_role("button", name="Run").click()
        await expect(page.get_by_role("region", name="Result")).to_contain_text(HOSTILE)
        assert await page.locator("main img, main script").count() == 0
        assert await page.evaluate("window.stolen") is None


TYPES, SCRIPTS = "require-trusted-types-for", "script-src-elem"

INJECT = {
    "script": ("const it = document.createElement('script'); it.text = 'stolen = 1'; document.body.append(it);", TYPES),
    "markup": ("document.body.innerHTML = `<img src=x onerror='stolen = 1'>`;", TYPES),
    "handler": ("document.body.setAttribute('onclick', 'stolen = 1'); document.body.click();", TYPES),
    "eval": ("window.eval('stolen = 1');", TYPES),
    "address": ("location.href = 'javascript:stolen = 1';", SCRIPTS),
}
"""Ways to turn a string into code, and the directive of the policy that blocks each."""


@pytest.mark.parametrize("way", INJECT)
async def test_inline_code_is_blocked(page: Page, server: ServerProcess, way: str) -> None:
    """The policy blocks inline code, should the page's own code ever insert a string as code."""
    code, rule = INJECT[way]
    await page.goto(page_of(server))
    await expect(page.get_by_role("heading")).to_be_visible()
    # In a task of its own: code evaluated by a debugger is exempt from the policy.
    refused = await page.evaluate(
        f"""() => new Promise((resolve) => {{
          document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
          setTimeout(() => {{ {code} }});
        }})"""
    )
    assert refused == rule
    assert await page.evaluate("window.stolen") is None


async def test_requests_to_other_origins_are_blocked(page: Page, server: ServerProcess) -> None:
    """The page can send no request to another origin."""
    with page_of_a_stranger() as stranger:
        await page.goto(page_of(server))
        tried = await page.evaluate(
            "(url) => fetch(url, { mode: 'no-cors' }).then(() => 'sent', () => 'blocked')", stranger
        )
        assert tried == "blocked"


async def test_no_other_page_can_frame_the_dashboard(page: Page, server: ServerProcess) -> None:
    """No other page can frame the dashboard, so none can trick a user into clicking its buttons."""
    with page_of_a_stranger() as stranger:
        await page.goto(stranger)
        await page.evaluate("(url) => { document.body.innerHTML = `<iframe src='${url}'></iframe>`; }", page_of(server))
        frame = page.frame_locator("iframe")
        await page.wait_for_function("document.querySelector('iframe').contentDocument === null")
        await expect(frame.get_by_text("tinyvex dashboard")).to_have_count(0)
        assert "_dashboard" not in page.frames[-1].url or page.frames[-1].url.startswith("chrome-error:")
