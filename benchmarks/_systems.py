"""The ways of keeping a conversation that are compared: the library's, a raw driver, and none at all."""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

from _measure import CommandCount
from _models import FixedModel
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from strands import Agent
from strands.hooks import HookProvider, HookRegistry, MessageAddedEvent
from strands.models.model import Model
from strands.types.content import Message, Messages

from mongodb_session_manager import AsyncMongoDBSessionManagerFactory, MongoDBSessionManagerFactory

AGENT_ID = "assistant"
SYSTEM_PROMPT = "You are a travel assistant. Answer in one or two sentences."

FlushOn = Literal["message", "invocation"]


def build_agent(model: Model, **kwargs: Any) -> Agent:
    """Build the agent that all systems use."""
    return Agent(model=model, agent_id=AGENT_ID, system_prompt=SYSTEM_PROMPT, callback_handler=None, **kwargs)


class System(ABC):
    """One way of keeping conversations, with a client of its own.

    Attributes:
        commands: Those that its client sent.
    """

    def __init__(self) -> None:
        self.commands = CommandCount()

    @abstractmethod
    async def start(self) -> None:
        """Make the client and everything else that a process makes once."""

    @abstractmethod
    async def stop(self) -> None:
        """Close the client."""

    @abstractmethod
    async def seed(self, session_ids: Sequence[str], messages: Messages) -> None:
        """Store sessions that hold these messages already."""


class AsyncSystem(System):
    """For agents that are awaited."""

    @abstractmethod
    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        """Give an agent with its conversation as it stands, as a request handler does."""
        yield build_agent(model)


class SyncSystem(System):
    """For `agent("...")` in a plain thread."""

    @abstractmethod
    @contextmanager
    def agent(self, session_id: str, model: Model) -> Iterator[Agent]:
        """Give an agent with its conversation as it stands."""
        yield build_agent(model)


class _Memory(System):
    def __init__(self) -> None:
        super().__init__()
        self._conversations: dict[str, Messages] = {}

    async def start(self) -> None:
        self._conversations.clear()

    async def stop(self) -> None:
        self._conversations.clear()

    async def seed(self, session_ids: Sequence[str], messages: Messages) -> None:
        self._conversations |= {session_id: copy.deepcopy(messages) for session_id in session_ids}

    def _agent(self, session_id: str, model: Model) -> Agent:
        return build_agent(model, messages=self._conversations.setdefault(session_id, []))


class AsyncMemory(_Memory, AsyncSystem):
    """No session manager: conversations are lists in this process."""

    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        yield self._agent(session_id, model)


class SyncMemory(_Memory, SyncSystem):
    """No session manager: conversations are lists in this process."""

    @contextmanager
    def agent(self, session_id: str, model: Model) -> Iterator[Agent]:
        yield self._agent(session_id, model)


class _LoopFollowingClient(AsyncIOMotorClient[Any]):
    """Motor as it is, but for each `agent("...")`, which brings a loop of its own."""

    def get_io_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


class _PushEachMessage(HookProvider):
    """The least that stores a conversation: one `$push` for each message."""

    def __init__(self, collection: Any, session_id: str) -> None:
        self._collection = collection
        self._session_id = session_id

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        registry.add_callback(MessageAddedEvent, self._push)

    async def _push(self, event: MessageAddedEvent) -> None:
        await self._collection.update_one(*_push_of(self._session_id, event.message), upsert=True)


class _PushEachMessageSync(_PushEachMessage):
    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        registry.add_callback(MessageAddedEvent, self._push_sync)

    def _push_sync(self, event: MessageAddedEvent) -> None:
        self._collection.update_one(*_push_of(self._session_id, event.message), upsert=True)


def _push_of(session_id: str, message: Message) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"_id": session_id}, {"$push": {"messages": message}}


def _messages_of(document: Mapping[str, Any] | None) -> Messages:
    return [] if document is None else list(document["messages"])


class _Raw(System):
    def __init__(self, uri: str, database: str, collection: str, client: type[Any]) -> None:
        super().__init__()
        self._uri = uri
        self._database = database
        self._collection_name = collection
        self._client_type = client
        self._client: Any = None
        self._collection: Any = None

    async def start(self) -> None:
        self._client = self._client_type(self._uri, event_listeners=[self.commands])
        self._collection = self._client[self._database][self._collection_name]

    async def stop(self) -> None:
        self._client.close()

    async def seed(self, session_ids: Sequence[str], messages: Messages) -> None:
        with MongoClient[dict[str, Any]](self._uri) as client:
            documents = [{"_id": session_id, "messages": messages} for session_id in session_ids]
            client[self._database][self._collection_name].insert_many(documents)


class AsyncRawMotor(_Raw, AsyncSystem):
    """The floor: Motor, one update for each message, one find to resume."""

    def __init__(self, uri: str, database: str, collection: str) -> None:
        super().__init__(uri, database, collection, AsyncIOMotorClient)

    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        document = await self._collection.find_one({"_id": session_id})
        hook = _PushEachMessage(self._collection, session_id)
        yield build_agent(model, messages=_messages_of(document), hooks=[hook])


class SyncRawMotor(_Raw, SyncSystem):
    """The same, used through `agent("...")`."""

    def __init__(self, uri: str, database: str, collection: str) -> None:
        super().__init__(uri, database, collection, _LoopFollowingClient)

    @contextmanager
    def agent(self, session_id: str, model: Model) -> Iterator[Agent]:
        document = asyncio.run(self._find(session_id))
        hook = _PushEachMessage(self._collection, session_id)
        yield build_agent(model, messages=_messages_of(document), hooks=[hook])

    async def _find(self, session_id: str) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = await self._collection.find_one({"_id": session_id})
        return found


class SyncRawPymongo(_Raw, SyncSystem):
    """The floor of a program without any asyncio of its own: pymongo in the thread that runs the agent."""

    def __init__(self, uri: str, database: str, collection: str) -> None:
        super().__init__(uri, database, collection, MongoClient)

    @contextmanager
    def agent(self, session_id: str, model: Model) -> Iterator[Agent]:
        document = self._collection.find_one({"_id": session_id})
        hook = _PushEachMessageSync(self._collection, session_id)
        yield build_agent(model, messages=_messages_of(document), hooks=[hook])


class _Managed(System):
    def __init__(self, uri: str, database: str, collection: str, flush_on: FlushOn) -> None:
        super().__init__()
        self._uri = uri
        self._database = database
        self._collection_name = collection
        self._flush_on = flush_on

    def _arguments(self) -> dict[str, Any]:
        return {
            "connection_string": self._uri,
            "database_name": self._database,
            "collection_name": self._collection_name,
            "flush_on": self._flush_on,
            "event_listeners": [self.commands],
        }

    async def seed(self, session_ids: Sequence[str], messages: Messages) -> None:
        first, *others = session_ids
        await self._store(first, copy.deepcopy(messages))
        with MongoClient[dict[str, Any]](self._uri) as client:
            sessions = client[self._database][self._collection_name]
            document = sessions.find_one({"_id": first})
            if document is None:
                raise RuntimeError("the session that was just stored is not there")
            if others:
                sessions.insert_many([{**document, "_id": other, "session_id": other} for other in others])

    async def _store(self, session_id: str, messages: Messages) -> None:
        async with (
            AsyncMongoDBSessionManagerFactory(**self._arguments()) as factory,
            factory.create_session_manager(session_id) as manager,
        ):
            build_agent(FixedModel(), messages=messages, session_manager=manager)


class AsyncManaged(_Managed, AsyncSystem):
    """The library's async manager."""

    async def start(self) -> None:
        self._factory = AsyncMongoDBSessionManagerFactory(**self._arguments())

    async def stop(self) -> None:
        await self._factory.close()

    @asynccontextmanager
    async def agent(self, session_id: str, model: Model) -> AsyncIterator[Agent]:
        async with self._factory.create_session_manager(session_id) as manager:
            yield build_agent(model, session_manager=manager)


class SyncManaged(_Managed, SyncSystem):
    """The library's sync manager."""

    async def start(self) -> None:
        self._factory = MongoDBSessionManagerFactory(**self._arguments())

    async def stop(self) -> None:
        await asyncio.to_thread(self._factory.close)

    @contextmanager
    def agent(self, session_id: str, model: Model) -> Iterator[Agent]:
        with self._factory.create_session_manager(session_id) as manager:
            yield build_agent(model, session_manager=manager)
