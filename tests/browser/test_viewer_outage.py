"""MongoDB goes away while somebody looks on, and comes back."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from playwright.async_api import Page, expect
from pymongo import MongoClient

from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.viewer import create_app
from tests.browser.conftest import settings_for
from tests.fixtures.browser import Watch, serving
from tests.fixtures.sessions import SESSION_ID, Sessions
from tests.support.agents import make_agent


@pytest.mark.slow
async def test_a_database_that_goes_away_is_shown_and_its_return_too(page: Page, watch: Watch) -> None:
    watch.allow("status of 503")
    with EmbeddedMongo() as server, MongoClient[dict[str, Any]](server.uri) as client:
        sessions = Sessions(server.uri, client, "examples")
        with serving(create_app(settings_for(server.uri, sessions.database_name))) as url:
            async with sessions.manager() as manager:
                agent = make_agent(manager, "One.", "Two.")
                await agent.invoke_async("First")
                health, results = page.locator("#health"), page.locator("a.result")
                await page.goto(f"{url}?session_id={SESSION_ID}")
                await expect(page.locator(".message")).to_have_count(2)
                await expect(page.locator(".live")).to_have_attribute("data-state", "open")
                await expect(health).to_have_text("Connected")
                await expect(results).to_have_count(1)

                await asyncio.to_thread(server.kill)
                await page.get_by_label("Session id").fill("s-")
                await expect(page.get_by_role("heading", name="The database does not answer")).to_be_visible()
                await expect(health).to_have_text("MongoDB does not answer")
                await expect(page.get_by_text("New messages will appear when it is back.")).to_be_visible()
                await expect(page.locator(".message")).to_have_count(2)
                await expect(page).to_have_url(re.compile(f"session_id={SESSION_ID}"))

                await asyncio.to_thread(server.restart)
                await expect(health).to_have_text("Connected")
                await expect(results).to_have_count(1)
                await expect(page.get_by_text("New messages will appear when it is back.")).to_have_count(0)
                await agent.invoke_async("Second")
                await expect(page.locator(".message")).to_have_count(4)
                await expect(page.locator(".message").last).to_contain_text("Two.")
