"""Agents for tests: real ones, on a scripted model, silent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from strands import Agent

from tests.support.models import Scripted, ScriptedModel

AGENT_ID = "assistant"


def make_agent(session_manager: Any = None, *script: Scripted, agent_id: str = AGENT_ID, **agent_kwargs: Any) -> Agent:
    """Build an Agent that prints nothing.

    Args:
        session_manager: Session manager, or None.
        *script: Replies of its `ScriptedModel`; leave out when `model=` is given.
        agent_id: Agent id.
        **agent_kwargs: Passed on to `Agent`.
    """
    model = agent_kwargs.pop("model", None) or ScriptedModel(*script)
    return Agent(model=model, agent_id=agent_id, session_manager=session_manager, callback_handler=None, **agent_kwargs)


def model_of(agent: Agent) -> ScriptedModel:
    """Return the agent's scripted model, to read its `requests`."""
    assert isinstance(agent.model, ScriptedModel)
    return agent.model


async def streamed(agent: Agent, prompt: Any, **kwargs: Any) -> str:
    """Run one turn through `stream_async` and return the text as it was streamed."""
    return "".join([part async for part in stream_of(agent, prompt, **kwargs)])


async def stream_of(agent: Agent, prompt: Any, **kwargs: Any) -> AsyncIterator[str]:
    """Yield the text of one turn as it is streamed."""
    async for event in agent.stream_async(prompt, **kwargs):
        if "data" in event:
            yield event["data"]
