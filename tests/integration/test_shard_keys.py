"""On a sharded cluster every operation on one session has to reach one shard: it names the shard key by equality."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from strands.agent.conversation_manager import NullConversationManager
from strands.multiagent import Swarm
from strands.types.content import ContentBlock, Message

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionRepository,
    LeaseUnavailableError,
    index_specs,
)
from mongodb_session_manager.storage.values import INLINE_BYTES
from mongodb_session_manager.store.related import (
    PAYLOADS,
    SEGMENTS,
    STORAGE,
    STORAGE_CHUNKS,
    related_index_specs,
)
from tests.fixtures.commands import Command
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.models import blocked, calls

SHARD_KEYS = {COLLECTION: "_id"} | {
    f"{COLLECTION}{suffix}": "session_id" for suffix in (SEGMENTS, PAYLOADS, STORAGE, STORAGE_CHUNKS)
}
REDACTED = Message(role="user", content=[{"text": "[redacted]"}])
PROMPT = "Tell me more. " * 1000


def addressed(command: Command) -> Iterator[Mapping[str, Any]]:
    """Yield what a command addresses documents by: its filters, and the documents that it inserts."""
    document = command.document
    match command.name:
        case "find":
            yield document["filter"]
        case "aggregate":
            yield document["pipeline"][0]["$match"]
        case "insert":
            yield from document["documents"]
        case "update":
            yield from (update["q"] for update in document["updates"])
        case "delete":
            yield from (delete["q"] for delete in document["deletes"])
        case "findAndModify":
            yield document["query"]
        case "getMore":
            return  # Goes where its cursor is.
        case name:
            raise AssertionError(f"nobody knows whether {name} reaches one shard")


def is_targeted(command: Command) -> bool:
    """Tell whether a command reaches one shard for each thing that it asks for."""
    if command.name in ("createIndexes", "killCursors", "listIndexes"):  # The last asks one shard.
        return True
    assert command.collection is not None or command.name == "getMore"
    key = SHARD_KEYS.get(command.collection or "", "")
    return all(isinstance(filter_.get(key), str) for filter_ in addressed(command))


def untargeted(commands: Iterable[Command]) -> list[tuple[str, str | None]]:
    return [(command.name, command.collection) for command in commands if not is_targeted(command)]


def parts_of(value: object) -> Iterator[object]:
    """Yield everything inside a value, keys included."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from parts_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from parts_of(item)
    else:
        yield value


def picture() -> list[ContentBlock]:
    return [{"text": "look"}, {"image": {"format": "png", "source": {"bytes": os.urandom(300_000)}}}]


def repository_of(sessions: Sessions) -> AsyncMongoDBSessionRepository:
    return AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options())


async def everything(sessions: Sessions) -> None:
    """Do all that can be done to one session."""
    async with sessions.manager(ttl=60) as manager:
        await a_long_conversation(manager)
        await records(manager)
    async with sessions.manager(ttl=3600) as manager:  # Postpones the expiry of what is sealed.
        agent = make_agent(manager, "Welcome back.", conversation_manager=NullConversationManager())
        assert len(agent.messages) > 20
        await streamed(agent, "I am back.")
    renewal = Renewal()
    async with sessions.manager(event_listeners=[sessions.recorder, renewal]) as manager:
        await turns(sessions, manager, renewal)
    await by_session_id(sessions)


async def a_long_conversation(manager: AsyncMongoDBSessionManager) -> None:
    look_up = calls(("manage_metadata", {"action": "get"}))
    agent = make_agent(
        manager,
        *["Noted."] * 14,
        look_up,
        "That is all.",
        blocked(user="[no]"),
        tools=[manager.get_metadata_tool()],
        conversation_manager=NullConversationManager(),
    )
    await streamed(agent, picture())
    for _ in range(14):
        await streamed(agent, PROMPT)
    await streamed(agent, "my secret")
    agent.state.set("plan", os.urandom(300_000).hex())
    manager.sync_agent(agent)
    await manager.flush()
    await Swarm(
        [make_agent(None, "done", agent_id="one", name="one")], session_manager=manager, id="swarm"
    ).invoke_async("go")


async def records(manager: AsyncMongoDBSessionManager) -> None:
    await manager.update_metadata({"topic": "weather", "gone": 1})
    await manager.delete_metadata(["gone"])
    await manager.get_metadata()
    await manager.add_feedback({"rating": "up"})
    await manager.get_feedbacks()
    await manager.update_agent_config(AGENT_ID, model="other")
    await manager.set_prompt_metadata(AGENT_ID, {"version": 2})
    await manager.get_agent_config(AGENT_ID)
    await manager.list_agents()
    await manager.get_message_count(AGENT_ID)
    await manager.get_metrics_summary()
    await manager.get_session_viewer_password()
    await manager.get_application_name()
    await manager.check_session_exists()
    await manager.repair_session()
    await manager.repair_session(dry_run=False)
    storage = manager.storage
    for data in (b"small", bytes(INLINE_BYTES + 1), bytes(INLINE_BYTES + 2), b"small again"):
        await storage.write("key", data)
        await storage.read("key")
    await storage.write("new", bytes(INLINE_BYTES + 1), if_version=0)
    await storage.write("new", b"newer", if_version=1)
    await storage.list("k")
    await storage.search("small")
    await storage.stat("key")
    await storage.write("a/1", bytes(INLINE_BYTES + 1))
    await storage.delete_prefix("a")
    await storage.delete("key")


async def turns(sessions: Sessions, manager: AsyncMongoDBSessionManager, renewal: Renewal) -> None:
    agent = make_agent(manager, *["Fine."] * 3, conversation_manager=NullConversationManager())
    async with sessions.manager() as other, manager.turn(lease_s=0.4):
        with pytest.raises(LeaseUnavailableError):
            async with other.turn(wait_s=0):
                raise AssertionError("two have the turn")
        await streamed(agent, "Whose turn is it?")
        assert await asyncio.to_thread(renewal.seen.wait, 120)
    for _ in range(2):
        async with manager.turn(idempotency_key="request 1") as turn:
            if not turn.replayed:
                await streamed(agent, "Only once.")


class Renewal(CommandListener):
    """Says when a lease was renewed."""

    def __init__(self) -> None:
        self.seen = threading.Event()

    def started(self, event: CommandStartedEvent) -> None:
        if "lease.renewals" in parts_of(event.command):
            self.seen.set()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """What was sent is what counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        """What was sent is what counts."""


async def by_session_id(sessions: Sessions) -> None:
    async with repository_of(sessions) as repository:
        await repository.read_session(SESSION_ID)
        await repository.read_agent(SESSION_ID, AGENT_ID)
        await repository.list_messages(SESSION_ID, AGENT_ID)
        await repository.list_messages(SESSION_ID, AGENT_ID, limit=2, offset=1)
        stored = await repository.list_messages(SESSION_ID, AGENT_ID)
        for number in (0, 2, len(stored) - 1):  # Two that are sealed, the first with a picture, and one that is not.
            message = await repository.read_message(SESSION_ID, AGENT_ID, number)
            assert message is not None
            message.redact_message = REDACTED
            await repository.update_message(SESSION_ID, AGENT_ID, message)
        await repository.read_multi_agent(SESSION_ID, "swarm")
        for _ in range(20):
            await repository.add_feedback(SESSION_ID, {"comment": "x" * 10_000})
        await repository.get_feedbacks(SESSION_ID)
        await repository.messages_pipeline(SESSION_ID)
        await repository.delete_agent(SESSION_ID, AGENT_ID)
        await repository.delete_session(SESSION_ID)


@pytest.fixture
async def commands(sessions: Sessions) -> list[Command]:
    """Everything that is sent while all that can be done to one session is done."""
    await everything(sessions)
    sent = list(sessions.recorder.commands)
    kinds = Counter((command.name, command.collection) for command in sent)
    # Otherwise the scenario lacks something, and what follows would say little.
    assert kinds.keys() >= {
        *((name, COLLECTION) for name in ("find", "aggregate", "insert", "update", "delete")),
        *((name, f"{COLLECTION}{SEGMENTS}") for name in ("find", "aggregate", "update", "delete")),
        *((name, f"{COLLECTION}{PAYLOADS}") for name in ("find", "aggregate", "update", "delete")),
        *((name, f"{COLLECTION}{STORAGE}") for name in ("find", "findAndModify", "insert", "update", "delete")),
        *((name, f"{COLLECTION}{STORAGE_CHUNKS}") for name in ("find", "insert", "aggregate", "update", "delete")),
    }
    return sent


async def test_every_operation_on_one_session_names_its_shard_key(commands: list[Command]) -> None:
    assert untargeted(commands) == []


async def test_nothing_needs_a_transaction_or_a_recent_server(commands: list[Command]) -> None:
    updates: list[Document] = [update for command in commands for update in command.document.get("updates", ())]

    assert not [command.name for command in commands if {"startTransaction", "autocommit"} & command.document.keys()]
    assert not [update for update in updates if not isinstance(update["u"], Mapping)]
    assert not [
        command.name
        for command in commands
        for part in parts_of(command.document)
        if isinstance(part, str) and part in ("$$NOW", "$$CLUSTER_TIME", "$lookup", "$merge", "$out")
    ]
    assert not [update for update in updates if update.get("multi") and "session_id" not in update["q"]]


def test_no_index_but_that_of_the_id_is_unique() -> None:
    models = [*index_specs(["topic"]), *(model for specs in related_index_specs().values() for model in specs)]

    assert len(models) >= 8
    assert not [model.document["name"] for model in models if model.document.get("unique")]


async def test_only_searching_through_all_sessions_reaches_all_shards(sessions: Sessions) -> None:
    segments, payloads = f"{COLLECTION}{SEGMENTS}", f"{COLLECTION}{PAYLOADS}"
    async with sessions.manager() as manager:
        await a_long_conversation(manager)
    # What a process that died would have left of a session.
    sessions.raw.update_one({"_id": SESSION_ID}, {"$unset": {"agents": ""}})
    everything_yet = datetime.now(UTC) + timedelta(minutes=1)

    async with repository_of(sessions) as repository:
        with sessions.recorder.counting() as listed:
            await repository.list_sessions(metadata={"topic": "weather"})
            await repository.count_sessions()
        with sessions.recorder.counting() as swept:
            found = await repository.sweep_orphans(older_than=everything_yet, dry_run=False)
        with sessions.recorder.counting() as deleted:
            assert await repository.delete_sessions(older_than=everything_yet, dry_run=False) == 1

    assert found["segments"]
    assert found["payloads"]
    assert untargeted(listed) == [("find", COLLECTION), ("aggregate", COLLECTION)]
    storage = [f"{COLLECTION}{suffix}" for suffix in (STORAGE, STORAGE_CHUNKS)]
    assert untargeted(swept) == [("find", name) for name in (segments, payloads, *storage)]
    assert untargeted(deleted) == [("find", COLLECTION)]
