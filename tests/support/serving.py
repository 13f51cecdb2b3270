"""An ASGI application behind a real uvicorn, in the loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from tests.fixtures.waiting import WAIT_S


class _Server(uvicorn.Server):
    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=5))
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application, and yield a client of it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = _Server(app)
        task = asyncio.create_task(server.serve([listening]))
        try:
            await asyncio.wait_for(server.ready.wait(), WAIT_S)
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=address, timeout=WAIT_S, trust_env=False, limits=limits) as client:
                yield client
        finally:
            server.should_exit = True
            await task
