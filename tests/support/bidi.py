"""A bidirectional model that plays a script to a real BidiAgent, connection by connection."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from strands.bidi import BidiAgent
from strands.bidi.models.model import BidiModel, ConnectionTimeoutError
from strands.bidi.types.content import BidiContentDelta, BidiMessage
from strands.bidi.types.events import (
    BidiBargeInEvent,
    BidiConnectionStartEvent,
    BidiConnectionStopEvent,
    BidiOutputEvent,
    BidiResponseStartEvent,
    BidiResponseStopEvent,
    BidiTextDeltaEvent,
    BidiTextStartEvent,
    BidiTextStopEvent,
    BidiToolUseBlocksEvent,
    BidiTranscriptDeltaEvent,
    BidiTranscriptStartEvent,
    BidiTranscriptStopEvent,
    BidiUsageEvent,
    Role,
)
from strands.types.content import Messages
from strands.types.tools import ToolSpec, ToolUse


class Pause:
    """A point of the script where the model waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._go = asyncio.Event()

    def go(self) -> None:
        """Let the script continue."""
        self._go.set()

    async def wait(self) -> None:
        """Tell the test that the script is here, and wait for `go`."""
        self.reached.set()
        await self._go.wait()


@dataclass(frozen=True)
class AfterSends:
    """A point of the script where the model waits until the agent has sent this much, tool results included."""

    count: int


Step: TypeAlias = BidiOutputEvent | Pause | AfterSends | Exception
"""One step of a connection's script: an event to send, something to wait for, or an error that ends the connection."""


def spoken(role: Role, *words: str, content_id: str, pause: Pause | None = None) -> list[Step]:
    """Return the steps of a transcript: placeholder, fragments, completed text; `pause` comes before the end."""
    return [
        BidiTranscriptStartEvent(role, content_id),
        *(BidiTranscriptDeltaEvent(word, role, content_id) for word in words),
        *([pause] if pause else []),
        BidiTranscriptStopEvent(role, content_id),
    ]


def unfinished(role: Role, *words: str, content_id: str) -> list[Step]:
    """Return the steps of a transcript that never completes."""
    return [
        BidiTranscriptStartEvent(role, content_id),
        *(BidiTranscriptDeltaEvent(word, role, content_id) for word in words),
    ]


def written(*words: str, content_id: str) -> list[Step]:
    """Return the steps of text the assistant writes instead of speaking."""
    return [
        BidiTextStartEvent(content_id),
        *(BidiTextDeltaEvent(word, content_id) for word in words),
        BidiTextStopEvent(content_id),
    ]


def response(*steps: Sequence[Step], response_id: str = "response-0") -> list[Step]:
    """Return the steps of one response of the assistant, with its usage."""
    inner = [step for part in steps for step in part]
    return [
        BidiResponseStartEvent(response_id),
        *inner,
        BidiUsageEvent(input_tokens=10, output_tokens=5, total_tokens=15),
        BidiResponseStopEvent(response_id),
    ]


def tool_calls(*tools: tuple[str, str, Mapping[str, Any]]) -> list[Step]:
    """Return the step of one group of tool calls, each (tool use id, name, input)."""
    return [
        BidiToolUseBlocksEvent([ToolUse(toolUseId=use_id, name=name, input=given) for use_id, name, given in tools])
    ]


def interruption() -> list[Step]:
    """Return the step in which the user speaks while the assistant does."""
    return [BidiBargeInEvent()]


def connection_lost() -> list[Step]:
    """Return the step that makes the agent restart the connection; the next script is what the new one plays."""
    return [ConnectionTimeoutError("the connection has reached its time limit")]


class ScriptedBidiModel(BidiModel):
    """Play one script per connection.

    Attributes:
        histories: Deep copies of the messages each connection was started with.
        sent: What the agent sent, in order.
    """

    def __init__(self, *connections: Sequence[Step], model_id: str = "scripted-bidi", stays_open: bool = False) -> None:
        """Take the scripts; after its last step a connection ends, or with `stays_open` waits for the agent to stop."""
        self.config: dict[str, Any] = {"model_id": model_id}
        self.histories: list[Messages] = []
        self.sent: list[BidiMessage | BidiContentDelta] = []
        self._connections, self._stays_open = list(connections), stays_open
        self._changed = asyncio.Condition()
        self._closed = 0

    def update_config(self, **model_config: Any) -> None:
        self.config.update(model_config)

    def get_config(self) -> dict[str, Any]:
        return self.config

    async def start(
        self,
        system_prompt: str | None = None,
        tools: list[ToolSpec] | None = None,
        messages: Messages | None = None,
        **kwargs: Any,
    ) -> None:
        self.histories.append(copy.deepcopy(messages or []))

    async def stop(self) -> None:
        async with self._changed:
            self._closed = len(self.histories)
            self._changed.notify_all()

    async def send(self, content: BidiMessage | BidiContentDelta) -> None:
        async with self._changed:
            self.sent.append(content)
            self._changed.notify_all()

    async def receive(self) -> AsyncIterator[BidiOutputEvent]:
        number = len(self.histories)
        connection_id = f"connection-{number}"
        yield BidiConnectionStartEvent(connection_id, self.config["model_id"])
        for step in self._connections[number - 1] if number <= len(self._connections) else ():
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Pause):
                await step.wait()
            elif isinstance(step, AfterSends):
                await self._until(partial(self._has_sent, step.count))
            else:
                yield step
        if self._stays_open:
            await self._until(lambda: self._closed >= number)
        else:
            yield BidiConnectionStopEvent(connection_id, reason="user_request")

    def _has_sent(self, count: int) -> bool:
        return len(self.sent) >= count

    async def _until(self, true: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(true)


def make_bidi_agent(session_manager: Any, *connections: Sequence[Step], **agent_kwargs: Any) -> BidiAgent:
    """Build a BidiAgent on a scripted model; `session_manager` may be None."""
    agent_kwargs.setdefault("agent_id", "assistant")
    model = agent_kwargs.pop("model", None) or ScriptedBidiModel(*connections)
    return BidiAgent(model=model, session_manager=session_manager, **agent_kwargs)


def bidi_model_of(agent: BidiAgent) -> ScriptedBidiModel:
    """Return the agent's scripted model."""
    assert isinstance(agent.model, ScriptedBidiModel)
    return agent.model


async def converse(agent: BidiAgent, *, until: int | None = None) -> list[BidiOutputEvent]:
    """Start the agent, receive until its script is played, stop it, and return what was received.

    Args:
        agent: Agent that was not started.
        until: Stop after this many events instead, in the middle of the script.
    """
    received: list[BidiOutputEvent] = []
    await agent.start()
    try:
        async with aclosing(agent.receive()) as events:
            async for event in events:
                received.append(event)
                if len(received) == until:
                    break
    finally:
        await agent.stop()
    return received
