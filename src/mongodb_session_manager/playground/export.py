"""A conversation as a file, written while it is read."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pydantic_core

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
_FENCES = re.compile(r"`{3,}")


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
    facts = pydantic_core.to_json(head.model_dump(mode="json", exclude=left_out), indent=2).decode()
    yield f'{facts.rstrip().removesuffix("}").rstrip()},\n  "messages": ['
    separator = "\n"
    async for message in messages:
        yield separator + message.model_dump_json()
        separator = ",\n"
    yield "\n  ]\n}\n"


async def _as_markdown(head: Conversation, messages: AsyncIterator[ChatMessage]) -> AsyncIterator[str]:
    yield f"# {_line(head.title) or 'Conversation'}\n\n"
    facts = [("Session", head.session_id), ("Model", head.model), ("Created", head.created_at)]
    yield "\n".join(f"- {name}: {_line(str(value))}" for name, value in facts if value is not None) + "\n"
    async for message in messages:
        yield f"\n## {_AUTHORS.get(message.role, _line(message.role))} · {message.created_at}\n"
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
            return str(block["text"])
        case "tool_call":
            return f"Tool `{_line(block['name'])}`\n\n{_fenced(json_text(block['input']), 'json')}"
        case "tool_result":
            return f"Result ({block['status']})\n\n{_fenced(block['content'])}"
        case "reasoning":
            return "\n".join(f"> {line}" for line in str(block["text"]).splitlines())
        case "image":
            return f"[image, {_line(block['format'])}]"
        case "document":
            return f"[document: {_line(block['name'])}, {_line(block['format'])}]"
    return f"[{_line(block.get('kind', 'content'))}]"


def _fenced(text: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any in the text."""
    fence = "`" * max([2, *(len(found) for found in _FENCES.findall(text))])
    return f"{fence}`{language}\n{text}\n{fence}`"


def _line(text: str) -> str:
    return " ".join(text.split())
