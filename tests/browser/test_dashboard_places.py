"""Navigation in the dashboard, and its layout in narrow windows, in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

import tinyvex as tv
from tests.support.dashboard import SCREENSHOTS, open_tab, visit
from tests.support.process import ServerProcess
from tinyvex.values.ids import DocumentId

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = Path(__file__).resolve().parents[1] / "support" / "awkward.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server of the awkward app."""
    with ServerProcess(APP, tmp_path_factory.mktemp("data")) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def tab(browser: Browser, server: ServerProcess) -> AsyncIterator[Page]:
    """Open one tab for all tests; each visits the view it needs."""
    async with open_tab(browser, server) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: ServerProcess) -> AsyncIterator[tv.Client]:
    """Connect another client."""
    async with tv.connect(server.url, server.ready["token"]) as client:
        for weight in range(60):
            await client.mutation("awkward:make", {"weight": weight % 7, "name": f"part {weight}"})
        yield client


def rows(page: Page) -> Locator:
    """Return the displayed documents."""
    return page.get_by_role("grid").locator("tbody tr")


async def test_columns_are_in_the_order_of_the_code(tab: Page, client: tv.Client) -> None:
    """Columns follow the class, not the alphabetical order of the stored documents."""
    await visit(tab, "data/parts")
    await expect(tab.get_by_role("columnheader")).to_have_text(
        ["_id", "weight", "name", "inside", "belongs_to", "created"]
    )


async def test_a_table_is_read_by_an_index(tab: Page, client: tv.Client) -> None:
    """A table can be read by any of its indexes, in both directions, live."""
    await visit(tab, "data/parts")
    await tab.get_by_label("Order").select_option("by_weight ↓")
    await client.mutation("awkward:make", {"weight": 900, "name": "the heaviest"})
    await expect(rows(tab).first).to_contain_text("the heaviest")
    await tab.get_by_label("Order").select_option("Newest first")


@pytest.mark.parametrize(("typed", "seen"), [("41", "the only one"), ("4100", "No such documents"), ("", "part 59")])
async def test_documents_are_found_by_an_indexed_field(tab: Page, client: tv.Client, typed: str, seen: str) -> None:
    """A value of the indexed field selects its documents; an empty one selects all."""
    if typed == "41":
        await client.mutation("awkward:make", {"weight": 41, "name": "the only one"})
    await visit(tab, "data/parts")
    await tab.get_by_label("Order").select_option("by_weight ↑")
    await tab.get_by_label("Only documents with this weight").fill(typed)
    await expect(tab.get_by_role("main")).to_contain_text(seen)
    await expect(rows(tab).filter(visible=True)).to_have_count({"41": 1, "4100": 0, "": 50}[typed])
    await tab.get_by_label("Order").select_option("Newest first")


async def test_a_document_has_an_address(tab: Page, client: tv.Client) -> None:
    """A reload opens the document again, even if its row is on another page; closing it leaves its address."""
    part = await client.mutation("awkward:make", {"weight": 1, "name": "addressed"})
    await visit(tab, "data/parts")
    await rows(tab).filter(has_text="addressed").click()
    assert tab.url.endswith(f"#/data/parts/{part}")
    for number in range(50):
        await client.mutation("awkward:make", {"weight": 2, "name": f"later {number}"})
    await tab.reload()
    await expect(tab.get_by_role("article")).to_contain_text('"name": "addressed"')
    await tab.get_by_role("button", name="Close the document").click()
    await expect(tab.get_by_role("article")).to_have_count(0)


async def test_an_id_leads_to_its_document(tab: Page, client: tv.Client) -> None:
    """An id in a document links to the document of any table."""
    whole = await client.mutation("awkward:make", {"weight": 5, "name": "the whole"})
    await client.mutation("awkward:make", {"weight": 1, "name": "a half", "belongs_to": whole})
    await visit(tab, "data/parts")
    await rows(tab).filter(has_text="a half").click()
    await tab.get_by_role("article").get_by_role("link", name=whole).click()
    await expect(tab.get_by_role("article")).to_contain_text('"name": "the whole"')


async def test_an_unknown_id_is_reported(tab: Page) -> None:
    """An unknown id shows the server's message."""
    await visit(tab, f"data//{DocumentId(4_000, bytes(16)).text}")
    await expect(tab.get_by_role("alert")).to_contain_text("No such document")


async def test_an_entry_is_found_by_typing(tab: Page, client: tv.Client) -> None:
    """Ctrl K, a few letters of several words, the arrows and Enter open an entry."""
    await visit(tab, "log")
    await tab.keyboard.press("Control+K")
    await tab.keyboard.type("awk e")
    options = tab.get_by_role("dialog", name="Go to").get_by_role("option")
    await expect(options.locator(".grow")).to_have_text(["awkward:breaks", "awkward:make", "awkward:weigh"])
    await tab.keyboard.press("ArrowDown")
    await expect(tab.get_by_role("dialog").get_by_role("option", selected=True)).to_contain_text("awkward:make")
    await tab.keyboard.press("Enter")
    await expect(tab.get_by_role("heading", name="awkward:make")).to_be_visible()
    await expect(tab.get_by_role("dialog")).to_have_count(0)


async def test_a_document_is_found_by_its_id(tab: Page, client: tv.Client) -> None:
    """An id copied from a log or a program opens its document."""
    part = await client.mutation("awkward:make", {"weight": 3, "name": "sought"})
    await tab.get_by_role("button", name="Go to").click()
    await tab.get_by_role("combobox", name="Go to").fill(part)
    await tab.keyboard.press("Enter")
    await expect(tab.get_by_role("article")).to_contain_text('"name": "sought"')


async def test_the_keys_are_listed(tab: Page) -> None:
    """The dialog lists the keys; Escape restores the focus."""
    await visit(tab, "activity")
    await tab.get_by_role("link", name="Activity").focus()
    await tab.keyboard.press("?")
    for text in ("/ filter", "Ctrl Enter run", "Esc close"):
        await expect(tab.get_by_role("dialog")).to_contain_text(text)
    await tab.screenshot(path=SCREENSHOTS / "go-to.png", animations="disabled")
    await tab.keyboard.press("Escape")
    await expect(tab.get_by_role("dialog")).to_have_count(0)
    await expect(tab.get_by_role("link", name="Activity")).to_be_focused()


async def test_a_failure_leads_to_its_traceback(tab: Page) -> None:
    """A failure links to the log record of the same call, with its traceback open."""
    await visit(tab, "functions/awkward%3Abreaks")
    await tab.get_by_role("button", name="Run").click()
    await tab.get_by_role("region", name="Result").get_by_role("link").click()
    record = tab.get_by_role("list", name="Log records").get_by_role("listitem").filter(visible=True)
    await expect(record).to_have_count(1)
    await expect(record.locator(".trace")).to_contain_text("ZeroDivisionError")
    await expect(record.locator(".trace")).to_be_visible()


async def test_an_object_starts_with_its_required_fields(tab: Page) -> None:
    """
    An object's field starts with its required properties, resolved through references; the input reaches the function.
    """
    await visit(tab, "functions/awkward%3Atotal")
    field = tab.get_by_label("order", exact=True)
    await expect(field).to_have_value('{\n  "lines": [],\n  "note": null\n}')
    await field.fill('{"lines": [{"article": "nut", "amount": 3}, {"article": "bolt", "amount": 4}], "note": null}')
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("region", name="Result").locator(".json")).to_have_text("7")


async def test_a_function_shows_its_docstring(tab: Page) -> None:
    """A function's form shows its docstring."""
    await visit(tab, "functions/awkward%3Atotal")
    await expect(tab.get_by_text("Count the articles of an order.")).to_be_visible()


async def test_a_type_is_shown_by_name(tab: Page) -> None:
    """A type defined elsewhere in the schema is shown by its name."""
    await visit(tab, "functions/awkward%3Aparts")
    await expect(tab.get_by_text("returns list of Part")).to_be_visible()


HOSTILE = "<img src=x onerror='window.stolen = 1'><script>window.stolen = 1</script>"


async def test_markup_from_an_app_stays_text(tab: Page) -> None:
    """Markup in an error's message and data, in log lines and in the server's log stays text."""
    await visit(tab, "functions/awkward%3Ashout")
    await tab.get_by_label("text", exact=True).fill(HOSTILE)
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("region", name="Result").get_by_role("alert")).to_contain_text(HOSTILE)
    assert await tab.locator("main img, main script").count() == 0
    await visit(tab, "log")
    await expect(tab.get_by_role("list", name="Log records")).to_contain_text(HOSTILE)
    assert await tab.locator("main img, main script").count() == 0
    assert await tab.evaluate("window.stolen") is None


@pytest.mark.parametrize(
    ("view", "filter", "text"),
    [
        ("data/parts", "Filter this page", "No document on this page matches"),
        ("data/parts", "Filter tables", "No table name matches"),
        ("functions", "Filter functions", "No function path matches"),
        ("log", "Filter the log", "No record matches"),
    ],
)
async def test_a_filter_that_leaves_nothing_says_so(
    tab: Page, client: tv.Client, view: str, filter: str, text: str
) -> None:
    """A filter without matches says so, instead of showing an empty view."""
    await visit(tab, view)
    await tab.get_by_label(filter).fill("no such thing")
    await expect(tab.get_by_text(text)).to_be_visible()
    await tab.get_by_label(filter).fill("")
    await expect(tab.get_by_text(text)).to_be_hidden()


async def test_a_filter_opens_its_first_match(tab: Page) -> None:
    """Enter in a filter opens the first match; ArrowDown focuses it."""
    await visit(tab, "functions")
    filter = tab.get_by_label("Filter functions")
    await filter.fill("weigh")
    await expect(tab.locator("a.item:not([hidden])")).to_have_count(1)  # the list has arrived and is filtered
    await filter.press("Enter")
    await expect(tab.get_by_role("heading", name="awkward:weigh")).to_be_visible()
    await filter.press("ArrowDown")
    await expect(tab.get_by_role("link", name="weigh")).to_be_focused()
    await filter.fill("")


async def test_escape_in_a_filter_clears_it(tab: Page, client: tv.Client) -> None:
    """Escape in a filter clears the filter and leaves the open document."""
    part = await client.mutation("awkward:make", {"weight": 1, "name": "staying"})
    await visit(tab, f"data/parts/{part}")
    await expect(tab.get_by_role("article")).to_contain_text('"name": "staying"')
    await tab.get_by_label("Filter tables").fill("par")
    await tab.keyboard.press("Escape")
    await expect(tab.get_by_label("Filter tables")).to_have_value("")
    await expect(tab.get_by_role("article")).to_contain_text('"name": "staying"')
    await tab.keyboard.press("Escape")
    await expect(tab.get_by_role("article")).to_have_count(0)


async def test_a_deep_value_does_not_wrap(tab: Page, client: tv.Client) -> None:
    """A deeply nested line does not wrap at its indentation; it scrolls instead."""
    part = await client.mutation("awkward:make", {"weight": 1, "depth": 30})
    await visit(tab, f"data/parts/{part}")
    lines = tab.get_by_role("article").locator(".json-line").filter(has_text='"inside": {')
    await expect(lines.first).to_be_visible()
    heights = await lines.evaluate_all("(all) => [...new Set(all.map((line) => line.offsetHeight))]")
    assert heights == [19]


async def test_only_a_changed_line_is_highlighted(tab: Page, client: tv.Client) -> None:
    """Only the changed line is highlighted; the selection in other lines is preserved."""
    part = await client.mutation("awkward:make", {"weight": 1})
    await visit(tab, f"data/parts/{part}")
    article = tab.get_by_role("article", name=part)
    await expect(article).to_contain_text('"weight": 1')
    await client.mutation("awkward:weigh", {"part": part, "weight": 77})
    await expect(article.locator(".flash")).to_have_text(re.compile('"weight": 77'))


async def test_only_a_new_line_of_a_live_result_is_highlighted(tab: Page, client: tv.Client) -> None:
    """Lines before and after a new one in a live result remain the same elements."""
    await visit(tab, "functions/awkward%3Aparts")
    await tab.get_by_role("button", name="Watch live").click()
    lines = tab.get_by_role("region", name="Result").locator(".json-line")
    await expect(lines.first).to_have_text("[")
    before = await lines.count()
    await client.mutation("awkward:make", {"weight": 1, "name": "the newest"})
    await expect(lines).to_have_count(before + 8)
    await expect(lines.and_(tab.locator(".flash")).filter(has_text='"name"')).to_have_text(
        ['    "name": "the newest",']
    )
    await tab.get_by_role("button", name="Stop watching").click()


async def test_rows_inserted_above_move_nothing(tab: Page, client: tv.Client) -> None:
    """A row in view does not move when others are inserted before it."""
    await visit(tab, "data/parts")
    await expect(rows(tab)).to_have_count(50)
    row = rows(tab).nth(20)
    await row.evaluate("(row) => { row.closest('.scroll').scrollTop = 400; row.dataset.watched = 'yes'; }")
    before = await row.bounding_box()
    await client.mutation("awkward:make", {"weight": 1, "name": "above"})
    await expect(rows(tab).first).to_contain_text("above")
    assert await tab.locator("[data-watched]").bounding_box() == before


@pytest.mark.parametrize("width", [900, 640])
async def test_a_document_has_room_in_a_narrow_window(tab: Page, client: tv.Client, width: int) -> None:
    """In half a screen, or at double zoom, a document covers its table, with all of its buttons visible."""
    part = await client.mutation("awkward:make", {"weight": 1, "name": "narrow"})
    await tab.set_viewport_size({"width": width, "height": 600})
    await visit(tab, f"data/parts/{part}")
    close = tab.get_by_role("button", name="Close the document")
    await expect(close).to_be_in_viewport(ratio=1)
    box = await tab.get_by_role("article").bounding_box()
    assert box is not None
    assert box["width"] >= 360
    await tab.screenshot(path=SCREENSHOTS / f"narrow-{width}.png", animations="disabled")
    await close.click()
    await tab.set_viewport_size({"width": 1280, "height": 800})


async def test_a_result_is_seen_in_a_narrow_window(tab: Page) -> None:
    """In a narrow window the result is below the form."""
    await tab.set_viewport_size({"width": 900, "height": 360})
    await visit(tab, "functions/awkward%3Amake")
    await tab.get_by_label("weight", exact=True).fill("4")
    await tab.keyboard.press("Control+Enter")
    await expect(tab.get_by_role("region", name="Result").get_by_text("Done")).to_be_in_viewport()
    await tab.set_viewport_size({"width": 1280, "height": 800})


async def test_collapsed_labels_keep_their_names(tab: Page) -> None:
    """Screen readers still get the names of the views and the state of the connection."""
    await tab.set_viewport_size({"width": 640, "height": 400})
    for name in ("Data", "Functions", "Activity", "Log"):
        await expect(tab.get_by_role("link", name=name, exact=True)).to_be_visible()
    await expect(tab.get_by_role("status")).to_have_text("Live")
    await tab.set_viewport_size({"width": 1280, "height": 800})
