"""The playground's agent: what it is told, and the tools it has."""

from __future__ import annotations

import json
from typing import Any

from strands import Agent, ToolContext, tool
from strands.models.model import Model

from mongodb_session_manager import AsyncMongoDBSessionManager

from .calculator import calculate, shown

AGENT_ID = "playground"
SYSTEM_PROMPT = (
    "You are a friendly assistant in a chat playground. Answer briefly, in Markdown where it helps. "
    "Use the calculator for arithmetic. What the user asks you to remember about them goes into the session's metadata "
    "with manage_metadata; what you have to keep for the conversation itself goes into your state with set_state."
)

_MOST_STATE_KEYS = 50
_LONGEST_STATE_KEY = 100
_LONGEST_STATE_VALUE = 2_000


def build_agent(manager: AsyncMongoDBSessionManager, model: Model) -> Agent:
    """Return the agent on an opened session, restored to where the conversation stopped."""
    return Agent(
        model=model,
        agent_id=AGENT_ID,
        name="Playground",
        system_prompt=SYSTEM_PROMPT,
        session_manager=manager,
        tools=[manager.get_metadata_tool(), calculator, set_state, get_state],
        callback_handler=None,
    )


@tool
def calculator(expression: str) -> str:
    """Compute an arithmetic expression exactly.

    Args:
        expression: Such as "(2 + 3) * 4 ** 2" or "sqrt(2) * pi".
    """
    # What it cannot compute is a `ValueError`, which Strands hands to the model as a result that failed.
    return f"Result: {shown(calculate(expression))}"


@tool(context=True)
def set_state(key: str, value: str, tool_context: ToolContext) -> str:
    """Keep a value in your own state, for this conversation.

    Args:
        key: Its name.
        value: What to keep; an empty text removes it.
    """
    state = tool_context.agent.state
    known: dict[str, Any] = state.get() or {}
    if not key.strip() or len(key) > _LONGEST_STATE_KEY:
        raise ValueError(f"invalid key: it must have 1 to {_LONGEST_STATE_KEY} characters")
    if len(value) > _LONGEST_STATE_VALUE:
        raise ValueError(f"invalid value: it must have at most {_LONGEST_STATE_VALUE} characters")
    if not value:
        state.delete(key)
        return f"Removed {key}"
    if key not in known and len(known) >= _MOST_STATE_KEYS:
        raise ValueError(f"invalid key: the state holds {_MOST_STATE_KEYS} values already; remove one first")
    state.set(key, value)
    return f"Stored {key} = {value}"


@tool(context=True)
def get_state(key: str, tool_context: ToolContext) -> str:
    """Read a value from your own state.

    Args:
        key: Its name; "all" for everything.
    """
    known: dict[str, Any] = tool_context.agent.state.get() or {}
    if key == "all":
        return json.dumps(known, ensure_ascii=False, default=str)
    return f"{key} = {known[key]}" if key in known else f"{key} is not set"
