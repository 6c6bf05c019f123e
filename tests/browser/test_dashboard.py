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
    """A tab that was let in."""
    async with open_tab(browser, server) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: ServerProcess) -> AsyncIterator[tv.Client]:
    """Another program."""
    async with tv.connect(server.url, server.ready["token"]) as client:
        for number in range(60):
            await client.mutation("library:add", {"title": f"Volume {number:02}", "kind": "essay"})
        yield client


def rows(page: Page) -> Locator:
    """The documents shown."""
    return page.get_by_role("grid", name="Documents of books").locator("tbody tr")


async def test_a_new_document_appears_by_itself(tab: Page, client: tv.Client) -> None:
    """What another client writes is the first row, lights up, and is counted; nobody loads anything again."""
    await visit(tab, "data/books")
    await expect(rows(tab)).to_have_count(50)
    before = int(re.sub(r"\D", "", await tab.locator(".bar .number").first.inner_text()))
    await client.mutation("library:add", {"title": "Emma"})
    await expect(rows(tab).first).to_contain_text("Emma")
    await expect(rows(tab).first).to_have_class(re.compile("flash"))
    await expect(tab.locator(".bar .number").first).to_have_text(f"{before + 1} documents")


async def test_a_changed_cell_lights_up_alone(tab: Page, client: tv.Client) -> None:
    """The number that changed, and not its row."""
    await client.mutation("library:add", {"title": "Solaris", "pages": 7})
    await visit(tab, "data/books")
    await expect(rows(tab).first).to_contain_text("Solaris")
    await client.mutation("library:turn", {"title": "Solaris"})
    await expect(rows(tab).first.locator("td.flash")).to_have_text(["8"])


async def test_pages_go_on_and_back(tab: Page, client: tv.Client) -> None:
    """The second page begins where the first one ended."""
    await visit(tab, "data/books")
    await tab.get_by_label("Order").select_option("Oldest first")
    await expect(rows(tab).first).to_contain_text("Volume 00")
    await expect(rows(tab).last).to_contain_text("Volume 49")
    await tab.get_by_role("button", name="Next").click()
    await expect(rows(tab).first).to_contain_text("Volume 50")
    await tab.get_by_role("button", name="Previous").click()
    await expect(rows(tab).first).to_contain_text("Volume 00")
    await expect(tab.get_by_role("button", name="Previous")).to_be_disabled()


async def test_a_document_is_followed_while_it_is_open(tab: Page, client: tv.Client) -> None:
    """Its JSON changes with it, and its deletion is said."""
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
    """Its revisions, the newest first, with what each changed; it grows as others write."""
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
    """One that no number of JavaScript holds goes into the form and comes out in the table."""
    await visit(tab, "functions/library%3Aregister")
    await tab.get_by_label("name", exact=True).fill("Ada")
    await tab.get_by_label("card", exact=True).fill("9007199254740993")
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("region", name="Result")).to_contain_text("Done")
    await visit(tab, "data/readers")
    await expect(tab.get_by_role("grid")).to_contain_text("9007199254740993")


async def test_a_mutation_runs_from_its_form(tab: Page, client: tv.Client) -> None:
    """Another client sees what it wrote; the result, the time and the logged lines are shown."""
    await visit(tab, "functions/library%3Aadd")
    await tab.get_by_label("title", exact=True).fill("Persuasion")
    await tab.get_by_label("kind", exact=True).select_option("essay")
    await tab.get_by_label("tags", exact=True).fill('["new"]')
    await tab.get_by_role("button", name="Run").click()
    result = tab.get_by_role("region", name="Result")
    await expect(result).to_contain_text(re.compile(r"Done\s*[\d.]+ ms"))
    await expect(result).to_contain_text("10 letters")
    assert "Persuasion" in await client.query("library:titles", {"kind": "essay"})


async def test_what_was_typed_wrongly_is_said_at_its_field(tab: Page) -> None:
    """Before anything is sent, in words."""
    await visit(tab, "functions/library%3Aadd")
    await tab.get_by_label("title", exact=True).fill("Emma")
    await tab.get_by_label("pages", exact=True).fill("many")
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("alert")).to_have_text("a whole number is needed")
    await expect(tab.get_by_label("pages", exact=True)).to_be_focused()
    await expect(tab.get_by_role("region", name="Result")).to_contain_text("Nothing run yet")


async def test_what_the_server_refuses_is_said_at_its_field(tab: Page) -> None:
    """The error's name and sentence are shown whole, and again where its path leads."""
    await visit(tab, "functions/library%3Aadd")
    await tab.get_by_label("tags", exact=True).fill("[7]")
    await tab.get_by_role("button", name="Run").click()
    result = tab.get_by_role("region", name="Result")
    await expect(result).to_contain_text("InvalidArguments")
    await expect(result).to_contain_text("tags[0]")
    await expect(tab.locator("#argument-tags-problem")).to_contain_text("tags[0]")


async def test_what_the_app_says_with_its_error_is_shown(tab: Page) -> None:
    """Name, fault, and the data that the app gave."""
    await visit(tab, "functions/library%3Aadd")
    await tab.get_by_role("button", name="Run").click()
    result = tab.get_by_role("region", name="Result")
    for text in ("AppError", "developer", '"reason": "no title"'):
        await expect(result).to_contain_text(text)


async def test_an_action_runs_from_its_form(tab: Page) -> None:
    """With a choice that has a default."""
    await visit(tab, "functions/library%3Agreet")
    await tab.get_by_label("name", exact=True).fill("Ada")
    await tab.get_by_label("loud", exact=True).select_option("true")
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("region", name="Result")).to_contain_text("Hello, ADA")


@pytest.mark.parametrize("button", ["Run", "Watch live"])
async def test_a_function_can_be_called_as_somebody(tab: Page, button: str) -> None:
    """It sees the claims given as `ctx.auth`, and nobody's where none are."""
    await visit(tab, "functions/library%3Awhoami")
    await tab.get_by_role("button", name=button).click()
    result = tab.get_by_role("region", name="Result")
    await expect(result.locator(".json")).to_have_text("null")
    if button == "Watch live":
        await tab.get_by_role("button", name="Stop watching").click()
    await tab.get_by_label("ctx.auth", exact=True).fill('{"subject": "ada"}')
    await tab.get_by_role("button", name=button).click()
    await expect(result.locator(".json")).to_have_text('"ada"')


async def test_claims_that_are_none_are_said_at_their_field(tab: Page) -> None:
    """As with any argument."""
    await visit(tab, "functions/library%3Awhoami")
    await tab.get_by_label("ctx.auth", exact=True).fill("ada")
    await tab.get_by_role("button", name="Run").click()
    await expect(tab.get_by_role("alert")).to_contain_text("this is not JSON")
    await expect(tab.get_by_label("ctx.auth", exact=True)).to_be_focused()


async def test_a_query_is_watched(tab: Page, client: tv.Client) -> None:
    """Its result changes by itself until watching is stopped."""
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
    """What the app logs, with its logger, without what it was called with."""
    await visit(tab, "log")
    records = tab.get_by_role("list", name="Log records").get_by_role("listitem")
    before = await records.filter(has_text="a book came").count()
    await client.mutation("library:add", {"title": "secret-title"})
    await expect(records.filter(has_text="a book came").nth(before)).to_contain_text("library")
    await expect(records.filter(has_text="secret-title")).to_have_count(0)


async def test_a_live_query_is_counted_as_it_runs(tab: Page, client: tv.Client) -> None:
    """Who watches it, how often it ran, and how often for nothing."""
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
    """This tab's own is named."""
    await visit(tab, "activity")
    found = tab.get_by_role("table", name="Connections").locator("tbody tr")
    await expect(found.filter(has_text="this tab")).to_contain_text("administrator")
    await expect(found.filter(has_text="a client")).to_have_count(1)


async def test_the_charts_have_points(tab: Page, client: tv.Client) -> None:
    """A line of commits, and one of how long they took."""
    await client.mutation("library:add", {"title": "For the chart"})
    await visit(tab, "activity")
    for title in ("Commits per second", "Time of one commit"):
        chart = tab.get_by_role("img", name=title)
        await expect(chart).to_have_attribute("data-points", re.compile(r"^([2-9]|\d\d+)$"))
        await expect(chart.locator(".stroke, .spot").first).to_be_attached()


async def test_all_can_be_done_by_keyboard(tab: Page, client: tv.Client) -> None:
    """To a table, along its rows, into a document and back, and to a filter and out of it."""
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
    """Control and Enter, in any field."""
    await visit(tab, "functions/library%3Agreet")
    await tab.get_by_label("name", exact=True).focus()
    await tab.keyboard.type("Bob")
    await tab.keyboard.press("Control+Enter")
    await expect(tab.get_by_role("region", name="Result")).to_contain_text("Hello, Bob")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_light_or_dark_as_the_system_is(
    browser: Browser, server: ServerProcess, client: tv.Client, scheme: str
) -> None:
    """And has its picture taken in each view, for people to look at."""
    async with open_tab(browser, server, scheme) as page:
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", ground))) < 60) == (scheme == "dark")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for view, seen in [
            ("data/books", "Volume"),
            ("functions/library%3Aadd", "title"),
            ("activity", "a client"),
            ("log", "a book"),
        ]:
            await visit(page, view)
            await expect(page.get_by_role("main").get_by_text(seen).first).to_be_visible()
            if view.startswith("data"):
                await rows(page).nth(2).click()
                await expect(page.get_by_role("article")).to_contain_text("_id")
            await page.screenshot(path=SCREENSHOTS / f"{view.split('/')[0]}-{scheme}.png", animations="disabled")
