"""The dashboard in a real Chromium, while another client writes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

import tinyvex as tv
from tests.support.dashboard import SCREENSHOTS, open_tab, visit
from tests.support.process import ServerProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser, server: ServerProcess) -> AsyncIterator[Page]:
    """Open a tab with access."""
    async with open_tab(browser, server) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: ServerProcess) -> AsyncIterator[tv.Client]:
    """Connect another client."""
    async with tv.connect(server.url, server.ready["token"]) as client:
        for number in range(60):
            await client.mutation("library:add", {"title": f"Volume {number:02}", "kind": "essay"})
        yield client


def rows(page: Page) -> Locator:
    """Return the displayed documents."""
    return page.get_by_role("grid", name="Documents of books").locator("tbody tr")


async def test_a_new_document_appears_without_a_reload(tab: Page, client: tv.Client) -> None:
    """A document that another client writes becomes the first row, is highlighted and counted, without a reload."""
    await visit(tab, "data/books")
    await expect(rows(tab)).to_have_count(50)
    before = int(re.sub(r"\D", "", await tab.locator(".bar .number").first.inner_text()))
    await client.mutation("library:add", {"title": "Emma"})
    await expect(rows(tab).first).to_contain_text("Emma")
    await expect(rows(tab).first).to_have_class(re.compile("flash"))
    await expect(tab.locator(".bar .number").first).to_have_text(f"{before + 1} documents")


async def test_only_a_changed_cell_is_highlighted(tab: Page, client: tv.Client) -> None:
    """Only the changed cell is highlighted, not its row."""
    await client.mutation("library:add", {"title": "Solaris", "pages": 7})
    await visit(tab, "data/books")
    await expect(rows(tab).first).to_contain_text("Solaris")
    await client.mutation("library:turn", {"title": "Solaris"})
    await expect(rows(tab).first.locator("td.flash")).to_have_text(["8"])


async def test_paging_forwards_and_back(tab: Page, client: tv.Client) -> None:
    """The second page starts after the end of the first."""
    await visit(tab, "data/books")
    await tab.get_by_label("Order").select_option("Oldest first")
    await expect(rows(tab).first).to_contain_text("Volume 00")
    await expect(rows(tab).last).to_contain_text("Volume 49")
    await tab.get_by_role("button", name="Next").click()
    await expect(rows(tab).first).to_contain_text("Volume 50")
    await tab.get_by_role("button", name="Previous").click()
    await expect(rows(tab).first).to_contain_text("Volume 00")
    await expect(tab.get_by_role("button", name="Previous")).to_be_disabled()


async def test_an_open_document_follows_its_changes(tab: Page, client: tv.Client) -> None:
    """The open document's JSON follows its changes, and its deletion is shown."""
    await client.mutation("library:add", {"title": "Ficciones", "pages": 41})
    await visit(tab, "data/books")
    await rows(tab).filter(has_text="Ficciones").click()
    document = tab.get_by_role("article")
    await expect(document).to_contain_text('"pages": 41')
    await client.mutation("library:turn", {"title": "Ficciones"})
    await expect(document).to_contain_text('"pages": 42')
    await client.mutation("library:remove", {"title": "Ficciones"})
    await expect(document).to_contain_text("Deleted")


async def test_a_document_has_a_history(tab: Page, client: tv.Client) -> None:
    """The history lists revisions, newest first, with their changes, and grows as other clients write."""
    await client.mutation("library:add", {"title": "Austerlitz", "pages": 10})
    await client.mutation("library:turn", {"title": "Austerlitz"})
    await visit(tab, "data/books")
    await rows(tab).filter(has_text="Austerlitz").click()
    await tab.get_by_role("button", name="History").click()
    revisions = tab.get_by_role("list", name="Revisions").get_by_role("listitem")
    await expect(revisions).to_have_count(2)
    await expect(revisions.first).to_contain_text("pages 10 → 11")
    await expect(revisions.last).to_contain_text("Inserted")
    await client.mutation("library:remove", {"title": "Austerlitz"})
    await expect(revisions.first).to_contain_text("Deleted")
    await revisions.last.click()
    await expect(revisions.last).to_contain_text('"pages": 10')


async def test_a_64_bit_integer_is_read_and_written(tab: Page, client: tv.Client) -> None:
    """A number beyond JavaScript's range passes through the form and appears in the table."""
    await visit(tab, "functions/library%3Aregister")
    await tab.get_by_label("name", exact=True).fill("Ada")
    await tab.get_by_label("card", exact=True).fill("9007199254740993")
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("region", name="Result")).to_contain_text("Done")
    await visit(tab, "data/readers")
    await expect(tab.get_by_role("grid")).to_contain_text("9007199254740993")


async def test_a_mutation_runs_from_its_form(tab: Page, client: tv.Client) -> None:
    """Another client sees the write; the result, the duration and the log lines are shown."""
    await visit(tab, "functions/library%3Aadd")
    await tab.get_by_label("title", exact=True).fill("Persuasion")
    await tab.get_by_label("kind", exact=True).select_option("essay")
    await tab.get_by_label("tags", exact=True).fill('["new"]')
    await tab.get_by_role("button", name="Run").click()
    result = tab.get_by_role("region", name="Result")
    await expect(result).to_contain_text(re.compile(r"Done\s*[\d.]+ ms"))
    await expect(result).to_contain_text("10 letters")
    assert "Persuasion" in await client.query("library:titles", {"kind": "essay"})


async def test_invalid_input_is_reported_at_its_field(tab: Page) -> None:
    """Invalid input is reported at its field before anything is sent."""
    await visit(tab, "functions/library%3Aadd")
    await tab.get_by_label("title", exact=True).fill("Emma")
    await tab.get_by_label("pages", exact=True).fill("many")
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("alert")).to_have_text("enter a whole number")
    await expect(tab.get_by_label("pages", exact=True)).to_be_focused()
    await expect(tab.get_by_role("region", name="Result")).to_contain_text("Nothing run yet")


async def test_a_server_error_is_reported_at_its_field(tab: Page) -> None:
    """A server error is shown in full, and again at the field of its path."""
    await visit(tab, "functions/library%3Aadd")
    await tab.get_by_label("tags", exact=True).fill("[7]")
    await tab.get_by_role("button", name="Run").click()
    result = tab.get_by_role("region", name="Result")
    await expect(result).to_contain_text("InvalidArguments")
    await expect(result).to_contain_text("tags[0]")
    await expect(tab.locator("#argument-tags-problem")).to_contain_text("tags[0]")


async def test_an_app_error_shows_its_data(tab: Page) -> None:
    """An AppError shows its name, fault and data."""
    await visit(tab, "functions/library%3Aadd")
    await tab.get_by_role("button", name="Run").click()
    result = tab.get_by_role("region", name="Result")
    for text in ("AppError", "developer", '"reason": "no title"'):
        await expect(result).to_contain_text(text)


async def test_an_action_runs_from_its_form(tab: Page) -> None:
    """An action runs with a choice field that has a default."""
    await visit(tab, "functions/library%3Agreet")
    await tab.get_by_label("name", exact=True).fill("Ada")
    await tab.get_by_label("loud", exact=True).select_option("true")
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("region", name="Result")).to_contain_text("Hello, ADA")


@pytest.mark.parametrize("button", ["Run", "Watch live"])
async def test_a_function_can_be_called_as_a_user(tab: Page, button: str) -> None:
    """The function sees the entered claims as `ctx.auth`, and None without claims."""
    await visit(tab, "functions/library%3Awhoami")
    await tab.get_by_role("button", name=button).click()
    result = tab.get_by_role("region", name="Result")
    await expect(result.locator(".json")).to_have_text("null")
    if button == "Watch live":
        await tab.get_by_role("button", name="Stop watching").click()
    await tab.get_by_label("ctx.auth", exact=True).fill('{"subject": "ada"}')
    await tab.get_by_role("button", name=button).click()
    await expect(result.locator(".json")).to_have_text('"ada"')


async def test_invalid_claims_are_reported_at_their_field(tab: Page) -> None:
    """Invalid claims are reported at their field, like any argument."""
    await visit(tab, "functions/library%3Awhoami")
    await tab.get_by_label("ctx.auth", exact=True).fill("ada")
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("alert")).to_contain_text("this is not JSON")
    await expect(tab.get_by_label("ctx.auth", exact=True)).to_be_focused()


async def test_a_query_is_watched(tab: Page, client: tv.Client) -> None:
    """A watched result updates until watching is stopped."""
    await visit(tab, "functions/library%3Atitles")
    await tab.get_by_role("button", name="Watch live").click()
    result = tab.get_by_role("region", name="Result")
    await expect(result).to_contain_text("first result")
    await client.mutation("library:add", {"title": "Middlemarch"})
    await expect(result).to_contain_text('"Middlemarch"')
    await expect(result).to_contain_text("update 1")
    await tab.get_by_role("button", name="Stop watching").click()
    await expect(tab.get_by_role("button", name="Watch live")).to_be_visible()


async def test_a_log_record_appears(tab: Page, client: tv.Client) -> None:
    """A record that the app logs appears with its logger and without the call's arguments."""
    await visit(tab, "log")
    records = tab.get_by_role("list", name="Log records").get_by_role("listitem")
    before = await records.filter(has_text="a book came").count()
    await client.mutation("library:add", {"title": "secret-title"})
    await expect(records.filter(has_text="a book came").nth(before)).to_contain_text("library")
    await expect(records.filter(has_text="secret-title")).to_have_count(0)


async def test_a_live_query_is_counted_as_it_runs(tab: Page, client: tv.Client) -> None:
    """The list shows a live query's subscribers, its runs, and its runs without a change."""
    async with client.subscribe("library:titles", {"kind": "novel"}) as titles:
        await anext(titles)
        await visit(tab, "activity")
        row = tab.get_by_role("table", name="Live queries").locator("tbody tr").filter(has_text='{"kind":"novel"}')
        await expect(row.locator("td").nth(2)).to_have_text("1")
        ran = int(await row.locator("td").nth(3).inner_text())
        await client.mutation("library:add", {"title": "Another essay", "kind": "essay"})
        await expect(row.locator("td").nth(3)).to_have_text(str(ran + 1))
        await expect(row.locator("td").nth(4)).to_have_text("1")


async def test_connections_are_listed(tab: Page, client: tv.Client) -> None:
    """The list of connections marks this tab's own."""
    await visit(tab, "activity")
    connections = tab.get_by_role("table", name="Connections").locator("tbody tr")
    await expect(connections.filter(has_text="this tab")).to_contain_text("administrator")
    await expect(connections.filter(has_text="anonymous")).to_have_count(1)


async def test_the_charts_have_points(tab: Page, client: tv.Client) -> None:
    """The charts draw commits and their duration."""
    await client.mutation("library:add", {"title": "For the chart"})
    await visit(tab, "activity")
    for title in ("Commits per second", "Time of one commit"):
        chart = tab.get_by_role("img", name=title)
        await expect(chart).to_have_attribute("data-points", re.compile(r"^([2-9]|\d\d+)$"))
        await expect(chart.locator(".stroke, .spot").first).to_be_attached()


async def test_everything_works_by_keyboard(tab: Page, client: tv.Client) -> None:
    """Keys lead to a table, along its rows, into a document and back, and into and out of a filter."""
    await visit(tab, "data/readers")
    await tab.get_by_role("link", name="books").focus()
    await tab.keyboard.press("Enter")
    await expect(rows(tab)).to_have_count(50)
    await rows(tab).first.focus()
    await tab.keyboard.press("ArrowDown")
    await expect(rows(tab).nth(1)).to_be_focused()
    await tab.keyboard.press("Enter")
    await expect(tab.get_by_role("article")).to_be_visible()
    await tab.keyboard.press("Escape")
    await expect(tab.get_by_role("article")).to_have_count(0)
    await expect(rows(tab).nth(1)).to_be_focused()
    await tab.keyboard.press("/")
    await expect(tab.get_by_label("Filter this page")).to_be_focused()
    await tab.keyboard.type("volume 57")
    await expect(rows(tab).filter(visible=True)).to_have_count(1)
    await tab.keyboard.press("Escape")
    await expect(rows(tab).filter(visible=True)).to_have_count(50)


async def test_a_function_runs_by_keyboard(tab: Page) -> None:
    """Control and Enter run the function from any field."""
    await visit(tab, "functions/library%3Agreet")
    await tab.get_by_label("name", exact=True).focus()
    await tab.keyboard.type("Bob")
    await tab.keyboard.press("Control+Enter")
    await expect(tab.get_by_role("region", name="Result")).to_contain_text("Hello, Bob")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_follows_the_systems_colour_scheme(
    browser: Browser, server: ServerProcess, client: tv.Client, scheme: str
) -> None:
    """The page follows the system's colour scheme. A screenshot of each view is saved for review."""
    async with open_tab(browser, server, scheme) as page:
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", ground))) < 60) == (scheme == "dark")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for view, seen in [
            ("data/books", "Volume"),
            ("functions/library%3Aadd", "title"),
            ("activity", "anonymous"),
            ("log", "a book"),
        ]:
            await visit(page, view)
            await expect(page.get_by_role("main").get_by_text(seen).first).to_be_visible()
            if view.startswith("data"):
                await rows(page).nth(2).click()
                await expect(page.get_by_role("article")).to_contain_text("_id")
            await page.screenshot(path=SCREENSHOTS / f"{view.split('/')[0]}-{scheme}.png", animations="disabled")
