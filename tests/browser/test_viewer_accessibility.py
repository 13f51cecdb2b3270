"""Every state of the viewer without violations that axe finds, in light, in dark and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.fixtures.browser import OpenPage, sideways

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}
SESSION = "?session_id=support-2026-1107"
STATES = {
    "list": "",
    "nothing found": "?q=no-such-id",
    "text": "?text=lamp",
    "conversation": SESSION,
    "usage": f"{SESSION}&tab=usage",
    "metadata": f"{SESSION}&tab=metadata",
    "agents": f"{SESSION}&tab=agents",
    "redacted": "?session_id=support-2026-1093",
    "compared": f"{SESSION}&with=support-2026-1093",
    "totals": "?view=totals",
}


async def violations(page: Page) -> list[str]:
    """Return what axe finds in a page as it is now."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [f"{item['id']}: {node['html'][:200]}" for item in found["violations"] for node in item["nodes"]]


@pytest.mark.parametrize("look", LOOKS)
async def test_no_state_has_violations(open_page: OpenPage, samples: str, look: str) -> None:
    page = await open_page(**LOOKS[look])
    found: dict[str, list[str]] = {}
    for name, address in STATES.items():
        await page.goto(f"{samples}{address}")
        await page.wait_for_load_state("load")
        await expect(page.locator("#layout [aria-busy], #layout .skeleton")).to_have_count(0)
        found[name] = await violations(page)
        assert await sideways(page) == 0, name

    assert {name: items for name, items in found.items() if items} == {}


@pytest.mark.parametrize("look", LOOKS)
async def test_what_opens_has_no_violations(open_page: OpenPage, samples: str, look: str) -> None:
    page = await open_page(**LOOKS[look])
    await page.goto(f"{samples}{SESSION}")
    await expect(page.locator(".message").first).to_be_visible()
    await page.keyboard.press("e")
    await page.keyboard.press("f")
    await page.keyboard.type("order")
    await expect(page.locator(".find-count")).to_contain_text("1 of")
    found = await violations(page)
    await page.keyboard.press("Escape")
    await page.get_by_label("Export", exact=True).click()
    found += await violations(page)
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_be_visible()
    found += await violations(page)

    assert found == []
