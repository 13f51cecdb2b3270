"""Finding sessions: typing, filters, pages, and the address that says it all."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, expect

from tests.browser.conftest import StartViewer
from tests.fixtures.browser import OpenPage, Watch, sideways

_WORDS_ON_TWO_LINES = r"""(cells) => cells.flatMap((cell) =>
    [...cell.firstChild.data.matchAll(/\S+/g)].filter(({ 0: word, index }) => {
        const range = document.createRange();
        range.setStart(cell.firstChild, index);
        range.setEnd(cell.firstChild, index + word.length);
        return range.getClientRects().length > 1;
    }).map(([word]) => word))"""


async def _expect_query(page: Page, /, **expected: str) -> None:
    """Wait until the page's address says this and nothing else."""

    def says(url: str) -> bool:
        return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()} == expected

    await page.wait_for_url(says)


def _text(**filters: object) -> str:
    return json.dumps(filters, separators=(",", ":"))


async def test_the_first_page_shows_the_newest_sessions(page: Page, samples: str) -> None:
    await page.goto(samples)

    cards = page.locator("a.result")
    await expect(cards).to_have_count(20)
    await expect(cards.first).to_contain_text("support-2026-1107")
    await expect(cards.first).to_contain_text("8 messages")
    await expect(page.locator(".result-row").nth(1)).to_contain_text("priority")
    await expect(page.get_by_text("29 sessions")).to_be_visible()
    await expect(page.locator("#health")).to_have_text("Connected")
    await expect(page.get_by_role("heading", name="Choose a session")).to_be_visible()
    assert await sideways(page) == 0


async def test_typing_narrows_the_list_and_the_address(page: Page, samples: str) -> None:
    await page.goto(samples)

    await page.get_by_label("Session id").fill("SUPPORT")

    await expect(page.locator("a.result")).to_have_count(2)
    await expect(page).to_have_url(re.compile(r"\?q=SUPPORT$"))


async def test_filters_come_and_go_with_the_right_control(page: Page, samples: str) -> None:
    await page.goto(samples)
    add = page.get_by_label("Add a filter")

    await add.select_option("priority")
    await page.get_by_label("priority", exact=True).select_option("high")
    await expect(page.locator("a.result").first).to_be_visible()
    await _expect_query(page, filters=_text(priority="high"))

    await add.select_option("vip")
    await page.get_by_label("vip", exact=True).select_option("Yes")
    await add.select_option("score")
    await page.get_by_label("score", exact=True).fill("4.5")
    await expect(page.locator("a.result")).to_have_count(1)
    await _expect_query(page, filters=_text(priority="high", vip=True, score=4.5))
    await add.select_option("due")
    await expect(page.get_by_label("due", exact=True)).to_have_attribute("type", "date")

    await page.get_by_role("button", name="Remove filter vip").click()
    await expect(page.get_by_label("vip", exact=True)).to_have_count(0)
    await page.get_by_role("button", name="Clear all").click()
    await expect(page.get_by_text("29 sessions")).to_be_visible()
    await _expect_query(page)


async def test_a_field_of_numbers_takes_the_text_among_them(page: Page, samples: str) -> None:
    await page.goto(samples)
    await page.get_by_label("Add a filter").select_option("score")
    score = page.get_by_label("score", exact=True)
    await expect(score).to_have_attribute("placeholder", 'Number, or "text"')

    long = "1983516295378495150"
    for typed, sent in (
        ("4.5", 4.5),
        ("unknown", "unknown"),
        ('"4"', "4"),
        (long, long),
    ):
        await score.fill(typed)
        await _expect_query(page, filters=_text(score=sent))
    await score.fill("-")
    await _expect_query(page)
    await score.fill('"4"')
    await _expect_query(page, filters=_text(score="4"))
    await page.reload()
    await expect(page.get_by_label("score", exact=True)).to_have_value('"4"')


async def test_an_address_brings_the_search_back(page: Page, samples: str) -> None:
    filters = json.dumps({"priority": "high", "vip": True})
    await page.goto(f"{samples}?q=support&filters={filters}&from=2020-01-01&to=2999-12-31")

    await expect(page.locator("a.result")).to_have_count(1)
    await expect(page.get_by_label("Session id")).to_have_value("support")
    await expect(page.get_by_label("priority", exact=True)).to_have_value('"high"')
    await expect(page.get_by_label("vip", exact=True)).to_have_value("true")
    await expect(page.get_by_label("From")).to_have_value("2020-01-01")


async def test_pages_turn_forwards_back_and_with_the_browser(page: Page, samples: str) -> None:
    await page.goto(samples)
    await expect(page.locator("a.result")).to_have_count(20)
    first = await page.locator("a.result").first.get_attribute("data-session-id")

    await page.get_by_role("button", name="Next page").click()
    await expect(page.locator("a.result")).to_have_count(9)
    await expect(page.get_by_text("21–29 of 29")).to_be_visible()
    await _expect_query(page, page="2")
    await expect(page.get_by_role("button", name="Next page")).to_be_disabled()

    await page.reload()
    await expect(page.locator("a.result")).to_have_count(9)
    await page.get_by_role("button", name="Previous page").click()
    await expect(page.locator("a.result")).to_have_count(20)
    await expect(page.locator("a.result").first).to_have_attribute("data-session-id", str(first))
    await page.go_back()
    await expect(page.locator("a.result")).to_have_count(9)


async def test_a_search_without_a_hit_says_what_to_do(page: Page, samples: str) -> None:
    await page.goto(f"{samples}?q=no-such-id")

    await expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    await page.get_by_role("button", name="Clear filters").click()
    await expect(page.locator("a.result")).to_have_count(20)


async def test_an_empty_collection_says_how_sessions_come_about(page: Page, start_viewer: StartViewer) -> None:
    await page.goto(start_viewer())

    await expect(page.get_by_role("heading", name="No sessions yet")).to_be_visible()
    await expect(page.get_by_text("No metadata field has an index yet")).to_be_visible()


async def test_a_refused_search_says_what_is_wrong(page: Page, samples: str, watch: Watch) -> None:
    watch.allow("status of 422")
    filters = json.dumps({"unlisted": "x"})
    await page.goto(f"{samples}?filters={filters}")

    await expect(page.get_by_role("heading", name="This search does not work")).to_be_visible()
    await expect(page.get_by_role("alert")).to_contain_text("unlisted")
    await page.get_by_role("button", name="Clear filters").click()
    await expect(page.locator("a.result")).to_have_count(20)


async def test_a_server_that_does_not_answer_is_shown_and_survived(page: Page, samples: str, watch: Watch) -> None:
    watch.allow("Failed to load resource|ERR_FAILED|ERR_CONNECTION")
    await page.goto(samples)
    await expect(page.locator("a.result")).to_have_count(20)

    await page.context.set_offline(True)
    await page.get_by_label("Session id").fill("support")
    await expect(page.get_by_role("heading", name="The server does not answer")).to_be_visible()

    await page.context.set_offline(False)
    await expect(page.locator("a.result")).to_have_count(2)


async def test_the_keyboard_is_enough(page: Page, samples: str) -> None:
    await page.goto(samples)
    await expect(page.locator("a.result")).to_have_count(20)

    await page.keyboard.press("/")
    await expect(page.get_by_label("Text")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Session id")).to_be_focused()
    await page.keyboard.type("support")
    await expect(page.locator("a.result")).to_have_count(2)

    await page.locator("a.result").first.focus()
    await page.keyboard.press("ArrowDown")
    await expect(page.locator("a.result").nth(1)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1, name="support-2026-1093")).to_be_visible()

    await page.get_by_role("tab", name="Conversation").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tab", name="Usage")).to_be_focused()
    await expect(page.get_by_role("tabpanel", name="Usage")).to_be_visible()
    await page.keyboard.press("End")
    await expect(page.get_by_role("tabpanel", name="Agents")).to_be_visible()

    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", name="Choose a session")).to_be_visible()
    await expect(page.locator("a.result:focus")).to_have_count(1)
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()


async def test_a_phone_shows_one_thing_at_a_time(open_page: OpenPage, samples: str) -> None:
    page = await open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    await page.goto(samples)
    await expect(page.locator("a.result")).to_have_count(20)
    await expect(page.get_by_label("Session id")).to_be_hidden()
    assert await sideways(page) == 0

    await page.get_by_role("button", name="Filters").tap()
    await expect(page.get_by_label("Session id")).to_be_visible()
    await page.get_by_label("Session id").fill("report")
    await expect(page.locator("a.result")).to_have_count(1)
    await page.get_by_role("button", name="Filters").tap()
    await page.locator("a.result").tap()

    await expect(page.get_by_role("heading", level=1, name="report-q3-review")).to_be_visible()
    await expect(page.locator("#results")).to_be_hidden()
    for name in ("Usage", "Metadata", "Agents"):
        await page.get_by_role("tab", name=name).tap()
        await expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
        assert await sideways(page) == 0, name
        if name == "Usage":
            cells = page.locator(".table :is(th, td.num)")
            await expect(cells.first).to_be_visible()
            assert await cells.evaluate_all(_WORDS_ON_TWO_LINES) == []
    await page.get_by_role("button", name="Back to the list").tap()
    await expect(page.locator("#results")).to_be_visible()


async def test_fields_that_could_not_be_read_are_not_shown_as_none(page: Page, samples: str, watch: Watch) -> None:
    watch.allow("status of 500.*metadata-fields")
    await page.route("**/api/v1/metadata-fields", lambda route: route.fulfill(status=500, body="{}"))
    await page.goto(samples)

    await expect(page.get_by_text("The fields to filter by could not be read")).to_be_visible()
    await expect(page.get_by_text("No metadata field has an index yet")).to_be_hidden()
    await expect(page.locator("a.result")).to_have_count(20)


async def test_an_integer_beyond_53_bits_is_sent_as_it_was_typed(page: Page, samples: str, watch: Watch) -> None:
    watch.allow("status of 422")  # No index holds the field that this test makes up.
    await page.goto(samples)
    number = {"fields": [{"field": "order", "type": "number", "values": None}]}
    await page.route("**/api/v1/metadata-fields", lambda route: route.fulfill(json=number))
    await page.reload()

    await page.get_by_label("Add a filter").select_option("order")
    box = page.get_by_label("order", exact=True).first
    async with page.expect_request(lambda request: "/search" in request.url and "filters" in request.url) as asked:
        await box.fill("1983516295378495150")

    sent = parse_qs(urlsplit((await asked.value).url).query)["filters"][0]
    assert str(json.loads(sent)["order"]) == "1983516295378495150"
    await page.wait_for_url(lambda url: "1983516295378495150" in url)
    await page.reload()
    await expect(box).to_have_value("1983516295378495150")
