"""Agents whose stored fields another tool left odd: they are forked, restored and deleted, or refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
from strands.agent.conversation_manager import NullConversationManager, SlidingWindowConversationManager
from strands.types.content import ContentBlock
from strands.types.session import SessionMessage

from mongodb_session_manager import AsyncMongoDBSessionRepository, CorruptMessageError, MessageNotFoundError
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions
from tests.support.agents import AGENT_ID, make_agent
from tests.support.segments import converse, numbers_of, segments

AGENT = f"agents.{AGENT_ID}"


def repository_of(sessions: Sessions) -> AsyncMongoDBSessionRepository:
    return AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options())


async def sealed_session(sessions: Sessions, count: int = 40) -> Document:
    """Store a conversation whose first messages are sealed, and return its document."""
    async with sessions.manager() as manager:
        agent = make_agent(manager, conversation_manager=NullConversationManager())
        await converse(manager, agent, range(count), at_once=True)
    assert segments(sessions.raw.database)
    return sessions.raw.find_one({}) or {}


@pytest.mark.parametrize("messages", [5, "text", {"a": 1}, None])
async def test_no_message_is_found_in_what_is_no_list(sessions: Sessions, messages: Any) -> None:
    async with sessions.manager() as manager:
        prompt: list[ContentBlock] = [{"image": {"format": "png", "source": {"bytes": b"x" * 300_000}}}]
        await make_agent(manager, "Hello.").invoke_async(prompt)
    sessions.raw.update_one({}, {"$set": {f"{AGENT}.messages": messages}})

    async with repository_of(sessions) as repository:
        with pytest.raises(MessageNotFoundError):
            await repository.update_message(
                SESSION_ID, AGENT_ID, SessionMessage({"role": "user", "content": [{"text": "Bye."}]}, 0)
            )


@pytest.mark.parametrize("odd", [5, "text", {"a": 1}, {"message_id": "x"}, [{"message_id": 1}], [5, None]])
@pytest.mark.parametrize("in_the_list", [True, False])
async def test_what_is_sealed_is_restored_beside_an_odd_tail(sessions: Sessions, odd: Any, in_the_list: bool) -> None:
    document = await sealed_session(sessions)
    agent = document["agents"][AGENT_ID]
    sealed, tail = agent["archived_count"], agent["messages"]
    if in_the_list:
        odd = [odd, *tail[1:]]
    sessions.raw.update_one({}, {"$set": {f"{AGENT}.messages": odd}})

    async with sessions.manager() as manager:
        with pytest.raises(CorruptMessageError):
            make_agent(manager, conversation_manager=NullConversationManager())
    async with sessions.manager(skip_corrupt_messages=True) as manager:
        restored = numbers_of(make_agent(manager, conversation_manager=NullConversationManager()).messages)
    assert restored[:sealed] == list(range(sealed))
    assert restored[sealed:] == (list(range(sealed + 1, 40)) if in_the_list else [])


@pytest.mark.parametrize("place", ["agents", AGENT, f"{AGENT}.messages", "feedbacks"])
@pytest.mark.parametrize("value", [5, "text", {"a": 1}, None, True, ["x", None]])
async def test_a_session_of_version_1_is_brought_up_to_date_whatever_it_holds(
    sessions: Sessions, place: str, value: Any
) -> None:
    async with sessions.manager() as manager:
        await make_agent(manager, "Hello.").invoke_async("Hi.")
        await manager.add_feedback({"rating": "up"})
    gone = dict.fromkeys(("errors", "title", "title_of", "summary.ratings", "summary.errors"), "")
    sessions.raw.update_one({}, {"$set": {"schema_version": 1, place: value}, "$unset": gone})

    async with repository_of(sessions) as repository:
        await repository.update_metadata(SESSION_ID, {"x": 1})

    document = sessions.raw.find_one({}) or {}
    assert (document["schema_version"], document["metadata"]) == (2, {"x": 1})
    found: Any = document
    for name in place.split("."):
        found = found[name]
    assert found == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("next_message_id", "x"),
        ("next_message_id", None),
        ("next_message_id", math.inf),
        ("window", [[0, None], [6, None]]),
        ("window", [[0, 1], [2, None], [6, None]]),
        ("window", [[None, None], [6, None]]),
        ("window", []),
        ("window", [[0]]),
    ],
)
@pytest.mark.parametrize("number", [3, 9])
async def test_a_cut_makes_a_fork_that_resumes(sessions: Sessions, name: str, value: Any, number: int) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(
            manager,
            *(f"answer {turn}" for turn in range(6)),
            conversation_manager=SlidingWindowConversationManager(window_size=4),
        )
        for turn in range(6):
            await agent.invoke_async(f"question {turn}")
    event = {"message_id": 1, "agent_id": AGENT_ID, "action": "BLOCKED"}
    sessions.raw.update_one(
        {"_id": SESSION_ID}, {"$set": {f"{AGENT}.{name}": value}, "$push": {"guardrail_events": event}}
    )

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, "fork", up_to_message=number, agent_id=AGENT_ID)
        messages = await repository.list_messages("fork", AGENT_ID)
    assert [message.message_id for message in messages] == list(range(number + 1))
    assert (sessions.raw.find_one({"_id": "fork"}) or {})["guardrail_events"] == [event]
    async with sessions.manager("fork") as manager:
        await make_agent(manager, "answer").invoke_async("question")
        assert await manager.get_message_count(AGENT_ID) == number + 3
