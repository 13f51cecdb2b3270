"""The documented quick starts, as their readers would run them, with a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo import MongoClient
from strands import Agent, tool

from mongodb_session_manager import (
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
    close_global_factory,
    create_mongodb_session_manager,
    get_global_factory,
    initialize_global_factory,
)
from tests.fixtures.sessions import COLLECTION, Document, Sessions
from tests.support.agents import make_agent, model_of
from tests.support.models import Reply, ScriptedModel, calls, texts


@pytest.fixture
def address(sessions: Sessions) -> dict[str, Any]:
    return {
        "connection_string": sessions.uri,
        "database_name": sessions.database_name,
        "collection_name": COLLECTION,
        "serverSelectionTimeoutMS": 5000,
    }


@tool
def lookup(key: str) -> str:
    """Look something up."""
    return f"value of {key}"


def test_quick_start(address: dict[str, Any], sessions: Sessions) -> None:
    session_manager = create_mongodb_session_manager(session_id="customer-12345", **address)
    agent = Agent(
        model=ScriptedModel("Of course."),
        agent_id="support-agent",
        session_manager=session_manager,
        system_prompt="You are a helpful assistant.",
        callback_handler=None,
    )

    response = agent("Hello, can you help me?")
    session_manager.sync_agent(agent)
    session_manager.close()

    assert str(response).strip() == "Of course."
    stored = sessions.document("customer-12345")["agents"]["support-agent"]
    assert [message["role"] for message in stored["messages"]] == ["user", "assistant"]
    assert stored["messages"][-1]["event_loop_metrics"]["accumulated_usage"]["totalTokens"] == 15
    assert stored["messages"][-1]["event_loop_metrics"]["accumulated_metrics"]["latencyMs"] == 20
    assert stored["agent_data"]["system_prompt"] == "You are a helpful assistant."


def test_state_and_conversation_are_there_in_the_next_session(address: dict[str, Any]) -> None:
    session_manager = create_mongodb_session_manager("user-session-001", **address)
    agent = make_agent(session_manager, "Hello Alice.", system_prompt="You are a helpful assistant")
    agent.state.set("user_language", "euskera")
    agent.state.set("preferences", {"tone": "formal", "dialect": "bizkaiera"})
    agent("Remember my name is Alice")
    session_manager.sync_agent(agent)
    session_manager.close()

    session_manager = create_mongodb_session_manager("user-session-001", **address)
    agent = make_agent(session_manager, "Alice.")
    agent("What's my name?")
    session_manager.close()

    assert agent.state.get() == {
        "user_language": "euskera",
        "preferences": {"tone": "formal", "dialect": "bizkaiera"},
    }
    [request] = model_of(agent).requests
    assert texts(request) == ["Remember my name is Alice", "Hello Alice.", "What's my name?"]


def test_complete_usage_example(address: dict[str, Any], sessions: Sessions) -> None:
    manager = MongoDBSessionManager(
        session_id="user-session-123", metadata_fields=["priority", "status"], maxPoolSize=50, **address
    )
    agent = make_agent(manager, "Hello.", "Your balance is 5.", tools=[manager.get_metadata_tool()])
    manager.initialize(agent)
    manager.update_metadata({"user_name": "Alice", "priority": "high", "session_start": datetime.now(UTC).isoformat()})

    agent("Hello, I need help with my account")
    manager.sync_agent(agent)
    manager.update_metadata({"status": "active"})
    agent("Can you check my balance?")
    manager.sync_agent(agent)
    manager.add_feedback({"rating": "up", "comment": "Very helpful and quick response!"})
    metadata = manager.get_metadata()["metadata"]
    feedbacks = manager.get_feedbacks()
    manager.close()

    assert (metadata["user_name"], metadata["priority"], metadata["status"]) == ("Alice", "high", "active")
    assert [(feedback["rating"], feedback["created_at"].tzinfo) for feedback in feedbacks] == [("up", UTC)]
    questions = ["Hello, I need help with my account", "Can you check my balance?"]
    answers = ["Hello.", "Your balance is 5."]
    assert sessions.texts(session_id="user-session-123") == [questions[0], answers[0], questions[1], answers[1]]


def test_initialize_after_construction_resumes(address: dict[str, Any]) -> None:
    with MongoDBSessionManager("s-1", **address) as manager:
        first = Agent(model=ScriptedModel("Hello Alice."), session_manager=manager, callback_handler=None)
        manager.initialize(first)
        first("My name is Alice")
        manager.sync_agent(first)

    with MongoDBSessionManager("s-1", **address) as manager:
        second = Agent(model=ScriptedModel("Alice."), session_manager=manager, callback_handler=None)
        manager.initialize(second)
        second("What's my name?")

    assert texts(second.messages) == ["My name is Alice", "Hello Alice.", "What's my name?", "Alice."]


def test_messages_appended_by_hand_are_a_conversation(address: dict[str, Any], sessions: Sessions) -> None:
    with MongoDBSessionManager("s-1", **address) as manager:
        agent = make_agent(manager)
        manager.append_message({"role": "user", "content": "Hello, how are you?"}, agent)  # type: ignore[typeddict-item]
        manager.append_message({"role": "assistant", "content": "Very well."}, agent)  # type: ignore[typeddict-item]

    assert sessions.texts() == ["Hello, how are you?", "Very well."]
    with MongoDBSessionManager("s-1", **address) as manager:
        assert texts(make_agent(manager).messages) == ["Hello, how are you?", "Very well."]


# -- streaming, with messages appended by hand around it


async def stream_handler(session_manager: MongoDBSessionManager, agent: Agent, prompt: str) -> AsyncIterator[str]:
    session_manager.append_message({"role": "user", "content": prompt}, agent)  # type: ignore[typeddict-item]
    response_chunks = []
    async for event in agent.stream_async(prompt):
        if "data" in event:
            response_chunks.append(event["data"])
            yield event["data"]
    full_response = "".join(response_chunks)
    session_manager.append_message({"role": "assistant", "content": full_response}, agent)  # type: ignore[typeddict-item]
    session_manager.sync_agent(agent)


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_streaming_by_hand_stores_nothing_twice(
    address: dict[str, Any], sessions: Sessions, flush_on: Any
) -> None:
    manager = MongoDBSessionManager("s-1", flush_on=flush_on, **address)
    agent = make_agent(
        manager, "Plain.", calls(("lookup", {"key": "a"}), text="Let me look. "), "It is there.", tools=[lookup]
    )

    assert "".join([part async for part in stream_handler(manager, agent, "First?")]) == "Plain."
    streamed = "".join([part async for part in stream_handler(manager, agent, "Second?")])
    manager.close()

    assert streamed == "Let me look. It is there."
    expected = ["First?", "Plain.", "Second?", "Let me look. ", "", "It is there."]
    assert sessions.texts() == expected
    with MongoDBSessionManager("s-1", **address) as manager:
        assert texts(make_agent(manager).messages) == expected


async def test_the_same_question_twice_is_stored_twice(address: dict[str, Any], sessions: Sessions) -> None:
    with MongoDBSessionManager("s-1", **address) as manager:
        agent = make_agent(manager, "Done.", "Done.")
        for _ in range(2):
            async for _ in stream_handler(manager, agent, "Yes"):
                pass

    assert sessions.texts() == ["Yes", "Done.", "Yes", "Done."]


def test_token_counts_given_by_hand(address: dict[str, Any], sessions: Sessions) -> None:
    session_manager = create_mongodb_session_manager("user-maria-chat-001", **address)
    agent = make_agent(session_manager, Reply(text="Bai.", usage=None))

    session_manager.set_token_counts(input_tokens=20, output_tokens=45)
    agent("Kaixo, lagundu ahal didazu?")
    session_manager.close()

    metrics = sessions.messages(session_id="user-maria-chat-001")[-1]["event_loop_metrics"]
    assert metrics["accumulated_usage"] == {"inputTokens": 20, "outputTokens": 45, "totalTokens": 65}


def test_several_agents_of_one_session(address: dict[str, Any], sessions: Sessions) -> None:
    session_manager = create_mongodb_session_manager("customer-1-support", w="majority", journal=True, **address)
    translator = make_agent(session_manager, "Hello world", agent_id="euskera-translator", system_prompt="Translate.")
    support = make_agent(session_manager, "Like this.", agent_id="tech-support")

    translator("Translate: 'Kaixo mundua'")
    support("How do I configure API keys?")

    assert [agent["agent_id"] for agent in session_manager.list_agents()] == ["euskera-translator", "tech-support"]
    config = session_manager.get_agent_config("euskera-translator")
    assert config is not None
    assert (config["model"], config["system_prompt"]) == ("scripted", "Translate.")
    session_manager.update_agent_config("tech-support", model="other", system_prompt="Be brief.")
    session_manager.close()
    stored = sessions.document("customer-1-support")["agents"]["tech-support"]
    assert (stored["agent_data"]["model"], stored["agent_data"]["system_prompt"]) == ("other", "Be brief.")


def test_metadata_and_the_tool(address: dict[str, Any]) -> None:
    with create_mongodb_session_manager("s-1", **address) as session_manager:
        session_manager.update_metadata({"user_id": "user-123", "priority": "high", "user_email": "a@b.c"})
        session_manager.update_metadata({"priority": "medium", "assigned_to": "agent-456"})
        session_manager.delete_metadata(["user_email", "phone_number"])
        metadata_tool = session_manager.get_metadata_tool()
        store = calls(("manage_metadata", {"action": "set", "metadata": {"theme": "dark"}}))
        agent = make_agent(session_manager, store, "Stored.", tools=[metadata_tool])
        agent("Please store my preference for dark theme")

        assert session_manager.get_metadata() == {
            "metadata": {"user_id": "user-123", "priority": "medium", "assigned_to": "agent-456", "theme": "dark"}
        }
        assert metadata_tool(action="get", keys=["theme"]) == 'Metadata retrieved: {"theme": "dark"}'


# -- a stateless web application


@pytest.fixture
def no_global_factory() -> Iterator[None]:
    yield
    close_global_factory()


@pytest.mark.usefixtures("no_global_factory")
def test_stateless_handlers_share_the_global_factory(address: dict[str, Any], sessions: Sessions) -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[MongoDBSessionManagerFactory]:
        factory = initialize_global_factory(maxPoolSize=100, minPoolSize=10, **address)
        yield factory
        close_global_factory()

    async def chat(session_id: str, prompt: str) -> str:
        manager = get_global_factory().create_session_manager(session_id)
        try:
            agent = make_agent(manager, lambda messages: f"{len(messages)} messages")
            return str(await agent.invoke_async(prompt)).strip()
        finally:
            manager.close()

    def feedback(session_id: str, rating: str) -> None:  # a plain handler, which runs in a worker thread
        with get_global_factory().create_session_manager(session_id) as manager:
            manager.add_feedback({"rating": rating, "comment": ""})

    async def application() -> None:
        async with lifespan() as factory:
            assert get_global_factory() is factory
            for turn in range(2):
                answers = await asyncio.gather(*(chat(f"s-{number}", f"prompt {turn}") for number in range(5)))
                assert answers == [f"{2 * turn + 1} messages"] * 5
            await asyncio.gather(*(asyncio.to_thread(feedback, f"s-{number}", "up") for number in range(5)))
            assert factory.get_connection_stats()["status"] == "connected"

    asyncio.run(application())

    for number in range(5):
        document = sessions.document(f"s-{number}")
        assert document["summary"]["messages"] == 4
        assert [item["rating"] for item in document["feedbacks"]] == ["up"]
    with pytest.raises(RuntimeError, match="initialize_global_factory"):
        get_global_factory()


def test_a_client_of_ones_own_serves_many_managers(address: dict[str, Any], sessions: Sessions) -> None:
    with MongoClient[Document](sessions.uri, maxPoolSize=100) as client:
        for number in range(3):
            manager = MongoDBSessionManager(
                session_id=f"user-{number}",
                client=client,
                database_name=sessions.database_name,
                collection_name=COLLECTION,
            )
            manager.update_metadata({"number": number})
            manager.close()

    assert sessions.raw.count_documents({}) == 3
