"""Which of Strands' lifecycle events a session manager listens to, and what it does then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from strands.bidi.agent import BidiAgent
from strands.bidi.hooks import BidiAgentStopEvent, BidiBeforeConnectionRestartEvent
from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterMultiAgentInvocationEvent,
    AfterNodeCallEvent,
    AgentInitializedEvent,
    BeforeInvocationEvent,
    HookOrder,
    HookRegistry,
    MessageAddedEvent,
    MessageUpdatedEvent,
    MultiAgentInitializedEvent,
)
from strands.session import RepositorySessionManager

from .conversations import Conversations


class LifecycleEvents:
    """The handlers of one agent's, graph's or swarm's events."""

    def __init__(
        self,
        manager: RepositorySessionManager,
        conversations: Conversations,
        *,
        each_message: bool,
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        """Handle events on behalf of a manager.

        Args:
            manager: Its public methods are called where they do what an event asks for.
            conversations: What only events ask for.
            each_message: Write every message when it is added, and not the whole invocation at its end.
            flush: Writes what is pending.
        """
        self._manager = manager
        self._conversations = conversations
        self._each_message = each_message
        self._flush = flush

    def register(self, registry: HookRegistry) -> None:
        """Register for every event that changes what is stored."""
        registry.add_callback(AgentInitializedEvent, self._on_agent_initialized)
        registry.add_callback(BeforeInvocationEvent, self._on_before_invocation)
        registry.add_callback(MessageAddedEvent, self._on_message_added)
        registry.add_callback(MessageUpdatedEvent, self._on_message_updated)
        registry.add_callback(AfterModelCallEvent, self._on_after_model_call)
        registry.add_callback(AfterInvocationEvent, self._on_after_invocation)
        # Last, so that what users' own stop hooks change is stored, too.
        registry.add_callback(BidiAgentStopEvent, self._on_bidi_pause, order=HookOrder.SDK_LAST)
        registry.add_callback(BidiBeforeConnectionRestartEvent, self._on_bidi_pause, order=HookOrder.SDK_LAST)
        registry.add_callback(MultiAgentInitializedEvent, self._on_multi_agent_initialized)
        registry.add_callback(AfterNodeCallEvent, self._on_after_node_call)
        registry.add_callback(AfterMultiAgentInvocationEvent, self._on_after_multi_agent_invocation)

    def _on_agent_initialized(self, event: AgentInitializedEvent[Any]) -> None:
        self._manager.initialize(event.agent)

    def _on_before_invocation(self, event: BeforeInvocationEvent) -> None:
        self._conversations.identify(event.agent)

    async def _on_message_added(self, event: MessageAddedEvent[Any]) -> None:
        flush_now = self._flushes_messages_of(event.agent)
        try:
            self._conversations.append(event.message, event.agent)
        finally:
            # Also when the message cannot be stored: a placeholder holds its place, and that has to be written.
            if flush_now:
                self._conversations.capture(event.agent, final=False)
        if flush_now:
            await self._flush()

    async def _on_message_updated(self, event: MessageUpdatedEvent[Any]) -> None:
        self._conversations.update(event.message, event.agent, event.tracking_id)
        self._conversations.capture(event.agent, final=False)
        if self._flushes_messages_of(event.agent):
            await self._flush()

    def _flushes_messages_of(self, agent: object) -> bool:
        # A bidirectional conversation has one invocation from its start to its end.
        return self._each_message or isinstance(agent, BidiAgent)

    def _on_after_model_call(self, event: AfterModelCallEvent) -> None:
        if event.stop_response is not None:
            self._conversations.learn_stop_reason(event.agent, event.stop_response.stop_reason)

    async def _on_after_invocation(self, event: AfterInvocationEvent) -> None:
        self._manager.sync_agent(event.agent)
        await self._flush()

    async def _on_bidi_pause(self, event: BidiAgentStopEvent | BidiBeforeConnectionRestartEvent) -> None:
        self._manager.sync_agent(event.agent)
        await self._flush()

    def _on_multi_agent_initialized(self, event: MultiAgentInitializedEvent) -> None:
        self._manager.initialize_multi_agent(event.source)

    async def _on_after_node_call(self, event: AfterNodeCallEvent) -> None:
        self._manager.sync_multi_agent(event.source)
        if self._each_message:
            await self._flush()

    async def _on_after_multi_agent_invocation(self, event: AfterMultiAgentInvocationEvent) -> None:
        self._manager.sync_multi_agent(event.source)
        await self._flush()
