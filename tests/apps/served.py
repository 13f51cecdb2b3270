"""Both apps as `make viewer` and `make playground` serve them, and raw connections to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI

from mongodb_session_manager import playground, viewer
from mongodb_session_manager.offline import OfflineModel
from mongodb_session_manager.web.server import server_config
from tests.apps.viewer.conftest import settings_for
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.fixtures.waiting import WAIT_S

App = Literal["viewer", "playground"]
APPS: tuple[App, ...] = ("viewer", "playground")


def app_of(name: App, sessions: Sessions, **options: Any) -> FastAPI:
    """Return an app on the database of a test."""
    if name == "viewer":
        return viewer.create_app(settings_for(sessions.uri, sessions.database_name, **options))
    settings = playground.PlaygroundSettings.model_validate(
        {
            "connection_string": sessions.uri,
            "database_name": sessions.database_name,
            "collection_name": COLLECTION,
            "offline_delay_s": 0,
            **options,
        }
    )
    return playground.create_app(settings, model=OfflineModel())


@dataclass
class Answer:
    """What a raw connection got: the status of the answer, 0 for none, and the rest as it came."""

    status: int
    text: str


@asynccontextmanager
async def listening(app: FastAPI, forwarded_allow_ips: str = "") -> AsyncIterator[int]:
    """Serve an app as `run` does, and yield its port."""
    server = uvicorn.Server(server_config(app, "127.0.0.1", 0, forwarded_allow_ips))
    task = asyncio.create_task(server._serve())
    try:
        while not server.started:
            assert not task.done(), "the app did not start"
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        app.state.stopping.set()
        server.should_exit = True
        await task


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a raw connection for as long as the block lasts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer_on(reader: asyncio.StreamReader) -> Answer:
    """Return what the server says until it ends the connection."""
    said = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(WAIT_S):
            while part := await reader.read(65536):
                said += part
    head, _, rest = said.decode(errors="replace").partition("\r\n")
    return Answer(int(head.split()[1]) if head else 0, rest)
