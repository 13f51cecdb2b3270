"""Debian's Chromium driven by Playwright, and a server for the app under test.

Every page is watched: a message on the console, an exception, a violation of the Content-Security-Policy or a request
to another host fails the test, unless the test allowed it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, async_playwright, expect

from tests.fix_waiting import WAIT_S

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# The browser lives as long as the session, and belongs to one loop: so do the tests that use it.
_LOOP_SCOPE: Final = "session"

# Generous: a page on a busy machine takes its time, and only a failure waits this long.
_PATIENCE_MS = 30_000
expect.set_options(timeout=_PATIENCE_MS)

OpenPage = Callable[..., Awaitable[Page]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "open_page" in item.fixturenames:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.asyncio(loop_scope=_LOOP_SCOPE), append=False)


def find_chromium() -> str | None:
    """Return the path of Chromium: `CHROMIUM_BINARY`, else the first of its usual names on `PATH`."""
    given = os.environ.get("CHROMIUM_BINARY")
    return given or next(filter(None, map(shutil.which, _PROGRAMS)), None)


@dataclass
class Watch:
    """What went wrong in the pages of a test.

    Attributes:
        problems: One line each.
    """

    problems: list[str] = field(default_factory=list)
    _allowed: list[str] = field(default_factory=list)

    def allow(self, pattern: str) -> None:
        """Expect problems that match a regular expression: a browser reports each refused request on its console."""
        self._allowed.append(pattern)

    def report(self, problem: str) -> None:
        """Note a problem."""
        self.problems.append(problem)

    def unexpected(self) -> list[str]:
        """Return the problems that nobody allowed."""
        return [line for line in self.problems if not any(re.search(pattern, line) for pattern in self._allowed)]

    def follow(self, page: Page) -> None:
        """Watch a page."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.report(f"exception: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        # At a test's end the app may be gone before its pages. In the middle, nothing that is expected would come true.
        if "net::ERR_CONNECTION_REFUSED" in message.text:
            return
        if message.type in {"error", "warning", "assert"}:
            self.report(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    async def stay_local(self, route: Route, request: Request) -> None:
        """Let requests to this machine through, and note any other."""
        url = urlsplit(request.url)
        if url.scheme in {"http", "https"} and url.hostname != "127.0.0.1":
            self.report(f"request to another host: {request.url}")
            await route.abort()
            return
        await route.continue_()


@pytest_asyncio.fixture(scope="session", loop_scope=_LOOP_SCOPE)
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests; each test gets a context of its own, with nothing of the others in it."""
    program = find_chromium()
    if program is None:
        pytest.fail(f"no Chromium: install one of {', '.join(_PROGRAMS)}, or set CHROMIUM_BINARY")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        try:
            yield chromium
        finally:
            await chromium.close()


@pytest.fixture
def watch() -> Watch:
    """What went wrong in this test's pages."""
    return Watch()


@pytest_asyncio.fixture(loop_scope=_LOOP_SCOPE)
async def open_page(browser: Browser, watch: Watch) -> AsyncIterator[OpenPage]:
    """Open a watched page in a fresh context; keywords are Playwright's for a context, `viewport=` for example."""
    contexts: list[BrowserContext] = []

    async def open_one(**options: Any) -> Page:
        settings: dict[str, Any] = {
            "viewport": {"width": 1360, "height": 860},
            "locale": "en-GB",
            "timezone_id": "UTC",
            "reduced_motion": "reduce",
        }
        context = await browser.new_context(**(settings | options))
        contexts.append(context)
        context.set_default_timeout(_PATIENCE_MS)
        await context.route("**/*", watch.stay_local)
        await context.add_init_script(
            "document.addEventListener('securitypolicyviolation', (event) =>"
            " console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));"
        )
        page = await context.new_page()
        watch.follow(page)
        return page

    try:
        yield open_one
    finally:
        for context in contexts:
            await context.close()
    assert watch.unexpected() == []


@pytest_asyncio.fixture(loop_scope=_LOOP_SCOPE)
async def page(open_page: OpenPage) -> Page:
    """A watched page, as wide as a desktop's."""
    return await open_page()


async def sideways(page: Page) -> int:
    """Return by how many pixels a page, or anything that scrolls in it, is wider than its window."""
    width: int = await page.evaluate(
        """() => Math.max(0, ...[document.documentElement, ...document.querySelectorAll('.panel')]
            .map((box) => box.scrollWidth - box.clientWidth))"""
    )
    return width


class _Server(uvicorn.Server):
    """Says when it serves, or that it never will."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free port of this machine, in a thread with a loop of its own; yields its address.

    An app whose `state.stopping` ends its event streams is told before the server ends, as it is in production.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = _Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))

        def run() -> None:
            try:
                server.run(sockets=[listening])
            finally:
                server.ready.set()

        thread = threading.Thread(target=run, name="app under test", daemon=True)
        thread.start()
        try:
            assert server.ready.wait(WAIT_S), "the app did not start"
            assert server.started, "the app did not start"
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            stopping = getattr(app.state, "stopping", None)
            if stopping is not None and server.loop is not None and not server.loop.is_closed():
                server.loop.call_soon_threadsafe(stopping.set)
            thread.join(WAIT_S)
            assert not thread.is_alive(), "the app did not end"
