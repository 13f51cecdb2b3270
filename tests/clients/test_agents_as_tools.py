"""Agents as tools of another one, and a harness, on one manager."""

from __future__ import annotations

from strands import Agent
from strands_harness import create_harness

from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent, model_of
from tests.support.models import calls, texts


async def test_agents_as_tools_share_a_manager(sessions: Sessions) -> None:
    experts: dict[int, Agent] = {}
    for number in range(2):
        async with sessions.manager() as manager:
            expert = experts[number] = make_agent(manager, f"42-{number}", agent_id="expert", name="expert")
            asking = calls(("expert", {"input": "What is it?"}))
            boss = make_agent(manager, asking, "done", agent_id="boss", tools=[expert.as_tool(preserve_context=True)])
            await boss.invoke_async("Ask the expert.")

    assert sessions.texts("expert") == ["What is it?", "42-0", "What is it?", "42-1"]
    assert [message["role"] for message in sessions.messages("boss")] == ["user", "assistant"] * 4
    assert texts(model_of(experts[1]).requests[0]) == ["What is it?", "42-0", "What is it?"]


async def test_a_harness_goes_on_in_the_next_manager(sessions: Sessions) -> None:
    models = [model_of(make_agent(None, answer)) for answer in ("a-0", "a-1")]
    for model in models:
        async with sessions.manager() as manager:
            harness = create_harness(model=model, session_manager=manager, agent_id="assistant", callback_handler=None)
            await harness.invoke_async("hello")

    assert sessions.texts() == ["hello", "a-0", "hello", "a-1"]
    # The harness adds a reminder to the latest prompt, for the model alone.
    assert texts(models[1].requests[0])[:2] == ["hello", "a-0"]
