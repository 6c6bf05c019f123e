"""The path from `tinyvex dashboard` to an open dashboard in a real Chromium."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest
from anyio import to_thread
from playwright.async_api import expect

from tests.support.browser import running_browser
from tests.support.dashboard import APP
from tests.support.process import ServerProcess
from tinyvex.cli.main import run


async def test_the_opened_file_leads_to_the_dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The opened file, whose name needs quoting, leads to the dashboard; neither address nor referrer contains the code.
    """
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    data = tmp_path / "my & your data"
    with ServerProcess(APP, data) as server:
        await to_thread.run_sync(run, ["dashboard", "--data", str(data)])
        async with running_browser() as browser:
            page = await browser.new_page()
            await page.goto(opened[0])
            await expect(page.locator("[data-connection=open]")).to_be_visible()
            assert page.url.startswith(f"http://127.0.0.1:{server.ready['port']}/_dashboard")
            assert "code" not in page.url
            assert await page.evaluate("document.referrer") == ""
