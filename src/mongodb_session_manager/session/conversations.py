"""The live agents, graphs and swarms of an open session: what they say and hold is noted in memory, without I/O."""

from __future__ import annotations

import weakref
from collections.abc import Container
from typing import TYPE_CHECKING, Any

from strands.types.content import Message

from .. import tracing
from ..errors import SessionStoreError
from ..schema.messages import now
from ..schema.names import check_agent_id
from ..schema.numbers import check_count
from .beginning import AgentBeginning, GraphBeginning, forget_interrupts
from .lifetime import SessionLifetime
from .pending_agent import PendingAgent
from .tracker import AgentTracker, Invocation

if TYPE_CHECKING:
    from strands.agent import Agent
    from strands.multiagent.base import MultiAgentBase
    from strands.types.agent import LocalAgent


class Conversations:
    """Follows every agent, graph and swarm that was built with one session manager.

    Its methods raise `SessionNotOpenError` and `SessionClosedError` when the session is not open.

    Attributes:
        are_stale: Something live holds what a failed turn left; nothing of that is noted until it is restored.
    """

    def __init__(self, lifetime: SessionLifetime) -> None:
        """Follow nothing yet; the session need not be open."""
        self._lifetime = lifetime
        self._trackers: dict[str, AgentTracker] = {}
        # Weakly: a graph or swarm holds its manager.
        self._graphs: dict[str, weakref.ref[MultiAgentBase]] = {}
        # Of those that were built in a turn, where nothing of them was stored then.
        self._graph_beginnings: dict[str, GraphBeginning] = {}
        self._token_counts: dict[str, int] | None = None
        self.are_stale = False

    def become_stale(self) -> None:
        """Note that everything that is live now holds what a failed turn left."""
        with self._lifetime.changes.lock:
            self.are_stale = True
            for tracker in self._trackers.values():
                tracker.is_stale = True

    def is_stale(self, agent_id: str) -> bool:
        """Tell whether the agent of that id holds what a failed turn left; one that was built since then does not."""
        tracker = self._trackers.get(agent_id)
        return tracker is not None and tracker.is_stale

    def check_current(self, agent_id: str | None = None) -> None:
        """Raise `SessionStoreError` while an agent, or without an id anything, holds what a failed turn left."""
        if self.are_stale if agent_id is None else self.is_stale(agent_id):
            raise SessionStoreError(
                f"agents of session {self._lifetime.session_id!r} hold what a failed turn left, because MongoDB was "
                "away when it ended; their next invocation or turn() restores them"
            )

    # -- agents

    def initialize(self, agent: LocalAgent, **kwargs: Any) -> None:
        """Restore an agent, or add it as a new one; nothing for an agent object that is followed already.

        Raises:
            CorruptMessageError: One of its stored messages cannot be read.
            SessionException: Another agent object with this id is in use with this manager.
        """
        agent_id = check_agent_id(agent.agent_id)
        known = self._trackers.get(agent_id)
        if known is not None and known.is_same(agent):
            return
        changes, restorer = self._lifetime.changes, self._lifetime.restorer
        with tracing.span("restore_agent", *self._lifetime.address) as span:
            span.note(tracing.AGENT_ID, agent_id)
            with changes.lock:
                stored = restorer.restore(agent, **kwargs)
                tracker = self._trackers[agent_id] = AgentTracker(agent, changes, changes.agents[agent_id], stored)
                if stored is None:
                    if self._lifetime.lease() is not None:
                        tracker.beginning = AgentBeginning(agent)
                    tracker.capture(agent, final=False)
                restorer.forget_loaded(agent_id)
            span.note(tracing.IS_NEW, stored is None)
            span.note(tracing.MESSAGES, len(agent.messages))

    def tracker(self, agent: LocalAgent | Agent) -> AgentTracker:
        """Return the tracker of an agent; one that was not built with the manager is added when its id is new.

        Raises:
            SessionStoreError: The session has an agent of that id, which has to be restored first; or this one has.
        """
        session = self._lifetime.session
        tracker = self._trackers.get(agent.agent_id)
        if tracker is not None and not tracker.is_stale and tracker.is_same(agent):
            return tracker
        self.check_current(agent.agent_id)
        narrowed = session.agent_ids is not None and agent.agent_id not in session.agent_ids
        if tracker is not None or agent.agent_id in session.agents or narrowed:
            raise SessionStoreError(
                f"agent {agent.agent_id!r} was not built with this manager of session {session.session_id!r}, which "
                "has an agent of that id already; pass session_manager=... to it, or call initialize(agent)"
            )
        changes = self._lifetime.changes
        with changes.lock:
            pending = changes.agents[agent.agent_id] = PendingAgent(check_agent_id(agent.agent_id))
            tracker = self._trackers[agent.agent_id] = AgentTracker(agent, changes, pending, None)
            tracker.append_found(agent)
        return tracker

    def identify(self, agent: LocalAgent | Agent) -> None:
        """Give stored messages without a tracking id the one that they are to have, before an invocation."""
        with self._lifetime.changes.lock:
            self.tracker(agent).identify(agent)

    def begin_invocation(self, agent: LocalAgent | Agent) -> None:
        """Note that an invocation of an agent is under way."""
        with self._lifetime.changes.lock:
            self.tracker(agent).invocation = Invocation.UNDER_WAY

    def end_invocation(self, agent: LocalAgent | Agent, error: BaseException | None) -> None:
        """Note that an agent's invocation is over, and what ended it when that was an error."""
        with self._lifetime.changes.lock:
            if (stale := self._trackers.get(agent.agent_id)) is not None and stale.is_stale and stale.is_same(agent):
                stale.invocation = Invocation.CAPTURED  # It is not noted how it ended, but that it did.
            self.tracker(agent).invocation = Invocation.ENDED
            if isinstance(error, Exception):
                self._lifetime.changes.add_error(agent.agent_id, error, now(), tracing.trace_id(agent))

    def live_agent(self, agent_id: str) -> LocalAgent | None:
        """Return the agent of that id that was built with the manager, None when nothing uses it any more."""
        tracker = self._trackers.get(agent_id)
        return None if tracker is None else tracker.agent

    def live_graph(self, multi_agent_id: str) -> MultiAgentBase | None:
        """Return the graph or swarm of that id that was built with the manager; likewise."""
        reference = self._graphs.get(multi_agent_id)
        return None if reference is None else reference()

    def is_in_invocation(self, agent: LocalAgent) -> bool:
        """Tell whether an invocation of the agent is under way, which flushes by itself."""
        tracker = self._trackers.get(agent.agent_id)
        return tracker is not None and tracker.invocation is Invocation.UNDER_WAY

    def capture(self, agent: LocalAgent, *, final: bool) -> None:
        """Note what changed of an agent: state, window, configuration; metrics, too, when its invocation is over."""
        with self._lifetime.changes.lock:
            self._capture(self.tracker(agent), agent, final=final)

    def _capture(self, tracker: AgentTracker, agent: LocalAgent | Agent, *, final: bool) -> None:
        if final:
            tracker.append_found(agent)
        if tracker.capture(agent, final=final, token_counts=self._token_counts if final else None):
            self._token_counts = None

    def capture_all(self) -> None:
        """Note what changed of every live agent: by code outside of its invocations, or in one that has no end so far.

        The end of an invocation may come too late: where a reader leaves a stream, Python may close the generator after
        the session.

        Raises:
            TypeError, ValueError: Something of an agent cannot be stored; all the rest is noted.
        """
        problem: Exception | None = None
        with self._lifetime.changes.lock:
            for tracker in list(self._trackers.values()):
                if (agent := tracker.agent) is not None and not tracker.is_stale:
                    try:
                        if tracker.invocation is Invocation.CAPTURED:
                            tracker.capture_outside(agent)
                        else:  # One that its reader left, or whose end a hook broke off.
                            self._capture(tracker, agent, final=True)
                    except Exception as error:
                        problem = problem or error
        if problem is not None:
            raise problem

    def set_token_counts(self, input_tokens: int, output_tokens: int) -> None:
        """Give the usage of a model that reports none, for the next final capture.

        Raises:
            TypeError: A count is no integer.
            ValueError: A negative count, or one beyond 2**53.
        """
        self._lifetime.check_not_closed()
        given, answered = check_count("input_tokens", input_tokens), check_count("output_tokens", output_tokens)
        self._token_counts = {"inputTokens": given, "outputTokens": answered, "totalTokens": given + answered}

    def restore_again(
        self, stored_agents: Container[str], changed_graphs: set[str], *, only_stale: bool = False
    ) -> None:
        """Let everything live hold what was just loaded anew; the lock of the changes is held.

        Args:
            stored_agents: Ids of the agents that the session has.
            changed_graphs: Ids of the graphs and swarms whose state is another one.
            only_stale: The other agents hold that already.
        """
        for agent_id, tracker in list(self._trackers.items()):
            if only_stale and not tracker.is_stale:
                self._lifetime.restorer.forget_loaded(agent_id)
                continue
            del self._trackers[agent_id]
            pending = self._lifetime.changes.agents.pop(agent_id, None)
            if (agent := tracker.agent) is None:
                continue
            if agent_id not in stored_agents:
                if tracker.beginning is not None and pending is not None and not pending.exists:
                    tracker.beginning.restore(agent)
                else:  # It was deleted.
                    agent.messages.clear()
            self.initialize(agent)
            if tracker.invocation is Invocation.UNDER_WAY:
                self._trackers[agent_id].invocation = Invocation.UNDER_WAY
        for graph_id in changed_graphs & self._graphs.keys():
            if (graph := self._graphs[graph_id]()) is not None:
                forget_interrupts(graph)
                if self._lifetime.restorer.graph_state(graph_id) is None and graph_id in self._graph_beginnings:
                    self._graph_beginnings[graph_id].restore(graph)
                self.initialize_multi_agent(graph)
        self.are_stale = False

    # -- messages

    def append_once(self, message: Message, agent: LocalAgent) -> None:
        """Add a message that may have been appended before: what is stored already is dropped."""
        with self._lifetime.changes.lock:
            self.tracker(agent).append_once(message, agent)

    def append(self, message: Message, agent: LocalAgent) -> None:
        """Add a message, and before it those that stand in the agent's history without an event of their own.

        Raises:
            MessageTooLargeError: It is larger than a document may be; a note is stored for its largest blocks.
            SessionStoreError: The session has an agent of that id, which has to be restored first.
            TypeError: It holds something that cannot be stored; likewise.
            ValueError: It is nested too deeply; likewise.
        """
        with self._lifetime.changes.lock:
            self.tracker(agent).append(message, agent)

    def append_unheard(self, agent: LocalAgent | Agent) -> bool:
        """Add what stands at the end of an agent's history without an event; True when there was something."""
        with self._lifetime.changes.lock:
            return self.tracker(agent).append_unheard(agent)

    def update(self, message: Message, agent: LocalAgent, tracking_id: str) -> None:
        """Put a message in the place of the agent's latest one with this tracking id, or add it when there is none."""
        with self._lifetime.changes.lock:
            self.tracker(agent).update(message, agent, tracking_id)

    def redact(self, message: Message, agent: LocalAgent, guardrail: dict[str, Any]) -> None:
        """Replace an agent's latest message, and record the guardrail's intervention; see `AgentTracker.redact`."""
        with self._lifetime.changes.lock:
            self.tracker(agent).redact(message, agent, guardrail)

    def learn_stop_reason(self, agent: LocalAgent | Agent, stop_reason: str) -> None:
        """Add why a model stopped to the record of the redaction just before, where that is what it stopped for."""
        if (tracker := self._trackers.get(agent.agent_id)) is not None and not tracker.is_stale:
            with self._lifetime.changes.lock:
                tracker.learn_stop_reason(stop_reason)

    # -- graphs and swarms

    def initialize_multi_agent(self, source: MultiAgentBase, **kwargs: Any) -> None:
        """Restore a graph or swarm, or add it as a new one."""
        with tracing.span("restore_multi_agent", *self._lifetime.address) as span:
            span.note(tracing.MULTI_AGENT_ID, source.id)
            with self._lifetime.changes.lock:
                if self._lifetime.lease() is not None and self._lifetime.restorer.graph_state(source.id) is None:
                    self._graph_beginnings[source.id] = GraphBeginning(source)
                self._lifetime.restorer.initialize_multi_agent(source, **kwargs)
                self._graphs[source.id] = weakref.ref(source)

    def sync_multi_agent(self, source: MultiAgentBase) -> None:
        """Note the state of a graph or swarm."""
        self.check_current()
        with self._lifetime.changes.lock:
            self._lifetime.changes.set_graph(source.id, source.serialize_state())
