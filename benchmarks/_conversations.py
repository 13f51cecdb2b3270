"""Conversations of any length: real turns make a short one, of which longer ones are copies, message by message."""

from __future__ import annotations

import copy
import json
import secrets
import uuid
from typing import Any

from _models import FixedModel
from strands import Agent
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.hooks import MessageAddedEvent
from strands.types.content import Message

from mongodb_session_manager import AsyncMongoDBSessionManager
from mongodb_session_manager.schema.sessions import new_token
from mongodb_session_manager.schema.values import encoded_size
from mongodb_session_manager.store.related import SEGMENTS, related_index_specs

Document = dict[str, Any]

AGENT_ID = "assistant"
COLLECTION = "sessions"
WINDOW = 40
PROMPT = "Where should I go next, and what should I know about the place before I get there? " * 12
_MODEL = "model"
_SEGMENTS_PER_INSERT = 50


class Conversations:
    """The sessions of one database, all of the same agent and messages of about 1 KB."""

    def __init__(self, uri: str, database: Any) -> None:
        """Prepare the collections."""
        self._uri = uri
        self._database = database
        self._sessions = database[COLLECTION]
        self._segments = database[f"{COLLECTION}{SEGMENTS}"]
        self._segments.create_indexes(related_index_specs()[SEGMENTS])
        self._document: Document = {}
        self._sealed: list[Document] = []

    async def take_turns(self) -> None:
        """Take turns in a session of its own, until two segments are sealed: what `store` copies.

        Raises:
            AssertionError: A copy of the same length differs from it.
        """
        while self._segments.count_documents({"session_id": _MODEL, "committed": True}) < 2:
            # One manager for each, as in a web server; closing it waits until the seal is done.
            async with manager(self._uri, self._database.name, _MODEL) as opened:
                async for _ in agent_of(opened).stream_async(PROMPT):
                    pass
        self._document = self._sessions.find_one({"_id": _MODEL})
        self._sealed = list(self._segments.find({"session_id": _MODEL, "committed": True}).sort("start", 1))
        tail = len(self._document["agents"][AGENT_ID]["messages"])
        self.store("copy", self._sealed[-1]["end"] + tail, tail=tail)
        for collection in (self._sessions, self._segments):
            # How many segments there are depends on how soon the seals came; they are all alike.
            real, made = (
                {json.dumps(_shape(found), sort_keys=True) for found in collection.find({"session_id": name})}
                for name in (_MODEL, "copy")
            )
            assert real == made, f"a copy in {collection.name} differs from what turns store"

    @property
    def at_once(self) -> int:
        """How many messages a seal takes."""
        return int(self._sealed[-1]["end"] - self._sealed[-1]["start"])

    def store(self, session_id: str, count: int, *, tail: int | None = None) -> None:
        """Store a session of so many messages, in the place of an earlier one.

        Args:
            session_id: The session.
            count: Its messages.
            tail: How many of them stay in its document; None for as many as turns would leave there.
        """
        for collection in (self._sessions, self._segments):
            collection.delete_many({"session_id": session_id})
        document = copy.deepcopy(self._document)
        document |= {"_id": session_id, "session_id": session_id, "incarnation": secrets.token_hex(8)}
        agent = document["agents"][AGENT_ID]
        sealed = self._sealed_of(count) if tail is None else count - tail
        token = self._seal(document, sealed)
        agent["messages"] = [self._message(number) for number in range(sealed, count)]
        agent["next_message_id"] = document["summary"]["messages"] = count
        removed = max(0, count - WINDOW)
        agent["window"] = [[removed, None]]
        agent["agent_data"]["conversation_manager_state"]["removed_message_count"] = removed
        document["live_bytes"] = sum(map(encoded_size, agent["messages"]))
        if sealed:
            agent |= {"archived_count": sealed, "archive": {**agent["archive"], "token": token}}
        else:
            del agent["archived_count"], agent["archive"]["token"], document["has_children"]
        self._sessions.insert_one(document)

    def _sealed_of(self, count: int) -> int:
        return max(0, count - WINDOW) // self.at_once * self.at_once

    def _seal(self, document: Document, sealed: int) -> str:
        token, segments = "", []
        for start in range(0, sealed, self.at_once):
            token, end = new_token(), min(start + self.at_once, sealed)
            segments.append(self._segment(document, start, end, token))
            if len(segments) == _SEGMENTS_PER_INSERT or end == sealed:
                self._segments.insert_many(segments, ordered=False)
                segments = []
        return token

    def _segment(self, document: Document, start: int, end: int, token: str) -> Document:
        segment = self._sealed[0]
        _, _, path, _, _ = segment["_id"].split("/")
        return segment | {
            "_id": f"{document['_id']}/{document['incarnation']}/{path}/{start}/{token}",
            "session_id": document["_id"],
            "incarnation": document["incarnation"],
            "start": start,
            "end": end,
            "first_id": start,
            "last_id": end - 1,
            "token": token,
            "items": [self._message(number) for number in range(start, end)],
        }

    def _message(self, number: int) -> Document:
        asked_or_answered: Document = self._sealed[0]["items"][number % 2]
        return asked_or_answered | {"message_id": number, "tracking_id": str(uuid.uuid4())}


def _shape(value: Any) -> Any:
    """Return what has to be equal of two stored documents: names and kinds of values."""
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items() if name != "timeToFirstByteMs"}  # 0 is left out
    if isinstance(value, list):
        # Questions and answers; how many of them depends on how soon the seal came.
        return sorted({json.dumps(_shape(item), sort_keys=True) for item in value})
    return type(value).__name__


def manager(uri: str, database: str, session_id: str) -> AsyncMongoDBSessionManager:
    """Return a manager with a client of its own, not opened."""
    return AsyncMongoDBSessionManager(session_id, uri, database, COLLECTION, minPoolSize=1, ensure_indexes=False)


def agent_of(opened: AsyncMongoDBSessionManager) -> Agent:
    """Return an agent under a sliding window."""
    return Agent(
        model=FixedModel(),
        agent_id=AGENT_ID,
        session_manager=opened,
        conversation_manager=SlidingWindowConversationManager(window_size=WINDOW),
        callback_handler=None,
    )


async def add(agent: Agent) -> None:
    """Add a message of 1 KB as Strands does: it is stored when this returns."""
    message: Message = {"role": "user", "content": [{"text": PROMPT}], "tracking_id": str(uuid.uuid4())}
    agent.messages.append(message)
    await agent.hooks.invoke_callbacks_async(MessageAddedEvent(agent=agent, message=message))


def end_turn(opened: AsyncMongoDBSessionManager, agent: Agent) -> None:
    """Do what the end of a turn does: the agent drops what is beyond its window, and the next flush stores that."""
    agent.conversation_manager.apply_management(agent)
    opened.sync_agent(agent)
