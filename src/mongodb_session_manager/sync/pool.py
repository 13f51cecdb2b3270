"""The synchronous face of the process's connection pool."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient

from ..pool import AsyncMongoDBConnectionPool
from ..runtime import portal


class MongoDBConnectionPool:
    """One MongoDB client for the whole process: the same pool as `AsyncMongoDBConnectionPool`.

    All methods belong to the class; calling them on an instance is the same.
    """

    @classmethod
    def initialize(cls, connection_string: str | None = None, **kwargs: Any) -> MongoClient[Any]:
        """Return the pool's client, connecting lazily; equal arguments give the same client.

        Args:
            connection_string: MongoDB URI; None takes it from `MONGODB_CONNECTION_STRING`.
            **kwargs: The driver's client options, before the pool's defaults; see `AsyncMongoDBConnectionPool`.

        Raises:
            ValueError: No connection string. The pool stays as it was.
            pymongo.errors.ConfigurationError: An option the driver does not know. The pool stays as it was.
        """
        client = portal.call(AsyncMongoDBConnectionPool.initialize, connection_string, **kwargs)
        delegate: MongoClient[Any] = client.delegate
        return delegate

    @classmethod
    def get_client(cls) -> MongoClient[Any]:
        """Return the pool's client.

        Raises:
            RuntimeError: The pool was not initialised, or is closed.
        """
        delegate: MongoClient[Any] = AsyncMongoDBConnectionPool.get_client().delegate
        return delegate

    @classmethod
    def get_pool_stats(cls) -> dict[str, Any]:
        """Return the pool's statistics; `{"status": "not_initialized"}` without a pool."""
        return portal.call(AsyncMongoDBConnectionPool.get_pool_stats)

    @classmethod
    def close(cls) -> None:
        """Give the pool's lease back; its client closes with its last user. Repeating it does nothing."""
        portal.finish(AsyncMongoDBConnectionPool.close)
