"""What was built in a turn that fails, and of which nothing is stored, is as it was built: it can be taken again."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any

import pytest
from pymongo import MongoClient
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase
from strands.types.content import Messages

from mongodb_session_manager import AsyncMongoDBSessionManager
from mongodb_session_manager.schema.messages import has_tool_result
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import SESSION_ID, Document, Sessions
from tests.support.agents import make_agent
from tests.support.invariants import check_stored
from tests.support.models import Reply, ScriptedModel, calls, texts
from tests.support.resume import check_resumes_as, held

AWAY = {"failCommands": ["find", "update"], "errorCode": 89, "appName": "away"}
GIVEN: Any = [
    {"role": "user", "content": [{"text": "an example"}]},
    {"role": "assistant", "content": [{"text": "its answer"}]},
]


class HandlerError(Exception):
    """What ends a turn, and has nothing to do with the store."""


@tool(context=True)
def delete(name: str, tool_context: ToolContext) -> str:
    """Delete a file, if a person agrees."""
    return f"{name}: {tool_context.interrupt('approval')}"


def model() -> ScriptedModel:
    """Return a model that calls the tool for each prompt, and answers its result."""

    def reply(messages: Messages) -> Reply | str:
        return "Fine." if has_tool_result(messages[-1]) else calls(("delete", {"name": "a"}))

    return ScriptedModel(otherwise=reply)


def build(kind: str, manager: AsyncMongoDBSessionManager) -> MultiAgentBase:
    node = make_agent(None, model=model(), agent_id="node", tools=[delete])
    if kind == "swarm":
        node.name = "node"
        return Swarm([node], id="both", session_manager=manager)
    builder = GraphBuilder()
    builder.add_node(node, "only")
    builder.set_graph_id("both")
    builder.set_max_node_executions(5)
    builder.set_session_manager(manager)
    return builder.build()


def answers(result: Any) -> Any:
    return [{"interruptResponse": {"interruptId": found.id, "response": "yes"}} for found in result.interrupts]


@pytest.mark.parametrize("away", [False, True], ids=["server there", "server away"])
@pytest.mark.parametrize("given", [[], GIVEN], ids=["nothing said", "a history"])
async def test_an_agent(sessions: Sessions, mongo_client: MongoClient[Document], given: Any, away: bool) -> None:
    built: list[Agent] = []
    before: dict[str, Any] = {}

    async def fail(outage: ExitStack) -> None:
        async with manager.turn(idempotency_key="request-1"):
            options: Any = {"messages": copy.deepcopy(given), "state": {"visits": [0]}, "conversation_manager": window}
            agent = make_agent(manager, model=model(), tools=[delete], **options)
            built.append(agent)
            before.update(held(agent))
            agent.state.set("visits", [1])
            assert (await agent.invoke_async("not stored")).stop_reason == "interrupt"
            if away:
                outage.enter_context(fail_point(mongo_client, "alwaysOn", AWAY))
            raise HandlerError

    window = SlidingWindowConversationManager(window_size=2)
    async with sessions.manager(write_deadline_s=0.3, retryWrites=False, appname="away") as manager:
        with ExitStack() as outage, pytest.raises(HandlerError):
            await fail(outage)

        (agent,) = built
        async with manager.turn(idempotency_key="request-1") as turn:
            assert not turn.replayed
            assert held(agent) == before
            result = await agent.invoke_async("stored")
            assert result.stop_reason == "interrupt"
        await agent.invoke_async(answers(result))
        await check_resumes_as(sessions, agent, conversation_manager=SlidingWindowConversationManager(window_size=2))
    assert sessions.texts() == [*texts(given), "stored", "", "", "Fine."]
    assert sessions.document()["agents"]["assistant"]["agent_data"]["state"] == {"visits": [0]}
    check_stored(sessions.raw.database)


@pytest.mark.parametrize("kind", ["graph", "swarm"])
@pytest.mark.filterwarnings("ignore::UserWarning")
async def test_a_graph_or_swarm(sessions: Sessions, kind: str) -> None:
    built: list[MultiAgentBase] = []

    async def fail() -> None:
        async with manager.turn(idempotency_key="request-1"):
            built.append(build(kind, manager))
            assert (await built[0].invoke_async("not stored")).status.value == "interrupted"
            raise HandlerError

    async with sessions.manager() as manager:
        with pytest.raises(HandlerError):
            await fail()

        async with manager.turn(idempotency_key="request-1"):
            result = await built[0].invoke_async("stored")
            assert result.status.value == "interrupted"
        result = await built[0].invoke_async(answers(result))
        assert result.status.value == "completed"
    assert sessions.document()["multi_agents"]["both"]["current_task"] == "stored"


@pytest.mark.parametrize("kind", ["graph", "swarm"])
@pytest.mark.filterwarnings("ignore::UserWarning")
async def test_a_graph_or_swarm_whose_interrupt_another_process_answered(sessions: Sessions, kind: str) -> None:
    async with sessions.manager() as manager, sessions.manager() as other:
        source = build(kind, manager)
        async with manager.turn():
            result = await source.invoke_async("one")
        async with other.turn():
            await build(kind, other).invoke_async(answers(result))
        async with manager.turn():
            result = await source.invoke_async("two")
            assert result.status.value == "interrupted"
        result = await source.invoke_async(answers(result))
        assert result.status.value == "completed"


async def test_an_agent_that_was_deleted_since_then_begins_without_messages(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        async with manager.turn():
            agent = make_agent(manager, model=ScriptedModel(otherwise="Fine."), messages=copy.deepcopy(GIVEN))
            await agent.invoke_async("one")
        async with sessions.manager() as other:
            await other.repository.delete_agent(SESSION_ID, agent.agent_id)
        async with manager.turn():
            assert agent.messages == []
            await agent.invoke_async("two")
    assert sessions.texts() == ["two", "Fine."]
