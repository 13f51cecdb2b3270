"""Resumes sessions as another process would, and compares what an agent holds then with what it held."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from strands import Agent
from strands.types.content import Message, Messages

from tests.fixtures.sessions import SESSION_ID, Sessions
from tests.support.agents import AGENT_ID, make_agent
from tests.support.models import Scripted, check_history


def held(agent: Agent) -> dict[str, Any]:
    """Return what an agent holds: messages, and the state of itself, its conversation manager, interrupts and model."""
    return copy.deepcopy(agent.take_snapshot(preset="session").data)


async def resume(
    sessions: Sessions,
    *script: Scripted,
    session_id: str = SESSION_ID,
    agent_id: str = AGENT_ID,
    manager_options: dict[str, Any] | None = None,
    **agent_kwargs: Any,
) -> Agent:
    """Return the agent that another manager resumes; that manager is closed."""
    async with sessions.manager(session_id, **(manager_options or {})) as manager:
        return make_agent(manager, *script, agent_id=agent_id, **agent_kwargs)


async def check_resumes_as(sessions: Sessions, live: Agent, **agent_kwargs: Any) -> Agent:
    """Assert that a resumed agent holds what the live one holds, and return it."""
    resumed = await resume(sessions, agent_id=live.agent_id, **agent_kwargs)
    expected, found = held(live), held(resumed)
    check_same_messages(expected.pop("messages"), found.pop("messages"))
    assert found == expected
    return resumed


def check_same_messages(live: Sequence[Message], resumed: Sequence[Message], *, synthetic: Sequence[int] = ()) -> None:
    """Assert that messages are equal, with all their keys; those that Strands made up may differ in their id."""
    assert [_without_id(m) if i in synthetic else m for i, m in enumerate(resumed)] == [
        _without_id(m) if i in synthetic else m for i, m in enumerate(live)
    ]


def _without_id(message: Message) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "tracking_id"}


def check_accepted(messages: Messages, prompt: str = "And now?") -> None:
    """Assert that a strict model would accept a prompt after these messages."""
    check_history([*messages, {"role": "user", "content": [{"text": prompt}]}])
