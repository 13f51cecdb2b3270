"""A Strands model that plays a script, and refuses the histories that a strict provider would refuse."""

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
from strands.types.content import Message, Messages, SystemContentBlock
from strands.types.event_loop import Metrics, StopReason, Usage
from strands.types.streaming import RedactContentEvent, StreamEvent
from strands.types.tools import ToolChoice, ToolSpec

T = TypeVar("T", bound=BaseModel)

DEFAULT_USAGE = Usage(inputTokens=10, outputTokens=5, totalTokens=15)
DEFAULT_METRICS = Metrics(latencyMs=20, timeToFirstByteMs=7)


class HistoryRefusedError(AssertionError):
    """A strict provider would not have accepted these messages."""


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
    """Return a reply that calls tools, e.g. `calls(("calculator", {"expression": "6 * 7"}))`."""
    return Reply(text=text, tools=tools, **options)


def blocked(*, user: str | None = None, assistant: str | None = None, text: str = "blocked", **options: Any) -> Reply:
    """Return a reply in which a guardrail replaces the user's message, the assistant's, or both."""
    return Reply(text=text, redact_user=user, redact_assistant=assistant, **options)


class ScriptedModel(Model):
    """Play replies in order and record what was asked, whatever number of agents share it.

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
        """Take the script; `otherwise` answers every call after its end, which is an AssertionError without it."""
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
        self.config.update(model_config)

    def get_config(self) -> dict[str, Any]:
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
        """Read the next reply's text as JSON of the model."""
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


def check_history(messages: Sequence[Message], *, alternating: bool = False) -> None:
    """Raise `HistoryRefusedError` unless a strict provider would accept the messages.

    The rules of Bedrock and Anthropic: begins with the user; known roles; no empty content and no blank text; each tool
    call of an assistant is answered in the very next message, by one result per call; no result without its call; tool
    call ids are unique within a message.
    """
    _refuse_unless(bool(messages), "no messages")
    _refuse_unless(messages[0]["role"] == "user", "the first message is not the user's")
    asked: set[str] = set()
    for index, message in enumerate(messages):
        role, content = message["role"], message["content"]
        _refuse_unless(role in ("user", "assistant"), f"message {index} has role {role!r}")
        _refuse_unless(isinstance(content, list) and bool(content), f"message {index} ({role}) has no content")
        blank = [block for block in content if "text" in block and not (block["text"] or "").strip()]
        _refuse_unless(not blank, f"message {index} ({role}) has a text block that is blank")
        repeated = index > 0 and role == messages[index - 1]["role"]
        _refuse_unless(not (alternating and repeated), f"messages {index - 1} and {index} are both of the {role}")
        answered = [block["toolResult"]["toolUseId"] for block in content if "toolResult" in block]
        _refuse_unless(not answered or role == "user", f"message {index} has tool results of an assistant")
        _refuse_unless(len(answered) == len(set(answered)), f"message {index} answers a tool call twice")
        _refuse_unless(set(answered) >= asked, f"message {index} does not answer {sorted(asked - set(answered))}")
        _refuse_unless(set(answered) <= asked, f"message {index} answers {sorted(set(answered) - asked)}, never asked")
        uses = [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
        _refuse_unless(not uses or role == "assistant", f"message {index} has a tool call of the user")
        _refuse_unless(len(uses) == len(set(uses)), f"message {index} has two tool calls of one id")
        asked = set(uses)
    _refuse_unless(not asked, f"the last message asks for {sorted(asked)} and nothing answers")


def _refuse_unless(accepted: bool, reason: str) -> None:
    if not accepted:
        raise HistoryRefusedError(reason)


def text_of(message: Message) -> str:
    """Return the text blocks of a message, joined."""
    return "".join(block["text"] for block in message["content"] if "text" in block)


def texts(messages: Sequence[Message]) -> list[str]:
    """Return the text of each message, "" for those that only carry tool calls or results."""
    return [text_of(message) for message in messages]
