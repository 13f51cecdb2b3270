"""A model that plays the assistant's part of an invented conversation."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel
from strands.models.model import Model
from strands.types.content import Messages
from strands.types.streaming import StreamEvent

T = TypeVar("T", bound=BaseModel)


class ServiceUnavailableError(Exception):
    """A story's model does not answer."""


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        text: What it says.
        calls: Tools that it calls, with their inputs.
        thought: What it thinks before.
        blocked: What a guardrail puts in place of the user's message.
        fails: Whether the model gives no answer, but an error.
    """

    text: str = ""
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    thought: str = ""
    blocked: str | None = None
    fails: bool = False


class StoryModel(Model):
    """Gives the replies of a story in order; the numbers that it reports are invented, too."""

    def __init__(self, model_id: str, replies: Iterator[Reply]) -> None:
        """Play `replies` under the name `model_id`."""
        self._config = {"model_id": model_id}
        self._replies = replies
        self._count = 0

    def update_config(self, **model_config: Any) -> None:
        """Change the configuration."""
        self._config |= model_config

    def get_config(self) -> Any:
        """Return the configuration."""
        return dict(self._config)

    async def stream(self, messages: Messages, *args: Any, **kwargs: Any) -> AsyncIterable[StreamEvent]:
        """Stream the next reply.

        Raises:
            ServiceUnavailableError: It is one that fails.
        """
        reply = next(self._replies)
        self._count += 1
        if reply.fails:
            raise ServiceUnavailableError("the model is busy")
        yield {"messageStart": {"role": "assistant"}}
        if reply.thought:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"reasoningContent": {"text": reply.thought}}}}
            yield {"contentBlockStop": {}}
        if reply.text:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": reply.text}}}
            yield {"contentBlockStop": {}}
        for name, given in reply.calls:
            use_id = f"call-{self._count}-{name}"
            yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": use_id}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(given)}}}}
            yield {"contentBlockStop": {}}
        if reply.blocked is not None:
            yield {"redactContent": {"redactUserContentMessage": reply.blocked}}
        stop = "guardrail_intervened" if reply.blocked is not None else "tool_use" if reply.calls else "end_turn"
        yield {"messageStop": {"stopReason": stop}}  # type: ignore[typeddict-item]
        sent = 180 + 45 * len(messages)
        received = 20 + len(reply.text + reply.thought) // 4 + 30 * len(reply.calls)
        yield {
            "metadata": {
                "usage": {"inputTokens": sent, "outputTokens": received, "totalTokens": sent + received},
                "metrics": {"latencyMs": 240 + 9 * received, "timeToFirstByteMs": 110 + 37 * (self._count % 9)},
            }
        }

    def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """Not part of any story.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("stories have no structured output")
