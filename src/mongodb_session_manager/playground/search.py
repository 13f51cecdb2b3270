"""Conversations in which something was said: looked through on the server, newest first, within a time limit."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from mongodb_session_manager import AsyncMongoDBSessionRepository

TIME_LIMIT_MS = 3_000
_FIELDS = {"created_at": 1, "updated_at": 1, "summary.messages": 1}


async def found_sessions(
    repository: AsyncMongoDBSessionRepository, text: str, application_name: str, *, limit: int
) -> list[dict[str, Any]]:
    """Return the newest sessions in whose title or messages a text occurs, in capitals or not.

    Messages that were sealed into segments are not looked through.

    Args:
        repository: Where the sessions are.
        text: What to look for, literally.
        application_name: Whose sessions.
        limit: Most sessions to return.

    Raises:
        ExecutionTimeout: The server did not look through all of them in time.
    """
    query = {
        "application_name": {"$eq": application_name},
        "$or": [{"title": {"$regex": re.escape(text), "$options": "i"}}, {"$expr": _said(re.escape(text))}],
    }
    cursor = repository.collection.find(query, _FIELDS, max_time_ms=TIME_LIMIT_MS)
    found = await cursor.sort([("created_at", -1), ("_id", -1)]).limit(limit).to_list(limit)
    return [_summary(document) for document in found]


def _summary(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "session_id": str(document["_id"]),
        "created_at": _moment(document.get("created_at")),
        "updated_at": _moment(document.get("updated_at")),
        "messages_count": (document.get("summary") or {}).get("messages"),
    }


def _moment(value: object) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _said(pattern: str) -> dict[str, Any]:
    """Return the expression that tells whether a message of any agent has a text that matches."""
    text = {"$cond": [{"$eq": [{"$type": "$$block.text"}, "string"]}, "$$block.text", ""]}
    in_block = {"$regexMatch": {"input": text, "regex": pattern, "options": "i"}}
    # Older tools stored the content as plain text.
    content = {"$cond": [{"$isArray": ["$$message.content"]}, "$$message.content", [{"text": "$$message.content"}]]}
    in_message = _any(content, "block", in_block)
    messages = {"$cond": [{"$isArray": ["$$agent.v.messages"]}, "$$agent.v.messages", []]}
    agents = {"$cond": [{"$eq": [{"$type": "$agents"}, "object"]}, {"$objectToArray": "$agents"}, []]}
    return _any(agents, "agent", _any(messages, "message", in_message))


def _any(items: dict[str, Any], name: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {"$anyElementTrue": [{"$map": {"input": items, "as": name, "in": condition}}]}
