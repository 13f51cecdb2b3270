"""Sessions that outgrow one document: how to fill them, and what holds of what is stored of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bson
from pymongo.database import Database
from strands import Agent
from strands.types.content import Message

from mongodb_session_manager import AsyncMongoDBSessionManager
from tests.fixtures.sessions import COLLECTION, SESSION_ID, texts_of
from tests.support.agents import AGENT_ID
from tests.support.invariants import PAYLOADS, SEGMENTS, sealed

Document = dict[str, Any]


def said(number: int, size: int = 4000) -> Message:
    """Return the message of a number in a conversation, padded to a size."""
    text = f"message {number} "
    return {"role": "assistant" if number % 2 else "user", "content": [{"text": text + "x" * (size - len(text))}]}


def numbers_of(messages: Iterable[Message | Document]) -> list[int]:
    """Return the numbers that messages made by `said` carry in their text."""
    return [int(text.split()[1]) for text in texts_of(list(messages))]


async def converse(
    manager: AsyncMongoDBSessionManager,
    agent: Agent,
    numbers: Iterable[int],
    *,
    size: int = 4000,
    at_once: bool = False,
) -> None:
    """Add messages to an agent's conversation as Strands does, each stored before the next, or all in one batch."""
    for number in numbers:
        message = said(number, size)
        agent.messages.append(message)
        manager.append_message(message, agent)
        if not at_once:
            await manager.flush()
    await manager.flush()


def segments(database: Database[Document], session_id: str = SESSION_ID, **query: Any) -> list[Document]:
    """Return the segments of a session, those that count for nothing included."""
    return list(database[SEGMENTS].find({"session_id": session_id, **query}).sort([("start", 1)]))


def stored_messages(
    database: Database[Document], agent_id: str = AGENT_ID, session_id: str = SESSION_ID
) -> list[Document]:
    """Return the messages of an agent out of the bare collections, after checking that no segment is missing."""
    document = database[COLLECTION].find_one({"_id": session_id})
    assert document is not None
    agent = document["agents"][agent_id]
    return [*sealed(database, document, "messages", agent_id, agent), *agent["messages"]]


def everything(database: Database[Document]) -> bytes:
    """Return all that is stored of all sessions, to look for what must be nowhere."""
    names = (COLLECTION, SEGMENTS, PAYLOADS)
    return b"".join(bson.encode(document) for name in names for document in database[name].find({}))


def size_of(document: Mapping[str, Any]) -> int:
    return len(bson.encode(document))


def texts(messages: Sequence[Any]) -> list[str]:
    """Return the text of each of Strands' session messages."""
    return texts_of([message.to_message() for message in messages])
