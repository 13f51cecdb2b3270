"""Session documents to look at: put into the database in the form in which the library stores them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mongodb_session_manager.schema import values
from mongodb_session_manager.schema.agents import new_agent
from mongodb_session_manager.schema.messages import encode_message
from mongodb_session_manager.schema.names import encode_name
from mongodb_session_manager.schema.sessions import new_session

Document = dict[str, Any]

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def session(
    session_id: str,
    *,
    created: datetime = START,
    metadata: Mapping[str, Any] | None = None,
    application_name: str | None = None,
    agents: Mapping[str, list[Any]] | None = None,
) -> Document:
    """Return a session; `agents` gives each agent's messages, from `message`."""
    document = new_session(session_id, created, application_name=application_name)
    document["metadata"] = {key: values.encode(value, native_dates=True) for key, value in (metadata or {}).items()}
    for agent_id, messages in (agents or {}).items():
        agent = new_agent(agent_id, created)
        agent["messages"] = [
            {"message_id": number, **item} if isinstance(item, dict) else item for number, item in enumerate(messages)
        ]
        agent["next_message_id"] = len(messages)
        document["agents"][encode_name(agent_id)] = agent
    document["summary"] = {
        "agents": len(agents or {}),
        "messages": sum(len(messages) for messages in (agents or {}).values()),
        "feedbacks": 0,
        "usage": {},
    }
    return document


def message(role: str, content: Any, *, minute: float = 0, **fields: Any) -> Document:
    """Return a stored message without its number."""
    blocks = [{"text": content}] if isinstance(content, str) else content
    document, _ = encode_message({"role": role, "content": blocks}, agent_id="a")
    moment = START + timedelta(minutes=minute)
    return {**document, "created_at": moment, "updated_at": moment, **fields}
