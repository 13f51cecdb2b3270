"""A model that answers at once, or after a given time, always with the same text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, TypeVar

from pydantic import BaseModel
from strands.models.model import BaseModelConfig, Model
from strands.types.content import Messages, SystemContentBlock
from strands.types.streaming import StreamEvent
from strands.types.tools import ToolChoice, ToolSpec

T = TypeVar("T", bound=BaseModel)

PROMPT = "What should I see in Lisbon in three days, and how do I get from one place to the other? " * 2
ANSWER = "Begin in Alfama: it is walked in a morning, uphill, with a stop at each of its viewpoints. " * 11


class FixedModel(Model):
    """Answers with about 1 KB of text and reports usage, as providers do."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s
        self._config = BaseModelConfig(context_window_limit=200_000)

    def update_config(self, **model_config: Any) -> None:
        raise NotImplementedError("a benchmark's model is what it is")

    def get_config(self) -> dict[str, Any]:
        return {"model_id": "fixed", **self._config}

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        *,
        tool_choice: ToolChoice | None = None,
        system_prompt_content: list[SystemContentBlock] | None = None,
        **kwargs: Any,
    ) -> AsyncIterable[StreamEvent]:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": ANSWER}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}
        usage = {"inputTokens": 500, "outputTokens": 250, "totalTokens": 750}
        yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}  # type: ignore[typeddict-item]

    def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        raise NotImplementedError("benchmarks ask for text only")
