from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import expect
from pymongo import MongoClient

from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.playground.servers import playground
from tests.browser.accessibility import faults_in_each_look
from tests.browser.playground_pages import answered, opened, replies, say
from tests.fixtures.browser import OpenPage, Watch
from tests.fixtures.sessions import Sessions
from tests.support.models import ScriptedModel


@pytest.mark.slow
async def test_while_mongodb_is_away_nothing_is_promised_and_what_was_typed_is_sent_on_request(
    open_page: OpenPage, watch: Watch
) -> None:
    watch.allow("status of 503")
    with EmbeddedMongo() as server, MongoClient[dict[str, Any]](server.uri) as client:
        sessions = Sessions(server.uri, client, "examples")
        async with playground(sessions, ScriptedModel(otherwise="Yes."), shutdown_grace_s=0) as app:
            page = await opened(open_page, app)
            await expect(page.locator(".welcome")).to_contain_text("is stored in MongoDB as it happens")
            await say(page, "Before")
            await answered(page)
            await asyncio.to_thread(server.kill)

            # Sent while nobody knows yet: refused, and back in the box.
            await say(page, "In the middle")
            box = page.get_by_role("textbox", name="Message")
            await expect(page.locator("#health")).to_have_text("MongoDB does not answer")
            await expect(box).to_have_value("In the middle")
            await expect(page.locator("#composer-hint")).to_contain_text("nothing is sent")
            await expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
            await expect(page.locator("#chat")).not_to_contain_text("is stored")
            await box.press("End")
            await page.keyboard.type(", and kept")
            await page.keyboard.press("Enter")
            await expect(box).to_have_value("In the middle, and kept")
            assert await faults_in_each_look(page, "away") == []

            await page.get_by_role("link", name="New conversation").click()
            await expect(page.locator(".welcome")).to_contain_text("nothing can be stored")
            await expect(page.locator(".suggestion").first).to_be_disabled()
            await page.reload()
            await expect(page.locator("#health")).to_have_text("MongoDB does not answer")
            await expect(page.locator(".welcome")).to_contain_text("nothing can be stored")
            await box.fill("From the start")

            await asyncio.to_thread(server.restart)
            await expect(page.locator("#notices")).to_contain_text("MongoDB answers again")
            await expect(box).to_have_value("From the start")
            assert client.examples.sessions.count_documents({}) == 1
            await page.get_by_role("button", name="Send it now").press("Enter")
            await expect(replies(page)).to_contain_text("Yes.")
            await answered(page)
            await page.get_by_role("link", name="Before").click()
            await expect(replies(page)).to_have_count(1)
            await expect(box).to_have_value("In the middle, and kept")
            await expect(box).to_be_focused()
            await page.keyboard.press("Enter")
            await expect(replies(page)).to_have_count(2)
            await answered(page)

        stored = [sessions.texts(AGENT_ID, found["_id"]) for found in sessions.raw.find({}, {"_id": 1}).sort("_id", 1)]
        assert sorted(stored) == [
            ["Before", "Yes.", "In the middle, and kept", "Yes."],
            ["From the start", "Yes."],
        ]
