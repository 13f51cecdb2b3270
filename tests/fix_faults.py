"""Faults: the server's own fail points, and a proxy that delays replies, cuts connections or goes deaf."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, Self, TypeVar

import anyio
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.uri_parser import parse_uri

from tests.fix_waiting import WAIT_S

T = TypeVar("T")
Mode = Literal["alwaysOn"] | Mapping[str, int]


@contextmanager
def fail_point(
    client: MongoClient[Any], mode: Mode, data: Mapping[str, Any], *, name: str = "failCommand"
) -> Iterator[None]:
    """Turn a fail point of the server on inside the block.

    Args:
        client: Who asks for it; `data["appName"]` limits it to clients with that name.
        mode: `"alwaysOn"`, `{"times": n}`, or `{"skip": n}`.
        data: What happens, such as `{"failCommands": ["update"], "blockConnection": True, "blockTimeMS": 200}`.
        name: Which fail point.
    """
    client.admin.command({"configureFailPoint": name, "mode": _plain(mode), "data": dict(data)})
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": name, "mode": "off"})


@asynccontextmanager
async def async_fail_point(
    client: AsyncMongoClient[Any] | AsyncIOMotorClient[Any],
    mode: Mode,
    data: Mapping[str, Any],
    *,
    name: str = "failCommand",
) -> AsyncIterator[None]:
    """Turn a fail point of the server on inside the block; see `fail_point`."""
    await client.admin.command({"configureFailPoint": name, "mode": _plain(mode), "data": dict(data)})
    try:
        yield
    finally:
        # A fail point that stays on fails every test that follows.
        with anyio.CancelScope(shield=True):
            await client.admin.command({"configureFailPoint": name, "mode": "off"})


def _plain(mode: Mode) -> str | dict[str, int]:
    return mode if isinstance(mode, str) else dict(mode)


class MongoProxy:
    """Stands between a client and a server, on a loop and thread of its own: a blocked test loop does not stop it.

    `delay_s` holds every reply back that long. A `deaf` proxy accepts connections and requests and never answers; when
    it hears again, what it held back goes out. `stop()` cuts every connection and refuses new ones until `start()`.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mongo-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._hearing = asyncio.Event()
        self._hearing.set()
        self.port = 0
        self.delay_s = 0.0
        self.accepted = 0

    @property
    def uri(self) -> str:
        """Connection string that leads here and, past the proxy, to the one server only."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    @property
    def deaf(self) -> bool:
        return not self._hearing.is_set()

    @deaf.setter
    def deaf(self, value: bool) -> None:
        self._loop.call_soon_threadsafe(self._hearing.clear if value else self._hearing.set)
        self._run(asyncio.sleep(0))

    def start(self) -> None:
        """Listen; the port stays the same from the first time on."""
        self._run(self._start())

    def stop(self) -> None:
        """Refuse new connections and cut the ones there are."""
        self._run(self._stop())

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    async def _start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        to_server: asyncio.StreamWriter | None = None
        try:
            from_server, to_server = await asyncio.open_connection(*self._target)
            requests = asyncio.create_task(self._copy(from_client, to_server, held_back=False))
            replies = asyncio.create_task(self._copy(from_server, to_client, held_back=True))
            both = (requests, replies)
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for copy in both:
                    copy.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except OSError:
            # The server is down: the client sees its connection closed, as it would without a proxy.
            return
        finally:
            for writer in (to_client, to_server):
                if writer is not None:
                    writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held_back: bool) -> None:
        while chunk := await reader.read(65536):
            if held_back:
                await asyncio.sleep(self.delay_s)
                await self._hearing.wait()
            writer.write(chunk)
            await writer.drain()


@pytest.fixture
def mongo_proxy(mongo_uri: str) -> Iterator[MongoProxy]:
    """A proxy in front of the server of the tests."""
    host, port = parse_uri(mongo_uri)["nodelist"][0]
    with MongoProxy(host, port) as proxy:
        yield proxy
