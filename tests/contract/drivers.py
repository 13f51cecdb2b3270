"""The drivers that the contract is run over, each behind the same few calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

from mongomock_motor import AsyncMongoMockClient
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionRepository, MongoDBStorage
from mongodb_session_manager.sync import MongoDBSessionManager, MongoDBSessionRepository

Document = dict[str, Any]


class Driver:
    """A collection of its own, and managers and repositories on it.

    Attributes:
        database: Name of the database.
        collection: Name of the collection.
    """

    def __init__(self, database: str, **client: Any) -> None:
        """Take `client=` or `connection_string=`, as managers and repositories do."""
        self.database = database
        self.collection = f"sessions_{uuid4().hex[:12]}"
        self._client = client
        self._repositories: list[Any] = []

    @property
    def _address(self) -> dict[str, Any]:
        return {**self._client, "database_name": self.database, "collection_name": self.collection}

    def manager(self, session_id: str = "s-1", **options: Any) -> Any:
        """Return a manager that is not open."""
        return AsyncMongoDBSessionManager(session_id, **self._address, ensure_indexes=False, **options)

    def repository(self, **options: Any) -> Any:
        """Return a repository, which is closed after the test."""
        repository = self._make_repository(**options)
        self._repositories.append(repository)
        return repository

    def _make_repository(self, **options: Any) -> Any:
        return AsyncMongoDBSessionRepository(**self._address, **options)

    def for_agents(self, manager: Any) -> Any:
        """Return what an Agent takes as its session manager."""
        return manager

    def storage(self, **options: Any) -> Any:
        """Return a storage in a collection of this driver's own, which is closed after the test."""
        address = {**self._address, "collection_name": f"{self.collection}_values"}
        storage = MongoDBStorage(**address, **{"ensure_indexes": False, **options})
        self._repositories.append(storage)
        return storage

    async def stored(self, session_id: str = "s-1") -> Any:
        """Return a document as it is stored, None without one; dates are naive UTC."""
        return await self.repository().collection.find_one({"_id": session_id})

    async def store(self, document: Document) -> None:
        """Store a document as another tool would: a new one, or in the place of what is there."""
        await self.repository().collection.replace_one({"_id": document["_id"]}, document, upsert=True)

    async def change(self, update: Document, session_id: str = "s-1") -> None:
        """Change a stored document, as another tool would."""
        result = await self.repository().collection.update_one({"_id": session_id}, update)
        assert result.matched_count == 1

    async def aclose(self) -> None:
        for repository in self._repositories:
            await repository.close()


class SyncDriver(Driver):
    """The synchronous facade, awaitable."""

    def manager(self, session_id: str = "s-1", **options: Any) -> Any:
        return _SyncManager(lambda: MongoDBSessionManager(session_id, **self._address, ensure_indexes=False, **options))

    def for_agents(self, manager: Any) -> Any:
        return manager.face

    def storage(self, **options: Any) -> Any:
        return _LoopForEachCall(super().storage(**options))

    def _make_repository(self, **options: Any) -> Any:
        return _Awaitable(MongoDBSessionRepository(**self._address, **options))


class _Awaitable:
    """Methods of a synchronous object as coroutines, each in a thread; methods that are plain on both faces stay so."""

    _PLAIN = frozenset(
        {
            "append_message",
            "get_metadata_tool",
            "initialize",
            "initialize_multi_agent",
            "redact_latest_message",
            "set_token_counts",
            "sync_agent",
            "sync_multi_agent",
        }
    )

    def __init__(self, face: Any) -> None:
        self.face = face

    @property
    def collection(self) -> Any:
        return _Awaitable(self.face.collection)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.face, name)
        if name in self._PLAIN or not callable(value):
            return value

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(value, *args, **kwargs)

        return call


class _LoopForEachCall:
    """A storage as synchronous code uses it: each call in a thread, on an event loop that ends with it."""

    def __init__(self, storage: MongoDBStorage) -> None:
        self._storage = storage

    def namespace(self, prefix: str) -> Any:
        return _LoopForEachCall(self._storage.namespace(prefix))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._storage, name)
        if not asyncio.iscoroutinefunction(value):
            return value

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(lambda: asyncio.run(value(*args, **kwargs)))

        return call


class _SyncManager(_Awaitable):
    """A synchronous manager, which its constructor opens: here when the block is entered."""

    def __init__(self, make: Callable[[], MongoDBSessionManager]) -> None:
        super().__init__(None)
        self._make = make

    async def open(self) -> Any:
        if self.face is None:
            self.face = await asyncio.to_thread(self._make)
        await asyncio.to_thread(self.face.open)
        return self

    async def __aenter__(self) -> Any:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@asynccontextmanager
async def _uri(uri: str, database: str) -> AsyncIterator[Driver]:
    yield Driver(database, connection_string=uri)


@asynccontextmanager
async def _motor(uri: str, database: str) -> AsyncIterator[Driver]:
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri)
    try:
        yield Driver(database, client=client)
    finally:
        client.close()


@asynccontextmanager
async def _mongo_client(uri: str, database: str) -> AsyncIterator[Driver]:
    with MongoClient[Document](uri) as client:
        yield Driver(database, client=client)


@asynccontextmanager
async def _async_mongo_client(uri: str, database: str) -> AsyncIterator[Driver]:
    async with AsyncMongoClient[Document](uri) as client:
        yield Driver(database, client=client)


@asynccontextmanager
async def _sync_facade(uri: str, database: str) -> AsyncIterator[Driver]:
    yield SyncDriver(database, connection_string=uri)


@asynccontextmanager
async def mock(database: str) -> AsyncIterator[Driver]:
    yield Driver(database, client=AsyncMongoMockClient())


ON_A_SERVER: dict[str, Callable[[str, str], AbstractAsyncContextManager[Driver]]] = {
    "uri": _uri,
    "motor": _motor,
    "mongo-client": _mongo_client,
    "async-mongo-client": _async_mongo_client,
    "sync-facade": _sync_facade,
}
