"""Sessions in a collection of their own: managers to open them with, and the server's view of what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from strands.types.content import Message

from mongodb_session_manager import AsyncMongoDBSessionManager
from tests.fix_agents import AGENT_ID
from tests.fix_commands import CommandRecorder

Document = dict[str, Any]

COLLECTION = "sessions"
SESSION_ID = "s-1"


class Sessions:
    """The sessions of one test.

    Attributes:
        appname: Name of the clients of this test, to aim fail points at.
        recorder: Records the commands of managers made here.
    """

    def __init__(self, uri: str, mongo_client: MongoClient[Document], database_name: str) -> None:
        self.uri = uri
        self.database_name = database_name
        self.appname = f"test-{uuid4().hex[:8]}"
        self.recorder = CommandRecorder()
        self.raw = mongo_client[database_name][COLLECTION]

    def manager(self, session_id: str = SESSION_ID, **options: Any) -> AsyncMongoDBSessionManager:
        """Return a manager, not opened; without `client=` on a client of this test."""
        if "client" not in options:
            options = {"connection_string": self.uri, **self.client_options(), **options}
        return AsyncMongoDBSessionManager(
            session_id,
            database_name=self.database_name,
            collection_name=COLLECTION,
            **{"ensure_indexes": False, **options},
        )

    def client_options(self) -> Document:
        """Options for clients made elsewhere, so that fail points find them and commands are recorded."""
        return {"appname": self.appname, "event_listeners": [self.recorder], "serverSelectionTimeoutMS": 5000}

    def document(self, session_id: str = SESSION_ID) -> Document:
        """Return the stored document, after checking that it is whole."""
        found = self.raw.find_one({"_id": session_id})
        assert found is not None
        check_whole(found)
        return found

    def messages(self, agent_id: str = AGENT_ID, session_id: str = SESSION_ID) -> list[Document]:
        """Return the stored messages of an agent."""
        messages: list[Document] = self.document(session_id)["agents"][agent_id]["messages"]
        return messages

    def texts(self, agent_id: str = AGENT_ID, session_id: str = SESSION_ID) -> list[str]:
        """Return the text of each stored message of an agent."""
        return texts_of(self.messages(agent_id, session_id))


def check_whole(document: Document) -> None:
    """Assert what holds for every stored session at any moment, whoever was cancelled or cut off."""
    agents: Document = document["agents"]
    for agent_id, agent in agents.items():
        ids = [message["message_id"] for message in agent["messages"]]
        assert ids == list(range(len(ids))), f"messages of {agent_id!r} are numbered {ids}"
        assert agent["next_message_id"] == len(ids)
        assert agent["agent_data"]["agent_id"] == agent_id
    summary = document["summary"]
    assert summary["agents"] == len(agents)
    assert summary["messages"] == sum(len(agent["messages"]) for agent in agents.values())
    assert summary["feedbacks"] == len(document["feedbacks"])
    for name, total in summary["usage"].items():
        assert total == sum(agent["usage"].get(name, 0) for agent in agents.values()), name
    assert len(document["applied"]) == len(set(document["applied"]))


def texts_of(messages: Sequence[Document | Message]) -> list[str]:
    """Return the text of each message, stored or live."""
    return ["".join(block.get("text", "") for block in message["content"]) for message in messages]


@pytest.fixture
def sessions(mongo_uri: str, mongo_client: MongoClient[Document], database_name: str) -> Sessions:
    """Sessions that no other test sees."""
    return Sessions(mongo_uri, mongo_client, database_name)
