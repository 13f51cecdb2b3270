"""Content blocks of messages, in the few kinds that a chat shows, as plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

LONGEST_TEXT = 100_000
"""Characters of one text that are sent; a message may hold megabytes."""
_DEEPEST, _MOST_ITEMS = 30, 1_000


def shown_blocks(content: object) -> list[dict[str, Any]]:
    """Return blocks with a `type`: text, tool_call, tool_result, reasoning, or other for what a chat cannot show.

    Args:
        content: Content of a message as Strands holds it; older tools stored plain text.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": _cut(content)}]
    if not isinstance(content, list):
        return []
    return [_shown(block) for block in content]


def _shown(block: object) -> dict[str, Any]:
    match block:
        case {"text": str(text)}:
            return {"type": "text", "text": _cut(text)}
        case {"toolUse": {**use}}:
            named = {"id": _cut(str(use.get("toolUseId", ""))), "name": _cut(str(use.get("name", "")))}
            return {"type": "tool_call", **named, "input": plain(use.get("input"))}
        case {"toolResult": {**result}}:
            status = "error" if result.get("status") == "error" else "success"
            content = _result(result.get("content"))
            return {
                "type": "tool_result",
                "id": _cut(str(result.get("toolUseId", ""))),
                "status": status,
                "content": content,
            }
        case {"reasoningContent": {"reasoningText": {"text": str(text)}}}:
            return {"type": "reasoning", "text": _cut(text)}
        case {**fields} if fields:
            return {"type": "other", "kind": _cut(str(next(iter(fields))))}
    return {"type": "other", "kind": "unknown"}


def _result(content: object) -> str:
    """What a tool answered, as text; structured parts as JSON."""
    parts = content if isinstance(content, list) else [content]
    return _cut("\n".join(_part(part) for part in parts))


def _part(part: object) -> str:
    match part:
        case {"text": str(text)}:
            return text
        case {"json": value}:
            return json_text(value)
        case {**fields} if fields:
            return f"[{next(iter(fields))}]"
    return "" if part is None else json_text(part)


def json_text(value: object) -> str:
    """Return JSON text of anything that a session can hold."""
    return json.dumps(plain(value), ensure_ascii=False, indent=2)


def plain(value: object, depth: int = _DEEPEST) -> Any:
    """Return what JSON can say of a value: dates as ISO text, bytes by their size, huge things cut."""
    match value:
        case None | bool():
            return value
        case str():
            return _cut(value)
        case int():
            return value if abs(value) < 2**53 else _digits(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime():
            return value.isoformat()
        case bytes() | bytearray():
            return f"<{len(value)} bytes>"
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        items = list(value.items())[:_MOST_ITEMS]
        return {_cut(str(key)): plain(item, depth - 1) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in list(value)[:_MOST_ITEMS]]
    return _cut(str(value))


def sendable(text: str) -> str:
    """Return text that can be sent: a lone surrogate, which a session can hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _cut(text: str) -> str:
    return sendable(text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ...")


def _digits(value: int) -> str:
    """An integer that JavaScript would round, as text; Python refuses to write out those of thousands of digits."""
    return str(value) if value.bit_length() < 10_000 else hex(value)[:100] + "..."
