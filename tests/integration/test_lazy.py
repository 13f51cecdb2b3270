"""`lazy=True`: what cannot await builds agents, graphs and swarms, and the first invocation opens the session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.errors import ServerSelectionTimeoutError
from strands import tool
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase
from strands.types.exceptions import SessionException

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    MongoDBSessionManagerFactory,
    SessionClosedError,
    SessionNotOpenError,
)
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Sessions
from tests.support.agents import AGENT_ID, make_agent, model_of
from tests.support.models import calls, texts


@tool
def double(number: int) -> str:
    """Double a number."""
    return str(2 * number)


def build(kind: str, manager: AsyncMongoDBSessionManager) -> MultiAgentBase:
    agent = make_agent(None, "done", agent_id="node")
    if kind == "swarm":
        agent.name = "node"
        return Swarm([agent], id="both", session_manager=manager)
    builder = GraphBuilder()
    builder.add_node(agent, "only")
    builder.set_graph_id("both")
    builder.set_max_node_executions(3)
    builder.set_session_manager(manager)
    return builder.build()


async def test_the_first_invocation_opens_the_session_and_restores_the_agent(sessions: Sessions) -> None:
    manager = sessions.manager(lazy=True)
    agent = make_agent(manager, "a-0", state={"visits": 1})
    assert sessions.raw.find_one({}) is None
    await agent.invoke_async("q-0")
    await manager.close()

    manager = sessions.manager(lazy=True)
    resumed = make_agent(manager, "a-1", "a-2", state={"visits": 7})
    assert resumed.messages == []
    await resumed.invoke_async("q-1")
    assert texts(model_of(resumed).requests[0]) == ["q-0", "a-0", "q-1"]
    assert resumed.state.get() == {"visits": 1}
    await resumed.invoke_async("q-2")
    await manager.close()
    assert sessions.texts() == ["q-0", "a-0", "q-1", "a-1", "q-2", "a-2"]


async def test_several_agents_open_it_once_and_side_by_side(sessions: Sessions) -> None:
    async with sessions.manager(lazy=True) as manager:
        await make_agent(manager, "first", agent_id="a").invoke_async("q")

    manager = sessions.manager(lazy=True)
    agents = [make_agent(manager, "next", agent_id=name) for name in "abc"]
    await asyncio.gather(*(agent.invoke_async("go on") for agent in agents))
    assert texts(model_of(agents[0]).requests[0]) == ["q", "first", "go on"]
    late = make_agent(manager, "late", agent_id="d")  # The session is open by now.
    await late.invoke_async("hello")
    await manager.close()
    assert sessions.texts("a") == ["q", "first", "go on", "next"]
    assert sessions.texts("c") == ["go on", "next"]
    assert sessions.texts("d") == ["hello", "late"]


async def test_opening_it_by_hand_restores_what_waits(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await make_agent(manager, "a-0").invoke_async("q-0")
    manager = sessions.manager(lazy=True)
    agent = make_agent(manager, "a-1")
    async with manager:
        assert len(agent.messages) == 2
        manager.sync_agent(agent)
        await agent.invoke_async("q-1")
    assert sessions.texts() == ["q-0", "a-0", "q-1", "a-1"]


def test_agents_in_loops_that_are_thrown_away(sessions: Sessions) -> None:
    manager = sessions.manager(lazy=True)
    agent = make_agent(manager, "a-0", "a-1")
    agent("q-0")
    agent("q-1")
    asyncio.run(manager.close())
    assert sessions.texts() == ["q-0", "a-0", "q-1", "a-1"]


@pytest.mark.parametrize("kind", ["graph", "swarm"])
@pytest.mark.filterwarnings("ignore::UserWarning")
async def test_graphs_and_swarms(sessions: Sessions, kind: str) -> None:
    for _ in range(2):
        manager = sessions.manager(lazy=True)
        source = build(kind, manager)
        result = await source.invoke_async("go")
        assert result.status.value == "completed"
        await manager.close()
    assert list(sessions.document()["multi_agents"]) == ["both"]


async def test_factories_pass_it_on(sessions: Sessions) -> None:
    address: dict[str, Any] = {
        "database_name": sessions.database_name,
        "collection_name": COLLECTION,
        "ensure_indexes": False,
    }
    async with AsyncMongoDBSessionManagerFactory(sessions.uri, **address, **sessions.client_options()) as factory:
        manager = factory.create_session_manager(SESSION_ID, lazy=True)
        await make_agent(manager, "a-0").invoke_async("q-0")
        await manager.close()
    async with AsyncMongoDBSessionManagerFactory(sessions.uri, lazy=True, **address, **sessions.client_options()) as f:
        manager = f.create_session_manager(SESSION_ID)
        await make_agent(manager, "a-1").invoke_async("q-1")
        await manager.close()
        with pytest.raises(SessionNotOpenError):
            make_agent(f.create_session_manager(SESSION_ID, lazy=False))
    assert sessions.texts() == ["q-0", "a-0", "q-1", "a-1"]


def test_the_sync_face_takes_it_and_is_open_anyway(sessions: Sessions) -> None:
    address: dict[str, Any] = {
        "database_name": sessions.database_name,
        "collection_name": COLLECTION,
        "ensure_indexes": False,
    }
    factory = MongoDBSessionManagerFactory(sessions.uri, **address, lazy=True)
    with factory.create_session_manager(SESSION_ID) as manager:
        make_agent(manager, "a-0")("q-0")
    factory.close()
    assert sessions.texts() == ["q-0", "a-0"]


@pytest.mark.parametrize("kind", ["agent", "graph", "swarm"])
@pytest.mark.filterwarnings("ignore::UserWarning")
async def test_without_it_building_is_an_error_that_names_both_ways(sessions: Sessions, kind: str) -> None:
    with pytest.raises(SessionNotOpenError, match=r"manager\.open\(\).*lazy=True"):
        make_agent(sessions.manager()) if kind == "agent" else build(kind, sessions.manager())


async def test_an_agent_that_does_not_restore_fails_alone(sessions: Sessions) -> None:
    manager = sessions.manager(lazy=True)
    one, twin = make_agent(manager, "a-0", "a-1"), make_agent(manager, "never")
    await one.invoke_async("q-0")
    for _ in range(2):
        with pytest.raises(SessionException, match="id of its own"):
            await twin.invoke_async("q-1")
    await one.invoke_async("q-1")
    await manager.close()
    assert sessions.texts() == ["q-0", "a-0", "q-1", "a-1"]


async def test_a_server_that_is_away_is_an_error_of_the_invocation(sessions: Sessions) -> None:
    manager = AsyncMongoDBSessionManager(
        SESSION_ID, "mongodb://127.0.0.1:1", sessions.database_name, COLLECTION, lazy=True, serverSelectionTimeoutMS=50
    )
    agent = make_agent(manager, "never")
    for _ in range(2):
        with pytest.raises(ServerSelectionTimeoutError):
            await agent.invoke_async("q-0")
    await manager.close()
    with pytest.raises(SessionClosedError):
        await agent.invoke_async("q-0")


async def test_a_tool_call_that_was_cut_off_gets_a_result_first(sessions: Sessions) -> None:
    cut: Any = {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t-1", "name": "double", "input": {}}}]}
    async with sessions.manager() as manager:
        agent = make_agent(manager, tools=[double])
        agent.messages.extend([{"role": "user", "content": [{"text": "q-0"}]}, cut])
        manager.sync_agent(agent)

    manager = sessions.manager(lazy=True)
    resumed = make_agent(manager, calls(("double", {"number": 2})), "four", tools=[double])
    await resumed.invoke_async("and now?")
    await manager.close()

    stored = sessions.messages()
    assert [next(iter(block)) for message in stored[:4] for block in message["content"]] == [
        "text",
        "toolUse",
        "toolResult",
        "text",
    ]
    assert sessions.texts(AGENT_ID)[3] == "and now?"


async def test_an_interrupted_agent_asks_to_be_opened_first(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "a-0")
        await agent.invoke_async("q-0")
        agent._interrupt_state.activate()
        manager.sync_agent(agent)

    manager = sessions.manager(lazy=True)
    with pytest.raises(TypeError, match=r"manager\.open\(\)"):
        await make_agent(manager, "never").invoke_async("and now?")
    await manager.close()
    assert sessions.texts() == ["q-0", "a-0"]
