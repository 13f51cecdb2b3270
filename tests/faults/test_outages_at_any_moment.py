"""MongoDB goes away and comes back at any moment while a manager works.

What the manager said to be stored is there, and nothing twice; afterwards it goes on by itself, and its agent resumes
as it is.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from strands import Agent
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.exceptions import EventLoopException

from mongodb_session_manager import AsyncMongoDBSessionManager, SessionStoreError
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import Document, Sessions
from tests.fixtures.waiting import eventually
from tests.support.agents import AGENT_ID, make_agent
from tests.support.invariants import check_stored
from tests.support.models import ScriptedModel

STEPS = 8
DEADLINE_S = 0.2
PAUSES_S = (0.001, 0.003, 0.01, 0.03, 0.3)
FAULTS: tuple[Document, ...] = ({"errorCode": 89}, {"closeConnection": True})


class User:
    """Works with one manager, and keeps what it was told to be stored."""

    def __init__(self, manager: AsyncMongoDBSessionManager) -> None:
        self.manager = manager
        self.agent = talker(manager)
        self.metadata: dict[str, int] = {}
        self.said: list[str] = []
        self.given = self.acknowledged = 0

    async def invoke(self, number: int) -> None:
        await self.agent.invoke_async(f"question {number}")
        self.said.append(f"question {number}")

    async def leave_at_the_answer(self, number: int) -> None:
        async with aclosing(self.agent.stream_async(f"question {number}")) as events:  # type: ignore[type-var]
            async for event in events:
                if event.get("message", {}).get("role") == "assistant":
                    break

    async def be_cancelled(self, number: int) -> None:
        task = asyncio.create_task(self.agent.invoke_async(f"question {number}"))
        await asyncio.sleep(0.002)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def take_a_turn(self, number: int) -> None:
        async with self.manager.turn(wait_s=DEADLINE_S, lease_s=3600):
            await self.agent.invoke_async(f"question {number}")
        self.said.append(f"question {number}")

    async def take_a_keyed_turn(self, number: int) -> None:
        async with self.manager.turn(wait_s=DEADLINE_S, lease_s=3600, idempotency_key=str(number)):
            await self.agent.invoke_async(f"question {number}")
        self.said.append(f"question {number}")

    async def change_metadata(self, number: int) -> None:
        await self.manager.update_metadata({f"field {number}": number})
        self.metadata[f"field {number}"] = number

    async def add_feedback(self, number: int) -> None:
        self.given += 1
        await self.manager.add_feedback({"rating": "up"})
        self.acknowledged += 1

    async def change_the_state(self, number: int) -> None:
        self.agent.state.set("number", number)
        self.manager.sync_agent(self.agent)

    async def flush(self, number: int) -> None:
        await self.manager.flush()

    @property
    def ways(self) -> list[Callable[[int], Awaitable[None]]]:
        """All that it may do next."""
        return [
            *(self.invoke, self.leave_at_the_answer, self.be_cancelled, self.take_a_turn, self.take_a_keyed_turn),
            *(self.change_metadata, self.add_feedback, self.change_the_state, self.flush),
        ]


def talker(manager: AsyncMongoDBSessionManager) -> Agent:
    window = SlidingWindowConversationManager(window_size=6)
    return make_agent(manager, model=ScriptedModel(otherwise="fine"), conversation_manager=window)


@asynccontextmanager
async def outages(client: MongoClient[Document], chance: random.Random, fault: Document) -> AsyncIterator[None]:
    """Let the server refuse commands now and then while the block runs."""

    async def come_and_go() -> None:
        while True:
            await asyncio.sleep(chance.choice(PAUSES_S))
            with ExitStack() as outage:
                outage.enter_context(fail_point(client, "alwaysOn", fault))
                await asyncio.sleep(chance.choice(PAUSES_S))

    task = asyncio.create_task(come_and_go())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.thorough
@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("fault", FAULTS, ids=["an error", "connections closed"])
@pytest.mark.parametrize("seed", range(6))
async def test_a_manager_goes_on_after_outages_at_any_moment(
    sessions: Sessions, mongo_client: MongoClient[Document], seed: int, fault: Document, flush_on: Any
) -> None:
    chance = random.Random(seed)
    fault = {"failCommands": ["update", "find", "insert"], "appName": f"outages-{seed}", **fault}
    options: dict[str, Any] = {"retryWrites": False, "retryReads": False, "appname": f"outages-{seed}"}
    async with sessions.manager(write_deadline_s=DEADLINE_S, flush_on=flush_on, **options) as manager:
        user = User(manager)
        async with outages(mongo_client, chance, fault):
            for number in range(STEPS):
                with suppress(PyMongoError, SessionStoreError, EventLoopException):
                    await chance.choice(user.ways)(number)
        await eventually_flushed(manager)
        await user.invoke(STEPS)
        live = copy.deepcopy(user.agent.messages), user.agent.state.get()

    stored = check_stored(sessions.raw.database)
    assert "lease" not in stored
    asked = Counter(text for text in sessions.texts() if text.startswith("question"))
    assert not [text for text in user.said if asked[text] != 1]
    assert not [text for text, count in asked.items() if count > 1]
    assert stored.get("metadata", {}).items() >= user.metadata.items()
    assert user.acknowledged <= len(stored["feedbacks"]) <= user.given
    async with sessions.manager() as other:
        resumed = talker(other)
    assert resumed.agent_id == AGENT_ID
    assert [(m["role"], m["content"]) for m in resumed.messages] == [(m["role"], m["content"]) for m in live[0]]
    assert resumed.state.get() == live[1]


async def eventually_flushed(manager: AsyncMongoDBSessionManager) -> None:
    """Wait until the driver has found the server again and what is pending is written."""

    async def is_flushed() -> bool:
        try:
            await manager.flush()
        except PyMongoError:
            return False
        return True

    await eventually(is_flushed)
