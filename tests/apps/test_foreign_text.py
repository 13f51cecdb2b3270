"""Values that only other drivers can store, such as text that is no UTF-8, keep nothing else from being shown."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from pymongo import MongoClient

from mongodb_session_manager import AsyncMongoDBSessionRepository
from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.served import APPS, App, app_of
from tests.apps.viewer.conftest import client_of
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.agents import make_agent
from tests.support.segments import converse

PATHS: dict[App, list[str]] = {
    "viewer": [
        "/api/v1/sessions/search",
        "/api/v1/sessions/search?text=hello",
        "/api/v1/sessions/totals",
        "/api/v1/metadata-fields",
        "/api/v1/sessions/archive?session_id=odd&session_id=plain",
        "/api/v1/sessions/odd",
        "/api/v1/sessions/odd/export?format=jsonl",
        "/api/v1/sessions/odd/export?format=markdown",
        "/api/v1/sessions/odd/find?text=hello",
        "/api/v1/sessions/odd/usage",
        f"/api/v1/sessions/odd/message?agent_id={AGENT_ID}&message_id=0",
    ],
    "playground": ["/api/sessions", "/api/sessions?text=hello", "/api/sessions/odd", "/api/sessions/odd/export"],
}
_LISTS = 2


def element(kind: int, name: bytes, value: bytes) -> bytes:
    return bytes([kind]) + name + b"\0" + value


def text(value: bytes) -> bytes:
    return struct.pack("<i", len(value) + 1) + value + b"\0"


def document(*elements: bytes) -> bytes:
    held = b"".join(elements) + b"\0"
    return struct.pack("<i", len(held) + 4) + held


def of_an_agent(*fields: bytes, agent_id: bytes | None = None) -> bytes:
    """Return `agents` with one agent, and one message of these fields."""
    said = document(element(16, b"message_id", struct.pack("<i", 0)), element(2, b"role", text(b"user")), *fields)
    data = document(agent_id or element(2, b"agent_id", text(AGENT_ID.encode())))
    agent = document(element(3, b"agent_data", data), element(4, b"messages", document(element(3, b"0", said))))
    return element(3, b"agents", document(element(3, AGENT_ID.encode(), agent)))


NO_TEXT = text(b"hello \xff\xfe")
SCOPED = struct.pack("<i", 4 + len(text(b"x")) + len(document())) + text(b"x") + document()
ODD: dict[str, bytes] = {
    "metadata": element(3, b"metadata", document(element(2, b"x", NO_TEXT), element(2, b"\xff", NO_TEXT))),
    "title": element(2, b"title", NO_TEXT),
    "title that is a date": element(9, b"title", struct.pack("<q", 2**62)),
    "date": element(9, b"created_at", struct.pack("<q", 2**62)),
    "date that is text": element(2, b"created_at", NO_TEXT),
    "password": element(2, b"session_viewer_password", NO_TEXT),
    "content": of_an_agent(element(2, b"content", NO_TEXT)),
    "block": of_an_agent(element(4, b"content", document(element(3, b"0", document(element(2, b"text", NO_TEXT)))))),
    "agent id": of_an_agent(agent_id=element(2, b"agent_id", NO_TEXT)),
    "agent id that is code": of_an_agent(agent_id=element(15, b"agent_id", SCOPED)),
    "comment": element(4, b"feedbacks", document(element(3, b"0", document(element(2, b"comment", NO_TEXT))))),
}


def store(sessions: Sessions, odd: bytes) -> None:
    """Store a session with an odd value, between two that are as they should be."""
    fields = document(element(2, b"_id", text(b"odd")), element(2, b"application_name", text(b"playground")), odd)
    sessions.raw.with_options(codec_options=DEFAULT_RAW_BSON_OPTIONS).insert_one(RawBSONDocument(fields))
    for name in ("plain", "other"):
        agents = {AGENT_ID: [message("user", "hello")]}
        sessions.raw.insert_one(session(name, application_name="playground", agents=agents))


@pytest.mark.parametrize("name", APPS)
async def test_one_odd_value_keeps_nothing_else_from_being_shown(sessions: Sessions, name: App) -> None:
    app = app_of(name, sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        for what, odd in ODD.items():
            sessions.raw.delete_many({})
            store(sessions, odd)
            for number, path in enumerate(PATHS[name]):
                answer = await client.get(path)
                assert answer.status_code < 500, (what, path, answer.text)
                if number < _LISTS:
                    shown = {found["session_id"]: found for found in answer.json()["sessions"]}
                    assert {"plain", "other"} <= shown.keys(), (what, path)
                    assert shown["plain"]["messages_count"] == 1, (what, path)


async def test_a_list_counts_the_others_where_one_session_cannot_be_read(
    sessions: Sessions, mongo_client: MongoClient[Any]
) -> None:
    store(sessions, ODD["block"])
    sessions.raw.update_many({"_id": {"$ne": "odd"}}, {"$unset": {"summary": ""}})
    repository = AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION)

    found = (await repository.list_sessions())["sessions"]
    await repository.close()

    counts = {one["session_id"]: one["messages_count"] for one in found}
    assert counts == {"plain": 1, "other": 1, "odd": None}


async def test_a_conversation_with_such_text_goes_on(sessions: Sessions) -> None:
    async with sessions.manager("odd") as manager:
        await converse(manager, make_agent(manager, agent_id="a"), range(2), size=100)
    collection = sessions.raw.with_options(codec_options=DEFAULT_RAW_BSON_OPTIONS)
    stored = collection.find_one({"_id": "odd"})
    assert stored is not None
    collection.replace_one(
        {"_id": "odd"}, RawBSONDocument(bytes(stored.raw).replace(b"message 1 x", b"message 1 \xff"))
    )

    async with sessions.manager("odd") as manager:
        agent = make_agent(manager, agent_id="a")
        assert agent.messages[1]["content"][0]["text"].startswith("message 1 \ufffdx")
        await converse(manager, agent, [2], size=100)

    # What could not be read is left as it is.
    kept = collection.find_one({"_id": "odd"})
    assert kept is not None
    assert b"message 1 \xff" in bytes(kept.raw)
    assert b"message 2 " in bytes(kept.raw)
