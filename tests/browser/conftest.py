"""Shared fixtures of the dashboard tests: a server and a browser for each module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.support.browser import running_browser
from tests.support.dashboard import APP, page_of
from tests.support.process import ServerProcess

expect.set_options(timeout=10_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server of the library app."""
    with ServerProcess(APP, tmp_path_factory.mktemp("data")) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Run one browser for all tests of a module."""
    async with running_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def page(browser: Browser, server: ServerProcess) -> Page:
    """Open a page without access, which has the styles and the modules."""
    page = await (await browser.new_context()).new_page()
    await page.goto(page_of(server))
    return page
