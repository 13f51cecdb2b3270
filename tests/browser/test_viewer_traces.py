"""From an answer in the page to its trace."""

from __future__ import annotations

from playwright.async_api import Page, expect

from tests.apps.viewer.stored import START, message, session
from tests.browser.conftest import StartViewer
from tests.fixtures.browser import OpenPage
from tests.fixtures.sessions import SESSION_ID, Sessions

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def store(sessions: Sessions) -> None:
    said = [message("user", "hi"), message("assistant", "hello", minute=1, trace_id=TRACE)]
    failed = {"timestamp": START, "agent_id": "a", "error": "RuntimeError", "trace_id": TRACE}
    sessions.raw.insert_one(session(SESSION_ID, agents={"a": said}) | {"errors": [failed]})


async def test_answers_and_failed_turns_link_to_their_trace(
    page: Page, sessions: Sessions, start_viewer: StartViewer
) -> None:
    store(sessions)
    url = start_viewer(trace_url="https://traces.example.com/{trace_id}")
    await page.goto(f"{url}?session_id={SESSION_ID}")

    for place in (".message-agent", ".event-danger"):
        link = page.locator(place).get_by_role("link", name="Trace 4bf92f35")
        await expect(link).to_have_attribute("href", f"https://traces.example.com/{TRACE}")
        await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await expect(page.locator(".message-user .trace-link")).to_have_count(0)


async def test_without_an_address_the_id_is_copied(
    open_page: OpenPage, sessions: Sessions, start_viewer: StartViewer
) -> None:
    store(sessions)
    page = await open_page(permissions=["clipboard-read", "clipboard-write"])
    url = start_viewer()
    await page.goto(f"{url}?session_id={SESSION_ID}")

    await page.locator(".message-agent").get_by_role("button", name="Trace 4bf92f35").click()

    await expect(page.get_by_text("Trace id copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == TRACE
