"""The dashboard at the width of a phone, a tablet and a desktop: nothing to press or read is cut off or covered."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

import tinyvex as tv
from tests.support.dashboard import SCREENSHOTS, open_tab, visit
from tests.support.process import ServerProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = '''
import enum

import tinyvex as tv

class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2

@tv.table("books", indexes={"by_title": ["title"]})
class Book(tv.Document):
    title: str
    level: Level = Level.LOW
    pages: int = 0

@tv.table("readers_of_the_public_library")
class Reader(tv.Document):
    name: str

@tv.query
def titles(ctx: tv.QueryCtx) -> tv.Rows[Book]:
    return ctx.db.query(Book).collect()

@tv.mutation
def add(
    ctx: tv.MutationCtx, title: str, level: Level = Level.LOW, pages: int = 0, a_long_name_of_an_argument: str | None = None
) -> tv.Id[Book]:
    """Add a book; one without a title is refused."""
    if not title:
        raise ValueError("the title must not be empty")
    return ctx.db.insert(Book(title=title, level=level, pages=pages))
'''

WIDTHS = {390: 844, 768: 900, 1440: 900}
"""Widths and heights of the window, in CSS pixels: a phone, a tablet, a desktop."""

MISPLACED = """() => {
  const width = document.documentElement.clientWidth;
  const shown = [...document.querySelectorAll("button, select, input, a, label, h1, h2, dt, .figure-value, .type, .field-head > *")]
    .filter((each) => each.checkVisibility({ visibilityProperty: true }) && each.getBoundingClientRect().width > 1);
  const scrolls = (each) => {
    for (let up = each.parentElement; up !== null; up = up.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(up).overflowX) && up.scrollWidth > up.clientWidth) return true;
    }
    return false;
  };
  const name = (each) => `${each.tagName} ${each.textContent.slice(0, 30) || each.ariaLabel}`;
  const outside = shown.filter((each) => {
    const { left, right } = each.getBoundingClientRect();
    return (left < -1 || right > width + 1) && !scrolls(each);
  });
  // Long names may end in an ellipsis; their whole text is a tooltip, or stands in the list.
  const cut = shown.filter((each) => each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0
    && !each.matches("input, select, textarea, .clip") && !scrolls(each));
  return [...outside.map((each) => `outside: ${name(each)}`), ...cut.map((each) => `cut: ${name(each)}`)];
}"""
"""The elements that are outside the window, or whose text does not fit, unless they can be scrolled into view."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server whose app has an enumeration and long names."""
    folder = tmp_path_factory.mktemp("widths")
    (folder / "shelf.py").write_text(APP)
    with ServerProcess(folder / "shelf.py", folder / "data") as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def book(server: ServerProcess) -> AsyncIterator[str]:
    """Write some documents, and let a call fail; yields the id of the newest document."""
    async with tv.connect(server.url, server.ready["token"]) as client:
        for number in range(60):
            added = await client.mutation("shelf:add", {"title": f"The title of volume {number:02}", "level": 2})
        with contextlib.suppress(tv.TinyvexError):
            await client.mutation("shelf:add", {"title": ""})
        yield added


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
async def test_nothing_is_cut_off(browser: Browser, server: ServerProcess, book: str, width: int, scheme: Any) -> None:
    """In every view each button, field, label and figure is inside the window and shows all of its text."""
    views = [
        "data/readers_of_the_public_library",
        "data/books",
        f"data/books/{book}",
        "functions/shelf:add",
        "activity",
        "log",
    ]
    ready = {"data": ".pager", "functions": ".field", "activity": ".tile", "log": ".record"}
    async with open_tab(browser, server, scheme) as tab:
        await tab.set_viewport_size({"width": width, "height": WIDTHS[width]})
        misplaced = {}
        for view in views:
            await visit(tab, view)
            await expect(tab.locator(ready[view.split("/")[0]]).first).to_be_visible()
            misplaced[view] = await tab.evaluate(MISPLACED)
            await tab.screenshot(
                path=SCREENSHOTS / f"width-{width}-{scheme}-{view.replace('/', '-').replace(':', '-')}.png"
            )
        assert misplaced == {view: [] for view in views}


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_function_can_be_run_at_every_width(
    browser: Browser, server: ServerProcess, book: str, width: int
) -> None:
    """Its form, its button and its result can all be reached."""
    async with open_tab(browser, server) as tab:
        await tab.set_viewport_size({"width": width, "height": WIDTHS[width]})
        await visit(tab, "functions/shelf:add")
        await tab.get_by_label("title").fill("Emma")
        await tab.get_by_role("button", name="Run").click()
        await expect(tab.get_by_role("region", name="Result")).to_contain_text("Done")


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser, server: ServerProcess, book: str) -> AsyncIterator[Page]:
    """Open a tab with access."""
    async with open_tab(browser, server) as page:
        yield page


async def test_a_choice_has_the_names_of_an_enumeration(tab: Page) -> None:
    """The value is shown with the name, and the argument's default is known although the type is a shared definition."""
    await visit(tab, "functions/shelf:add")
    await expect(tab.get_by_label("level", exact=True).locator("option")).to_have_text(["LOW (1)", "HIGH (2)"])
    await expect(tab.get_by_label("level: mode").locator("option").first).to_have_text("Default: LOW (1)")


async def test_a_document_has_the_names_of_an_enumeration(tab: Page, book: str) -> None:
    """The row has name and value, the open document has the name as a note."""
    await visit(tab, f"data/books/{book}")
    await expect(tab.get_by_role("article").locator(".json")).to_contain_text('"level": 2,  HIGH')
    await expect(tab.get_by_role("gridcell", name="HIGH (2)").first).to_be_visible()


async def test_a_result_has_the_names_of_an_enumeration(tab: Page) -> None:
    """The result of a function has them too, also inside lists."""
    await visit(tab, "functions/shelf:titles")
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("region", name="Result")).to_contain_text('"level": 2,  HIGH')


async def test_a_log_record_shows_its_error(tab: Page) -> None:
    """The class of the exception is readable without opening the traceback, and the filter finds it."""
    await visit(tab, "log")
    await expect(tab.locator(".record.error .reason")).to_have_text(
        "\nValueError: its text is left out", use_inner_text=False
    )
    await tab.get_by_label("Filter the log").fill("valueerror")
    await expect(tab.locator(".record:not([hidden])")).to_have_count(1)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, None),
        ({"error": "Overloaded"}, "Overloaded"),
        ({"error": "ValueError", "traceback": "Traceback:\n  x\nValueError: no title"}, "ValueError: no title"),
        ({"error": "Broken", "traceback": "Traceback:\nshelf.Broken: two\nlines"}, "shelf.Broken: two"),
        ({"error": "KeyError", "traceback": "Traceback:\n  x"}, "KeyError"),
    ],
)
async def test_the_reason_of_a_record(page: Page, record: dict[str, str], reason: str | None) -> None:
    """It is the line of the traceback that names the error; `dev` has the exception's text there."""
    find = "async (record) => (await import('/_dashboard/log.js')).reasonOf(record)"
    assert await page.evaluate(find, record) == reason
