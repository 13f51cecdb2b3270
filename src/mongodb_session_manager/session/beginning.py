"""Taking live agents, graphs and swarms back: to what they were built as, where nothing of them is stored."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from strands.agent import Agent
from strands.agent.state import AgentState
from strands.interrupt import _InterruptState
from strands.types.agent import LocalAgent
from strands.types.session import SessionAgent

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase


class AgentBeginning:
    """The messages and states of an agent that was built in a turn."""

    def __init__(self, agent: LocalAgent) -> None:
        """Keep what an agent holds."""
        self._messages = copy.deepcopy(agent.messages)
        self._states = copy.deepcopy(SessionAgent.from_agent(agent))

    def restore(self, agent: LocalAgent) -> None:
        """Let the agent hold it again."""
        states = copy.deepcopy(self._states)
        agent.messages[:] = copy.deepcopy(self._messages)
        agent.state = AgentState(states.state)
        states.initialize_internal_state(agent)
        if isinstance(agent, Agent):
            agent.conversation_manager.restore_from_session(states.conversation_manager_state)


class GraphBeginning:
    """The state of a graph or swarm that was built in a turn."""

    def __init__(self, source: MultiAgentBase) -> None:
        """Keep the state that a graph or swarm has."""
        self._state = copy.deepcopy(source.serialize_state())

    def restore(self, source: MultiAgentBase) -> None:
        """Let the graph or swarm have it again."""
        source.deserialize_state(copy.deepcopy(self._state))


def forget_interrupts(source: MultiAgentBase) -> None:
    """Let the nodes of a graph or swarm wait for no answers: those that are to wait are told by its state.

    Strands leaves what its nodes wait for as it is when it restores a state, since it does so with new ones only.
    """
    for node in getattr(source, "nodes", {}).values():
        if isinstance(node.executor, Agent):
            node.executor._interrupt_state = _InterruptState()
        elif hasattr(node.executor, "nodes"):
            node.executor._interrupt_state = _InterruptState()
            forget_interrupts(node.executor)
