"""Conversations as they are stored in MongoDB, for the list, the history and the panel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from strands.types.session import SessionMessage

from mongodb_session_manager import (
    AgentNotFoundError,
    AsyncMongoDBSessionRepository,
    CorruptMessageError,
    SessionNotFoundError,
)

from ..web.plain import storable_text
from .agent import AGENT_ID
from .blocks import plain, shown_blocks
from .schemas import (
    ChatMessage,
    Conversation,
    ConversationPage,
    ConversationSummary,
    Feedback,
    Metrics,
    Usage,
)
from .turns import Turns

_LONGEST_TITLE = 80


class Conversations:
    """Reads the sessions of one application; those of others do not exist for it."""

    def __init__(
        self, repository: AsyncMongoDBSessionRepository, turns: Turns, *, application_name: str, viewer_url: str
    ) -> None:
        """Read through a repository.

        Args:
            repository: Where the sessions are.
            turns: Tells which replies are in the making.
            application_name: Whose sessions.
            viewer_url: Where the session viewer runs; empty for no link.
        """
        self._repository = repository
        self._turns = turns
        self._application_name = application_name
        self._viewer_url = viewer_url

    async def check(self, session_id: str) -> None:
        """Make sure that the session is there, and this application's.

        Raises:
            SessionNotFoundError: It is not.
        """
        if await self._repository.get_application_name(session_id) != self._application_name:
            raise SessionNotFoundError(session_id)

    async def page(self, limit: int, cursor: str | None) -> ConversationPage:
        """Return a page of conversations, newest first.

        Raises:
            ValueError: The cursor is none that a page ended with.
        """
        found = await self._repository.list_sessions(
            limit=limit, cursor=cursor, application_name=self._application_name
        )
        titles = await asyncio.gather(*(self._title(session["session_id"]) for session in found["sessions"]))
        sessions = [
            ConversationSummary(
                session_id=session["session_id"],
                title=title,
                created_at=session["created_at"],
                updated_at=session["updated_at"],
                messages_count=session["messages_count"],
                running=self._turns.running_in(session["session_id"]) is not None,
            )
            for session, title in zip(found["sessions"], titles, strict=True)
        ]
        return ConversationPage(sessions=sessions, next_cursor=found["next_cursor"])

    async def _title(self, session_id: str) -> str:
        """The first line of what the user said first."""
        try:
            first = await self._repository.list_messages(session_id, AGENT_ID, limit=1)
        except (AgentNotFoundError, SessionNotFoundError, CorruptMessageError):
            return ""
        texts = [block["text"] for message in first for block in _blocks(message) if block["type"] == "text"]
        line = " ".join(" ".join(texts)[: 4 * _LONGEST_TITLE].split())
        return line if len(line) <= _LONGEST_TITLE else f"{line[: _LONGEST_TITLE - 1]}…"

    async def read(self, session_id: str, *, limit: int, before: int | None) -> Conversation:
        """Return a session with some of its messages.

        Args:
            session_id: The session.
            limit: Most messages to return.
            before: Only messages before this position; None for the newest.

        Raises:
            SessionNotFoundError: There is none, or it is another application's.
        """
        await self.check(session_id)
        repository = self._repository
        count = await repository.get_message_count(session_id, AGENT_ID)
        end = count if before is None else min(before, count)
        first = max(end - limit, 0)
        session, title = await asyncio.gather(repository.read_session(session_id), self._title(session_id))
        messages, config, agent, metadata, feedbacks, metrics = await asyncio.gather(
            self._messages(session_id, first, end - first),
            repository.get_agent_config(session_id, AGENT_ID),
            repository.read_agent(session_id, AGENT_ID),
            repository.get_metadata(session_id),
            repository.get_feedbacks(session_id),
            repository.get_metrics_summary(session_id),
        )
        running = self._turns.running_in(session_id)
        return Conversation(
            session_id=session_id,
            title=title,
            created_at=None if session is None else datetime.fromisoformat(session.created_at),
            updated_at=None if session is None else datetime.fromisoformat(session.updated_at),
            metadata=plain(metadata["metadata"]),
            state=plain(agent.state if agent is not None else {}),
            model=(config or {}).get("model"),
            messages=messages,
            messages_count=count,
            first=first,
            feedbacks=[_feedback(feedback) for feedback in feedbacks],
            metrics=Metrics.model_validate(plain(metrics)),
            turn=None if running is None else running.summary(),
            viewer_url=self._link(session_id),
        )

    async def _messages(self, session_id: str, first: int, limit: int) -> list[ChatMessage]:
        if not limit:
            return []
        found = await self._repository.list_messages(session_id, AGENT_ID, limit=limit, offset=first)
        return [_message(message) for message in found]

    def _link(self, session_id: str) -> str | None:
        return f"{self._viewer_url}?{urlencode({'session_id': session_id})}" if self._viewer_url else None


def _blocks(message: SessionMessage) -> list[dict[str, Any]]:
    shown = message.message if message.redact_message is None else message.redact_message
    return shown_blocks(shown.get("content"))


def _message(message: SessionMessage) -> ChatMessage:
    details: Mapping[str, Any] = message.message.get("metadata") or {}
    usage, metrics = details.get("usage") or {}, details.get("metrics") or {}
    return ChatMessage(
        message_id=message.message_id,
        role=storable_text(str(message.message["role"])),
        blocks=_blocks(message),
        created_at=message.created_at,
        redacted=message.redact_message is not None,
        usage=_usage(usage) if any(usage.values()) else None,
        # 0 stands for unknown.
        latency_ms=metrics.get("latencyMs") or None,
        time_to_first_byte_ms=metrics.get("timeToFirstByteMs") or None,
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=usage.get("inputTokens"),
        output=usage.get("outputTokens"),
        total=usage.get("totalTokens"),
        cache_read=usage.get("cacheReadInputTokens"),
        cache_write=usage.get("cacheWriteInputTokens"),
    )


def _feedback(feedback: Mapping[str, Any]) -> Feedback:
    message_id = feedback.get("message_id")
    return Feedback(
        rating=storable_text(str(feedback.get("rating", ""))),
        comment=storable_text(str(feedback.get("comment") or "")),
        message_id=message_id if isinstance(message_id, int) else None,
        created_at=feedback.get("created_at"),
    )
