"""What is done with the viewer besides reading, by keyboard alone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, expect

from mongodb_session_manager import index_specs
from tests.apps.viewer.stored import message, session
from tests.browser.conftest import StartViewer
from tests.browser.keyboard import choose, press, reach
from tests.fixtures.browser import OpenPage, Watch
from tests.fixtures.sessions import Sessions

Document = dict[str, Any]


def said(number: int) -> Document:
    """Return a session of an hour ago whose answer used a tool."""
    created = datetime.now(UTC) - timedelta(hours=1, minutes=number)
    call = {"toolUse": {"toolUseId": "t", "name": "look_up", "input": {"lamp": number}}}
    result = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"json": {"watts": [number, 60]}}]}}
    texts = [
        message("user", f"Question {number}"),
        message("assistant", [call]),
        message("user", [result]),
        message("assistant", f"Answer {number}"),
    ]
    document = session(f"s-{number}", created=created, agents={"a": texts}, metadata={"priority": "low"})
    document["summary"] |= {"ratings": {"up": 0, "down": 0, "other": 0}, "errors": 0}
    return document | {"title": f"Question {number}"}


def query(page: Page) -> dict[str, str]:
    """Return what a page's address says."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


async def test_sessions_are_compared_and_closed(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    sessions.raw.insert_many(said(number) for number in range(3))
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(3)

    for keys in ("j", "x", "j", "x"):
        await page.keyboard.press(keys)
    await press(page, page.get_by_role("button", name="Compare"), "Shift+Tab")
    await expect(page.get_by_role("region", name="s-1")).to_contain_text("Answer 1")
    await page.keyboard.press("e")
    for number in (0, 1):
        side = page.get_by_role("region", name=f"s-{number}")
        await expect(side.locator("details.disclosure").first).to_have_attribute("open", "")
    await reach(page, page.get_by_role("button", name="Close s-0"))
    await press(page, page.get_by_role("region", name="s-1").get_by_role("button", name="Find in the session"))
    await page.keyboard.type("Answer")
    await expect(page.get_by_role("region", name="s-1").locator(".find-count")).to_contain_text("1 of 1")
    await page.keyboard.press("Escape")
    await press(page, page.get_by_role("button", name="Close s-0"), "Shift+Tab")
    await expect(page.get_by_role("heading", level=1, name="s-1")).to_be_visible()
    assert query(page)["session_id"] == "s-1"


async def test_totals_are_opened_and_closed(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    sessions.raw.insert_many(said(number) for number in range(3))
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(3)

    await press(page, page.get_by_role("button", name="Totals of these sessions"))
    await expect(page.locator(".totals .stat").first).to_have_text("Sessions3")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", name="Choose a session")).to_be_visible()


async def test_badges_zone_and_announced_sessions(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    sessions.raw.create_indexes(index_specs(["priority"]))
    sessions.raw.insert_many(said(number) for number in range(2))
    async with page.expect_response(lambda response: "/sessions/events" in response.url):
        await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(2)

    zone = page.get_by_role("button", name=re.compile("Times in"))
    await press(page, zone)
    await expect(page.get_by_role("group", name="Created (UTC)")).to_be_visible()
    sessions.raw.insert_one(said(0) | {"_id": "s-9", "session_id": "s-9", "title": "Question 9"})
    await press(page, page.get_by_role("button", name="1 new"))
    await expect(page.locator("a.result")).to_have_count(3)
    await press(page, page.locator("[data-row='s-9'] button.meta-badge"))
    await page.wait_for_url("**filters=**")
    await press(page, page.get_by_role("button", name="Clear all"))
    await page.wait_for_url(lambda url: "filters" not in url)


async def test_a_message_is_linked_to_and_a_value_seen_raw_and_copied(
    open_page: OpenPage, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_one(said(0))
    page = await open_page(permissions=["clipboard-read", "clipboard-write"])
    await page.goto(f"{start_viewer()}?session_id=s-0")
    await expect(page.get_by_text("Answer 0")).to_be_visible()
    await page.keyboard.press("e")

    await press(page, page.get_by_role("button", name="Raw").first)
    await expect(page.locator(".value pre").first).to_contain_text('"lamp": 0')
    await press(page, page.get_by_role("button", name="Wrap").first)
    await expect(page.locator(".value-body").first).to_have_class(re.compile("nowrap"))
    await press(page, page.get_by_role("button", name="Copy", exact=True).first)
    await expect(page.locator(".toasts")).to_contain_text("Value copied")
    assert json.loads(await page.evaluate("navigator.clipboard.readText()")) == {"lamp": 0}
    await press(page, page.get_by_role("button", name="Copy a link to message 3"))
    await expect(page.locator(".toasts")).to_contain_text("Link copied")
    assert (await page.evaluate("navigator.clipboard.readText()")).endswith("?session_id=s-0&message=a%3A3")


async def test_a_text_is_searched_for_its_hit_opened_and_the_search_taken_up_again(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.insert_many(said(number) for number in range(30))
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(20)

    await page.keyboard.press("/")
    await page.keyboard.type("question")
    await expect(page.get_by_text(re.compile(r"Looked through \d+ sessions back to"))).to_be_visible()
    await press(page, page.get_by_role("button", name="Go on"))
    await expect(page.locator("a.result")).to_have_count(30)
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message", has_text="Question 0")).to_be_focused()
    await expect(page.locator(".find-count")).to_have_text("1 messages")
    await page.keyboard.press("Escape")
    await expect(page.locator(".find-bar")).to_be_hidden()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", name="Choose a session")).to_be_visible()
    await expect(page.locator("[data-row='s-0'] a.result")).to_be_focused()


async def test_the_list_is_narrowed_ordered_and_turned(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    sessions.raw.create_indexes(index_specs(["priority", "score"]))
    documents = [said(number) for number in range(25)]
    for number, document in enumerate(documents):
        document["metadata"]["score"] = number
        document["summary"]["usage"] = {"totalTokens": number}
    documents[3]["summary"] |= {"ratings": {"up": 0, "down": 1, "other": 0}, "feedbacks": 1, "errors": 1}
    sessions.raw.insert_many(documents)
    await page.goto(start_viewer())
    rows = page.locator(".result-id")
    await expect(rows).to_have_count(20)

    await choose(page, page.get_by_label("Rating"), "Thumbs down")
    await expect(rows).to_have_text(["s-3"])
    await press(page, page.get_by_label("With failed turns"), with_key="Space")
    await page.wait_for_url("**failed=1**")
    await reach(page, page.get_by_label("Agent", exact=True))
    await page.keyboard.type("nobody")
    await expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    await press(page, page.get_by_role("button", name="Clear all"), "Shift+Tab")
    await expect(rows).to_have_count(20)
    await press(page, page.get_by_role("button", name="7 days"))
    await page.wait_for_url("**from=**to=**")
    await choose(page, page.get_by_label("Add a filter"), "score")
    await expect(page.get_by_label("score", exact=True)).to_be_focused()
    await press(page, page.get_by_role("button", name="Range of score"), "Shift+Tab")
    await expect(page.get_by_label("score", exact=True)).to_be_focused()
    await page.keyboard.type("21")
    await expect(rows).to_have_text(["s-21", "s-22", "s-23", "s-24"])
    await press(page, page.get_by_role("button", name="Remove filter score"), "Shift+Tab")
    await expect(rows).to_have_count(20)
    await choose(page, page.get_by_label("Order"), "Tokens")
    await expect(rows.first).to_have_text("s-24")
    await press(page, page.get_by_role("button", name="Next page"))
    await expect(rows.first).to_have_text("s-4")
    assert query(page).keys() == {"from", "to", "sort", "page"}


async def test_a_session_is_read_exported_and_left(open_page: OpenPage, samples: str) -> None:
    page = await open_page(permissions=["clipboard-read", "clipboard-write"])
    await page.goto(f"{samples}?session_id=support-2026-1107")
    await expect(page.locator(".message").first).to_be_visible()
    detail = page.locator("#detail")
    await detail.focus()

    await press(page, page.get_by_role("button", name="Live"))
    await expect(page.locator(".live")).to_have_attribute("aria-pressed", "false")
    await press(page, page.get_by_role("button", name="Copy the id"))
    await expect(page.locator(".toasts")).to_contain_text("Id copied")
    assert await page.evaluate("navigator.clipboard.readText()") == "support-2026-1107"
    await press(page, page.get_by_label("Export", exact=True))
    await page.keyboard.press("End")
    async with page.expect_download() as download:
        await page.keyboard.press("Enter")
    assert (await download.value).suggested_filename.endswith(".md")
    await press(page, page.get_by_label("Conversation only"), with_key="Space")
    await expect(page.locator("details.disclosure:visible")).to_have_count(0)
    await page.keyboard.press("Space")
    await expect(page.locator("details.disclosure:visible").first).to_be_visible()
    await press(page, page.get_by_role("button", name="Latest"))
    await expect(page.locator(".event").last).to_be_in_viewport()
    await press(page, page.get_by_role("button", name="Start"), "Shift+Tab")
    await expect(page.locator(".message").first).to_be_in_viewport()
    await press(page, page.locator(".thumb"))
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(page.locator(".thumb")).to_be_focused()
    await press(page, page.locator("details.tool > summary").first)
    await expect(page.locator("details.tool").first).to_have_attribute("open", "")
    await press(page, page.get_by_role("button", name="Reload"), "Shift+Tab")
    await expect(page.locator("details.tool").first).not_to_have_attribute("open", "")
    await press(page, page.get_by_role("button", name="Theme: as the system"))
    await expect(page.locator("html")).to_have_attribute("data-theme", "light")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", name="Choose a session")).to_be_visible()


async def test_one_logs_in_and_out(page: Page, start_viewer: StartViewer, watch: Watch) -> None:
    watch.allow("status of 401")
    await page.goto(start_viewer(backend_password="a long password"))
    await expect(page.get_by_label("Password")).to_be_focused()

    for password, shown in (("a wrong password", "not right"), ("a long password", "No sessions yet")):
        await page.keyboard.type(password)
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_contain_text(shown)
    await press(page, page.get_by_role("button", name="Log out"), "Shift+Tab")
    await expect(page.get_by_label("Password")).to_be_focused()
