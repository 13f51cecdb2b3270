"""What is wrong with a state of a page: rules of accessibility that it breaks, and what is wider than its window."""

from __future__ import annotations

from typing import Any, Final, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

from tests.fixtures.browser import sideways

Look = Literal["desktop", "dark phone"]
LOOKS: Final[dict[Look, dict[str, Any]]] = {
    "desktop": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "dark phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}
"""Both sizes and both colours, in half as many looks: sizes have no colours of their own."""

_AXE = Axe()


async def wear(page: Page, look: Look) -> None:
    """Give a page another look, and wait until it has it."""
    await page.set_viewport_size(LOOKS[look]["viewport"])
    await page.emulate_media(color_scheme=LOOKS[look]["color_scheme"])
    await page.evaluate(
        """async () => {
            const frame = () => new Promise(requestAnimationFrame);
            await frame();
            await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
            await frame();
        }"""
    )


async def faults(page: Page, state: str) -> list[str]:
    """Return a line for everything that is wrong with a page as it is now; each begins with the name of its state."""
    found = await _AXE.run(page)
    lines = [
        f"{state}: {rule['id']}: {[(node['html'][:200], node['failureSummary']) for node in rule['nodes'][:3]]}"
        for rule in found.response["violations"]
    ]
    pixels = await sideways(page)
    return lines if pixels <= 0 else [*lines, f"{state}: {pixels} pixels wider than its window"]


async def faults_in_each_look(page: Page, state: str) -> list[str]:
    """Return what is wrong with a state of a page in each look; afterwards it looks as on a desktop."""
    found: list[str] = []
    for look in reversed(LOOKS):
        await wear(page, look)
        found += await faults(page, f"{state}, {look}")
    return found
