"""What is read of a live Strands agent: states, metrics, model, and whether it holds a message."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from strands.agent import Agent
from strands.telemetry.metrics import EventLoopMetrics
from strands.types.agent import LocalAgent
from strands.types.content import Message

from ..schema import paths, values
from ..schema.agents import STATE_FIELDS, StoredAgent


def model_id(agent: LocalAgent) -> str | None:
    """Return the identifier of the agent's model, None for a model without one."""
    config = getattr(agent.model, "config", None)
    if config is None:
        get_config = getattr(agent.model, "get_config", None)
        config = get_config() if callable(get_config) else None
    found = config.get("model_id") if isinstance(config, dict) else getattr(config, "model_id", None)
    return None if found is None else str(found)


def states_of(agent: LocalAgent) -> tuple[object, ...] | None:
    """Return what tells whether an agent's states changed without reading them; None where nothing tells.

    Strands counts the changes of a state, from 0 for each new object, so the object belongs to the count. It is the
    object and not its `id()`, which a later one may get again.
    """
    try:
        state = _Same(agent.state), agent.state._get_version()
    except AttributeError:  # a state of the user's own
        return None
    if not isinstance(agent, Agent):
        return state
    interrupts = agent._interrupt_state
    manager_state, model_state = agent.conversation_manager.get_state(), agent._model_state
    if not all(isinstance(value, str | int | None) for value in manager_state.values()):
        manager_state = copy.deepcopy(manager_state)
    return (
        *state,
        _Same(interrupts),
        interrupts._get_version(),
        manager_state,
        copy.deepcopy(model_state) if model_state else None,
    )


def is_restored(agent: LocalAgent, stored: StoredAgent) -> bool:
    """Tell whether an agent's states are what is stored of them, so that nothing has to be filled in."""
    if stored.legacy or not isinstance(agent, Agent) or not all(stored.data.get(name) for name in STATE_FIELDS[1:]):
        return False
    kept = stored.data[paths.MANAGER_STATE]
    return paths.STATE in stored.data and values.decode(kept) == agent.conversation_manager.get_state()


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """Equal to another one around the very same object."""

    value: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


def metrics_of(agent: LocalAgent) -> EventLoopMetrics | None:
    """Return what the agent's event loop has measured, None for an agent without one."""
    # A BidiAgent has the attribute, too, and raises when it is asked for.
    return agent.event_loop_metrics if isinstance(agent, Agent) else None


def is_held(agent: LocalAgent, message: Message) -> bool:
    """Tell whether the agent itself holds this very message, as it does when Strands added it."""
    return any(own is message for own in reversed(agent.messages))


def restored_by_manager(agent: LocalAgent) -> list[object]:
    """Return what the conversation manager's own state holds, a summary for instance."""
    if not isinstance(agent, Agent):
        return []
    return [value for value in agent.conversation_manager.get_state().values() if isinstance(value, dict)]
