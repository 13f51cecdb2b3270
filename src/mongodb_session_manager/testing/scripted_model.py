"""A Strands model that plays a script, and refuses the histories that a strict provider would refuse.

```python
model = ScriptedModel("Hello!", calls(("calculator", {"expression": "6 * 7"})), "It is 42.")
```
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel
from strands.models.model import Model
from strands.types.content import Messages, SystemContentBlock
from strands.types.event_loop import Metrics, StopReason, Usage
from strands.types.streaming import RedactContentEvent, StreamEvent
from strands.types.tools import ToolChoice, ToolSpec

from .histories import check_history

T = TypeVar("T", bound=BaseModel)

DEFAULT_USAGE = Usage(inputTokens=10, outputTokens=5, totalTokens=15)
DEFAULT_METRICS = Metrics(latencyMs=20, timeToFirstByteMs=7)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer of the model.

    Attributes:
        text: What it says.
        tools: Calls it makes, as (name, input); several are one parallel group.
        error: What it raises instead of finishing; with `text`, after half of the text was streamed.
        redact_user: Guardrail replacement for the user's message.
        redact_assistant: Guardrail replacement for its own text.
        stop_reason: Overrides the reason that follows from the rest.
        usage: Reported tokens; None reports neither usage nor metrics.
        metrics: Reported latency.
        delay_s: Seconds before each chunk.
        before: Awaited before the first chunk, to hold the model at a known point.
    """

    text: str = ""
    tools: Sequence[tuple[str, Mapping[str, Any]]] = ()
    error: BaseException | None = None
    redact_user: str | None = None
    redact_assistant: str | None = None
    stop_reason: StopReason | None = None
    usage: Usage | None = field(default_factory=lambda: DEFAULT_USAGE.copy())
    metrics: Metrics = field(default_factory=lambda: DEFAULT_METRICS.copy())
    delay_s: float = 0
    before: Callable[[], Awaitable[object]] | None = None


Scripted: TypeAlias = Reply | str | BaseException | Callable[[Messages], Reply | str]
"""One entry of a script: a reply, its text, an exception to raise, or a function of the messages."""


def calls(*tools: tuple[str, Mapping[str, Any]], text: str = "", **options: Any) -> Reply:
    """Return a reply that calls tools, such as `calls(("calculator", {"expression": "6 * 7"}))`.

    Args:
        *tools: Name and input of each call; several are one parallel group.
        text: What the model says before it calls them.
        **options: Other attributes of `Reply`.
    """
    return Reply(text=text, tools=tools, **options)


def blocked(*, user: str | None = None, assistant: str | None = None, text: str = "blocked", **options: Any) -> Reply:
    """Return a reply in which a guardrail replaces the user's message, the assistant's, or both.

    Args:
        user: What takes the place of the user's message.
        assistant: What takes the place of the model's own text.
        text: What the model says.
        **options: Other attributes of `Reply`.
    """
    return Reply(text=text, redact_user=user, redact_assistant=assistant, **options)


class ScriptedModel(Model):
    """Play replies in order and record what was asked, for any number of agents.

    Attributes:
        config: Configuration, `model_id` "scripted".
        requests: Deep copies of the messages of each call, in order.
        tool_specs: Names of the tools offered in each call.
        system_prompts: System prompt of each call.
        strict: Whether each call's messages go through `check_history`.
        alternating: Whether roles must alternate, as Bedrock asks and others do not.
    """

    def __init__(
        self,
        *script: Scripted,
        model_id: str = "scripted",
        strict: bool = True,
        alternating: bool = False,
        otherwise: Scripted | None = None,
    ) -> None:
        """Take the script.

        Args:
            *script: What each call answers, in order.
            model_id: Name that is reported and stored.
            strict: Refuse what a strict provider would refuse, with `HistoryRefusedError`.
            alternating: Refuse messages of one role in a row, too.
            otherwise: Answers every call after the end of the script, which is an `AssertionError` without it.
        """
        self.config: dict[str, Any] = {"model_id": model_id, "context_window_limit": 200_000}
        self.requests: list[Messages] = []
        self.tool_specs: list[list[str]] = []
        self.system_prompts: list[str | None] = []
        self.strict, self.alternating = strict, alternating
        self._script, self._otherwise = list(script), otherwise

    @property
    def remaining(self) -> int:
        """Number of scripted replies that were not played yet."""
        return max(0, len(self._script) - len(self.requests))

    def update_config(self, **model_config: Any) -> None:
        """Change the configuration.

        Args:
            **model_config: Any keys.
        """
        self.config.update(model_config)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration."""
        return self.config

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
        """Record the request and stream the next reply.

        Args:
            messages: The conversation.
            tool_specs: Tools that are offered; recorded by name.
            system_prompt: Recorded.
            tool_choice: Ignored.
            system_prompt_content: Ignored.
            **kwargs: Whatever else Strands passes; ignored.

        Yields:
            Stream events in the order in which Bedrock sends them.

        Raises:
            AssertionError: The script is at its end.
            HistoryRefusedError: A strict provider would refuse the messages.
        """
        number = len(self.requests)
        self.requests.append(copy.deepcopy(messages))
        self.tool_specs.append([spec["name"] for spec in tool_specs or []])
        self.system_prompts.append(system_prompt)
        if self.strict:
            check_history(messages, alternating=self.alternating)
        reply = self._reply(number, messages)
        if reply.before is not None:
            await reply.before()
        for event in _events(reply):
            await asyncio.sleep(reply.delay_s)
            yield event

    def _reply(self, number: int, messages: Messages) -> Reply:
        entry = self._script[number] if number < len(self._script) else self._otherwise
        if entry is None:
            raise AssertionError(f"the script has {len(self._script)} replies, and this is call number {number + 1}")
        if not isinstance(entry, (Reply, str, BaseException)):
            entry = entry(copy.deepcopy(messages))
        if isinstance(entry, str):
            return Reply(text=entry)
        return Reply(error=entry) if isinstance(entry, BaseException) else entry

    async def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """Read the next reply's text as JSON of `output_model`.

        Args:
            output_model: Pydantic model of the output.
            prompt: The conversation; recorded.
            system_prompt: Ignored.
            **kwargs: Ignored.

        Yields:
            One event, `{"output": <instance of output_model>}`.

        Raises:
            AssertionError: The script is at its end.
            pydantic.ValidationError: The scripted text does not fit `output_model`.
        """
        number = len(self.requests)
        self.requests.append(copy.deepcopy(prompt))
        yield {"output": output_model.model_validate_json(self._reply(number, prompt).text)}


def _events(reply: Reply) -> Iterator[StreamEvent]:
    if reply.error is not None and not reply.text:
        raise reply.error
    yield {"messageStart": {"role": "assistant"}}
    if reply.text:
        half = (len(reply.text) + 1) // 2
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": reply.text[:half]}}}
        if reply.error is not None:
            raise reply.error
        yield {"contentBlockDelta": {"delta": {"text": reply.text[half:]}}}
        yield {"contentBlockStop": {}}
    for name, given in reply.tools:
        use_id = f"call-{uuid.uuid4().hex[:12]}"
        yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": use_id}}}}
        yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(given)}}}}
        yield {"contentBlockStop": {}}
    yield {"messageStop": {"stopReason": _stop_reason(reply)}}
    # Bedrock reports a guardrail's verdict between the end of the message and the usage.
    if reply.redact_user is not None:
        yield {"redactContent": RedactContentEvent(redactUserContentMessage=reply.redact_user)}
    if reply.redact_assistant is not None:
        yield {"redactContent": RedactContentEvent(redactAssistantContentMessage=reply.redact_assistant)}
    if reply.usage is not None:
        yield {"metadata": {"usage": reply.usage, "metrics": reply.metrics}}


def _stop_reason(reply: Reply) -> StopReason:
    if reply.stop_reason is not None:
        return reply.stop_reason
    if reply.redact_user is not None or reply.redact_assistant is not None:
        return "guardrail_intervened"
    return "tool_use" if reply.tools else "end_turn"
