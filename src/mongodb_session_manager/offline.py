"""A model without a network, for demos, examples and trying things out.

`OfflineModel` is a real Strands model: it streams, calls the tools it is offered and reports usage. It understands a
handful of plain English sentences and keeps nothing between calls, so whatever it "remembers" was in the messages it
was given: a conversation that was not restored shows at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel
from strands.models.model import BaseModelConfig, Model
from strands.types.content import Messages, SystemContentBlock
from strands.types.streaming import StreamEvent
from strands.types.tools import ToolChoice, ToolSpec

from mongodb_session_manager.offline_language import ToolCall, answer, coerced, facts, wanted_calls

T = TypeVar("T", bound=BaseModel)


class OfflineModelConfig(BaseModelConfig, total=False):
    """Configuration of an `OfflineModel`.

    Attributes:
        model_id: Name that is reported and stored.
        delay_s: Seconds between two streamed chunks.
        thinking_s: Seconds before the first chunk.
    """

    model_id: str
    delay_s: float
    thinking_s: float


class OfflineModel(Model):
    """Answer from the given messages alone: the same messages always give the same answer.

    What it understands, sentence by sentence:

    - facts: "My name is Ada", "I live in Paris", "I am planning a trip to Lisbon", and questions about them;
    - "Please remember that my favourite colour is blue", "What do you know about me?", "Forget my favourite colour"
      (calls `manage_metadata` when it is offered);
    - "What is 6 * 7?" (a tool with `calc` in its name), "set theme to dark", "get theme" (`set_*` and `get_*` tools),
      and any tool called by its name, as in "use roll_dice with sides=6";
    - "Summarize this conversation", "What did I say?".

    One instance holds no state besides its configuration and may serve any number of agents at the same time.
    """

    def __init__(self, model_id: str = "offline", *, delay_s: float = 0.0, thinking_s: float = 0.0) -> None:
        """Configure the model.

        Args:
            model_id: Name that is reported and stored.
            delay_s: Seconds between two streamed chunks.
            thinking_s: Seconds before the first chunk.
        """
        self.config = OfflineModelConfig(
            model_id=model_id, delay_s=delay_s, thinking_s=thinking_s, context_window_limit=200_000
        )

    def update_config(self, **model_config: Any) -> None:
        """Change the configuration; a reply that is being streamed keeps the one it began with.

        Args:
            **model_config: Keys of `OfflineModelConfig`.

        Raises:
            TypeError: If a key is not one of them.
        """
        unknown = sorted(model_config.keys() - OfflineModelConfig.__annotations__.keys())
        if unknown:
            raise TypeError(f"invalid model_config: OfflineModel has no option named {', '.join(unknown)}")
        self.config = cast(OfflineModelConfig, {**self.config, **model_config})

    def get_config(self) -> OfflineModelConfig:
        """Return a copy of the configuration."""
        return self.config.copy()

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
        """Stream one reply, text or tool calls, with usage and latency at its end.

        Args:
            messages: The conversation; everything the reply is based on.
            tool_specs: Tools that may be called.
            system_prompt: Counted as input, otherwise without effect.
            tool_choice: `any` or a named tool forces a call whose input is filled from known facts and the tool's
                schema; that is how Strands asks for structured output.
            system_prompt_content: As `system_prompt`.
            **kwargs: Whatever else Strands passes; ignored.

        Yields:
            Stream events in the order a provider sends them.
        """
        config, started = self.config, time.perf_counter()
        calls = _forced_call(messages, tool_specs or [], tool_choice) or wanted_calls(messages, tool_specs or [])
        text = "" if calls else answer(messages)
        await asyncio.sleep(config["thinking_s"])
        first_byte_ms = _elapsed_ms(started)

        yield {"messageStart": {"role": "assistant"}}
        if text:
            yield {"contentBlockStart": {"start": {}}}
            for chunk in re.findall(r"\S+\s*|\s+", text):
                yield {"contentBlockDelta": {"delta": {"text": chunk}}}
                await asyncio.sleep(config["delay_s"])
            yield {"contentBlockStop": {}}
        for number, call in enumerate(calls):
            use_id = f"offline-{_digest(messages)}-{number}"
            yield {"contentBlockStart": {"start": {"toolUse": {"name": call["name"], "toolUseId": use_id}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(call["input"])}}}}
            yield {"contentBlockStop": {}}
            await asyncio.sleep(config["delay_s"])
        yield {"messageStop": {"stopReason": "tool_use" if calls else "end_turn"}}

        sent = await self.count_tokens(messages, tool_specs, system_prompt, system_prompt_content)
        received = math.ceil(len(text or json.dumps(calls)) / 4)
        yield {
            "metadata": {
                "usage": {"inputTokens": sent, "outputTokens": received, "totalTokens": sent + received},
                "metrics": {"latencyMs": _elapsed_ms(started), "timeToFirstByteMs": first_byte_ms},
            }
        }

    async def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """Build an `output_model` from the facts in `prompt`; what is unknown gets a value its type allows.

        Args:
            output_model: Pydantic model to build.
            prompt: The conversation.
            system_prompt: Without effect.
            **kwargs: Ignored.

        Yields:
            One event, `{"output": <instance of output_model>}`.

        Raises:
            pydantic.ValidationError: If the model has rules that its JSON schema does not show.
        """
        schema = output_model.model_json_schema()
        yield {"output": output_model.model_validate(_fill(schema, facts(prompt)))}


def _elapsed_ms(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)


def _digest(messages: Messages) -> str:
    return hashlib.sha256(repr(messages).encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _forced_call(messages: Messages, tool_specs: list[ToolSpec], choice: ToolChoice | None) -> list[ToolCall]:
    forced = cast("Mapping[str, Any]", choice or {})
    name = forced.get("tool", {}).get("name") or (tool_specs[-1]["name"] if "any" in forced and tool_specs else None)
    spec = next((spec for spec in tool_specs if spec["name"] == name), None)
    if spec is None:
        return []
    return [ToolCall(name=spec["name"], input=_fill(spec["inputSchema"].get("json", {}), facts(messages)))]


def _fill(schema: dict[str, Any], known: dict[str, str], definitions: dict[str, Any] | None = None) -> Any:
    """A value that fits a JSON schema: known facts for properties of their name, plain values for what is required."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
    choices = schema.get("enum") or [schema[key] for key in ("const", "default") if key in schema]
    if choices:
        return choices[0]
    if parts := schema.get("anyOf") or schema.get("allOf") or schema.get("oneOf"):
        return _fill(parts[0], known, definitions)
    kinds = schema.get("type")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind == "object":
        properties, required = schema.get("properties", {}), schema.get("required", [])
        return {
            key: _known_value(key, part, known, definitions)
            for key, part in properties.items()
            if key in known or key in required
        }
    if kind == "array":
        return [_fill(schema.get("items", {}), known, definitions) for _ in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    return {"boolean": False, "null": None}.get(kind or "", "unknown".ljust(schema.get("minLength", 0), "."))


def _known_value(key: str, schema: dict[str, Any], known: dict[str, str], definitions: dict[str, Any]) -> Any:
    value = coerced(known[key], schema) if key in known else None
    misfit = isinstance(value, str) and "string" not in schema.get("type", "string")
    return _fill(schema, known, definitions) if value is None or misfit else value
