"""System prompt and temperature that a user chose for one conversation.

They are kept as part of the agent's `prompt_metadata`, under a key of the playground's own: so they are stored with the
session, come along with a fork, and are out of the model's reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager

from ..models import with_temperature
from ..web.inputs import Input

KEY = "playground"
LONGEST_SYSTEM_PROMPT = 20_000


class Tuning(Input):
    """What a conversation changes of its agent; None leaves the agent's own."""

    system_prompt: (
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_SYSTEM_PROMPT)] | None
    ) = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None


def tuning_of(prompt_metadata: object) -> Tuning:
    """Return what an agent's `prompt_metadata` says; nothing where it does not."""
    kept = prompt_metadata.get(KEY) if isinstance(prompt_metadata, Mapping) else None
    try:
        return Tuning.model_validate(kept or {})
    except ValidationError:
        return Tuning()  # another program's


def with_tuning(prompt_metadata: object, tuning: Tuning) -> dict[str, Any] | None:
    """Return an agent's `prompt_metadata` that says it; None when nothing is left to say."""
    others = dict(prompt_metadata) if isinstance(prompt_metadata, Mapping) else {}
    others.pop(KEY, None)
    chosen = tuning.model_dump(exclude_none=True)
    return {**others, **({KEY: chosen} if chosen else {})} or None


async def tune(agent: Agent, manager: AsyncMongoDBSessionManager, asked: Tuning | None) -> None:
    """Give an agent what its conversation chose.

    Args:
        agent: The agent, restored.
        manager: Its session.
        asked: A new choice, which is stored; None takes the stored one.

    Raises:
        ValueError: The agent's model takes no temperature.
    """
    config = await manager.get_agent_config(agent.agent_id) or {}
    stored = config.get("prompt_metadata")
    tuning = tuning_of(stored) if asked is None else asked
    if tuning.temperature is not None:
        agent.model = with_temperature(agent.model, tuning.temperature)
    if tuning.system_prompt is not None:
        agent.system_prompt = tuning.system_prompt
    if asked is not None and asked != tuning_of(stored):
        await manager.set_prompt_metadata(agent.agent_id, with_tuning(stored, asked))
