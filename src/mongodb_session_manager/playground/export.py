"""A conversation as a file, written while it is read."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pydantic_core

from ..exported import code, fenced, inline, one_line, quoted
from .blocks import json_text
from .conversations import Conversations
from .schemas import ChatMessage, Conversation

Format = Literal["markdown", "json"]

MEDIA_TYPES: dict[Format, str] = {
    "markdown": "text/markdown; charset=utf-8",
    "json": "application/json",
}
_ENDINGS: dict[Format, str] = {"markdown": "md", "json": "json"}
_PAGE = 50
_AUTHORS = {"user": "You", "assistant": "Assistant"}


def file_name(session_id: str, format_: Format) -> str:
    """Return a name that every file system takes."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", session_id)[:80].strip("-") or "conversation"
    return f"{name}.{_ENDINGS[format_]}"


async def export(conversations: Conversations, head: Conversation, format_: Format) -> AsyncIterator[bytes]:
    """Yield a conversation as a file.

    Args:
        conversations: Where its messages are.
        head: The conversation; its own messages are not looked at.
        format_: What kind of file.
    """
    writer = {"markdown": _as_markdown, "json": _as_json}[format_]
    async for part in writer(head, _messages(conversations, head)):
        yield part.encode()


async def _messages(conversations: Conversations, head: Conversation) -> AsyncIterator[ChatMessage]:
    for first in range(0, head.messages_count, _PAGE):
        for message in await conversations.messages(head.session_id, first, min(_PAGE, head.messages_count - first)):
            yield message


async def _as_json(head: Conversation, messages: AsyncIterator[ChatMessage]) -> AsyncIterator[str]:
    left_out = {"messages", "first", "turn", "viewer_url"}
    facts = one_line(pydantic_core.to_json(head.model_dump(mode="json", exclude=left_out), indent=2).decode())
    yield f'{facts.rstrip().removesuffix("}").rstrip()},\n  "messages": ['
    separator = "\n"
    async for message in messages:
        yield separator + one_line(message.model_dump_json())
        separator = ",\n"
    yield "\n  ]\n}\n"


async def _as_markdown(head: Conversation, messages: AsyncIterator[ChatMessage]) -> AsyncIterator[str]:
    yield f"# {inline(head.title) or 'Conversation'}\n\n"
    facts = [("Session", head.session_id), ("Model", head.model), ("Created", head.created_at)]
    yield "\n".join(f"- {name}: {inline(str(value))}" for name, value in facts if value is not None) + "\n"
    async for message in messages:
        yield f"\n## {_AUTHORS.get(message.role, inline(message.role))} · {message.created_at}\n"
        for part in _parts(message):
            yield f"\n{part}\n"


def _parts(message: ChatMessage) -> Iterator[str]:
    if message.redacted:
        yield "*redacted*"
    for block in message.blocks:
        yield _part(block)


def _part(block: dict[str, Any]) -> str:
    match block["type"]:
        case "text":
            return quoted(str(block["text"])).rstrip("\n")
        case "tool_call":
            return f"Tool {code(block['name'])}\n\n{fenced(one_line(json_text(block['input'])), 'json')}".rstrip("\n")
        case "tool_result":
            return f"Result ({inline(str(block['status']))})\n\n{fenced(block['content'])}".rstrip("\n")
        case "reasoning":
            return "Reasoning\n\n" + quoted(str(block["text"])).rstrip("\n")
        case "image":
            return f"[image, {inline(block['format'])}]"
        case "document":
            return f"[document: {inline(block['name'])}, {inline(block['format'])}]"
    return f"[{inline(block.get('kind', 'content'))}]"
