"""What panels of both apps show, as values that can be compared."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from playwright.async_api import Locator, Page


async def moments(times: Locator) -> list[datetime]:
    """Return the moments that `<time>` elements stand for."""
    return [datetime.fromisoformat(value) for value in await times.evaluate_all("(all) => all.map((t) => t.dateTime)")]


async def written(page: Page, kind: str, value: Any) -> str:
    """Return how the pages write a number: `number`, `compact` or `duration`."""
    text: str = await page.evaluate(f"async (value) => (await import('/shared/format.js')).{kind}(value)", value)
    return text


async def figures(root: Locator) -> dict[str, str]:
    """Return figures with their labels."""
    pairs = "(all) => all.map((stat) => [...stat.children].map((part) => part.textContent))"
    return dict(await root.locator(".stat").evaluate_all(pairs))


async def rows(region: Locator) -> list[list[str]]:
    """Return the rows of a table."""
    cells = "(all) => all.map((row) => [...row.cells].map((cell) => cell.textContent.trim()))"
    found: list[list[str]] = await region.locator("tbody tr").evaluate_all(cells)
    return found
