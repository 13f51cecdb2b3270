"""What people do in the playground besides what `test_playground_flows.py` has, by keyboard alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import FileChooser, expect

from tests.apps.playground.servers import playground
from tests.browser.keyboard import press, reach
from tests.browser.playground_pages import answered, opened, replies
from tests.fixtures.browser import OpenPage
from tests.fixtures.sessions import Sessions
from tests.fixtures.waiting import WAIT_S
from tests.support.models import ScriptedModel, calls

pytestmark = pytest.mark.slow


async def test_a_suggestion_is_taken_a_tool_looked_at_and_a_file_attached(
    sessions: Sessions, open_page: OpenPage, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.md"
    await asyncio.to_thread(notes.write_text, "# Notes")
    model = ScriptedModel(calls(("calculator", {"expression": "6 * 7"})), "It is 42.", "I have read it.")
    async with playground(sessions, model) as app:
        page = await opened(open_page, app, permissions=["clipboard-read", "clipboard-write"])
        # Asked for long before: Chromium may hear of it after the key that opens the chooser.
        chooser: asyncio.Future[FileChooser] = asyncio.get_running_loop().create_future()
        page.once("filechooser", lambda shown: chooser.set_result(shown))
        await press(page, page.get_by_role("button", name="Calculate"), "Shift+Tab")
        await expect(replies(page)).to_contain_text("It is 42.")
        await answered(page)

        await press(page, page.locator("details.tool > summary"), "Shift+Tab")
        await expect(page.locator("details.tool .json")).to_be_visible()
        await press(page, page.get_by_role("button", name="Raw"))
        await expect(page.locator("details.tool .value pre").first).to_contain_text('"6 * 7"')
        await press(page, page.get_by_role("button", name="Copy", exact=True).first)
        await expect(page.locator(".toasts")).to_contain_text("copied")
        assert "6 * 7" in await page.evaluate("navigator.clipboard.readText()")

        await press(page, page.get_by_role("button", name="Attach images or documents"))
        await (await asyncio.wait_for(chooser, WAIT_S)).set_files(notes)
        await expect(page.locator(".attached-file")).to_have_count(1)
        await reach(page, page.get_by_role("textbox", name="Message"))
        await page.keyboard.type("Read it.")
        await page.keyboard.press("Enter")
        await expect(replies(page).last).to_contain_text("I have read it.")
        await answered(page)

        await press(page, page.get_by_role("button", name="Copy session id"))
        [session_id] = [document["_id"] for document in sessions.raw.find({}, {"_id": 1})]
        assert await page.evaluate("navigator.clipboard.readText()") == session_id


async def test_conversations_are_gone_through_read_back_and_deleted(sessions: Sessions, open_page: OpenPage) -> None:
    async with playground(sessions, ScriptedModel(otherwise="Yes.")) as app:
        for number in range(55):
            await app.chat("long", f"Number {number}")
        await app.chat("short", "A short one")
        page = await opened(open_page, app)
        await expect(page.locator(".conversation")).to_have_count(2)

        await press(page, page.get_by_role("link", name="Number 0"), "Shift+Tab")
        await expect(page.get_by_text("Number 54", exact=True)).to_be_in_viewport()
        await page.locator("#thread-scroll").focus()
        await press(page, page.get_by_role("button", name="earlier messages"))
        await expect(page.locator("#thread .message")).to_have_count(110)
        await page.locator("#thread-scroll").focus()
        await page.keyboard.press("Home")
        await expect(page.locator("#thread .message").first).to_be_in_viewport()
        await press(page, page.get_by_role("button", name="Jump to latest"), "Shift+Tab")
        await expect(page.get_by_text("Number 54", exact=True)).to_be_in_viewport()

        # Forwards, past the end of the page: back there are a hundred messages.
        await press(page, page.get_by_role("button", name="Delete conversation: A short one"))
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await press(page, page.get_by_role("button", name="Delete conversation: A short one"), "Shift+Tab")
        await press(page, page.get_by_role("dialog").get_by_role("button", name="Delete"))
        await expect(page.locator(".conversation")).to_have_count(1)
        await press(page, page.get_by_role("link", name="New conversation"), "Shift+Tab")
        await expect(page.get_by_role("heading", name="What would you like to try?")).to_be_visible()
        await expect(page.get_by_role("textbox", name="Message")).to_be_focused()

    assert [document["_id"] for document in sessions.raw.find({}, {"_id": 1})] == ["long"]


async def test_the_drawers_of_a_phone_open_and_close(sessions: Sessions, open_page: OpenPage) -> None:
    async with playground(sessions, ScriptedModel(otherwise="Yes.")) as app:
        await app.chat("s-1", "Hello")
        page = await opened(open_page, app, viewport={"width": 390, "height": 844})
        banner = page.get_by_role("banner")
        await press(page, banner.get_by_role("button", name="Conversations"), "Shift+Tab")
        await press(page, page.get_by_role("link", name="Hello"))
        await expect(replies(page)).to_have_count(1)
        await press(page, banner.get_by_role("button", name="Session"), "Shift+Tab")
        await expect(page.get_by_role("button", name="Close the session panel")).to_be_visible()
        await press(page, page.get_by_role("button", name="Close the session panel"))
        await expect(page.locator("#viewer-link")).not_to_be_in_viewport()
        await expect(banner.get_by_role("button", name="Session")).to_be_focused()
