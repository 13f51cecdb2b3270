"""Session managers that share one client, and the process-wide factory."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Self, TypeVar

from . import hooks
from .client import ClientHandle, MongoDBClient
from .pool import pool_statistics
from .runtime import portal
from .schema.names import check_application_name, check_place
from .schema.numbers import check_seconds
from .session import AsyncMongoDBSessionManager, FlushOn, Hooks
from .session.manager import check_flush_on
from .storage.ages import seconds
from .store import indexes

Manager = TypeVar("Manager", bound=AsyncMongoDBSessionManager)


def check_defaults(options: Mapping[str, Any]) -> None:
    """Check what a factory is to hand on to its managers, so that no request is the first to find a mistake.

    Args:
        options: Keyword arguments of a factory, client options included.

    Raises:
        InvalidNameError: A metadata field cannot be a metadata key, or the application's name is no string.
        TypeError: A value is of another kind, or an argument is misspelt or belongs elsewhere.
        ValueError: A value has no meaning.
    """
    check_flush_on(options.get("flush_on", "message"))
    check_application_name(options.get("application_name"))
    seconds(options.get("ttl"))
    check_seconds("write_deadline_s", options.get("write_deadline_s", 30), endless=True)
    for name in ("metadata_hook", "feedback_hook"):
        hooks.flatten(options.get(name))
    if (fields := options.get("metadata_fields")) is not None:
        indexes.index_specs(fields)
    own = inspect.signature(AsyncMongoDBSessionManagerFactory).parameters
    managers = inspect.signature(AsyncMongoDBSessionManager).parameters
    for name in options.keys() - own.keys():
        if name in managers:
            raise TypeError(f"unknown argument {name!r}: a factory has none; give it to create_session_manager()")
        if meant := get_close_matches(name, [one for one in own if "_" in one], n=1, cutoff=0.85):
            raise TypeError(f"unknown argument {name!r}; did you mean {meant[0]!r}?")


class AsyncMongoDBSessionManagerFactory:
    """Makes session managers on one client, so that a request costs no connection.

    Owns the client that it makes from a connection string, shared with every factory and manager that has equal
    arguments, and borrows one that it is given. Managers that it made go on after it is closed.
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

        Args:
            connection_string: MongoDB URI; also taken from `MONGODB_CONNECTION_STRING`.
            database_name: Default database of the managers.
            collection_name: Default collection of the managers.
            client: A client to borrow: Motor, `MongoClient`, `AsyncMongoClient` or `AsyncMongoMockClient`.
            metadata_fields: Default metadata fields to index.
            metadata_hook: Default hook or hooks around metadata operations.
            feedback_hook: Default hook or hooks around feedback.
            application_name: Default application name of new sessions.
            flush_on: Default of when messages are written.
            ttl: Default time to live.
            write_deadline_s: Default write deadline, in seconds.
            lazy: Whether managers open their sessions with the first invocation by default.
            ensure_indexes: Whether managers have the indexes created.
            **kwargs: MongoDB client options, checked by the driver.

        Raises:
            InvalidNameError: MongoDB takes no such database or collection, or the application's name is no string.
            TypeError: The client is of another kind, or an argument is misspelt.
            ValueError: Neither client nor connection string, client options together with a client, or a default that
                no manager takes.
        """
        options = hooks.current_names(kwargs, metadata_hook=metadata_hook, feedback_hook=feedback_hook)
        self._defaults: dict[str, Any] = {
            "metadata_hook": options.pop("metadata_hook"),
            "feedback_hook": options.pop("feedback_hook"),
            "flush_on": flush_on,
            "ttl": ttl,
            "write_deadline_s": write_deadline_s,
            "lazy": lazy,
            "ensure_indexes": ensure_indexes,
        }
        check_place(database_name, collection_name)
        given = {"metadata_fields": metadata_fields, "application_name": application_name}
        check_defaults({**self._defaults, **options, **given})
        self._handle = ClientHandle(connection_string, client=client, options=options)
        self._database_name = database_name
        self._collection_name = collection_name
        self._metadata_fields = metadata_fields
        self._application_name = application_name

    def create_session_manager(
        self,
        session_id: str,
        database_name: str | None = None,
        collection_name: str | None = None,
        metadata_fields: Sequence[str] | None = None,
        application_name: str | None = None,
        **kwargs: Any,
    ) -> AsyncMongoDBSessionManager:
        """Return a manager of a session, to be entered (`async with`) or awaited.

        Args:
            session_id: Which session.
            database_name: Instead of the factory's.
            collection_name: Instead of the factory's.
            metadata_fields: Instead of the factory's.
            application_name: Instead of the factory's.
            **kwargs: Other arguments of the manager, instead of the factory's; no client options.

        Raises:
            InvalidNameError: The session id is not a non-empty string.
            ValueError: A client option, which belongs to the factory.
        """
        return self._create(
            AsyncMongoDBSessionManager,
            session_id,
            database_name,
            collection_name,
            metadata_fields,
            application_name,
            **kwargs,
        )

    def _create(
        self,
        kind: type[Manager],
        session_id: str,
        database_name: str | None,
        collection_name: str | None,
        metadata_fields: Sequence[str] | None,
        application_name: str | None,
        /,
        **kwargs: Any,
    ) -> Manager:
        if places := [name for name in ("connection_string", "client") if kwargs.pop(name, None) is not None]:
            raise ValueError(f"invalid client options: {places} belong to the factory, not to its managers")
        return kind(
            session_id,
            database_name=self._database_name if database_name is None else database_name,
            collection_name=self._collection_name if collection_name is None else collection_name,
            client=_shared(self._handle),
            metadata_fields=self._metadata_fields if metadata_fields is None else metadata_fields,
            application_name=self._application_name if application_name is None else application_name,
            **self._defaults | hooks.current_names(kwargs),
        )

    async def get_connection_stats(self) -> dict[str, Any]:
        """Return the state of the connection pool, without anything that is secret.

        Returns:
            `{"status": "connected" | "error" | "external_client", "server_version", "pool_config", "servers"}`.
        """
        return await pool_statistics(self._handle)

    async def close(self) -> None:
        """Give back the client; it closes with its last user. Idempotent.

        Indexes that are being made have a moment to finish.
        """
        try:
            await indexes.wait_for_builds(self._handle)
        finally:
            await self._handle.aclose()

    async def __aenter__(self) -> Self:
        """Return the factory."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the factory."""
        await self.close()


def _shared(handle: ClientHandle) -> Any:
    """Return the handle as a manager takes it; users give clients alone, so its type says no more."""
    return handle


async def create_async_mongodb_session_manager(
    session_id: str,
    connection_string: str | None = None,
    database_name: str = "database_name",
    collection_name: str = "collection_name",
    client: MongoDBClient | None = None,
    **kwargs: Any,
) -> AsyncMongoDBSessionManager:
    """Return an opened manager of a session; the arguments are those of `AsyncMongoDBSessionManager`."""
    return await AsyncMongoDBSessionManager(
        session_id, connection_string, database_name, collection_name, client, **kwargs
    )


class _Global:
    factory: AsyncMongoDBSessionManagerFactory | None = None


def initialize_async_global_factory(
    connection_string: str | None = None,
    database_name: str = "database_name",
    collection_name: str = "collection_name",
    client: MongoDBClient | None = None,
    **kwargs: Any,
) -> AsyncMongoDBSessionManagerFactory:
    """Make the process-wide factory; the arguments are those of `AsyncMongoDBSessionManagerFactory`.

    One that was there before is closed. When this fails, none is left behind.
    """
    former, _Global.factory = _Global.factory, None
    if former is not None:
        portal.start(former.close)
    _Global.factory = AsyncMongoDBSessionManagerFactory(
        connection_string, database_name, collection_name, client, **kwargs
    )
    return _Global.factory


def get_async_global_factory() -> AsyncMongoDBSessionManagerFactory:
    """Return the process-wide factory.

    Raises:
        RuntimeError: There is none.
    """
    if _Global.factory is None:
        raise RuntimeError("no global factory; call initialize_async_global_factory(...) first, when your app starts")
    return _Global.factory


async def close_async_global_factory() -> None:
    """Close the process-wide factory; without one this does nothing."""
    former, _Global.factory = _Global.factory, None
    if former is not None:
        await former.close()
