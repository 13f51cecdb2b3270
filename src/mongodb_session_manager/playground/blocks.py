"""Content blocks of messages, in the few kinds that a chat shows, as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..web.plain import Plain, offloaded_size

LONGEST_TEXT = 100_000
"""Characters of one text that are sent; a message may hold megabytes."""


def shown_blocks(content: object) -> list[dict[str, Any]]:
    """Return blocks with a `type`: text, image, document, tool_call, tool_result, reasoning, or other.

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
            named = {"id": _cut(use.get("toolUseId", "")), "name": _cut(use.get("name", ""))}
            return {"type": "tool_call", **named, "input": plain(use.get("input"))}
        case {"toolResult": {**result}}:
            status = "error" if result.get("status") == "error" else "success"
            content = _result(result.get("content"))
            return {
                "type": "tool_result",
                "id": _cut(result.get("toolUseId", "")),
                "status": status,
                "content": content,
            }
        case {"image": {"format": format_, "source": {"bytes": data}}}:
            return {"type": "image", "format": _cut(format_), "size": _size(data)}
        case {"document": {"format": format_, "name": name, "source": {"bytes": data}}}:
            named = {"name": _cut(name), "format": _cut(format_)}
            return {"type": "document", **named, "size": _size(data)}
        case {"reasoningContent": {"reasoningText": {"text": str(text)}}}:
            return {"type": "reasoning", "text": _cut(text)}
        case {**fields} if fields:
            return {"type": "other", "kind": _cut(str(next(iter(fields))))}
    return {"type": "other", "kind": "unknown"}


def _size(data: object) -> int | None:
    if isinstance(data, bytes):
        return len(data)
    return offloaded_size(data)


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


def plain(value: object) -> Any:
    """Return what JSON can say of a value, huge things cut."""
    return Plain(characters=LONGEST_TEXT).value(value)


def plain_fields(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON can say of an object, as one."""
    return Plain(characters=LONGEST_TEXT).fields(value)


def _cut(value: object) -> str:
    return str(plain(value))
