"""Viewers of a test's own sessions, in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from mongodb_session_manager.viewer import ViewerSettings, create_app
from tests.fixtures.sessions import COLLECTION, Sessions

Document = dict[str, Any]

PASSWORD = "correct horse battery"
SEARCH = "/api/v1/sessions/search"


class Viewer:
    """A viewer, and a browser-less client of it."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        self.app = app
        self.client = client

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        """Return the JSON of an answer, after checking its status."""
        answer = await self.client.get(path, params=params)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def problem(self, path: str, status: int = 422, **params: Any) -> str:
        """Return the message of an error."""
        body = await self.get(path, status, **params)
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "message", "fields"}
        message: str = body["error"]["message"]
        return message

    async def search(self, **params: Any) -> Any:
        """Return a page of a search; `filters` may be a dict."""
        if isinstance(params.get("filters"), dict):
            params["filters"] = json.dumps(params["filters"])
        return await self.get(SEARCH, **params)

    async def found(self, **params: Any) -> list[str]:
        """Return the ids that a search finds."""
        return [session["session_id"] for session in (await self.search(**params))["sessions"]]

    async def timeline(self, path: str, **params: Any) -> list[Document]:
        """Return a whole timeline, page by page."""
        items: list[Document] = []
        while True:
            page = await self.get(path, **params)
            items += page["timeline"]
            params["cursor"] = page["next_cursor"]
            if params["cursor"] is None:
                return items


OpenViewer = Callable[..., AbstractAsyncContextManager[Viewer]]


def make_settings(**options: Any) -> ViewerSettings:
    """Return settings that no `.env` file changes."""
    return ViewerSettings(**{"_env_file": None, **options})


def settings_for(uri: str, database_name: str, **options: Any) -> ViewerSettings:
    """Return settings that nothing of the machine's environment changes."""
    fixed = {
        "mongodb_connection_string": uri,
        "database_name": database_name,
        "collection_name": COLLECTION,
        "min_pool_size": 0,
    }
    return make_settings(**{**fixed, **options})


def client_of(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    """Return a client that talks to the app itself, as one on this machine unless `client=` says otherwise."""
    address = options.pop("address", ("127.0.0.1", 50000))
    transport = httpx.ASGITransport(app, client=address, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8882", **options)


@asynccontextmanager
async def running(settings: ViewerSettings) -> AsyncIterator[Viewer]:
    """Run a viewer for as long as the block lasts."""
    app = create_app(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        yield Viewer(app, await stack.enter_async_context(client_of(app)))


@asynccontextmanager
async def served(settings: ViewerSettings) -> AsyncIterator[str]:
    """Serve a viewer over HTTP, which streams, and yield its address."""
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on", ws="none"))
    # Not `serve`, which handles signals: those are the test run's.
    task = asyncio.create_task(server._serve())
    try:
        while not server.started:
            assert not task.done(), "the viewer did not start"
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.stopping.set()
        server.should_exit = True
        await task


@pytest.fixture
def open_viewer(sessions: Sessions) -> OpenViewer:
    """Return a function that runs a viewer of this test's sessions, with settings."""

    def open_(**options: Any) -> AbstractAsyncContextManager[Viewer]:
        return running(settings_for(sessions.uri, sessions.database_name, **options))

    return open_


@pytest.fixture
async def viewer(open_viewer: OpenViewer) -> AsyncIterator[Viewer]:
    """An open viewer of this test's sessions."""
    async with open_viewer() as viewer:
        yield viewer
