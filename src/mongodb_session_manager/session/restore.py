"""Strands' own session logic, run on the journal: numbering, restoring, redaction, repair of tool-use pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strands.agent import Agent
from strands.session import RepositorySessionManager
from strands.types.content import Message

from ..schema import values
from .journal import Journal

if TYPE_CHECKING:
    from strands.types.agent import LocalAgent


class RestoringSessionManager(RepositorySessionManager):
    """Strands' session manager, with what it gets wrong about resumed windows put right.

    It inserts the conversation manager's own messages (a summary) before everything stored, where a live agent may
    hold pinned messages before them; and it cannot resume an agent whose conversation manager left no state.
    """

    def __init__(self, session_id: str, journal: Journal) -> None:
        """Work on the journal; no I/O."""
        super().__init__(session_id=session_id, session_repository=journal)
        self._journal = journal
        self._restoring: str | None = None

    def initialize(self, agent: LocalAgent, **kwargs: Any) -> None:
        """Restore an agent, or add it; after an error the agent may be built again."""
        agent_id = agent.agent_id
        is_second = agent_id in self._latest_agent_message
        stored = self._journal.session.agents.get(agent_id)
        if stored is not None and isinstance(agent, Agent) and not stored.data.get("conversation_manager_state"):
            stored.data["conversation_manager_state"] = agent.conversation_manager.get_state()
        if stored is not None and isinstance(agent, Agent) and "state" not in stored.data:
            # A fork leaves out a state that belongs to messages which stayed behind; the caller's stands.
            stored.data["state"] = values.encode(agent.state.get(), where="state")
        self._restoring = agent_id
        try:
            super().initialize(agent, **kwargs)
        except BaseException:
            if not is_second:
                self._latest_agent_message.pop(agent_id, None)
                self._journal.agents.pop(agent_id, None)
            raise
        finally:
            self._restoring = None

    def reloaded(self) -> None:
        """Take note that the session was read anew: what others stored meanwhile counts, also when it was made here."""
        self._is_new_session = False

    def forget(self, agent_id: str) -> None:
        """Let an agent be restored once more."""
        self._latest_agent_message.pop(agent_id, None)
        self._held_records.pop(agent_id, None)
        self._journal.agents.pop(agent_id, None)

    def _fix_broken_tool_use(self, messages: list[Message]) -> list[Message]:
        """Put the messages in the order of the live window, then repair what is broken."""
        agent = self._journal.agents.get(self._restoring or "")
        if agent is not None and agent.loaded is not None and len(messages) > len(agent.records):
            stored = {id(record.message) for record in agent.records}
            own = [message for message in messages if id(message) not in stored]
            rest = [message for message in messages if id(message) in stored]
            # A conversation manager that keeps no trace of its message in its state has it stored with the others.
            own = [message for message in own if not any(_say_the_same(message, other) for other in rest)]
            head = agent.loaded.window_head
            messages = [*rest[:head], *own, *rest[head:]]
        return super()._fix_broken_tool_use(messages)


def _say_the_same(message: Message, other: Message) -> bool:
    return message["role"] == other["role"] and message["content"] == other["content"]
