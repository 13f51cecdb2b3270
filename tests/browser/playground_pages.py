"""What a person does on the playground's page, and what is waited for."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Locator, Page, expect

from tests.apps.playground.servers import Playground
from tests.fixtures.browser import OpenPage


async def opened(open_page: OpenPage, app: Playground, path: str = "/", **options: Any) -> Page:
    """Return a watched page of the playground."""
    page = await open_page(base_url=str(app.client.base_url), **options)
    await page.goto(path)
    return page


async def say(page: Page, text: str) -> None:
    """Write a message and send it with Enter."""
    box = page.get_by_role("textbox", name="Message")
    await box.fill(text)
    await box.press("Enter")


async def answered(page: Page) -> None:
    """Wait until the reply is stored and shown as stored."""
    await expect(page.locator("#thread .message-streaming")).to_have_count(0)
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def replies(page: Page) -> Locator:
    """Return the locator of the agent's messages."""
    return page.locator("#thread .message-agent")
