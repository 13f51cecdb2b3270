"""Motor on any event loop and any thread, with as many operations in flight as the pool has connections.

Motor is a thin wrapper that runs one thread-safe pymongo `MongoClient` (its delegate) on worker threads. As it comes,
it sticks to the first event loop that used it, and all its clients share five workers per core. Both are decided where
Motor asks its client for the loop, so a client that answers with the running loop and its own workers changes both,
and databases, collections and cursors stay Motor's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from motor.core import AgnosticBase
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient

from .drivers import OnWorkers
from .workers import Workers

T = TypeVar("T")


class _WorkerLoop:
    """The running event loop, but with a client's own workers as the executor. This is what Motor gets as its loop."""

    __slots__ = ("_loop", "_workers")

    def __init__(self, loop: asyncio.AbstractEventLoop, workers: Workers) -> None:
        self._loop = loop
        self._workers = workers

    def run_in_executor(self, executor: object, operation: Callable[[], T]) -> asyncio.Future[T]:
        return self._workers.start(operation, self._loop)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class AnyLoopMotorClient(AsyncIOMotorClient[Any]):
    """A Motor client around a given pymongo client, for every event loop and thread of the process.

    It borrows its delegate; `close()` closes that, as Motor's always does.
    """

    def __init__(self, delegate: MongoClient[Any], workers: Workers) -> None:
        """Wrap the client; its operations run on these workers."""
        # Not Motor's own __init__, which makes a new pymongo client.
        AgnosticBase.__init__(self, delegate)
        self.workers = workers
        self._drivers: dict[tuple[str, str], OnWorkers] = {}

    def engine_driver(self, database: str, name: str) -> OnWorkers:
        """Return a collection for the engine, which needs nothing of Motor; each is made once."""
        driver = self._drivers.get((database, name))
        if driver is None:
            driver = self._drivers[database, name] = OnWorkers(self.delegate[database], name, self.workers)
        return driver

    @property
    def io_loop(self) -> asyncio.AbstractEventLoop:
        """The running event loop."""
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            # Motor lets an operation start before its loop runs: `loop.run_until_complete(collection.find_one())`.
            return asyncio.get_event_loop()

    def get_io_loop(self) -> Any:
        """Return the running loop, bound to this client's workers; what Motor runs each operation with."""
        return _WorkerLoop(self.io_loop, self.workers)
