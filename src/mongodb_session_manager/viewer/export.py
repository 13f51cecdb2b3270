"""A whole session as a file, written while it is read."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from ..exported import fenced, inline, one_line, quoted
from ..web.plain import utc_text
from .block_schemas import Block, ImageBlock, JsonBlock, ReasoningBlock, TextBlock, ToolResultBlock, ToolUseBlock
from .database import Database
from .heads import session_head
from .limits import time_limit
from .schemas import ErrorItem, FeedbackItem, GuardrailItem, MessageItem, SessionHead
from .timeline import Item, Page, Position

Format = Literal["json", "jsonl", "markdown"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "jsonl": "application/jsonl; charset=utf-8",
    "markdown": "text/markdown; charset=utf-8",
}
_ENDINGS: dict[Format, str] = {"json": "json", "jsonl": "jsonl", "markdown": "md"}
_PAGE = 50
"""Items of the first page, and of one that has to be read no more."""

_NEXT_PAGE = 200
"""Items of a page that has to be read: each takes a few commands, and is bounded by bytes besides."""

_PIECE = 64 * 1024
"""Characters that are sent at once."""

_PATIENCE_S = 30.0
"""Seconds that a page behind the first one may be read for: a file that ends halfway is of no use."""


def file_name(session_id: str, format_: Format) -> str:
    """Return a name that every file system takes."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", session_id)[:80].strip("-") or "session"
    return f"{name}.{_ENDINGS[format_]}"


async def export(database: Database, session_id: str, format_: Format, first: Page) -> AsyncIterator[bytes]:
    """Yield a session as a file.

    Args:
        database: Where it is.
        session_id: The session.
        format_: What kind of file.
        first: Its first page, from `first_page`.
    """
    writer = {"json": _as_json, "jsonl": _as_lines, "markdown": _as_markdown}[format_]
    async for part in writer(session_head(first.head), _items(database, session_id, first)):
        # A message may be as large as a document: each step on the way out would hold it once more.
        for start in range(0, len(part), _PIECE):
            yield part[start : start + _PIECE].encode()


async def first_page(database: Database, session_id: str) -> Page:
    """Return the first page of an export.

    Raises:
        SessionNotFoundError: No such session.
    """
    with time_limit():
        return await database.timeline.page(session_id, Position(ascending=True), _PAGE, whole=True)


async def _items(database: Database, session_id: str, page: Page) -> AsyncIterator[Item]:
    while True:
        while page.items:
            yield page.items.pop(0)  # let go of, before the next page is read
        if not page.more:
            return
        # A document that had to be read whole is not read again for each page.
        head = page.head if page.head.is_whole else None
        with time_limit(_PATIENCE_S):
            limit = _NEXT_PAGE if head is None else _PAGE
            page = await database.timeline.page(session_id, page.after, limit, whole=True, head=head)


async def _as_json(head: SessionHead, items: AsyncIterator[Item]) -> AsyncIterator[str]:
    fields = one_line(head.model_dump_json())
    yield fields.removesuffix("}") + ',"timeline":['
    separator = "\n"
    async for item in items:
        yield separator + one_line(item.model_dump_json())
        separator = ",\n"
    yield "\n]}\n"


async def _as_lines(head: SessionHead, items: AsyncIterator[Item]) -> AsyncIterator[str]:
    yield one_line(json.dumps({"type": "session", **head.model_dump(mode="json")}, ensure_ascii=False)) + "\n"
    async for item in items:
        yield one_line(item.model_dump_json()) + "\n"


async def _as_markdown(head: SessionHead, items: AsyncIterator[Item]) -> AsyncIterator[str]:
    yield f"# Session {inline(head.session_id)}\n\n"
    for name, value in (
        ("Application", head.application_name),
        ("Created", utc_text(head.created_at) if head.created_at else None),
        ("Last activity", utc_text(head.updated_at) if head.updated_at else None),
        ("Agents", ", ".join(agent.agent_id for agent in head.agents_summary)),
    ):
        if value:
            yield f"- {name}: {inline(value)}\n"
    if head.metadata:
        yield f"\n## Metadata\n\n{_json_block(head.metadata)}"
    yield "\n## Conversation\n"
    async for item in items:
        yield "".join(_markdown(item))


def _markdown(item: Item) -> Iterator[str]:
    when = f" · {utc_text(item.timestamp)}" if item.timestamp else ""
    match item:
        case MessageItem():
            redacted = " · redacted" if item.redacted else ""
            yield f"\n### {inline(item.role)} ({inline(item.agent_id)}){when}{redacted}\n\n"
            if item.problem:
                yield f"> {inline(item.problem)}\n\n"
            for block in item.content:
                yield from _block(block)
        case FeedbackItem():
            yield f"\n### Feedback{when}\n\nRating: {inline(str(item.rating))}\n\n"
            if item.comment:
                yield quoted(item.comment)
            if item.extra:
                yield _json_block(item.extra)
        case GuardrailItem():
            yield f"\n### Guardrail{when}\n\n{inline(item.action or 'unknown action')}\n\n"
            if item.policies_triggered:
                yield _json_block(item.policies_triggered)
        case ErrorItem():
            yield f"\n### Failed turn{when}\n\n{inline(item.error)}\n\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case TextBlock():
            yield quoted(block.text)
        case ToolUseBlock():
            yield f"Call of {inline(block.name)}:\n\n{_json_block(block.input)}\n"
        case ToolResultBlock():
            yield f"Result ({inline(block.status)}):\n\n"
            for part in block.content:
                yield from _block(part)
        case ReasoningBlock():
            yield "Reasoning:\n\n" + quoted(block.text or "(hidden)")
        case JsonBlock():
            yield _json_block(block.value) + "\n"
        case ImageBlock():
            yield f"(image, {inline(block.format)}, {block.size or 'unknown number of'} bytes)\n\n"
        case _:
            yield _json_block(block.model_dump(mode="json")) + "\n"


def _json_block(value: Any) -> str:
    return fenced(one_line(json.dumps(value, ensure_ascii=False, indent=2)), "json")
