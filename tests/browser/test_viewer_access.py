"""Who may see what: the viewer's password, a session's password, and logging out."""

from __future__ import annotations

import re

from playwright.async_api import Page, expect

from tests.browser.conftest import StartViewer
from tests.fixtures.browser import Watch
from tests.fixtures.sessions import SESSION_ID, Sessions

PASSWORD = "correct horse battery staple"


async def _store(sessions: Sessions, *ids: str) -> dict[str, str]:
    passwords = {}
    for session_id in ids:
        async with sessions.manager(session_id) as manager:
            passwords[session_id] = await manager.get_session_viewer_password() or ""
    return passwords


async def test_the_viewer_opens_with_its_password(
    page: Page, watch: Watch, sessions: Sessions, start_viewer: StartViewer
) -> None:
    watch.allow("status of 401")
    await _store(sessions, SESSION_ID)
    await page.goto(start_viewer(backend_password=PASSWORD))
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    await expect(page.get_by_label("Password")).to_be_focused()

    await page.get_by_label("Password").fill("a guess of mine")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_text("That password is not right.")).to_be_visible()
    await expect(page.locator("a.result")).to_have_count(0)

    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.locator("a.result")).to_have_count(1)
    assert await page.evaluate("document.cookie") == ""

    await page.reload()
    await expect(page.locator("a.result")).to_have_count(1)
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_a_session_opens_with_its_own_password_and_no_other_does(
    page: Page, watch: Watch, sessions: Sessions, start_viewer: StartViewer
) -> None:
    watch.allow("status of 40[13]")
    passwords = await _store(sessions, "mine", "theirs")
    url = start_viewer(backend_password=PASSWORD)

    await page.goto(f"{url}?session_id=mine")
    await expect(page.get_by_role("heading", name="Open a session")).to_be_visible()
    await page.get_by_label("Password").fill(passwords["theirs"])
    await page.get_by_role("button", name="Open session").click()
    await expect(page.get_by_text("That password is not right.")).to_be_visible()
    await page.get_by_label("Password").fill(passwords["mine"])
    await page.get_by_role("button", name="Open session").click()
    await expect(page.get_by_role("heading", level=1, name="mine")).to_be_visible()
    await expect(page.locator("#filters")).to_be_hidden()
    await expect(page.locator("#results")).to_be_hidden()

    await page.goto(f"{url}?session_id=theirs")
    await expect(page.get_by_role("heading", name="Open a session")).to_be_visible()
    await expect(page.get_by_text("theirs")).to_be_visible()
    await page.get_by_role("button", name=re.compile("whole viewer")).click()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_a_login_that_ended_is_asked_for_again_where_one_was(
    page: Page, watch: Watch, sessions: Sessions, start_viewer: StartViewer
) -> None:
    watch.allow("status of 401")
    passwords = await _store(sessions, "first", "second")
    url = start_viewer(backend_password=PASSWORD)
    await page.goto(url)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.locator("a.result[data-session-id=first]").click()
    await expect(page.get_by_role("heading", level=1, name="first")).to_be_visible()

    await page.context.clear_cookies()
    await page.locator("a.result[data-session-id=second]").click()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    await expect(page.get_by_text("Your login has ended.")).to_be_visible()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1, name="second")).to_be_visible()
    await expect(page.locator("a.result")).to_have_count(2)

    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_text("This viewer is protected by a password.")).to_be_visible()
    await page.get_by_role("button", name=re.compile("its own password")).click()
    await page.get_by_label("Password").fill(passwords["second"])
    await page.get_by_role("button", name="Open session").click()
    await expect(page.get_by_role("heading", level=1, name="second")).to_be_visible()
    await expect(page.locator("#results")).to_be_hidden()


async def test_guessing_is_slowed_down(page: Page, watch: Watch, sessions: Sessions, start_viewer: StartViewer) -> None:
    watch.allow("status of 4(01|29)")
    await page.goto(start_viewer(backend_password=PASSWORD))
    error = page.locator("#gate-error")
    for attempt in range(30):
        await page.get_by_label("Password").fill(f"guess {attempt}")
        await page.get_by_role("button", name="Log in").click()
        await expect(error).not_to_be_empty()
        await expect(page.get_by_role("button", name="Log in")).to_be_enabled()
        if "Try again in" in (await error.text_content() or ""):
            return
    raise AssertionError("thirty guesses in a row were answered")
