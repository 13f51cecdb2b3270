"""What is done with the viewer besides reading, by keyboard alone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Locator, Page, expect

from mongodb_session_manager import index_specs
from tests.apps.viewer.stored import message, session
from tests.browser.conftest import StartViewer
from tests.fixtures.browser import OpenPage
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


async def reach(page: Page, target: Locator, key: str = "Tab") -> None:
    """Press a key until a control has the focus, as a person does who looks for it."""
    await expect(target).to_be_visible()
    for _ in range(120):
        if await target.evaluate("(node) => node === document.activeElement"):
            return
        await page.keyboard.press(key)
    raise AssertionError("it is not reached")


async def press(page: Page, target: Locator, *, back: bool = False) -> None:
    """Reach a control and press it."""
    await reach(page, target, "Shift+Tab" if back else "Tab")
    await page.keyboard.press("Enter")


def query(page: Page) -> dict[str, str]:
    """Return what a page's address says."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


async def test_sessions_are_compared_and_closed(page: Page, sessions: Sessions, start_viewer: StartViewer) -> None:
    sessions.raw.insert_many(said(number) for number in range(3))
    await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(3)

    for keys in ("j", "x", "j", "x"):
        await page.keyboard.press(keys)
    await press(page, page.get_by_role("button", name="Compare"), back=True)
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
    await press(page, page.get_by_role("button", name="Close s-0"), back=True)
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
