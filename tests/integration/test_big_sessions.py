from __future__ import annotations

from typing import Any

import bson
import pytest
from strands.agent.conversation_manager import NullConversationManager, SlidingWindowConversationManager
from strands.types.content import Message

from mongodb_session_manager import AsyncMongoDBSessionRepository
from mongodb_session_manager.store.sealing import SEAL_AT_BYTES
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Sessions, texts_of
from tests.support.agents import AGENT_ID, make_agent, model_of, streamed

MB = 1024 * 1024


def repository_of(sessions: Sessions) -> AsyncMongoDBSessionRepository:
    return AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options())


def document_bytes(sessions: Sessions) -> int:
    found = sessions.raw.find_one({"_id": SESSION_ID})
    assert found is not None
    return len(bson.encode(found))


def conversation(count: int, size: int, start: int = 0) -> list[Message]:
    """Return messages of so many characters each, all different."""
    return [
        Message(role="assistant" if n % 2 else "user", content=[{"text": f"{n} ".ljust(size, "x")}])
        for n in range(start, start + count)
    ]


async def feedbacks_in_a_row(sessions: Sessions, count: int) -> None:
    given: list[dict[str, Any]] = [{"rating": "up", "comment": f"number {n} ".ljust(120, ".")} for n in range(count)]

    async with sessions.manager() as manager:
        for feedback in given:
            await manager.add_feedback(feedback)
        found = await manager.get_feedbacks()

    assert [{name: item[name] for name in ("rating", "comment")} for item in found] == given
    assert document_bytes(sessions) < 2 * SEAL_AT_BYTES
    listed = await one_listed(sessions)
    assert listed["feedbacks_count"] == count


async def one_listed(sessions: Sessions) -> dict[str, Any]:
    async with repository_of(sessions) as repository:
        page = await repository.list_sessions()
    (listed,) = page["sessions"]
    return dict(listed)


async def test_a_thousand_feedbacks_are_kept_in_order(sessions: Sessions) -> None:
    await feedbacks_in_a_row(sessions, 1000)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_ten_thousand_feedbacks_are_kept_in_order(sessions: Sessions) -> None:
    await feedbacks_in_a_row(sessions, 10_000)


async def test_large_feedbacks_do_not_fill_the_document(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        for number in range(24):
            await manager.add_feedback({"number": number, "comment": "x" * MB})

    async with sessions.manager() as manager:
        found = await manager.get_feedbacks()

    assert [feedback["number"] for feedback in found] == list(range(24))


async def test_feedbacks_by_session_id_do_not_fill_the_document(sessions: Sessions) -> None:
    async with sessions.manager():
        pass
    async with repository_of(sessions) as repository:
        for number in range(60):
            await repository.add_feedback(SESSION_ID, {"number": number, "comment": "x" * 8192})
        found = await repository.get_feedbacks(SESSION_ID)

    assert [feedback["number"] for feedback in found] == list(range(60))
    assert document_bytes(sessions) < 2 * SEAL_AT_BYTES


async def twenty_agents(sessions: Sessions, turns: int) -> None:
    agent_ids = [f"agent {number}" for number in range(20)]
    async with sessions.manager() as manager:
        agents = {agent_id: make_agent(manager, *["Noted."] * turns, agent_id=agent_id) for agent_id in agent_ids}
        for turn in range(turns):
            for agent_id, agent in agents.items():
                await streamed(agent, f"{agent_id} turn {turn} ".ljust(1000, "x"))

    async with sessions.manager() as manager:
        for agent_id in agent_ids:
            resumed = make_agent(manager, "And on it goes.", agent_id=agent_id)
            assert texts_of(resumed.messages) == texts_of(agents[agent_id].messages)
            assert await manager.get_message_count(agent_id) == 2 * turns
            await streamed(resumed, "Go on.")
            assert len(model_of(resumed).requests[0]) == len(agents[agent_id].messages) + 1

    assert document_bytes(sessions) < 4 * SEAL_AT_BYTES
    async with repository_of(sessions) as repository:
        for agent_id in agent_ids:
            stored = await repository.list_messages(SESSION_ID, agent_id)
            assert [message.message_id for message in stored] == list(range(2 * turns + 2))
            said = texts_of([message.message for message in stored])[: 2 * turns : 2]
            assert said == [f"{agent_id} turn {turn} ".ljust(1000, "x") for turn in range(turns)]


async def test_twenty_agents_with_long_tails_all_resume(sessions: Sessions) -> None:
    await twenty_agents(sessions, 8)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_twenty_agents_with_very_long_tails_all_resume(sessions: Sessions) -> None:
    await twenty_agents(sessions, 60)


async def grown_and_resumed(sessions: Sessions, count: int, size: int) -> None:
    """Take turns in one session, and in another manager go on with it."""
    window = SlidingWindowConversationManager(window_size=10)
    async with sessions.manager() as manager:
        agent = make_agent(manager, *["Yes."] * count, conversation_manager=window)
        for number in range(count):
            await streamed(agent, f"{number} ".ljust(size, "x"))

    async with sessions.manager() as manager:
        resumed = make_agent(
            manager, "Still here.", conversation_manager=SlidingWindowConversationManager(window_size=10)
        )
        assert texts_of(resumed.messages) == texts_of(agent.messages)
        await streamed(resumed, "Are you there?")

    async with repository_of(sessions) as repository:
        assert await repository.get_message_count(SESSION_ID, AGENT_ID) == 2 * count + 2
        for offset in range(0, 2 * count, 20):
            page = await repository.list_messages(SESSION_ID, AGENT_ID, limit=20, offset=offset)
            assert [message.message_id for message in page] == list(range(offset, min(offset + 20, 2 * count + 2)))
            asked = texts_of([message.message for message in page if message.message["role"] == "user"])
            assert [text.split(" ")[0] for text in asked[:10]] == [
                str(number) if number < count else "Are" for number in range(offset // 2, offset // 2 + len(asked))
            ]


async def test_a_session_of_6_mb_of_text_resumes_and_reads_page_by_page(sessions: Sessions) -> None:
    await grown_and_resumed(sessions, 60, 100_000)
    assert document_bytes(sessions) < 4 * SEAL_AT_BYTES


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_session_of_60_mb_of_text_resumes_and_reads_page_by_page(sessions: Sessions) -> None:
    await grown_and_resumed(sessions, 600, 100_000)
    assert document_bytes(sessions) < 4 * SEAL_AT_BYTES


async def begun_with(sessions: Sessions, count: int, size: int) -> None:
    """Give an agent a whole history at once, and go on with it in another manager."""
    history = conversation(count, size)
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Read.", messages=list(history), conversation_manager=NullConversationManager())
        await streamed(agent, "Have you read all of it?")

    async with sessions.manager() as manager:
        resumed = make_agent(manager, "Yes.", conversation_manager=NullConversationManager())
        assert texts_of(resumed.messages) == [*texts_of(history), "Have you read all of it?", "Read."]
        await streamed(resumed, "Really?")

    assert document_bytes(sessions) < 13 * MB


async def test_an_agent_may_begin_with_20_mb_of_text(sessions: Sessions) -> None:
    await begun_with(sessions, 20, MB)


@pytest.mark.slow
async def test_an_agent_may_begin_with_60_mb_of_text(sessions: Sessions) -> None:
    await begun_with(sessions, 600, 100_000)


async def test_messages_of_which_two_exceed_a_document_follow_each_other(sessions: Sessions) -> None:
    history = conversation(4, 9 * MB)

    async with sessions.manager() as manager:
        agent = make_agent(manager, *["Fine."] * 2, conversation_manager=NullConversationManager())
        await streamed(agent, texts_of(history)[0])
        await streamed(agent, texts_of(history)[2])

    async with sessions.manager() as manager:
        resumed = make_agent(manager, "And on.", conversation_manager=NullConversationManager())
        assert texts_of(resumed.messages) == [texts_of(history)[0], "Fine.", texts_of(history)[2], "Fine."]
        await streamed(resumed, "Go on.")


async def test_a_sealed_message_that_was_the_newest_can_be_redacted(sessions: Sessions) -> None:
    history = conversation(3, 9 * MB)
    async with sessions.manager(flush_on="message") as manager:
        agent = make_agent(manager, "Noted.", conversation_manager=NullConversationManager())
        await streamed(agent, "Hi.")
        for message in history:
            agent.messages.append(message)
            manager.append_message(message, agent)
            await manager.flush()
        manager.redact_latest_message(Message(role="user", content=[{"text": "[redacted]"}]), agent)
        await manager.flush()

    async with repository_of(sessions) as repository:
        newest = await repository.read_message(SESSION_ID, AGENT_ID, 4)
    assert newest is not None
    assert texts_of([newest.to_message()]) == ["[redacted]"]
