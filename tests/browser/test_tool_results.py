"""What both apps say of a tool's result: whether it failed stands in its status, not in its words."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.playground.servers import playground
from tests.apps.viewer.stored import message, session
from tests.browser.conftest import StartViewer
from tests.fixtures.sessions import Sessions

RESULTS: dict[str, dict[str, Any]] = {
    "worked": {"status": "success", "content": [{"text": "Result: 42"}]},
    "quotes_an_error": {"status": "success", "content": [{"text": "Error: is what the log says most often"}]},
    "broke": {"status": "error", "content": [{"text": "All is well"}]},
    "broke_without_words": {"status": "error", "content": []},
    "without_status": {"content": [{"text": "Error"}]},
    "of_another_kind": {"status": "ERROR", "content": [{"json": {"status": "error"}}]},
}
FAILED = {name for name, result in RESULTS.items() if result.get("status") == "error"}


@pytest.mark.parametrize("answered", [True, False], ids=["in the card of the call", "without a call"])
async def test_both_apps_tell_alike_which_tools_failed(
    page: Page, sessions: Sessions, start_viewer: StartViewer, answered: bool
) -> None:
    results = [{"toolResult": {"toolUseId": name, **result}} for name, result in RESULTS.items()]
    uses = [{"toolUse": {"toolUseId": name, "name": name, "input": {}}} for name in RESULTS]
    asked = message("assistant", uses if answered else "I shall look.")
    texts = [message("user", "Do it."), asked, message("user", results)]
    sessions.raw.insert_one(session("s-1", application_name="playground", agents={AGENT_ID: texts}))

    async def failed(address: str) -> list[bool]:
        await page.goto(f"{address}?session_id=s-1")
        await expect(page.locator("details.tool")).to_have_count(len(RESULTS))
        shown = await page.locator("details.tool").evaluate_all(
            "(cards) => cards.map((card) => [card.classList.contains('tool-error'),"
            " card.querySelector('summary').textContent.includes('failed')])"
        )
        assert all(by_look == by_word for by_look, by_word in shown)
        return [by_look for by_look, _ in shown]

    expected = [name in FAILED for name in RESULTS]
    assert await failed(start_viewer()) == expected
    if answered:  # The playground shows results in the card of their call alone.
        async with playground(sessions) as app:
            assert await failed(f"{app.client.base_url}/") == expected
