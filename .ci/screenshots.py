"""Take the screenshots of the README again, of the real apps: `make screenshots`.

Starts the viewer with its sample conversations and the playground with the offline model, each with a MongoDB server of
its own, and writes `docs/images/`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
PROGRAMS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
SIZE: ViewportSize = {"width": 1280, "height": 800}
CONVERSATION = (
    "My name is Alice. Set theme to dark.",
    "What is 17 * 23?",
    "What is my name?",
)


@contextmanager
def running(app: str, **environment: str) -> Iterator[str]:
    """Start an app, and yield its address."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MONGODB_")}
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", f"mongodb_session_manager.{app}"],
            env={**inherited, "XDG_RUNTIME_DIR": folder, **environment},
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        finally:
            process.terminate()


def page_of(browser: Browser, address: str) -> Page:
    """Open a page as a person with a light desktop sees it."""
    page = browser.new_context(viewport=SIZE, color_scheme="light", reduced_motion="reduce").new_page()
    page.goto(address)
    return page


def viewer(browser: Browser, address: str) -> None:
    """Show a conversation with tools, beside the list of sessions."""
    page = page_of(browser, f"{address}?session_id=support-2026-1107")
    expect(page.locator(".message-agent").first).to_be_visible()
    page.screenshot(path=IMAGES / "viewer.png")


def playground(browser: Browser, address: str) -> None:
    """Talk to the offline model."""
    page = page_of(browser, address)
    for said in CONVERSATION:
        box = page.get_by_role("textbox", name="Message")
        box.fill(said)
        box.press("Enter")
        expect(page.get_by_text(said, exact=True).last).to_be_visible()
        expect(page.locator("#thread .message-streaming")).to_have_count(0)
        expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    page.screenshot(path=IMAGES / "playground.png")


def main() -> None:
    program = os.environ.get("CHROMIUM_BINARY") or next(filter(os.path.exists, PROGRAMS))
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        with running("viewer", VIEWER_PORT="0") as address:
            viewer(browser, address)
        with running("playground", PLAYGROUND_PORT="0", PLAYGROUND_OFFLINE_DELAY_S="0") as address:
            playground(browser, address)
        browser.close()


if __name__ == "__main__":
    main()
