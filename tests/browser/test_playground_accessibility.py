from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import FilePayload, Page, expect

from tests.apps.playground.servers import playground
from tests.browser.accessibility import violations
from tests.browser.playground_pages import answered, opened, replies, say
from tests.fixtures.browser import OpenPage
from tests.fixtures.sessions import Sessions
from tests.support.models import Reply, ScriptedModel, calls

LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
    "dark phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}
CODE = "Is `this` right?\n```python\nprint(1)\n```"


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
async def test_no_state_breaks_a_rule_of_accessibility_or_is_wider_than_its_window(
    sessions: Sessions, open_page: OpenPage, look: str
) -> None:
    error = Reply(error=RuntimeError("Error code: 429 - Too many requests"))
    model = ScriptedModel(calls(("calculator", {"expression": "6 * 7"})), "It is **42**.", error, otherwise="Yes.")
    async with playground(sessions, model) as app:
        page = await opened(open_page, app, **LOOKS[look])

        async def check(state: str) -> None:
            assert await violations(page) == [], state
            wider = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wider <= 0, state

        await expect(page.locator("#health")).to_have_text("scripted")
        await check("welcome")
        await say(page, CODE)
        await answered(page)
        await page.locator("#thread summary").first.click()
        await check("answered")
        notes: FilePayload = {"name": "notes.md", "mimeType": "text/markdown", "buffer": b"# Notes"}
        await page.locator("input[type=file]").set_input_files([notes])
        await expect(page.locator(".attached-file")).to_have_count(1)
        await check("attached")
        await say(page, "And now?")
        await expect(page.locator(".failure")).to_be_visible()
        await check("failed")
        await page.get_by_role("button", name="Edit and resend").last.click()
        await expect(page.locator(".notice")).to_be_visible()
        await check("editing")
        await page.keyboard.press("Escape")
        await replies(page).first.get_by_role("button", name="Bad reply").click()
        await check("feedback")
        await page.keyboard.press("Escape")
        for state, act in _overlays(page, narrow="phone" in look):
            await act()
            await check(state)
            await page.keyboard.press("Escape")


def _overlays(page: Page, *, narrow: bool) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
    async def menu() -> None:
        await page.get_by_role("button", name="Conversation menu").click()
        await expect(page.get_by_role("menu")).to_be_visible()

    async def rename() -> None:
        await menu()
        await page.get_by_role("menuitem", name="Rename").click()
        await expect(page.get_by_role("dialog")).to_be_visible()

    async def tune() -> None:
        await page.get_by_role("button", name="System prompt and temperature").click()
        await expect(page.get_by_role("dialog")).to_be_visible()

    async def search() -> None:
        if narrow:
            await page.get_by_role("banner").get_by_role("button", name="Conversations").click()
        await page.get_by_role("searchbox").fill("42")
        await expect(page.locator(".conversation-excerpt")).to_be_visible()

    async def details() -> None:
        await page.keyboard.press("Escape")
        if narrow:
            await page.get_by_role("banner").get_by_role("button", name="Session").click()
        await expect(page.locator("#viewer-link")).to_be_visible()

    return [("menu", menu), ("rename", rename), ("tuning", tune), ("search", search), ("details", details)]
