"""The list of sessions: what rows say and filter by, how it keeps current, and what is done with several of them."""

from __future__ import annotations

import io
import json
import re
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, expect

from mongodb_session_manager import index_specs
from tests.apps.viewer.stored import message, session
from tests.browser.conftest import StartViewer
from tests.fixtures.browser import OpenPage, sideways
from tests.fixtures.sessions import Sessions

Document = dict[str, Any]


def talked(number: int, **fields: Any) -> Document:
    """Return a session of an hour ago, a minute earlier with each number."""
    created = datetime.now(UTC) - timedelta(hours=1, minutes=number)
    texts = [message("user", f"Question {number} about lamps"), message("assistant", f"Answer {number}")]
    document = session(
        f"s-{number:03}", created=created, agents={"a": texts}, metadata={"priority": "low", "note": "x"}
    )
    document["title"] = f"Question {number} about lamps"
    document["summary"] |= {"ratings": {"up": 0, "down": 0, "other": 0}, "errors": 0, "usage": {"totalTokens": number}}
    return document | fields


def _query(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


async def test_rows_begin_with_the_title_and_tell_thumbs_and_failures_apart(
    open_page: OpenPage, sessions: Sessions, start_viewer: StartViewer
) -> None:
    documents = [talked(number) for number in range(30)]
    documents[0]["summary"] |= {"ratings": {"up": 2, "down": 1, "other": 3}, "feedbacks": 6, "errors": 4}
    sessions.raw.insert_many(documents)
    page = await open_page(viewport={"width": 1360, "height": 900})
    await page.goto(start_viewer())

    row = page.locator("a.result").first
    await expect(row.locator(".result-title")).to_have_text("Question 0 about lamps")
    await expect(row.locator(".result-id")).to_have_text("s-000")
    for text in ("4 failed turns", "2 thumbs up", "1 thumbs down", "3 other feedbacks", "2 messages"):
        await expect(row).to_contain_text(text)
    await expect(page.locator("a.result").nth(1)).not_to_contain_text("thumbs")
    visible = "(rows) => rows.filter((row) => row.getBoundingClientRect().bottom <= innerHeight).length"
    assert await page.locator(".result-row").evaluate_all(visible) >= 12
    assert await sideways(page) == 0


async def test_the_order_is_chosen_and_stands_in_the_address(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_many(talked(number) for number in range(25))
    await page.goto(start_viewer())
    await expect(page.locator(".result-id").first).to_have_text("s-000")

    await page.get_by_label("Order").select_option("tokens")
    await expect(page.locator(".result-id").first).to_have_text("s-024")
    await page.get_by_role("button", name="Next page").click()
    await expect(page.locator(".result-id").first).to_have_text("s-004")
    assert _query(page) == {"sort": "tokens", "page": "2"}
    await page.reload()
    await expect(page.locator(".result-id").first).to_have_text("s-004")
    await expect(page.get_by_label("Order")).to_have_value("tokens")


async def test_a_click_on_a_badge_filters_by_it(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    sessions.raw.create_indexes(index_specs(["priority"]))
    sessions.raw.insert_many([talked(0), talked(1)])
    sessions.raw.insert_one(talked(2) | {"metadata": {"priority": "high"}, "application_name": "shop"})
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(3)

    await page.get_by_role("button", name="priority high").click()
    await expect(page.locator("a.result")).to_have_count(1)
    assert json.loads(_query(page)["filters"]) == {"priority": "high"}
    await page.get_by_role("button", name="shop").click()
    await expect(page.get_by_label("application_name", exact=True)).to_have_value('"shop"')
    assert json.loads(_query(page)["filters"]) == {"priority": "high", "application_name": "shop"}
    await page.get_by_role("button", name="Clear all").click()
    await expect(page.locator("a.result")).to_have_count(3)
    await expect(page.get_by_role("button", name="note x")).to_have_count(0)
    await expect(page.get_by_text("Without an index, not to be filtered by: note")).to_be_visible()


async def test_ratings_failed_turns_agents_and_ranges_narrow_the_list(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.create_indexes(index_specs(["score"]))
    documents = [talked(number) | {"metadata": {"score": number}} for number in range(6)]
    documents[1]["summary"] |= {"ratings": {"up": 0, "down": 1, "other": 0}, "feedbacks": 1}
    documents[2]["summary"]["errors"] = 1
    documents[3]["agents"] = {"b": documents[3]["agents"]["a"]}
    sessions.raw.insert_many(documents)
    ids = page.locator(".result-id")
    await page.goto(start_viewer())

    await page.get_by_label("Rating").select_option("Thumbs down")
    await expect(ids).to_have_text(["s-001"])
    await page.get_by_role("button", name="Clear all").click()
    await page.get_by_label("With failed turns").check()
    await expect(ids).to_have_text(["s-002"])
    await page.get_by_role("button", name="Clear all").click()
    await page.get_by_label("Agent", exact=True).fill("b")
    await expect(ids).to_have_text(["s-003"])
    await page.get_by_role("button", name="Clear all").click()
    await page.get_by_label("Add a filter").select_option("score")
    await page.get_by_role("button", name="Range of score").click()
    await page.get_by_label("score", exact=True).fill("2")
    await page.get_by_label("score to").fill("3")
    await expect(ids).to_have_text(["s-002", "s-003"])
    assert json.loads(_query(page)["filters"]) == {"score": {"min": 2, "max": 3}}
    await page.reload()
    await expect(ids).to_have_text(["s-002", "s-003"])
    await expect(page.get_by_label("score to")).to_have_value("3")


async def test_days_begin_in_the_readers_zone_or_in_utc(
    open_page: OpenPage, sessions: Sessions, start_viewer: StartViewer
) -> None:
    evening = datetime(2026, 3, 3, 4, 30, tzinfo=UTC)  # 20:30 of the second in Los Angeles
    sessions.raw.insert_one(session("evening", created=evening, agents={"a": [message("user", "hello")]}))
    page = await open_page(timezone_id="America/Los_Angeles")
    await page.goto(f"{start_viewer()}?from=2026-03-02&to=2026-03-02")

    await expect(page.locator("a.result")).to_have_count(1)
    await expect(page.get_by_role("group", name="Created (local time)")).to_be_visible()
    await page.get_by_role("button", name="Local: Times in America/Los_Angeles").click()
    await expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    await expect(page.get_by_role("group", name="Created (UTC)")).to_be_visible()
    await page.get_by_label("To", exact=True).fill("2026-03-03")
    await expect(page.locator("a.result")).to_have_count(1)
    await expect(page.locator(".result-time time")).to_have_attribute("title", re.compile("3 Mar 2026, 04:30:00 UTC"))


async def test_new_sessions_are_announced_and_shown_ones_change_in_place(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_one(talked(1))
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_contain_text("2 messages")

    sessions.raw.update_one({"_id": "s-001"}, {"$set": {"summary.messages": 9, "summary.ratings.down": 1}})
    await expect(page.locator("a.result")).to_contain_text("9 messages")
    await expect(page.locator("a.result")).to_contain_text("1 thumbs down")
    sessions.raw.insert_many([talked(2), talked(3)])
    pill = page.get_by_role("button", name="2 new")
    await expect(pill).to_be_visible()
    await expect(page.locator("a.result")).to_have_count(1)
    await pill.click()
    await expect(page.locator("a.result")).to_have_count(3)
    await expect(pill).to_be_hidden()


async def test_a_session_that_is_deleted_meanwhile_says_so_and_is_no_longer_chosen(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_many([talked(1), talked(2)])
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(2)
    sessions.raw.insert_one(talked(3))
    await expect(page.get_by_role("button", name="1 new")).to_be_visible()  # It listens.
    gone = page.locator("[data-row='s-001']")
    for box in await page.locator(".result-choice").all():
        await box.check()
    await expect(page.get_by_text("2 chosen")).to_be_visible()

    sessions.raw.delete_one({"_id": "s-001"})

    await expect(gone).to_contain_text("deleted")
    await expect(gone.locator(".result-choice")).to_be_disabled()
    await expect(page.get_by_text("1 chosen")).to_be_visible()
    await expect(page.locator("[data-row='s-002']")).not_to_contain_text("deleted")


async def test_several_sessions_are_exported_as_one_archive_by_keyboard(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_many(talked(number) for number in range(4))
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(4)

    await page.keyboard.press("j")
    await page.keyboard.press("x")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("x")
    await expect(page.get_by_text("2 chosen")).to_be_visible()
    await page.get_by_label("Export the chosen sessions").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.press("ArrowDown")
    async with page.expect_download() as download:
        await page.keyboard.press("Enter")

    content = await (await download.value).path()
    with zipfile.ZipFile(io.BytesIO(content.read_bytes())) as files:
        assert files.namelist() == ["s-000.jsonl", "s-002.jsonl"]


async def test_menus_close_on_escape_and_on_a_click_elsewhere(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_one(talked(1))
    await page.goto(f"{start_viewer()}?session_id=s-001")
    choice = page.get_by_role("menuitem", name="JSON Lines")

    await page.get_by_label("Export", exact=True).click()
    await expect(choice).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(choice).to_be_hidden()
    await expect(page.get_by_role("heading", level=1, name="s-001")).to_be_visible()
    await page.get_by_label("Export", exact=True).click()
    await page.get_by_role("heading", name="Filters").click()
    await expect(choice).to_be_hidden()


async def test_two_sessions_stand_side_by_side(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    sessions.raw.insert_many(talked(number) for number in range(3))
    await page.goto(start_viewer())
    await page.get_by_label("Choose Question 0 about lamps").check()
    await page.get_by_label("Choose Question 2 about lamps").check()

    await page.get_by_role("button", name="Compare").click()
    one, other = page.get_by_role("region", name="s-000"), page.get_by_role("region", name="s-002")
    await expect(one).to_contain_text("Answer 0")
    await expect(other).to_contain_text("Answer 2")
    await page.set_viewport_size({"width": 1280, "height": 800})
    cut = "(lists) => lists.filter((list) => list.scrollWidth > list.clientWidth).length"
    assert await page.get_by_role("tablist").evaluate_all(cut) == 0
    assert _query(page) == {"session_id": "s-000", "with": "s-002"}
    await page.reload()
    await expect(other).to_contain_text("Answer 2")
    await page.get_by_role("button", name="Close s-000").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(["Session Viewer", "s-002"])
    assert _query(page) == {"session_id": "s-002"}


async def test_each_of_two_sessions_keeps_the_message_that_is_linked_to(
    open_page: OpenPage, sessions: Sessions, start_viewer: StartViewer
) -> None:
    for number in range(2):
        texts = [
            message("user" if place % 2 == 0 else "assistant", f"Text {place} of {number}") for place in range(300)
        ]
        sessions.raw.insert_one(session(f"s-{number}", agents={"a": texts}))
    page = await open_page(permissions=["clipboard-read", "clipboard-write"])
    await page.goto(f"{start_viewer()}?session_id=s-0&with=s-1&message=a:120&with_message=a:250")
    sides = [page.get_by_role("region", name=f"s-{number}") for number in range(2)]

    await expect(sides[0].get_by_text("Text 120 of 0", exact=True)).to_be_in_viewport()
    await expect(sides[1].get_by_text("Text 250 of 1", exact=True)).to_be_in_viewport()
    await sides[1].get_by_role("button", name="Copy a link to message 252").press("Enter")
    await expect(page.locator(".toasts")).to_contain_text("Link copied")
    assert _query(page) == {"session_id": "s-0", "with": "s-1", "message": "a:120", "with_message": "a:252"}
    assert await page.evaluate("navigator.clipboard.readText()") == page.url
    await sides[0].get_by_role("button", name="Copy a link to message 121").press("Enter")
    await expect(page.locator(".toasts")).to_contain_text("Link copied")
    await page.wait_for_url("**message=a%3A121&with_message=a%3A252")
    await page.reload()
    await expect(sides[0].get_by_text("Text 121 of 0", exact=True)).to_be_in_viewport()
    await expect(sides[1].get_by_text("Text 252 of 1", exact=True)).to_be_in_viewport()
    await page.get_by_role("button", name="Close s-0").click()
    await expect(page.get_by_text("Text 252 of 1", exact=True)).to_be_in_viewport()
    assert _query(page) == {"session_id": "s-1", "message": "a:252"}


async def test_totals_add_up_what_the_filters_leave(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    documents = [talked(number) for number in range(5)]
    documents[1]["summary"]["errors"] = 3
    sessions.raw.insert_many(documents)
    await page.goto(start_viewer())

    await page.get_by_role("button", name="Totals of these sessions").click()
    totals = page.locator(".totals")
    await expect(totals.locator(".stat").first).to_have_text("Sessions5")
    await expect(totals.get_by_role("img", name=re.compile("Sessions and failed turns"))).to_be_visible()
    await page.get_by_label("With failed turns").check()
    await expect(totals.locator(".stat").first).to_have_text("Sessions1")
    assert _query(page) == {"failed": "1", "view": "totals"}
    await page.get_by_role("button", name="Close the totals").click()
    await expect(page.get_by_role("heading", name="Choose a session")).to_be_visible()


async def test_charts_of_totals_name_days_and_count_in_whole_numbers(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    await page.add_init_script(
        """window.drawn = [];
        const fillText = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
            window.drawn.push(text);
            return fillText.call(this, text, ...place);
        };"""
    )
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    for day in range(8):
        document = session(f"s-{day}", created=start + timedelta(days=day), agents={"a": [message("user", "hello")]})
        document["summary"] |= {"errors": day % 2}
        sessions.raw.insert_one(document)
    await page.goto(f"{start_viewer()}?view=totals")
    await expect(page.locator(".totals canvas").first).to_be_visible()

    drawn = await page.evaluate("window.drawn")
    assert {"1 Mar", "8 Mar"} & set(drawn)
    assert "1" in drawn
    assert "0.5" not in drawn
