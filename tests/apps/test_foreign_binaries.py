"""Binary values of any subtype and length, which every driver can store, are shown as such and break nothing."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from bson.binary import Binary

from mongodb_session_manager import AsyncMongoDBSessionRepository
from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.served import APPS, App, app_of
from tests.apps.test_foreign_text import PATHS
from tests.apps.viewer.conftest import client_of
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.agents import make_agent

OWN = UUID("12345678-1234-5678-1234-567812345678")
BINARIES = [Binary(b"x" * length, subtype) for subtype in (2, 3, 4, 5, 6, 7, 8, 9, 128) for length in (0, 3, 16, 17)]


def odd(value: object) -> dict[str, Any]:
    """Return a session with a value in each place that another program may write to."""
    said = [message("user", "hello"), message("assistant", [{"toolUse": {"toolUseId": "t", "name": "n", "input": {}}}])]
    document = session("odd", application_name="playground", agents={AGENT_ID: said})
    document["metadata"] = {"value": value, "nested": [{"value": value}]}
    document["feedbacks"] = [{"rating": "up", "comment": "fine", "more": value}]
    document["summary"] |= {"feedbacks": 1, "ratings": {"up": 1, "down": 0, "other": 0}}
    document["errors"] = [{"error": value}]
    agent = document["agents"][AGENT_ID]
    agent["agent_data"] |= {"prompt_metadata": value, "model": value}
    agent["messages"][1]["content"][0]["toolUse"]["input"] = {"value": value}
    return document


@pytest.mark.parametrize("name", APPS)
async def test_a_binary_keeps_nothing_from_being_shown(sessions: Sessions, name: App) -> None:
    sessions.raw.insert_one(session("plain", application_name="playground", agents={AGENT_ID: [message("user", "x")]}))
    app = app_of(name, sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        for value in BINARIES:
            sessions.raw.replace_one({"_id": "odd"}, odd(value), upsert=True)
            for path in PATHS[name]:
                answer = await client.get(path)
                assert answer.status_code == 200, (value.subtype, len(value), path, answer.text)
            listed = (await client.get(PATHS[name][0])).json()["sessions"]
            assert {entry["session_id"] for entry in listed} == {"odd", "plain"}


async def test_the_library_reads_it_and_goes_on(sessions: Sessions) -> None:
    repository = AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION)
    for value in BINARIES:
        sessions.raw.replace_one({"_id": "odd"}, odd(value), upsert=True)

        found = (await repository.get_metadata("odd"))["metadata"]
        [listed] = (await repository.list_sessions())["sessions"]
        async with sessions.manager("odd") as manager:
            await make_agent(manager, "Hi", agent_id="other").invoke_async("Hello")

        # PyMongo reads a UUID out of what is as long as one.
        expected = value.as_uuid() if value.subtype == 4 and len(value) == 16 else value
        assert found == {"value": expected, "nested": [{"value": expected}]}
        assert listed["metadata"] == found
        kept = sessions.document("odd")["metadata"]
        assert (kept["value"], kept["value"].subtype) == (value, value.subtype)
    await repository.close()


async def test_what_is_as_long_as_a_uuid_is_shown_as_one(sessions: Sessions) -> None:
    sessions.raw.insert_one(odd(Binary(OWN.bytes, 4)))
    app = app_of("viewer", sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        shown = (await client.get("/api/v1/sessions/odd")).json()
        exported = (await client.get("/api/v1/sessions/odd/export?format=json")).text

    assert shown["metadata"]["value"] == str(OWN)
    assert json.loads(exported)["metadata"]["value"] == str(OWN)
