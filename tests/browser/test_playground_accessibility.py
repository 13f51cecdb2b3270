"""Every state of the playground without a violation that axe finds, in light and dark, on a desktop and on a phone."""

from __future__ import annotations

import pytest
from playwright.async_api import FilePayload, Page, expect

from tests.apps.playground.servers import PausingModel, playground
from tests.browser.accessibility import LOOKS, Look, faults, faults_in_each_look, wear
from tests.browser.playground_pages import answered, opened, replies, say
from tests.fixtures.browser import OpenPage, Watch
from tests.fixtures.sessions import Sessions
from tests.support.models import Reply, ScriptedModel, calls

pytestmark = pytest.mark.slow

CODE = "Is `this` right?\n```python\nprint(1)\n```"
NOTES: FilePayload = {"name": "notes.md", "mimeType": "text/markdown", "buffer": b"# Notes"}
DOT: FilePayload = {
    "name": "dot.png",
    "mimeType": "image/png",
    "buffer": bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
    ),
}


async def test_no_state_of_a_conversation_breaks_a_rule(sessions: Sessions, open_page: OpenPage) -> None:
    error = Reply(error=RuntimeError("Error code: 429 - Too many requests"))
    tools = calls(("calculator", {"expression": "6 * 7"}), ("calculator", {"expression": "six"}))
    model = PausingModel(tools, "It is **42**.", error, "Half, and half.", otherwise="Yes.")
    model.resume.set()
    async with playground(sessions, model) as app:
        page = await opened(open_page, app)
        await expect(page.locator("#health")).to_have_text("scripted")
        found = await faults_in_each_look(page, "welcome")
        await say(page, CODE)
        await answered(page)
        for card in await page.locator("#thread summary").all():
            await card.click()
        found += await faults_in_each_look(page, "answered, with tools")
        await page.locator("input[type=file]").set_input_files([NOTES, DOT])
        await expect(page.locator(".attached-file")).to_have_count(2)
        found += await faults_in_each_look(page, "attached")
        await say(page, "And now?")
        await expect(page.locator(".failure")).to_be_visible()
        found += await faults_in_each_look(page, "the model's error, and files that were sent")
        model.resume.clear()
        await page.get_by_role("button", name="Send again").click()
        await expect(replies(page).last).to_contain_text("Half")
        found += await faults_in_each_look(page, "answering")
        model.resume.set()
        await answered(page)
        await page.get_by_role("button", name="Edit and resend").last.click()
        await expect(page.locator(".notice")).to_be_visible()
        found += await faults_in_each_look(page, "editing")
        await page.keyboard.press("Escape")
        await replies(page).first.get_by_role("button", name="Bad reply").click()
        await expect(page.get_by_label("Comment")).to_be_visible()
        found += await faults_in_each_look(page, "feedback")
        await page.get_by_label("Comment").fill("Too short")
        await page.get_by_role("button", name="Send feedback").click()
        await replies(page).first.get_by_role("button", name="Branch from here").click()
        await expect(page.locator(".toasts")).to_contain_text("new conversation")
        await expect(replies(page)).to_have_count(1)
        found += await faults_in_each_look(page, "branched")

    assert found == []


async def test_nothing_that_opens_breaks_a_rule(sessions: Sessions, open_page: OpenPage, watch: Watch) -> None:
    watch.allow("status of (404|503)")
    async with playground(sessions, ScriptedModel(otherwise="It is **42**.")) as app:
        await app.chat("s-1", "What is 6 * 7?")
        page = await opened(open_page, app, "/?session_id=s-1")
        await expect(replies(page)).to_have_count(1)
        menu, dialog = page.get_by_role("button", name="Conversation menu"), page.get_by_role("dialog")

        found: list[str] = []
        for look in reversed(LOOKS):
            await wear(page, look)
            await menu.click()
            await expect(page.get_by_role("menu")).to_be_visible()
            found += await faults(page, f"menu, {look}")
            await page.keyboard.press("Escape")
        for item in ("Rename", "Delete"):
            await menu.click()
            await page.get_by_role("menuitem", name=item).click()
            await expect(dialog).to_be_visible()
            found += await faults_in_each_look(page, item)
            await page.keyboard.press("Escape")
            await expect(dialog).to_have_count(0)
        await page.get_by_role("button", name="System prompt and temperature").click()
        await expect(dialog).to_be_visible()
        found += await faults_in_each_look(page, "system prompt")
        await page.get_by_role("textbox", name="System prompt").fill("You are a pirate.")
        await page.get_by_role("button", name="Use for this conversation").click()
        await expect(page.locator("#tuned")).to_be_visible()
        found += await faults_in_each_look(page, "tuned")
        for look in reversed(LOOKS):
            found += await _sides(page, look)
        await page.goto("/?session_id=nobody")
        await expect(page.get_by_role("heading", name="This conversation is not here")).to_be_visible()
        found += await faults_in_each_look(page, "not here")
        away = {"error": {"code": "database_unavailable", "message": "the database does not answer", "fields": []}}
        await page.route("**/api/sessions/s-1*", lambda route: route.fulfill(status=503, json=away))
        await page.goto("/?session_id=s-1")
        await expect(page.get_by_role("alert")).to_contain_text("database does not answer")
        found += await faults_in_each_look(page, "could not be loaded")

    assert found == []


async def _sides(page: Page, look: Look) -> list[str]:
    """Return what is wrong with the list and the panel about the session, which a phone shows on request."""
    await wear(page, look)
    narrow, banner = look == "dark phone", page.get_by_role("banner")
    if narrow:
        await banner.get_by_role("button", name="Conversations").click()
    await page.get_by_role("searchbox").fill("42")
    await expect(page.locator(".conversation-excerpt")).to_be_visible()
    found = await faults(page, f"found, {look}")
    await page.get_by_role("searchbox").fill("no such text")
    await expect(page.locator(".conversation")).to_have_count(0)
    found += await faults(page, f"not found, {look}")
    await page.get_by_role("searchbox").press("Escape")
    await expect(page.locator(".conversation")).to_have_count(1)
    if narrow:
        await page.keyboard.press("Escape")
        await banner.get_by_role("button", name="Session").click()
        await expect(page.locator("#viewer-link")).to_be_visible()
        found += await faults(page, f"details, {look}")
        await page.keyboard.press("Escape")
    return found
