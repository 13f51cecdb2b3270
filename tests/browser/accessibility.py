"""What axe-core finds wrong with a page."""

from __future__ import annotations

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

_AXE = Axe()


async def violations(page: Page) -> list[str]:
    """Return a line for each rule that a page breaks, with the elements that break it."""
    found = await _AXE.run(page)
    return [
        f"{rule['id']}: {rule['help']} {[node['target'] for node in rule['nodes'][:3]]}"
        for rule in found.response["violations"]
    ]
