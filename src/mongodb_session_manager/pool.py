"""The connection pool of the process, and its live statistics."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import PyMongoError

from .client import ClientHandle
from .errors import WrongLoopError


class AsyncMongoDBConnectionPool:
    """One MongoDB client for the whole process, usable from every event loop and thread.

    All methods belong to the class; calling them on an instance is the same. The pool holds a lease on its client, so
    closing it or initialising it anew never takes the client from a factory or manager that uses the same one.
    A forked child gets a client of its own.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _handle: ClassVar[ClientHandle | None] = None

    @classmethod
    async def initialize(cls, connection_string: str | None = None, **kwargs: Any) -> AsyncIOMotorClient[Any]:
        """Return the pool's client, connecting lazily; equal arguments give the same client.

        Args:
            connection_string: MongoDB URI; None takes it from `MONGODB_CONNECTION_STRING`.
            **kwargs: The driver's client options. What neither they nor the URI set has the pool's defaults:
                maxPoolSize 100, minPoolSize 10, maxIdleTimeMS 30000, waitQueueTimeoutMS 5000,
                serverSelectionTimeoutMS 5000, connectTimeoutMS 10000, retryWrites and retryReads true.

        Raises:
            ValueError: No connection string. The pool stays as it was.
            pymongo.errors.ConfigurationError: An option the driver does not know. The pool stays as it was.
        """
        handle = ClientHandle(connection_string, options=kwargs)
        client: AsyncIOMotorClient[Any] = handle.client
        with cls._lock:
            previous, cls._handle = cls._handle, handle
        if previous is not None:
            await previous.aclose()
        return client

    @classmethod
    def get_client(cls) -> AsyncIOMotorClient[Any]:
        """Return the pool's client.

        Raises:
            RuntimeError: The pool was not initialised, or is closed.
        """
        client: AsyncIOMotorClient[Any] = cls._initialized().client
        return client

    @classmethod
    async def get_pool_stats(cls) -> dict[str, Any]:
        """Return the pool's statistics; see `pool_statistics`."""
        handle = cls._handle
        return {"status": "not_initialized"} if handle is None else await pool_statistics(handle)

    @classmethod
    async def close(cls) -> None:
        """Give the pool's lease back; its client closes with its last user. Repeating it does nothing."""
        with cls._lock:
            handle, cls._handle = cls._handle, None
        if handle is not None:
            await handle.aclose()

    @classmethod
    def _initialized(cls) -> ClientHandle:
        handle = cls._handle
        if handle is None:
            raise RuntimeError(
                "the connection pool is not initialized; when the application starts, call "
                "`await AsyncMongoDBConnectionPool.initialize(connection_string)`, or "
                "`MongoDBConnectionPool.initialize(connection_string)` from synchronous code"
            )
        return handle


async def pool_statistics(handle: ClientHandle) -> dict[str, Any]:
    """Return the state of a client's pool, without anything that is secret.

    The `status` is `connected`, `external_client` for a borrowed client that answers (its pool's events are its
    owner's, so there are no live numbers), or `error` with the error's type. `pool_config` are the settings in force,
    `waiting` the operations without a connection, and `servers` the live numbers by `host:port`, times in milliseconds.
    """
    answer: dict[str, Any] = {
        "status": "external_client" if handle.borrowed else "connected",
        "server_version": None,
        "pool_config": handle.pool_config(),
    }
    try:
        answer["server_version"] = await handle.server_version()
    except (PyMongoError, WrongLoopError) as error:
        answer |= {"status": "error", "error": type(error).__name__}
    return answer | _live(handle)


def _live(handle: ClientHandle) -> dict[str, Any]:
    servers = {} if handle.statistics is None else handle.statistics.snapshot()
    queued = handle.queued
    # Operations beyond the pool's size wait for a worker thread, before the driver knows where they will go. With one
    # server that takes writes, that is where.
    match handle.writable_servers():
        case [address] if address in servers:
            servers[address]["waiting"] += queued
            queued = 0
    return {"waiting": queued + sum(server["waiting"] for server in servers.values()), "servers": servers}
