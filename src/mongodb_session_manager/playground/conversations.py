"""Conversations as they are stored in MongoDB, for the list, the history and the panel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from mongodb_session_manager import (
    AgentNotFoundError,
    AsyncMongoDBSessionRepository,
    CorruptMessageError,
    SessionNotFoundError,
)

from ..web.foreign_values import ANY_VALUE
from ..web.plain import count_or_none, number_or_none, storable_text, text_or_none
from .agents import Agents
from .attachments import file_of
from .blocks import json_text, plain, plain_fields
from .messages import chat_feedback, chat_message, message_blocks, unreadable_message
from .schemas import (
    ChatMessage,
    Conversation,
    ConversationPage,
    ConversationSummary,
    FoundConversation,
    FoundPage,
    Metrics,
    Usage,
)
from .search import find_sessions
from .tuning import Tuning, tuning_of, with_tuning
from .turns import Turns

_LONGEST_TITLE = 120

T = TypeVar("T")


class Conversations:
    """Reads the sessions of one application; those of others do not exist for it."""

    def __init__(
        self,
        repository: AsyncMongoDBSessionRepository,
        turns: Turns,
        agents: Agents,
        *,
        application_name: str,
        viewer_url: str,
    ) -> None:
        """Read through a repository.

        Args:
            repository: Where the sessions are.
            turns: Tells which replies are in the making.
            agents: Tell whose messages are a conversation's.
            application_name: Whose sessions.
            viewer_url: Where the session viewer runs; empty for no link.
        """
        self._repository = repository
        self._turns = turns
        self._agents = agents
        self._application_name = application_name
        self._viewer_url = viewer_url

    @property
    def _titles(self) -> Any:
        """The sessions, for reading what other tools may have stored in the place of a title."""
        return self._repository.collection.with_options(codec_options=ANY_VALUE)

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
            ValueError: No page ended with this cursor.
        """
        found = await self._repository.list_sessions(
            limit=limit, cursor=cursor, application_name=self._application_name
        )
        return ConversationPage(sessions=await self._summaries(found["sessions"]), next_cursor=found["next_cursor"])

    async def search(self, text: str, limit: int, cursor: str | None) -> FoundPage:
        """Return the newest conversations in whose title or messages a text occurs, in capitals or not."""
        found = await find_sessions(self._repository, text, self._application_name, limit=limit, cursor=cursor)
        summaries = zip(await self._summaries(found.sessions), found.sessions, strict=True)
        return FoundPage(
            sessions=[
                FoundConversation(**dict(summary), excerpt=text_or_none(session["excerpt"]))
                for summary, session in summaries
            ],
            next_cursor=found.next_cursor,
            searched_until=found.searched_until,
        )

    async def _summaries(self, found: list[dict[str, Any]]) -> list[ConversationSummary]:
        query = {"_id": {"$in": [session["session_id"] for session in found]}}
        stored = await self._titles.find(query, {"title": 1}).to_list(len(found))
        known = {document["_id"]: document.get("title") for document in stored}
        titles = await asyncio.gather(
            *(self._title(session["session_id"], known.get(session["session_id"])) for session in found)
        )
        return [
            ConversationSummary(
                session_id=session["session_id"],
                title=title,
                created_at=session["created_at"],
                updated_at=session["updated_at"],
                messages_count=count_or_none(session["messages_count"]),
                running=self._turns.running_in(session["session_id"]) is not None,
            )
            for session, title in zip(found, titles, strict=True)
        ]

    async def _title(self, session_id: str, stored: object) -> str:
        """The stored title; of older sessions, which have none, the first line of what the user said first."""
        if isinstance(stored, str) and stored:
            return storable_text(stored)
        if (agent_id := await self._agent_of(session_id)) is None:
            return ""
        try:
            first = await self._repository.list_messages(session_id, agent_id, limit=1)
        except (AgentNotFoundError, SessionNotFoundError, CorruptMessageError):
            return ""
        texts = [block["text"] for message in first for block in message_blocks(message) if block["type"] == "text"]
        line = " ".join(" ".join(texts)[: 4 * _LONGEST_TITLE].split())
        return line if len(line) <= _LONGEST_TITLE else f"{line[: _LONGEST_TITLE - 1]}…"

    async def _agent_of(self, session_id: str) -> str | None:
        """Return whose messages are shown: the id of the agent that answers here, else of the session's first."""
        if self._agents.agent_id is not None:
            return self._agents.agent_id
        try:
            ids = [config["agent_id"] for config in await self._repository.list_agents(session_id)]
        except SessionNotFoundError:
            return None
        if self._agents.last_id in ids:
            return self._agents.last_id
        return ids[0] if ids else None

    async def rename(self, session_id: str, title: str) -> None:
        """Give a conversation another title.

        Raises:
            LeaseUnavailableError: A reply is being made elsewhere.
            SessionNotFoundError: There is none, or it is another application's.
        """
        await self.check(session_id)
        await self._repository.rename_session(session_id, title)

    async def tune(self, session_id: str, tuning: Tuning) -> None:
        """Choose system prompt and temperature for a conversation, from its next turn on.

        Raises:
            AgentNotFoundError: Nothing was said yet.
            LeaseUnavailableError: A reply is being made elsewhere.
            SessionNotFoundError: There is none, or it is another application's.
        """
        await self.check(session_id)
        agent_id = await self._agent_of(session_id)
        config = None if agent_id is None else await self._repository.get_agent_config(session_id, agent_id)
        if agent_id is None or config is None:
            raise AgentNotFoundError(session_id, agent_id or "")
        changed = with_tuning(config.get("prompt_metadata"), tuning)
        await self._repository.set_prompt_metadata(session_id, agent_id, changed)

    async def fork(self, session_id: str, new_session_id: str, up_to_message: int | None) -> None:
        """Make a conversation that holds what another one held up to a message; None for all of it.

        Raises:
            MessageNotFoundError: There is no such message.
            SessionNotFoundError: There is no such conversation, or it is another application's.
        """
        await self.check(session_id)
        agent_id = None if up_to_message is None else await self._agent_of(session_id)
        await self._repository.fork_session(session_id, new_session_id, up_to_message=up_to_message, agent_id=agent_id)

    async def file(self, session_id: str, message_id: int, place: int) -> tuple[str, str, bytes] | None:
        """Return name, format and bytes of a file in a message; None when there is none.

        Raises:
            SessionNotFoundError: There is no such conversation, or it is another application's.
        """
        await self.check(session_id)
        agent_id = await self._agent_of(session_id)
        if agent_id is None:
            return None
        try:
            message = await self._repository.read_message(session_id, agent_id, message_id)
        except CorruptMessageError:
            return None
        if message is None:
            return None
        shown = message.message if message.redact_message is None else message.redact_message
        return file_of(shown.get("content"), place)

    async def messages(self, session_id: str, first: int, limit: int) -> list[ChatMessage]:
        """Return some messages of a conversation, oldest first."""
        agent_id = await self._agent_of(session_id)
        if not limit or agent_id is None:
            return []
        try:
            found = await self._repository.list_messages(session_id, agent_id, limit=limit, offset=first)
        except AgentNotFoundError:
            return []
        except CorruptMessageError as error:
            if limit == 1:
                return [unreadable_message(first, error)]
            # The others are shown all the same.
            half = limit // 2
            before = await self.messages(session_id, first, half)
            return before + await self.messages(session_id, first + half, limit - half)
        return [chat_message(message) for message in found]

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
        agent_id = await self._agent_of(session_id)
        count = 0 if agent_id is None else await repository.get_message_count(session_id, agent_id)
        end = count if before is None else min(before, count)
        first = max(end - limit, 0)
        session, stored = await asyncio.gather(
            repository.read_session(session_id), self._titles.find_one({"_id": session_id}, {"title": 1})
        )
        title = await self._title(session_id, (stored or {}).get("title"))
        messages, config, agent, metadata, feedbacks, metrics = await asyncio.gather(
            self.messages(session_id, first, end - first),
            _of(agent_id, repository.get_agent_config, session_id),
            _of(agent_id, repository.read_agent, session_id),
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
            metadata=plain_fields(metadata["metadata"]),
            state=plain_fields(agent.state if agent is not None else {}),
            agent_id=None if agent is None else agent_id,
            model=_text((config or {}).get("model")),
            system_prompt=_text((config or {}).get("system_prompt")),
            tuning=tuning_of((config or {}).get("prompt_metadata")),
            messages=messages,
            messages_count=count,
            first=first,
            feedbacks=[chat_feedback(feedback) for feedback in feedbacks],
            metrics=_metrics(metrics),
            turn=None if running is None else running.summary(),
            viewer_url=self._link(session_id),
        )

    def _link(self, session_id: str) -> str | None:
        return f"{self._viewer_url}?{urlencode({'session_id': session_id})}" if self._viewer_url else None


def _metrics(found: Mapping[str, Any]) -> Metrics:
    return Metrics(
        tokens=Usage(**{name: count_or_none(count) for name, count in found["tokens"].items()}),
        latency_ms=number_or_none(found["latency_ms"]),
        model_calls=count_or_none(found["model_calls"]),
        tool_calls=plain_fields(found["tool_calls"]),
    )


def _text(value: object) -> str | None:
    """Return what is recorded of an agent as a text, whatever a tool recorded; None for nothing."""
    shown = plain(value)
    return shown if shown is None or isinstance(shown, str) else json_text(value)


async def _of(agent_id: str | None, read: Callable[[str, str], Awaitable[T | None]], session_id: str) -> T | None:
    return None if agent_id is None else await read(session_id, agent_id)
