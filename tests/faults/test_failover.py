"""A three-node replica set whose primary is killed while sessions take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from pymongo.errors import AutoReconnect, PyMongoError, ServerSelectionTimeoutError
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
)
from mongodb_session_manager.embedded import EmbeddedMongo
from tests.fixtures.sessions import COLLECTION, SESSION_ID
from tests.fixtures.waiting import WAIT_S, LoopProbe, Patience, eventually
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.models import ScriptedModel, texts


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[EmbeddedMongo]:
    with EmbeddedMongo("three_nodes") as server:
        yield server


@pytest.fixture
def server(three_nodes: EmbeddedMongo) -> EmbeddedMongo:
    """The server with all of its nodes, whatever a test before did to it."""
    if len(three_nodes.pids) < 3:
        for index in range(3):
            three_nodes.restart(index)
    three_nodes.primary_index(WAIT_S)
    return three_nodes


@pytest.fixture
async def probe() -> LoopProbe:
    """Finds out whether a command holds up the loop of the test."""
    return LoopProbe()


@pytest.fixture
async def factory(server: EmbeddedMongo, probe: LoopProbe) -> AsyncMongoDBSessionManagerFactory:
    return new_factory(server, event_listeners=[probe])


def new_factory(server: EmbeddedMongo, **options: Any) -> AsyncMongoDBSessionManagerFactory:
    """Return a factory with the pool's own settings, on a database that no other test uses."""
    return AsyncMongoDBSessionManagerFactory(
        server.uri, f"msm_{uuid4().hex[:12]}", COLLECTION, ensure_indexes=False, **options
    )


def knows_the_primary(factory: AsyncMongoDBSessionManagerFactory) -> Callable[[], Awaitable[bool]]:
    """Return what tells whether the client of a factory has found the new primary."""
    repository = factory.create_session_manager("s-0").repository

    async def knows() -> bool:
        try:
            await repository.count_sessions()
        except AutoReconnect:
            return False
        return True

    return knows


async def kill_primary(server: EmbeddedMongo) -> int:
    index = await asyncio.to_thread(server.primary_index, WAIT_S)
    await asyncio.to_thread(server.kill, index)
    return index


async def kill_majority(server: EmbeddedMongo) -> list[int]:
    """Kill the primary and one of the other two."""
    gone = [await kill_primary(server)]
    gone.append(next(index for index in range(3) if index not in gone))
    await asyncio.to_thread(server.kill, gone[1])
    return gone


async def bring_back(server: EmbeddedMongo, index: int) -> None:
    """Wait for another primary, and for the one that was killed to be a member again."""
    await asyncio.to_thread(server.primary_index, WAIT_S)
    await asyncio.to_thread(server.restart, index)


class Work:
    """Sessions that take turns until they are told to end; each turn that ended well is acknowledged."""

    def __init__(self, factory: AsyncMongoDBSessionManagerFactory) -> None:
        self.acknowledged: dict[str, list[str]] = {}
        self.over = asyncio.Event()
        self._factory = factory
        self._count = 0
        self._counted = asyncio.Condition()

    async def turns(self, count: int) -> None:
        """Return when so many more turns were taken than now."""
        async with self._counted:
            goal = self._count + count
            await self._counted.wait_for(lambda: self._count >= goal)

    async def _acknowledge(self, session_id: str, *said: str) -> None:
        async with self._counted:
            self.acknowledged[session_id].extend(said)
            self._count += 1
            self._counted.notify_all()

    async def with_one_manager(self, session_id: str) -> None:
        """Keep the manager, as a worker does."""
        self.acknowledged[session_id] = []
        async with self._factory.create_session_manager(session_id) as manager:
            agent = talker(manager)
            for number in range(10_000):
                await streamed(agent, f"prompt {number}")
                await self._acknowledge(session_id, f"prompt {number}", f"answer to prompt {number}")
                if await self._is_over():
                    return

    async def with_a_manager_for_each_turn(self, session_id: str) -> None:
        """Open the session anew for each turn, as a web server does."""
        self.acknowledged[session_id] = []
        for number in range(10_000):
            async with self._factory.create_session_manager(session_id) as manager:
                agent = talker(manager)
                assert texts(agent.messages) == self.acknowledged[session_id]
                async with manager.turn():
                    await streamed(agent, f"prompt {number}")
            await self._acknowledge(session_id, f"prompt {number}", f"answer to prompt {number}")
            if await self._is_over():
                return

    async def _is_over(self) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), 0.3)  # Time that the user takes to answer.
        return self.over.is_set()


def talker(manager: AsyncMongoDBSessionManager) -> Agent:
    def answer(messages: Any) -> str:
        return f"answer to {texts(messages)[-1]}"

    return make_agent(manager, model=ScriptedModel(otherwise=answer), conversation_manager=NullConversationManager())


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("sessions", "kills"), [(10, 1), pytest.param(100, 10, marks=pytest.mark.slow)], ids=["10-1", "100-10"]
)
async def test_no_turn_fails_and_nothing_is_lost_when_primaries_are_killed(
    server: EmbeddedMongo, factory: AsyncMongoDBSessionManagerFactory, probe: LoopProbe, sessions: int, kills: int
) -> None:
    work = Work(factory)
    async with asyncio.TaskGroup() as group:
        for number in range(sessions):
            run = work.with_one_manager if number % 2 else work.with_a_manager_for_each_turn
            group.create_task(run(f"s-{number}"))
        for _ in range(kills):
            await work.turns(2 * sessions)
            index = await kill_primary(server)
            await work.turns(2 * sessions)
            await bring_back(server, index)
        work.over.set()

    repository = factory.create_session_manager("s-0").repository
    for session_id, acknowledged in work.acknowledged.items():
        stored = await repository.list_messages(session_id, AGENT_ID)
        assert [message.message_id for message in stored] == list(range(len(stored)))
        assert texts([message.message for message in stored]) == acknowledged
        assert len(acknowledged) >= 2
    await factory.close()
    assert probe.sent > 0
    assert probe.held_up == []


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("retry_writes", [True, False])
async def test_with_a_short_deadline_what_is_unacknowledged_is_reported_and_stored_once_later(
    server: EmbeddedMongo, patience: Patience, probe: LoopProbe, retry_writes: bool
) -> None:
    factory = new_factory(server, event_listeners=[probe], retryWrites=retry_writes)
    reported: set[str] = set()
    agents: dict[str, Agent] = {}
    over, all_reported, started = asyncio.Event(), asyncio.Event(), asyncio.Barrier(7)

    async def talk(session_id: str) -> None:
        async with factory.create_session_manager(session_id, write_deadline_s=0.2) as manager:
            agent = agents[session_id] = talker(manager)
            await streamed(agent, "the first prompt")
            await started.wait()
            number = 0
            while not over.is_set():
                try:
                    await streamed(agent, f"prompt {number}")
                except Exception as error:
                    # Strands wraps what its hooks raise.
                    if not isinstance(error, PyMongoError) and not isinstance(error.__cause__, PyMongoError):
                        raise
                    reported.add(session_id)
                    if len(reported) == len(agents):
                        all_reported.set()
                number += 1
                await asyncio.sleep(0.05)
            await manager.flush()

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(talk(f"s-{number}"))
        await started.wait()
        patience(0.2)
        # Two of three: as long as they are gone, nothing can be acknowledged.
        gone = await kill_majority(server)
        await asyncio.wait_for(all_reported.wait(), WAIT_S)
        for index in gone:
            await asyncio.to_thread(server.restart, index)
        await asyncio.to_thread(server.primary_index, WAIT_S)
        await eventually(knows_the_primary(factory), "finding the new primary")
        patience(WAIT_S)
        over.set()

    repository = factory.create_session_manager("s-0").repository
    for session_id, agent in agents.items():
        stored = [message.message for message in await repository.list_messages(session_id, AGENT_ID)]
        assert texts(stored) == texts(agent.messages)
        assert len(set(texts(stored))) == len(stored)
    await factory.close()
    assert probe.sent > 0
    assert probe.held_up == []


async def test_opening_and_reading_wait_for_the_new_primary(
    server: EmbeddedMongo, factory: AsyncMongoDBSessionManagerFactory, probe: LoopProbe
) -> None:
    async with factory.create_session_manager(SESSION_ID) as manager:
        agent = talker(manager)
        await streamed(agent, "hi")
        await manager.update_metadata({"a": 1})

        index = await kill_primary(server)
        resumed, metadata, count = await asyncio.gather(
            factory.create_session_manager(SESSION_ID).open(),
            manager.get_metadata(),
            manager.get_message_count(AGENT_ID),
        )

        assert texts(talker(resumed).messages) == ["hi", "answer to hi"]
        assert metadata == {"metadata": {"a": 1}}
        assert count == 2
        await resumed.close()
        await bring_back(server, index)
    await factory.close()
    assert probe.sent > 0
    assert probe.held_up == []


@pytest.mark.thorough
@pytest.mark.usefixtures("patience")
async def test_closing_reports_what_could_not_be_written(server: EmbeddedMongo) -> None:
    factory = new_factory(server)
    manager = factory.create_session_manager(SESSION_ID, write_deadline_s=0.5, flush_on="invocation")
    await manager.open()
    agent = talker(manager)
    await manager.flush()

    gone = await kill_majority(server)
    agent.state.set("count", 1)
    with pytest.raises(AutoReconnect):
        await manager.close()
    await manager.close()
    for index in gone:
        await asyncio.to_thread(server.restart, index)
    await asyncio.to_thread(server.primary_index, WAIT_S)
    await factory.close()


async def test_a_server_that_was_never_reached_is_not_waited_for() -> None:
    manager = AsyncMongoDBSessionManager(
        SESSION_ID,
        "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300",
        ensure_indexes=False,
        # Longer than the test may take.
        write_deadline_s=3600,
    )

    with pytest.raises(ServerSelectionTimeoutError):
        await manager.open()

    await manager.close()
