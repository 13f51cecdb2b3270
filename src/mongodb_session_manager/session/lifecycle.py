"""Which of Strands' lifecycle events a session manager listens to, and what it does then.

Before anything acts on what was said, it is stored: what a person said before the model is called, an answer that calls
tools before they run, their results before the next call. The last answer of an invocation is acted on when the
invocation returns, and is stored with the state that belongs to it, in one update.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from strands.agent import Agent
from strands.bidi.agent import BidiAgent
from strands.bidi.hooks import BidiAgentStopEvent, BidiBeforeConnectionRestartEvent
from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterMultiAgentInvocationEvent,
    AfterNodeCallEvent,
    AgentInitializedEvent,
    BeforeInvocationEvent,
    BeforeModelCallEvent,
    BeforeMultiAgentInvocationEvent,
    HookOrder,
    HookRegistry,
    MessageAddedEvent,
    MessageUpdatedEvent,
    MultiAgentInitializedEvent,
)
from strands.session import RepositorySessionManager
from strands.tools._tool_helpers import generate_missing_tool_result_content
from strands.types.content import Message

from ..errors import SessionClosedError, SessionStoreError
from ..runtime.cancellation import KEPT, cleaning_up
from ..schema.messages import has_tool_result
from .conversations import Conversations
from .failures import is_of_the_store, original

ANSWER_WAIT_S = 0.1
"""How long an answer waits for the end of its invocation, in seconds, before it is written without. A reader that stops
reading holds the invocation at its last event."""

_FIRST, _LAST = float("-inf"), float("inf")
# Before and after the hooks of everybody else, any of which may raise, so that those behind it are not called.


class LifecycleEvents:
    """The handlers of one agent's, graph's or swarm's events."""

    def __init__(
        self,
        manager: RepositorySessionManager,
        conversations: Conversations,
        *,
        each_message: bool,
        prepare: Callable[[object], Awaitable[bool]],
        flush: Callable[[], Awaitable[None]],
        flush_soon: Callable[[], None],
    ) -> None:
        """Handle events on behalf of a manager.

        Args:
            manager: Its public methods are called where they do what an event asks for.
            conversations: What only events ask for.
            each_message: Write what was said before it is acted on, and not the whole invocation at its end.
            prepare: Opens the session where that was left to the first invocation of what it is given, and tells
                whether this is that one.
            flush: Writes what is pending.
            flush_soon: Starts doing so in the background.
        """
        self._manager = manager
        self._conversations = conversations
        self._each_message = each_message
        self._prepare = prepare
        self._flush = flush
        self._flush_soon = flush_soon
        self._timer: asyncio.TimerHandle | None = None
        # Of each invocation under way, by the id of its agent or graph: the error that its caller was handling.
        self._handled_before: dict[int, BaseException | None] = {}

    def register(self, registry: HookRegistry) -> None:
        """Register for every event that changes what is stored."""
        registry.add_callback(AgentInitializedEvent, self._on_agent_initialized)
        # First, so that other hooks see the restored agent.
        registry.add_callback(BeforeInvocationEvent, self._on_before_invocation, order=HookOrder.SDK_FIRST)
        registry.add_callback(BeforeInvocationEvent, self._on_invocation_begun, order=_LAST)
        registry.add_callback(MessageAddedEvent, self._on_message_added)
        registry.add_callback(MessageUpdatedEvent, self._on_message_updated)
        if self._each_message:
            registry.add_callback(BeforeModelCallEvent, self._on_before_model_call, order=_LAST)
        registry.add_callback(AfterModelCallEvent, self._on_after_model_call)
        registry.add_callback(AfterInvocationEvent, self._on_invocation_over, order=_FIRST)
        # Last, so that what users' own hooks change at the end is stored, too.
        registry.add_callback(AfterInvocationEvent, self._on_after_invocation, order=HookOrder.SDK_LAST)
        registry.add_callback(BidiAgentStopEvent, self._on_after_invocation, order=HookOrder.SDK_LAST)
        registry.add_callback(BidiBeforeConnectionRestartEvent, self._on_after_invocation, order=HookOrder.SDK_LAST)
        registry.add_callback(MultiAgentInitializedEvent, self._on_multi_agent_initialized)
        registry.add_callback(BeforeMultiAgentInvocationEvent, self._on_before_multi_agent, order=HookOrder.SDK_FIRST)
        registry.add_callback(AfterNodeCallEvent, self._on_after_node_call)
        registry.add_callback(AfterMultiAgentInvocationEvent, self._on_multi_agent_over, order=_FIRST)
        registry.add_callback(
            AfterMultiAgentInvocationEvent, self._on_after_multi_agent_invocation, order=HookOrder.SDK_LAST
        )

    def _on_agent_initialized(self, event: AgentInitializedEvent[Any]) -> None:
        self._manager.initialize(event.agent)

    async def _on_before_invocation(self, event: BeforeInvocationEvent) -> None:
        self._begin(event.agent)
        was_restored = await self._prepare(event.agent)
        self._conversations.identify(event.agent)
        if was_restored and isinstance(event.agent, Agent):
            await _catch_up(event.agent, event.messages)

    def _on_invocation_begun(self, event: BeforeInvocationEvent) -> None:
        # Not before: after a hook that raises Strands tells of no end.
        self._conversations.begin_invocation(event.agent)

    async def _on_message_added(self, event: MessageAddedEvent[Any]) -> None:
        if self._answers_what_was_left(event.agent, event.message):
            await self._prepare(event.agent)
            await _catch_up(event.agent, (event.message,))
            return
        is_acted_on = self._is_acted_on(event.agent, event.message)
        try:
            self._conversations.append(event.message, event.agent)
        finally:
            # Also when the message cannot be stored: what can be is noted, and that has to be written.
            if is_acted_on:
                self._conversations.capture(event.agent, final=False)
        if is_acted_on:
            await self._flush_now()
        elif _is_answer(event.message):
            self._flush_answer(event.agent)

    def _answers_what_was_left(self, agent: Any, message: Message) -> bool:
        """Tell whether Strands answers calls that a failed turn left, which it does before it begins an invocation."""
        conversations = self._conversations
        is_left = conversations.is_stale(agent.agent_id) and not conversations.is_in_invocation(agent)
        return is_left and isinstance(agent, Agent) and has_tool_result(message)

    def _is_acted_on(self, agent: Any, message: Mapping[str, Any]) -> bool:
        """Tell whether anything acts on a message but the end of the invocation."""
        if not self._flushes_messages_of(agent):
            return False
        if isinstance(agent, BidiAgent) or not _is_answer(message):
            return True
        # What code makes of a tool that it calls directly has no invocation.
        return not self._conversations.is_in_invocation(agent)

    def _flush_answer(self, agent: Any) -> None:
        """Write an answer in the background at once outside of an invocation, else if that does not end soon."""

        def capture() -> None:
            self._conversations.capture(agent, final=False)

        if not self._conversations.is_in_invocation(agent):
            capture()
            self._flush_soon()
        elif self._each_message:
            self._flush_later(capture)

    def _flush_later(self, capture: Callable[[], None]) -> None:
        """Write what changed in the background if the end is not told soon."""

        def flush() -> None:
            self._timer = None
            # Closed, which wrote all there was, or what a failed turn left: the end of the invocation says so.
            with suppress(SessionStoreError):
                capture()
                self._flush_soon()

        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(ANSWER_WAIT_S, flush)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _flush_now(self) -> None:
        self._cancel_timer()
        await self._flush()

    async def _on_message_updated(self, event: MessageUpdatedEvent[Any]) -> None:
        self._conversations.update(event.message, event.agent, event.tracking_id)
        self._conversations.capture(event.agent, final=False)
        if self._flushes_messages_of(event.agent):
            await self._flush_now()

    def _flushes_messages_of(self, agent: object) -> bool:
        # A bidirectional conversation has one invocation from its start to its end.
        return self._each_message or isinstance(agent, BidiAgent)

    async def _on_before_model_call(self, event: BeforeModelCallEvent) -> None:
        # Interventions and hooks put advice for the model behind what was said, without an event.
        if self._conversations.append_unheard(event.agent):
            self._conversations.capture(event.agent, final=False)
            await self._flush_now()

    def _on_after_model_call(self, event: AfterModelCallEvent) -> None:
        if event.stop_response is not None:
            self._conversations.learn_stop_reason(event.agent, event.stop_response.stop_reason)

    def _on_invocation_over(self, event: AfterInvocationEvent) -> None:
        error = original(self._ended_by(event.agent))
        with suppress(SessionStoreError):  # The last hook says so, after those of others.
            self._conversations.end_invocation(event.agent, None if is_of_the_store(error) else error)
            self._flush_later(lambda: self._conversations.capture(event.agent, final=True))

    async def _on_after_invocation(
        self, event: AfterInvocationEvent | BidiAgentStopEvent | BidiBeforeConnectionRestartEvent
    ) -> None:
        # A bidirectional conversation stops, and starts its connection again, in the middle of its invocation.
        await self._flush_at_end(event.agent, lambda: self._conversations.capture(event.agent, final=True))

    def _begin(self, source: object) -> None:
        self._handled_before[id(source)] = sys.exception()

    def _ended_by(self, source: object) -> BaseException | None:
        """Return what ended an invocation, None when it came to its end.

        Strands tells of the end in a `finally`, where that is the error being handled; the caller may have been
        handling another one when it began.
        """
        error = sys.exception()
        return None if error is self._handled_before.get(id(source)) else error

    async def _flush_at_end(self, source: object, capture: Callable[[], None]) -> None:
        ended_by = self._ended_by(source)
        self._handled_before.pop(id(source), None)
        is_cancelled = ended_by is not None and not isinstance(ended_by, Exception)
        with cleaning_up(ended_by, self._manager.session_id, KEPT):
            try:
                capture()
                await self._flush_now()
            except SessionClosedError:
                if not is_cancelled:  # The one who cancelled it has closed the session, which wrote what was said.
                    raise

    def _on_multi_agent_initialized(self, event: MultiAgentInitializedEvent) -> None:
        self._manager.initialize_multi_agent(event.source)

    async def _on_before_multi_agent(self, event: BeforeMultiAgentInvocationEvent) -> None:
        self._begin(event.source)
        await self._prepare(event.source)

    async def _on_after_node_call(self, event: AfterNodeCallEvent) -> None:
        self._conversations.sync_multi_agent(event.source)
        if self._each_message:
            await self._flush_now()

    def _on_multi_agent_over(self, event: AfterMultiAgentInvocationEvent) -> None:
        self._flush_later(lambda: self._conversations.sync_multi_agent(event.source))

    async def _on_after_multi_agent_invocation(self, event: AfterMultiAgentInvocationEvent) -> None:
        await self._flush_at_end(event.source, lambda: self._conversations.sync_multi_agent(event.source))


def _is_answer(message: Mapping[str, Any]) -> bool:
    """Tell whether it is an answer that calls no tool."""
    return message["role"] == "assistant" and not any("toolUse" in block for block in message["content"])


async def _catch_up(agent: Agent, prompt: Sequence[Message] | None) -> None:
    """Do what Strands does with a restored agent when it takes a prompt: here the prompt came before the history.

    Raises:
        TypeError: The agent waits for answers to interrupts, which a prompt is not.
    """
    if agent._interrupt_state.activated:
        raise TypeError(
            f"agent {agent.agent_id!r} was interrupted and must be resumed with a list of interruptResponse's; it is "
            "restored now, so invoke it with them again (`await manager.open()` before restores it when they arrive)"
        )
    latest = agent.messages[-1]["content"] if agent.messages else []
    unanswered = [block["toolUse"]["toolUseId"] for block in latest if "toolUse" in block]
    if unanswered and prompt:
        results = generate_missing_tool_result_content(unanswered)
        await agent._append_messages({"role": "user", "content": results})
