"""The live agents, graphs and swarms of an open session: what they say and hold goes into the journal, without I/O."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Container
from typing import TYPE_CHECKING, Any

from strands.types.content import Message

from ..errors import SessionStoreError
from ..schema import values
from ..schema.messages import has_tool_result, normalized, now
from ..schema.names import check_agent_id
from .capture import (
    LiveAgent,
    Redaction,
    announced_late,
    hand_appended,
    is_held,
    is_stored_already,
    repeats_answer,
    replaced_record,
)
from .guardrails import GUARDRAIL_STOP_REASONS, event_summary, guardrail_event
from .lifetime import SessionLifetime

if TYPE_CHECKING:
    from strands.agent import Agent
    from strands.multiagent.base import MultiAgentBase
    from strands.types.agent import LocalAgent

logger = logging.getLogger(__name__)


class Conversations:
    """Follows every agent, graph and swarm that was built with one session manager.

    Its methods raise `SessionNotOpenError` and `SessionClosedError` when the session is not open.
    """

    def __init__(self, lifetime: SessionLifetime) -> None:
        """Follow nobody yet; the session need not be open."""
        self._lifetime = lifetime
        self._live: dict[str, LiveAgent] = {}
        # Weakly: a graph or swarm holds its manager.
        self._graphs: dict[str, weakref.ref[MultiAgentBase]] = {}
        self._token_counts: dict[str, int] | None = None

    # -- agents

    def initialize(self, agent: LocalAgent, **kwargs: Any) -> None:
        """Restore an agent, or add it as a new one; nothing for an agent object that is followed already.

        Raises:
            CorruptMessageError: One of its stored messages cannot be read.
            SessionException: Another agent object with this id is in use with this manager.
        """
        journal = self._lifetime.journal
        agent_id = check_agent_id(agent.agent_id)
        known = self._live.get(agent_id)
        if known is not None and known.is_same(agent):
            return
        with journal.lock:
            self._lifetime.strands.initialize(agent, **kwargs)
            restored = journal.agents[agent_id]
            live = self._live[agent_id] = LiveAgent(agent, restored)
            if not restored.exists:
                live.capture(agent, final=False)
            restored.release()

    def identify(self, agent: LocalAgent | Agent) -> None:
        """Give an agent's messages that were stored without a tracking id the one that they are to have."""
        with self._lifetime.journal.lock:
            self._live_agent(agent).identify(self._lifetime.session_id)

    def capture(self, agent: LocalAgent, *, final: bool) -> None:
        """Note what changed of an agent: state, window, configuration; metrics, too, when its invocation is over."""
        journal = self._lifetime.journal
        live = self._live_agent(agent)
        with journal.lock:
            if final:
                self._append_unannounced(agent, live)
            if live.capture(agent, final=final, token_counts=self._token_counts if final else None):
                self._token_counts = None

    def set_token_counts(self, input_tokens: int, output_tokens: int) -> None:
        """Give the usage of a model that reports none, for the next final capture.

        Raises:
            ValueError: A negative count.
        """
        self._lifetime.check_not_closed()
        if input_tokens < 0 or output_tokens < 0:
            raise ValueError(f"token counts must not be negative, got {input_tokens!r} and {output_tokens!r}")
        self._token_counts = {
            "inputTokens": input_tokens,
            "outputTokens": output_tokens,
            "totalTokens": input_tokens + output_tokens,
        }

    def restore_again(self, stored_agents: Container[str], changed_graphs: set[str]) -> None:
        """Let everybody hold what the journal has just reloaded; its lock is held.

        Args:
            stored_agents: Ids of the agents that the session has.
            changed_graphs: Ids of the graphs and swarms whose state is another one.
        """
        for agent_id, live in list(self._live.items()):
            del self._live[agent_id]
            self._lifetime.strands.forget(agent_id)
            if (agent := live.agent) is None:
                continue
            if agent_id not in stored_agents:
                agent.messages.clear()
            self.initialize(agent)
        for graph_id in changed_graphs & self._graphs.keys():
            if (graph := self._graphs[graph_id]()) is not None:
                self.initialize_multi_agent(graph)

    def _live_agent(self, agent: LocalAgent | Agent) -> LiveAgent:
        live = self._live.get(agent.agent_id)
        if live is None:
            raise SessionStoreError(
                f"agent {agent.agent_id!r} was not built with this manager of session {self._lifetime.session_id!r}; "
                "pass session_manager=... to it, or call initialize(agent)"
            )
        return live

    # -- messages

    def append_once(self, message: Message, agent: LocalAgent) -> None:
        """Add a message that anybody may have appended before: what is stored already is dropped."""
        journal = self._lifetime.journal
        pending = self._live_agent(agent).journal
        with journal.lock:
            if is_stored_already(agent, pending, message):
                self._log_dropped(agent, "is stored already")
                return
            self.append(message, agent)

    def append(self, message: Message, agent: LocalAgent) -> None:
        """Add a message, and before it those that stand in the agent's history without an event of their own.

        Raises:
            MessageTooLargeError: It is larger than a document may be; a placeholder is stored in its place.
            SessionStoreError: The agent was not built with this manager.
            TypeError: It holds something that cannot be stored; likewise.
            ValueError: It is nested too deeply; likewise.
        """
        journal = self._lifetime.journal
        live = self._live_agent(agent)
        pending = live.journal
        message = normalized(message)
        with journal.lock:
            if not is_held(agent, message):
                self._append_by_hand(message, agent, live)
                return
            self._append_unannounced(agent, live, before=message)
            if (record := announced_late(pending, message)) is not None:
                record.unannounced = False
            elif (record := replaced_record(agent, pending, message)) is not None:
                journal.replace_message(agent.agent_id, record, message)
            elif (record := hand_appended(pending, message)) is not None:
                record.by_hand = False
                journal.replace_message(agent.agent_id, record, message)
            else:
                try:
                    self._lifetime.strands.append_message(message, agent)
                finally:
                    record = pending.records[-1]
            if message["role"] == "assistant":
                pending.latest_assistant = record
            elif not has_tool_result(message):
                pending.latest_assistant = None

    def _append_by_hand(self, message: Message, agent: LocalAgent, live: LiveAgent) -> None:
        if repeats_answer(agent, message):
            self._log_dropped(agent, "repeats the stored answer")
            return
        self._lifetime.strands.append_message({**message}, agent)
        live.journal.records[-1].by_hand = True

    def _append_unannounced(self, agent: LocalAgent, live: LiveAgent, before: Message | None = None) -> None:
        for message in live.unannounced(agent, before):
            self._lifetime.strands.append_message(message, agent)
            live.journal.records[-1].unannounced = True

    def _log_dropped(self, agent: LocalAgent, reason: str) -> None:
        logger.debug(
            "session_id=<%r>, agent_id=<%r> | dropped a message that %s",
            self._lifetime.session_id,
            agent.agent_id,
            reason,
        )

    def update(self, message: Message, agent: LocalAgent, tracking_id: str) -> None:
        """Put a message in the place of the agent's latest one with this tracking id, or add it when there is none."""
        journal = self._lifetime.journal
        records = journal.agents[agent.agent_id].records
        record = next((r for r in reversed(records) if r.message.get("tracking_id") == tracking_id), None)
        if record is None:
            self.append(message, agent)
        else:
            journal.replace_message(agent.agent_id, record, message)

    # -- guardrails

    def redact(self, redact_message: Message, agent: LocalAgent, guardrail: dict[str, Any]) -> None:
        """Replace an agent's latest message, and record the guardrail's intervention.

        Args:
            redact_message: What takes the message's place.
            agent: The agent whose latest message it is.
            guardrail: `action`, `stop_reason` and `guardrail_trace`, as far as they are known.

        Raises:
            SessionException: There is no message to redact.
        """
        journal = self._lifetime.journal
        live = self._live_agent(agent)
        event = guardrail_event(
            action=guardrail.get("action") or "BLOCKED",
            stop_reason=guardrail.get("stop_reason"),
            trace=guardrail.get("guardrail_trace"),
            now=now(),
        )
        event = values.encode(event, where="guardrail_trace", native_dates=True)
        with journal.lock:
            self._append_unannounced(agent, live)
            self._lifetime.strands.redact_latest_message(redact_message, agent)
            record = live.journal.records[-1]
            live.journal.change(record, {"guardrail_event": event})
            summary = values.encode(event_summary(event, record.message_id, agent.agent_id), native_dates=True)
            journal.add_guardrail_event(summary)
            live.redaction = Redaction(record, event, summary)

    def learn_stop_reason(self, agent: LocalAgent | Agent, stop_reason: str) -> None:
        """Add why a model stopped to the record of the redaction just before, where that is what it stopped for."""
        live = self._live.get(agent.agent_id)
        if live is None:
            return
        redaction, live.redaction = live.redaction, None
        if redaction is None or "stop_reason" in redaction.event or stop_reason not in GUARDRAIL_STOP_REASONS:
            return
        journal = self._lifetime.journal
        with journal.lock:
            journal.amend_guardrail_event(redaction.summary, {"stop_reason": stop_reason})
            live.journal.change(redaction.record, {"guardrail_event": {**redaction.event, "stop_reason": stop_reason}})

    # -- graphs and swarms

    def initialize_multi_agent(self, source: MultiAgentBase, **kwargs: Any) -> None:
        """Restore a graph or swarm, or add it as a new one."""
        self._lifetime.strands.initialize_multi_agent(source, **kwargs)
        self._graphs[source.id] = weakref.ref(source)

    def sync_multi_agent(self, source: MultiAgentBase, **kwargs: Any) -> None:
        """Note the state of a graph or swarm."""
        self._lifetime.strands.sync_multi_agent(source, **kwargs)
