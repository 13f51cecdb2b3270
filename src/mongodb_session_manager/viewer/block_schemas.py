"""Content blocks of messages, as the viewer's API gives them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .answer import Answer


class TextBlock(Answer):
    """Text. `cut` is how many characters are left out at its end."""

    type: Literal["text", "guard_content"] = "text"
    text: str
    cut: int = 0


class ReasoningBlock(Answer):
    """What a model thought; `hidden` when the provider gave it in encrypted form only."""

    type: Literal["reasoning"] = "reasoning"
    text: str
    hidden: bool = False
    cut: int = 0


class ImageBlock(Answer):
    """An image; `url` is null where it is of no kind that the viewer shows, or is stored elsewhere."""

    type: Literal["image"] = "image"
    format: str
    size: int | None
    url: str | None
    source: str | None = None


class FileBlock(Answer):
    """A document, video or audio, by name and size only."""

    type: Literal["document", "video", "audio"]
    format: str
    name: str | None
    size: int | None
    source: str | None = None


class ToolUseBlock(Answer):
    """A call of a tool."""

    type: Literal["tool_use"] = "tool_use"
    tool_use_id: str
    name: str
    input: Any


class ToolResultBlock(Answer):
    """What a tool returned."""

    type: Literal["tool_result"] = "tool_result"
    tool_use_id: str
    status: str
    content: list[Block]


class JsonBlock(Answer):
    """A value, as tools return them."""

    type: Literal["json"] = "json"
    value: Any


class CitationsBlock(Answer):
    """Text with its sources."""

    type: Literal["citations"] = "citations"
    text: str
    citations: Any
    cut: int = 0


class UnknownBlock(Answer):
    """Something that the viewer does not know, as it is stored."""

    type: Literal["unknown"] = "unknown"
    value: Any


Block = Annotated[
    TextBlock
    | ReasoningBlock
    | ImageBlock
    | FileBlock
    | ToolUseBlock
    | ToolResultBlock
    | JsonBlock
    | CitationsBlock
    | UnknownBlock,
    Field(discriminator="type"),
]


ToolResultBlock.model_rebuild()
