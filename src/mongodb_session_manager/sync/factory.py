"""Synchronous session managers that share one client, and the process-wide factory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Self

from .. import hooks
from ..client import MongoDBClient
from ..factory import AsyncMongoDBSessionManagerFactory
from ..runtime import portal
from ..session import FlushOn, Hooks
from .manager import MongoDBSessionManager, WrappedSessionManager


class MongoDBSessionManagerFactory:
    """Makes opened session managers on one client, so that a request costs no connection.

    See `AsyncMongoDBSessionManagerFactory` for what it owns. Usable from any thread, and as a context manager.
    """

    def __init__(
        self,
        connection_string: str | None = None,
        database_name: str = "database_name",
        collection_name: str = "collection_name",
        client: MongoDBClient | None = None,
        metadata_fields: Sequence[str] | None = None,
        metadata_hook: Hooks = None,
        feedback_hook: Hooks = None,
        application_name: str | None = None,
        *,
        flush_on: FlushOn = "message",
        ttl: timedelta | float | None = None,
        write_deadline_s: float = 30,
        lazy: bool = False,
        ensure_indexes: bool = True,
        **kwargs: Any,
    ) -> None:
        """Take a client; nothing is sent.

        The arguments and errors are those of `AsyncMongoDBSessionManagerFactory`.
        """
        options = hooks.current_names(kwargs, metadata_hook=metadata_hook, feedback_hook=feedback_hook)

        async def create() -> AsyncMongoDBSessionManagerFactory:
            return AsyncMongoDBSessionManagerFactory(
                connection_string,
                database_name,
                collection_name,
                client,
                metadata_fields,
                application_name=application_name,
                flush_on=flush_on,
                ttl=ttl,
                write_deadline_s=write_deadline_s,
                lazy=lazy,
                ensure_indexes=ensure_indexes,
                **options,
            )

        self._async = portal.call(create)

    def create_session_manager(
        self,
        session_id: str,
        database_name: str | None = None,
        collection_name: str | None = None,
        metadata_fields: Sequence[str] | None = None,
        application_name: str | None = None,
        **kwargs: Any,
    ) -> MongoDBSessionManager:
        """Return an opened manager of a session.

        Args:
            session_id: Which session.
            database_name: Instead of the factory's.
            collection_name: Instead of the factory's.
            metadata_fields: Instead of the factory's.
            application_name: Instead of the factory's.
            **kwargs: Other arguments of the manager, instead of the factory's; no client options.

        Raises:
            InvalidNameError: The session id is not a non-empty string.
            PyMongoError: The server cannot be reached.
            ValueError: A client option, which belongs to the factory.
        """
        options = hooks.current_names(kwargs)

        async def opened() -> WrappedSessionManager:
            return await self._async._create(
                WrappedSessionManager,
                session_id,
                database_name,
                collection_name,
                metadata_fields,
                application_name,
                **options,
            )

        return MongoDBSessionManager._around(portal.call(opened))

    def get_connection_stats(self) -> dict[str, Any]:
        """Return the state of the connection pool, without anything that is secret.

        Returns:
            `{"status": "connected" | "error" | "external_client", "server_version", "pool_config", "servers"}`.
        """
        return portal.call(self._async.get_connection_stats)

    def close(self) -> None:
        """Give back the client; it closes with its last user. Idempotent."""
        portal.finish(self._async.close)

    def __enter__(self) -> Self:
        """Return the factory."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the factory."""
        self.close()


def create_mongodb_session_manager(
    session_id: str,
    connection_string: str | None = None,
    database_name: str = "database_name",
    collection_name: str = "collection_name",
    client: MongoDBClient | None = None,
    **kwargs: Any,
) -> MongoDBSessionManager:
    """Return an opened manager of a session; the arguments are those of `MongoDBSessionManager`."""
    return MongoDBSessionManager(session_id, connection_string, database_name, collection_name, client, **kwargs)


class _Global:
    factory: MongoDBSessionManagerFactory | None = None


def initialize_global_factory(
    connection_string: str | None = None,
    database_name: str = "database_name",
    collection_name: str = "collection_name",
    client: MongoDBClient | None = None,
    **kwargs: Any,
) -> MongoDBSessionManagerFactory:
    """Make the process-wide factory; the arguments are those of `MongoDBSessionManagerFactory`.

    One that was there before is closed. When this fails, none is left behind.
    """
    close_global_factory()
    _Global.factory = MongoDBSessionManagerFactory(connection_string, database_name, collection_name, client, **kwargs)
    return _Global.factory


def get_global_factory() -> MongoDBSessionManagerFactory:
    """Return the process-wide factory.

    Raises:
        RuntimeError: There is none.
    """
    if _Global.factory is None:
        raise RuntimeError("no global factory; call initialize_global_factory(...) first, when your app starts")
    return _Global.factory


def close_global_factory() -> None:
    """Close the process-wide factory; without one this does nothing."""
    former, _Global.factory = _Global.factory, None
    if former is not None:
        former.close()
