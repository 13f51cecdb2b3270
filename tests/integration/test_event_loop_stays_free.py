from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymongo import MongoClient
from strands import tool
from strands.agent.conversation_manager import (
    ConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.types.exceptions import ContextWindowOverflowException

from mongodb_session_manager import AsyncMongoDBSessionManager
from tests.fixtures.sessions import Document, Sessions
from tests.fixtures.waiting import LoopProbe
from tests.support.agents import make_agent, streamed
from tests.support.models import Scripted, blocked, calls


@tool
def look_up(word: str) -> str:
    """Look a word up.

    Args:
        word: What to look up.
    """
    return f"{word}: found"


TOOLS: list[Scripted] = [calls(("look_up", {"word": "x"}), ("look_up", {"word": "y"})), "Both found.", "Fine."]
REDACTED: list[Scripted] = [blocked(user="[redacted]"), blocked(assistant="[redacted]")]
OVERFLOW: list[Scripted] = ["Hello!", ContextWindowOverflowException("too long"), "Shorter now."]
OVERFLOW_SUMMARIZED: list[Scripted] = [
    "Hello!",
    ContextWindowOverflowException("too long"),
    "Summary: greetings.",
    "Shorter now.",
]


def sliding() -> ConversationManager:
    return SlidingWindowConversationManager(window_size=2)


def summarizing() -> ConversationManager:
    return SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=1)


@pytest.mark.parametrize(
    ("script", "conversation_manager", "stored"),
    [
        pytest.param(TOOLS, sliding, ["Hi.", "", "", "Both found.", "And you?", "Fine."], id="tools"),
        pytest.param(REDACTED, sliding, ["[redacted]", "blocked", "And you?", "[redacted]"], id="redaction"),
        pytest.param(OVERFLOW, sliding, ["Hi.", "Hello!", "And you?", "Shorter now."], id="overflow, sliding window"),
        pytest.param(
            OVERFLOW_SUMMARIZED, summarizing, ["Hi.", "Hello!", "And you?", "Shorter now."], id="overflow, summary"
        ),
    ],
)
async def test_slow_database_does_not_hold_up_the_loop_during_a_stream(
    sessions: Sessions,
    script: list[Scripted],
    conversation_manager: Callable[[], ConversationManager],
    stored: list[str],
) -> None:
    # However slow a command is: each waits here until the loop has run something else.
    probe = LoopProbe()

    async with sessions.manager(event_listeners=[probe]) as manager:
        agent = make_agent(manager, *script, conversation_manager=conversation_manager(), tools=[look_up], agent_id="a")
        await streamed(agent, "Hi.")
        await streamed(agent, "And you?")

    assert probe.held_up == []
    assert probe.sent >= 6
    assert sessions.texts("a") == stored


async def test_a_loop_that_waits_for_a_command_is_noticed(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else the test above would prove nothing."""
    monkeypatch.setattr("tests.fixtures.waiting.ANSWER_S", 0.5)
    probe = LoopProbe()
    with MongoClient[Document](sessions.uri, event_listeners=[probe]) as client, ThreadPoolExecutor(1) as elsewhere:
        things = client[sessions.database_name]["things"]

        things.find_one()
        elsewhere.submit(things.count_documents, {}).result()
        await asyncio.to_thread(things.insert_one, {})

    assert probe.held_up == ["find", "aggregate"]


async def test_building_agents_on_an_opened_manager_sends_no_command(sessions: Sessions) -> None:
    async def built(manager: AsyncMongoDBSessionManager) -> list[str]:
        with sessions.recorder.counting() as commands:
            make_agent(manager, "x", agent_id="a")
            make_agent(manager, "x", agent_id="b", messages=[{"role": "user", "content": [{"text": "given"}]}])
            await asyncio.sleep(0)
        return commands.names

    async with sessions.manager() as manager:
        for_a_new_session = await built(manager)
    async with sessions.manager() as manager:
        for_a_stored_session = await built(manager)
        with sessions.recorder.counting() as commands:
            await manager.flush()

    assert for_a_new_session == for_a_stored_session == commands.names == []
    assert sessions.texts("b") == ["given"]
