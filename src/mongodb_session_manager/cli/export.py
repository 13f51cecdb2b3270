"""A whole session as text, written while it is read: as JSON, lines of JSON, or Markdown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from strands.types.session import SessionMessage

from ..errors import AgentNotFoundError
from ..exported import fenced, inline, quoted
from ..store import AsyncMongoDBSessionRepository
from .output import json_text

_PAGE = 200


class Format(StrEnum):
    """What an export can be."""

    json = "json"
    jsonl = "jsonl"
    markdown = "markdown"


ENDINGS = {Format.json: "json", Format.jsonl: "jsonl", Format.markdown: "md"}


async def head_of(repository: AsyncMongoDBSessionRepository, session_id: str) -> dict[str, Any]:
    """Return what is known of a session besides what was said.

    Raises:
        SessionNotFoundError: No such session.
    """
    metadata = await repository.get_metadata(session_id)
    session = await repository.read_session(session_id)
    agents = await repository.list_agents(session_id)
    for agent in agents:
        agent["messages_count"] = await repository.get_message_count(session_id, agent["agent_id"])
    return {
        "session_id": session_id,
        "application_name": await repository.get_application_name(session_id),
        "created_at": session.created_at if session else None,
        "updated_at": session.updated_at if session else None,
        **metadata,
        "agents": agents,
        "feedbacks": await repository.get_feedbacks(session_id),
        "metrics": await repository.get_metrics_summary(session_id),
    }


async def messages_of(
    repository: AsyncMongoDBSessionRepository,
    session_id: str,
    agent_id: str,
    start: int = 0,
    seen: Callable[[], None] = lambda: None,
) -> AsyncIterator[dict[str, Any]]:
    """Yield an agent's messages, oldest first, a page at a time; a redacted one has only its replacement."""
    while True:
        try:
            page = await repository.list_messages(session_id, agent_id, limit=_PAGE, offset=start)
        except AgentNotFoundError:
            return  # deleted meanwhile, or stored by another program under another name than it has
        for message in page:
            yield message_fields(agent_id, message)
            seen()
        start += len(page)
        if len(page) < _PAGE:
            return


def message_fields(agent_id: str, message: SessionMessage) -> dict[str, Any]:
    """Return a message as it is exported."""
    return {
        "agent_id": agent_id,
        "message_id": message.message_id,
        "created_at": message.created_at,
        "redacted": message.redact_message is not None,
        **message.to_message(),
    }


async def export(
    repository: AsyncMongoDBSessionRepository,
    session_id: str,
    form: Format,
    head: Mapping[str, Any],
    seen: Callable[[], None] = lambda: None,
) -> AsyncIterator[str]:
    """Yield a session as text.

    Args:
        repository: Where it is.
        session_id: The session.
        form: What the text is to be.
        head: From `head_of`.
        seen: Called for each message.
    """
    writer = {Format.json: _as_json, Format.jsonl: _as_lines, Format.markdown: _as_markdown}[form]
    async for part in writer(repository, session_id, head, seen):
        yield part


async def _as_json(
    repository: AsyncMongoDBSessionRepository, session_id: str, head: Mapping[str, Any], seen: Callable[[], None]
) -> AsyncIterator[str]:
    yield json_text(head).removesuffix("}") + ', "messages": ['
    separator = "\n"
    for agent in head["agents"]:
        async for message in messages_of(repository, session_id, agent["agent_id"], seen=seen):
            yield separator + json_text(message)
            separator = ",\n"
    yield "\n]}\n"


async def _as_lines(
    repository: AsyncMongoDBSessionRepository, session_id: str, head: Mapping[str, Any], seen: Callable[[], None]
) -> AsyncIterator[str]:
    yield json_text({"type": "session", **head}) + "\n"
    for agent in head["agents"]:
        async for message in messages_of(repository, session_id, agent["agent_id"], seen=seen):
            yield json_text({"type": "message", **message}) + "\n"


async def _as_markdown(
    repository: AsyncMongoDBSessionRepository, session_id: str, head: Mapping[str, Any], seen: Callable[[], None]
) -> AsyncIterator[str]:
    yield f"# Session {inline(session_id)}\n\n"
    for name in ("application_name", "created_at", "updated_at"):
        if head[name]:
            yield f"- {name.replace('_', ' ')}: {inline(str(head[name]))}\n"
    if head["metadata"]:
        yield f"\n## Metadata\n\n{_fenced(head['metadata'])}"
    for agent in head["agents"]:
        yield f"\n## Agent {inline(agent['agent_id'])}\n"
        async for message in messages_of(repository, session_id, agent["agent_id"], seen=seen):
            mark = ", redacted" if message["redacted"] else ""
            yield f"\n### {message['message_id']}. {inline(str(message['role']))}{mark}\n\n"
            yield "".join(_block(block) for block in message["content"])
    for feedback in head["feedbacks"]:
        yield f"\n## Feedback\n\n{_fenced(feedback)}"


def _block(block: object) -> str:
    match block:
        case {"text": str(text)}:
            return quoted(text)
        case {**fields}:
            return "".join(_part(str(name), value) for name, value in fields.items())
    return _fenced(block) + "\n"


def _part(name: str, value: Any) -> str:
    return f"{inline(name)}:\n\n{_fenced(value)}\n"


def _fenced(value: Any) -> str:
    return fenced(json_text(value, indent=2), "json")


def conversation(messages: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield who said what, in one text each; calls and results of tools by their names."""
    for message in messages:
        who = f"{message['message_id']} {message['role']}"
        yield who, "\n".join(_said(block) for block in message["content"])


def _said(block: object) -> str:
    match block:
        case {"text": str(text)}:
            return text
        case {"toolUse": {**use}}:
            return f"[calls {_named(use.get('name'))} {json_text(use.get('input'))}]"
        case {"toolResult": {**result}}:
            parts = result.get("content", ())
            texts = [_answered(part) for part in parts] if isinstance(parts, list | tuple) else [json_text(parts)]
            return f"[result, {_named(result.get('status', 'success'))}] {' '.join(texts)}"
        case {**fields}:
            return f"[{', '.join(map(str, fields))}]"
    return json_text(block)


def _answered(part: object) -> str:
    match part:
        case {"text": str(text)} if text:
            return text
        case {**fields}:
            return json.dumps(sorted(map(str, fields)))
    return json_text(part)


def _named(name: object) -> str:
    return name if isinstance(name, str) else json_text(name)
