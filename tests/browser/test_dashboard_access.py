"""Who the dashboard lets in, in a real Chromium, and what a page of strangers or a hostile document makes of it."""

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
    """A tab that was let in nowhere yet."""
    async with context_of(browser) as context:
        yield await context.new_page()


async def expect_gate(page: Page, title: str) -> None:
    """The page says this, and what to do; and it shows nothing else."""
    await expect(page.get_by_role("heading")).to_have_text([title])
    await expect(page.get_by_role("alert")).to_contain_text("tinyvex dashboard")
    await expect(page.get_by_role("navigation")).to_have_count(0)


async def test_the_address_alone_lets_nobody_in(page: Page, server: ServerProcess) -> None:
    """The page says how to come by a link."""
    await page.goto(page_of(server))
    await expect_gate(page, "Open this page with a link")


async def test_a_link_opened_where_nobody_was_let_in_lets_in(page: Page, server: ServerProcess) -> None:
    """Though for the browser it is the same page with another fragment."""
    await page.goto(page_of(server))
    await expect_gate(page, "Open this page with a link")
    await page.goto(link(server))
    await expect(page.get_by_role("status")).to_have_text("Live")


async def test_a_wrong_code_lets_nobody_in(page: Page, server: ServerProcess) -> None:
    """The page says so."""
    await page.goto(f"{page_of(server)}#code=guessed")
    await expect_gate(page, "This link is good no more")


async def test_a_code_lets_one_tab_in(browser: Browser, page: Page, server: ServerProcess) -> None:
    """It is gone from the address at once, and another tab that has it comes too late; the first one can be reloaded."""
    address = link(server)
    await page.goto(address)
    await expect(page.get_by_role("status")).to_have_text("Live")
    assert "code" not in page.url
    async with context_of(browser) as context:
        other = await context.new_page()
        await other.goto(address)
        await expect_gate(other, "This link is good no more")
    await page.reload()
    await expect(page.get_by_role("status")).to_have_text("Live")


async def test_another_link_in_a_tab_that_is_in_changes_nothing(page: Page, server: ServerProcess) -> None:
    """A used one neither: the tab keeps its own access."""
    address = link(server)
    await page.goto(address)
    await expect(page.get_by_role("status")).to_have_text("Live")
    await page.goto(address)
    await expect(page.get_by_role("status")).to_have_text("Live")


async def test_a_lost_connection_is_said_and_comes_back(page: Page, server: ServerProcess) -> None:
    """What was shown stays meanwhile, and goes on where it was, with what was written meanwhile."""
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
        await page.get_by_role("button", name="Try now").click()
        await expect(page.get_by_role("status")).to_have_text("Live")
        await expect(page.get_by_role("alert")).to_have_count(0)
        await expect(page.get_by_role("grid")).to_contain_text("Emma")


async def test_a_silent_connection_is_said(page: Page, server: ServerProcess) -> None:
    """A network that is gone closes no socket: that nothing else is answered tells it long before the heartbeat."""
    await page.goto(link(server))
    await expect(page.get_by_role("status")).to_have_text("Live")
    await page.context.set_offline(True)
    await expect(page.get_by_role("alert")).to_contain_text("Connection lost")
    await page.context.set_offline(False)
    await page.get_by_role("button", name="Try now").click()
    await expect(page.get_by_role("status")).to_have_text("Live")


async def test_a_restarted_server_is_said(browser: Browser, tmp_path: Path) -> None:
    """First that the connection is lost; then, when a server is there again, that its links are others."""
    with ServerProcess(APP, tmp_path / "data") as server:
        server.command += ["--port", str(server.ready["port"])]
        async with open_tab(browser, server) as page:
            await to_thread.run_sync(server.kill)
            await expect(page.get_by_role("alert")).to_contain_text("Connection lost")
            await expect(page.get_by_role("status")).to_have_text("Reconnecting")
            await to_thread.run_sync(server.start)
            await expect_gate(page, "The server was started anew")
            await page.goto(link(server))
            await expect(page.get_by_role("status")).to_have_text("Live")


async def test_it_is_let_in_over_tls(browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The policy lets the page's own socket be encrypted, too."""
    made = Certificates(tmp_path / "certificates")
    with ServerProcess(APP, tmp_path / "data", *made.options):
        await to_thread.run_sync(run, ["dashboard", "--data", str(tmp_path / "data"), "--no-open"])
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        await page.goto(capsys.readouterr().out.strip())
        await expect(page.get_by_role("status")).to_have_text("Live")
        await close_soon(context)


HOSTILE = "<img src=x onerror='window.stolen = 1'><script>window.stolen = 1</script>"


async def test_what_a_document_says_is_text(browser: Browser, server: ServerProcess) -> None:
    """In the table, in its JSON, in a result and in the log of a function: no element, and nothing runs."""
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
"""Ways in which a text could become code, and the rule of the policy that refuses each."""


@pytest.mark.parametrize("way", INJECT)
async def test_nothing_in_line_runs(page: Page, server: ServerProcess, way: str) -> None:
    """The policy refuses it, should the page's own code ever put a text where code goes."""
    code, rule = INJECT[way]
    await page.goto(page_of(server))
    await expect(page.get_by_role("heading")).to_be_visible()
    # In a turn of its own: what a debugger evaluates is exempt from the policy.
    refused = await page.evaluate(
        f"""() => new Promise((resolve) => {{
          document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
          setTimeout(() => {{ {code} }});
        }})"""
    )
    assert refused == rule
    assert await page.evaluate("window.stolen") is None


async def test_it_sends_nothing_elsewhere(page: Page, server: ServerProcess) -> None:
    """Neither a request nor a form."""
    with page_of_a_stranger() as stranger:
        await page.goto(page_of(server))
        tried = await page.evaluate(
            "(url) => fetch(url, { mode: 'no-cors' }).then(() => 'sent', () => 'kept')", stranger
        )
        assert tried == "kept"


async def test_no_other_page_can_show_it_in_a_frame(page: Page, server: ServerProcess) -> None:
    """Who cannot frame it cannot have its buttons clicked."""
    with page_of_a_stranger() as stranger:
        await page.goto(stranger)
        await page.evaluate("(url) => { document.body.innerHTML = `<iframe src='${url}'></iframe>`; }", page_of(server))
        frame = page.frame_locator("iframe")
        await page.wait_for_function("document.querySelector('iframe').contentDocument === null")
        await expect(frame.get_by_text("tinyvex dashboard")).to_have_count(0)
        assert "_dashboard" not in page.frames[-1].url or page.frames[-1].url.startswith("chrome-error:")
