"""Every state of the viewer without a violation that axe finds, in light and dark, on a desktop and on a phone."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from mongodb_session_manager import index_specs
from tests.apps.viewer.stored import START, message, session
from tests.browser.accessibility import LOOKS, Look, faults, faults_in_each_look, wear
from tests.browser.conftest import StartViewer
from tests.fixtures.browser import OpenPage, Watch
from tests.fixtures.sessions import Sessions

SESSION = "?session_id=support-2026-1107"
STATES = {
    "list": ("", "a.result"),
    "nothing found": ("?q=no-such-id", "#results .state"),
    "filtered": ('?rating=up&filters={"priority":"high","score":{"min":3}}', ".filter-range"),
    "hits of a text": ("?text=lamp", ".result-hit"),
    "conversation": (SESSION, ".message"),
    "usage": (f"{SESSION}&tab=usage", "canvas"),
    "metadata": (f"{SESSION}&tab=metadata", "dl"),
    "agents": (f"{SESSION}&tab=agents", ".agent-part"),
    "redacted": ("?session_id=support-2026-1093", ".bubble-redacted"),
    "conversation with hits": (f"{SESSION}&text=lamp", ".find-bar:not([hidden])"),
    "failed turn": ("?session_id=beratung-0815", ".event-danger"),
    "compared": (f"{SESSION}&with=support-2026-1093", ".compared .message"),
    "totals": ("?view=totals", ".totals canvas"),
    "no totals of a text": ("?view=totals&text=lamp", "#detail .state"),
}


async def settled(page: Page) -> None:
    """Wait until nothing is on its way."""
    await expect(page.locator("#layout [aria-busy], #layout .skeleton, #layout .spinner")).to_have_count(0)


async def go(page: Page, address: str) -> None:
    """Go to another state of the page, as the browser's buttons do: without loading it anew."""
    await page.evaluate(
        "(address) => { history.pushState(null, '', address || './'); dispatchEvent(new PopStateEvent('popstate')); }",
        address,
    )
    await settled(page)


async def test_no_state_that_has_an_address_breaks_a_rule(page: Page, samples: str) -> None:
    await page.goto(samples)
    await expect(page.locator("a.result").first).to_be_visible()
    found: list[str] = []
    for state, (address, shown) in STATES.items():
        await go(page, address)
        await expect(page.locator(shown).first).to_be_attached()
        found += await faults_in_each_look(page, state)

    assert found == []


async def test_colours_change_at_once_for_a_reader_who_wants_less_motion(page: Page, samples: str) -> None:
    await page.goto(f"{samples}{SESSION}")
    await expect(page.locator(".message").first).to_be_visible()
    await page.emulate_media(color_scheme="dark")

    assert await page.evaluate(
        """() => {
            const authors = [...document.querySelectorAll(".message-author")];
            const colours = new Set(authors.map((node) => getComputedStyle(node).color));
            return [colours.size, document.getAnimations().filter((each) => each instanceof CSSTransition).length];
        }"""
    ) == [1, 0]


@pytest.mark.parametrize("look", LOOKS)
async def test_nothing_that_opens_in_a_session_breaks_a_rule(open_page: OpenPage, samples: str, look: Look) -> None:
    page = await open_page(**LOOKS[look])
    await page.goto(f"{samples}{SESSION}")
    await expect(page.locator(".message").first).to_be_visible()
    await page.keyboard.press("e")
    await page.get_by_role("button", name="Raw").first.click()
    await page.keyboard.press("f")
    await page.keyboard.type("order")
    await expect(page.locator(".find-count")).to_contain_text("1 of")
    found = await faults(page, "unfolded, a value raw, found in it")
    await page.keyboard.press("Escape")
    await page.get_by_label("Conversation only").check()
    found += await faults(page, "conversation only")
    await page.get_by_label("Export", exact=True).click()
    await expect(page.get_by_role("menu")).to_be_visible()
    found += await faults(page, "export menu")
    await page.keyboard.press("Escape")
    await page.locator(".thumb").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    found += await faults(page, "picture")
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_be_visible()
    found += await faults(page, "keys")

    assert found == []


async def test_nothing_that_happens_in_the_list_breaks_a_rule(
    page: Page, sessions: Sessions, start_viewer: StartViewer, watch: Watch
) -> None:
    watch.allow("status of (404|503)")
    sessions.raw.create_indexes(index_specs(["priority"]))
    documents = [
        session(f"s-{number}", agents={"a": [message("user", f"Question {number}")]}, metadata={"priority": "low"})
        for number in range(30)
    ]
    documents[0]["title"] = "A question"
    documents[0]["summary"] |= {"ratings": {"up": 2, "down": 1, "other": 1}, "feedbacks": 4, "errors": 3}
    sessions.raw.insert_many(documents)
    async with page.expect_response(lambda response: "/sessions/events" in response.url):
        await page.goto(start_viewer())
    await expect(page.locator("a.result")).to_have_count(20)

    sessions.raw.insert_one(session("s-new", created=START.replace(year=START.year + 1)))
    await expect(page.get_by_role("button", name="1 new")).to_be_visible()
    found = await faults_in_each_look(page, "announced")
    await page.get_by_role("button", name="1 new").click()
    await expect(page.locator("[data-row='s-new']")).to_be_visible()
    found += await faults_in_each_look(page, "brought in")
    for row in (1, 2):
        await page.locator(".result-choice").nth(row).check()
    await expect(page.get_by_text("2 chosen")).to_be_visible()
    found += await faults_in_each_look(page, "chosen")
    for look in reversed(LOOKS):
        await wear(page, look)
        await page.get_by_label("Export the chosen sessions").click()
        await expect(page.get_by_role("menu")).to_be_visible()
        found += await faults(page, f"export of the chosen, {look}")
        await page.keyboard.press("Escape")
    sessions.raw.delete_one({"_id": "s-new"})
    await expect(page.locator(".result-gone")).to_have_count(1)
    found += await faults_in_each_look(page, "deleted")
    await page.get_by_label("Add a filter").select_option("priority")
    await page.get_by_role("button", name=re.compile("Times in")).click()
    await wear(page, "dark phone")
    await page.get_by_role("button", name="Filters").click()
    found += await faults_in_each_look(page, "a filter added, in UTC")
    await page.goto(f"{page.url.split('?')[0]}?session_id=nobody")
    await expect(page.get_by_role("heading", name="No such session")).to_be_visible()
    found += await faults_in_each_look(page, "no such session")
    await page.route("**/api/v1/sessions/search**", lambda route: route.fulfill(status=503, json={"error": {}}))
    await page.goto(page.url.split("?")[0])
    await expect(page.get_by_role("heading", name="The database does not answer")).to_be_visible()
    found += await faults_in_each_look(page, "database away")

    assert found == []


async def test_asking_for_a_password_breaks_no_rule(page: Page, start_viewer: StartViewer, watch: Watch) -> None:
    watch.allow("status of 401")
    url = start_viewer(backend_password="a long password")
    found: list[str] = []
    for state, address in {"log in": "", "session's password": "?session_id=s-1"}.items():
        await page.goto(f"{url}{address}")
        await expect(page.get_by_label("Password")).to_be_focused()
        found += await faults_in_each_look(page, state)
    await page.get_by_label("Password").fill("a wrong one")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("not right")
    found += await faults_in_each_look(page, "refused")

    assert found == []
