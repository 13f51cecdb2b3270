"""A person without a mouse: moves the focus with Tab, and presses keys."""

from __future__ import annotations

from playwright.async_api import Locator, Page, expect

_MOST_STEPS = 150


async def reach(page: Page, target: Locator, key: str = "Tab") -> None:
    """Press a key until a control has the focus, as a person does who looks for it.

    Args:
        page: The page.
        target: The control.
        key: "Tab", or "Shift+Tab" to go back.

    Raises:
        AssertionError: The key does not lead there.
    """
    await expect(target).to_be_visible()
    for _ in range(_MOST_STEPS):
        if await target.evaluate("(node) => node === document.activeElement"):
            return
        await page.keyboard.press(key)
    raise AssertionError(f"{key} does not reach {target}")


async def press(page: Page, target: Locator, key: str = "Tab", *, with_key: str = "Enter") -> None:
    """Reach a control and press it, a switch with "Space"."""
    await reach(page, target, key)
    await page.keyboard.press(with_key)


async def choose(page: Page, target: Locator, option: str, key: str = "Tab") -> None:
    """Reach a list of choices and type what the wanted one begins with."""
    await reach(page, target, key)
    await page.keyboard.type(option)
