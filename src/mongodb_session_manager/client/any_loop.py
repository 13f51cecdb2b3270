"""Motor on any event loop and any thread, with as many operations in flight as the pool has connections.

Motor is a thin wrapper that runs one thread-safe pymongo `MongoClient` (its delegate) on worker threads. As it comes,
it sticks to the first event loop that used it, and all its clients share five workers per core. Both are decided where
Motor asks its client for the loop, so a client that answers with the running loop and its own workers changes both,
and databases, collections and cursors stay Motor's own.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from motor.core import AgnosticBase
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.errors import PyMongoError, WaitQueueTimeoutError

from ..advice import hosts_of_client, with_advice

T = TypeVar("T")

UNLIMITED_WORKERS = 1000
"""Most workers of a client whose pool has no limit (`maxPoolSize=0`)."""


class Workers:
    """The worker threads of one client, at most one for each of its connections; started as they are needed.

    Operations beyond that wait in a queue here, so `waitQueueTimeoutMS` is applied here too. Idle workers do not keep
    the interpreter from exiting, and a forked child starts with none.
    """

    def __init__(self, client: MongoClient[Any]) -> None:
        """Take size and queue time limit from the client's pool; start nothing."""
        pool = client.options.pool_options
        # An unlimited pool is None, 0 or infinite, depending on the driver's version.
        size = pool.max_pool_size
        self._size = int(size) if size and size < UNLIMITED_WORKERS else UNLIMITED_WORKERS
        self._queue_timeout_s = pool.wait_queue_timeout
        # Weakly: the workers of a borrowed client are kept for as long as the client lives.
        self._client = weakref.ref(client)
        self._reset()
        _all_workers.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._queued = 0

    @property
    def queued(self) -> int:
        """Operations that wait for a worker."""
        return self._queued

    def submit(self, operation: Callable[[], T]) -> Future[T]:
        """Run an operation on a worker thread."""
        submitted_at = time.monotonic()

        def run() -> T:
            self._left_queue()
            waited_s = time.monotonic() - submitted_at
            if self._queue_timeout_s is not None and waited_s > self._queue_timeout_s:
                raise WaitQueueTimeoutError(
                    f"waited {waited_s:.1f} s for one of {self._size} connections, which were all in use; "
                    "nothing was sent (see maxPoolSize and waitQueueTimeoutMS)"
                )
            try:
                return operation()
            except PyMongoError as error:
                raise with_advice(error, self._hosts()) from error.__cause__

        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._size, thread_name_prefix="mongodb-session-manager")
            self._queued += 1
            try:
                future = self._executor.submit(run)
            except BaseException:
                self._queued -= 1
                raise
        future.add_done_callback(self._count_cancelled)
        return future

    def _hosts(self) -> str:
        return hosts_of_client(self._client())

    def _left_queue(self) -> None:
        with self._lock:
            self._queued -= 1

    def _count_cancelled(self, future: Future[Any]) -> None:
        # Only what has not started can be cancelled.
        if future.cancelled():
            self._left_queue()

    def shutdown(self) -> None:
        """Let the threads end with what they are doing, without waiting for them."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


_all_workers: weakref.WeakSet[Workers] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The threads stayed in the parent, and its locks may be held for ever.
    for workers in list(_all_workers):
        workers._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class _WorkerLoop:
    """The running event loop, but with a client's own workers as the executor. This is what Motor gets as its loop."""

    __slots__ = ("_loop", "_workers")

    def __init__(self, loop: asyncio.AbstractEventLoop, workers: Workers) -> None:
        self._loop = loop
        self._workers = workers

    def run_in_executor(self, executor: object, operation: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.wrap_future(self._workers.submit(operation), loop=self._loop)

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
