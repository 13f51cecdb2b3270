"""The session managers that are compared, each as its users use it in an async program."""

from __future__ import annotations

import asyncio
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from _conversations import COLLECTION, WINDOW, Conversations
from _measure import CommandCount
from _models import FixedModel
from _systems import AGENT_ID, FlushOn, build_agent
from pymongo import MongoClient
from strands import Agent
from strands.models.model import Model
from strands.session import FileSessionManager, RepositorySessionManager, S3SessionManager, SnapshotSessionManager
from strands.storage import LocalFileStorage, Storage
from strands.types.content import Message, Messages
from strands.types.session import SessionMessage

from mongodb_session_manager import AsyncMongoDBSessionManagerFactory, MongoDBSessionManagerFactory, MongoDBStorage

from .servers import Places

NONE = "no session manager"
ASYNC, SYNC = "this library, async", "this library, sync"
ASYNC_INVOCATION = 'this library, async, flush_on="invocation"'
FILE, SNAPSHOT, S3_MOTO = "FileSessionManager", "SnapshotSessionManager, LocalFileStorage", "S3SessionManager, moto"
SNAPSHOT_OURS = "SnapshotSessionManager, this library's storage"
MONGODB_LOG = "strands-mongodb-session-manager"
SNAPSHOT_MONGODB = "SnapshotSessionManager, strands-mongodb-storage"
VALKEY, VALKEY_DURABLE = "ValkeySessionManager, in memory", "ValkeySessionManager, appendfsync always"

OURS = (ASYNC, ASYNC_INVOCATION, SYNC, SNAPSHOT_OURS)
WITH_SERVER = (*OURS, MONGODB_LOG, SNAPSHOT_MONGODB, S3_MOTO, VALKEY, VALKEY_DURABLE)

_BUCKET = "peers"
_WRITERS = 8


class Peer(ABC):
    """One way of keeping conversations, with the client that a process makes once."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def start(self) -> None:
        """Make the client, where there is one that sessions share."""
        return

    async def stop(self) -> None:
        """Close the client."""
        return

    @abstractmethod
    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        """Give an agent with its conversation as it stands, as a request handler does."""
        yield build_agent(model)

    @abstractmethod
    async def store(self, session_id: str, messages: Messages) -> None:
        """Store a new session of these messages."""

    @abstractmethod
    async def grow(self, session_id: str, count: int, messages: Messages) -> None:
        """Let a session hold so many messages, copies of those given; it is asked for rising counts."""

    @abstractmethod
    def sent(self) -> int:
        """Return how many commands were sent, or files opened, so far."""


class NoManager(Peer):
    """Conversations are lists in this process."""

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self._conversations: dict[str, Messages] = {}

    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        yield build_agent(model, messages=self._conversations.setdefault(session_id, []))

    async def store(self, session_id: str, messages: Messages) -> None:
        self._conversations[session_id] = list(messages)

    async def grow(self, session_id: str, count: int, messages: Messages) -> None:
        self._conversations[session_id] = [messages[number % len(messages)] for number in range(count)]

    def sent(self) -> int:
        return 0


class _MongoDB(Peer):
    def __init__(self, places: Places, name: str, flush_on: FlushOn) -> None:
        super().__init__(places)
        self._database = f"{places.database}_{name}"
        self._commands = CommandCount()
        self._conversations: Conversations | None = None
        self._arguments: dict[str, Any] = {
            "connection_string": places.mongodb,
            "database_name": self._database,
            "collection_name": COLLECTION,
            "flush_on": flush_on,
            "event_listeners": [self._commands],
        }

    async def store(self, session_id: str, messages: Messages) -> None:
        async with (
            AsyncMongoDBSessionManagerFactory(**self._arguments) as factory,
            factory.create_session_manager(session_id) as manager,
        ):
            build_agent(FixedModel(), messages=list(messages), session_manager=manager)

    async def grow(self, session_id: str, count: int, messages: Messages) -> None:
        if self._conversations is None:
            client: Any = MongoClient(self._places.mongodb)
            self._conversations = Conversations(self._places.mongodb, client[self._database])
            await self._conversations.take_turns()
        self._conversations.store(session_id, count)

    def sent(self) -> int:
        return self._commands.total


class AsyncLibrary(_MongoDB):
    """The async manager."""

    async def start(self) -> None:
        self._factory = AsyncMongoDBSessionManagerFactory(**self._arguments)

    async def stop(self) -> None:
        await self._factory.close()

    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        async with self._factory.create_session_manager(session_id) as manager:
            yield build_agent(model, session_manager=manager)


class SyncLibrary(_MongoDB):
    """The sync manager, in the place of one of Strands' own."""

    async def start(self) -> None:
        self._factory = MongoDBSessionManagerFactory(**self._arguments)

    async def stop(self) -> None:
        await asyncio.to_thread(self._factory.close)

    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        with self._factory.create_session_manager(session_id) as manager:
            yield build_agent(model, session_manager=manager)


class _Repository(Peer):
    """A synchronous manager that is its own repository, as those of Strands are: it does its I/O in the event loop."""

    @abstractmethod
    def manager(self, session_id: str) -> RepositorySessionManager:
        """Make a manager of a session."""

    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        yield build_agent(model, session_manager=self.manager(session_id))

    async def store(self, session_id: str, messages: Messages) -> None:
        build_agent(FixedModel(), messages=list(messages), session_manager=self.manager(session_id))

    async def grow(self, session_id: str, count: int, messages: Messages) -> None:
        repository = self.manager(session_id).session_repository
        if repository.read_agent(session_id, AGENT_ID) is None:
            await self.store(session_id, messages[:2])
        have = max(message.message_id for message in repository.list_messages(session_id, AGENT_ID)) + 1

        def add(number: int) -> None:
            message = SessionMessage.from_message(messages[number % len(messages)], number)
            repository.create_message(session_id, AGENT_ID, message)

        with ThreadPoolExecutor(_WRITERS) as writers:
            list(writers.map(add, range(have, count)))
        # As it is after all those turns; else the next one would load all of them.
        agent = repository.read_agent(session_id, AGENT_ID)
        if agent is None:
            raise RuntimeError(f"agent {AGENT_ID!r} of session {session_id!r} was stored and is not there")
        agent.conversation_manager_state["removed_message_count"] = max(0, count - WINDOW)
        repository.update_agent(session_id, agent)


class _Opens:
    """Counts the files that are opened below a folder. An audit hook stays for the life of the process."""

    def __init__(self, folder: str) -> None:
        self.total = 0
        self._folder = folder
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(self._folder):
            self.total += 1


class _Files(Peer):
    _opens: _Opens | None = None

    def sent(self) -> int:
        # Only from the first question on, so that what is timed is not slowed down by the hook.
        if self._opens is None:
            self._opens = _Opens(self._places.folder)
        return self._opens.total


class Files(_Files, _Repository):
    """`FileSessionManager`."""

    def manager(self, session_id: str) -> RepositorySessionManager:
        return FileSessionManager(session_id, storage_dir=str(Path(self._places.folder, "files")))


class Snapshots(Peer):
    """`SnapshotSessionManager`, on any storage; it keeps what the agent holds, so no more than its window."""

    @abstractmethod
    def storage(self) -> Storage:
        """Return where snapshots are kept."""

    def _manager(self, session_id: str) -> SnapshotSessionManager:
        return SnapshotSessionManager(session_id, storage=self.storage())

    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        yield build_agent(model, session_manager=self._manager(session_id))

    async def store(self, session_id: str, messages: Messages) -> None:
        manager = self._manager(session_id)
        await manager.save_snapshot(build_agent(FixedModel(), messages=list(messages)), is_latest=True)

    async def grow(self, session_id: str, count: int, messages: Messages) -> None:
        held: list[Message] = [messages[number % len(messages)] for number in range(count)]
        await self.store(session_id, held)


class SnapshotsInFiles(_Files, Snapshots):
    """Snapshots on `LocalFileStorage`."""

    def storage(self) -> Storage:
        return LocalFileStorage(str(Path(self._places.folder, "snapshots")))


class SnapshotsHere(Snapshots):
    """Snapshots on this library's `MongoDBStorage`."""

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self._commands = CommandCount()
        self._storage = MongoDBStorage(places.mongodb, f"{places.database}_snapshots", event_listeners=[self._commands])

    async def stop(self) -> None:
        await self._storage.close()

    def storage(self) -> Storage:
        return self._storage

    def sent(self) -> int:
        return self._commands.total


class _OtherMongoDB(Peer):
    """A package for MongoDB, with one client for all sessions, as its users would make it."""

    def __init__(self, places: Places, name: str) -> None:
        super().__init__(places)
        self._commands = CommandCount()
        self._client: MongoClient[dict[str, Any]] = MongoClient(places.mongodb, event_listeners=[self._commands])
        self._database = f"{places.database}_{name}"

    async def stop(self) -> None:
        self._client.close()

    def sent(self) -> int:
        return self._commands.total


class MongoDBLog(_OtherMongoDB, _Repository):
    """`strands-mongodb-session-manager`: one document a message."""

    def __init__(self, places: Places) -> None:
        super().__init__(places, "log")
        self._manager = importlib.import_module("strands_mongodb_session_manager").MongoDBSessionManager

    def manager(self, session_id: str) -> RepositorySessionManager:
        made: RepositorySessionManager = self._manager(
            session_id, client=self._client, database_name=self._database, collection_name=COLLECTION
        )
        return made


class SnapshotsInMongoDB(_OtherMongoDB, Snapshots):
    """Snapshots on `strands-mongodb-storage`."""

    def __init__(self, places: Places) -> None:
        super().__init__(places, "storage")
        package = importlib.import_module("strands_mongodb_storage")
        self._storage: Storage = package.MongoDBStorage(client=self._client, database_name=self._database)

    def storage(self) -> Storage:
        return self._storage


class S3(_Repository):
    """`S3SessionManager`, which makes a client of its own for each session."""

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self._requests = 0
        # moto accepts any.
        self._session = boto3.Session("none", "none", region_name="us-east-1")
        self._session.events.register("before-send.s3", self._count)

    def _count(self, **_: object) -> None:
        self._requests += 1

    async def start(self) -> None:
        self._session.client("s3", endpoint_url=self._places.s3).create_bucket(Bucket=_BUCKET)

    def manager(self, session_id: str) -> RepositorySessionManager:
        return S3SessionManager(session_id, bucket=_BUCKET, boto_session=self._session, endpoint_url=self._places.s3)

    def sent(self) -> int:
        return self._requests


class _WholeValues:
    """A client for a Redis without its JSON module.

    The manager stores and reads whole JSON values only, which is what SET and GET do with their text.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.total = 0

    def execute_command(self, command: str, key: str, *arguments: str) -> Any:
        match command:
            case "JSON.GET":
                return self._send("GET", key)
            case "JSON.SET":
                return self._send("SET", key, arguments[-1])
        return self._send(command, key, *arguments)

    def exists(self, key: str) -> Any:
        return self._send("EXISTS", key)

    def scan(self, **arguments: Any) -> Any:
        self.total += 1
        return self._client.scan(**arguments)

    def _send(self, *command: str) -> Any:
        self.total += 1
        return self._client.execute_command(*command)


class Valkey(_Repository):
    """The community's `ValkeySessionManager`, on Redis."""

    def __init__(self, places: Places, server: str) -> None:
        super().__init__(places)
        client = importlib.import_module("valkey").Valkey(host="127.0.0.1", port=places.redis[server])
        self._client = _WholeValues(client)
        self._manager = importlib.import_module("strands_valkey_session_manager").ValkeySessionManager

    def manager(self, session_id: str) -> RepositorySessionManager:
        made: RepositorySessionManager = self._manager(session_id, client=self._client)
        return made

    def sent(self) -> int:
        return self._client.total


MAKERS: dict[str, Callable[[Places], Peer]] = {
    NONE: NoManager,
    ASYNC: lambda places: AsyncLibrary(places, "async", "message"),
    ASYNC_INVOCATION: lambda places: AsyncLibrary(places, "async_invocation", "invocation"),
    SYNC: lambda places: SyncLibrary(places, "sync", "message"),
    FILE: Files,
    SNAPSHOT: SnapshotsInFiles,
    SNAPSHOT_OURS: SnapshotsHere,
    MONGODB_LOG: MongoDBLog,
    SNAPSHOT_MONGODB: SnapshotsInMongoDB,
    S3_MOTO: S3,
    VALKEY: lambda places: Valkey(places, "memory"),
    VALKEY_DURABLE: lambda places: Valkey(places, "every write"),
}


def available(places: Places) -> Sequence[str]:
    """Return the names of the systems that can be measured here, none first."""
    return [name for name in MAKERS if places.redis or name not in (VALKEY, VALKEY_DURABLE)]
