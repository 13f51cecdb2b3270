"""Objects that look like marks of the library's, as a model can make them, are objects like any other."""

from __future__ import annotations

from typing import Any

import pytest

from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.served import APPS, App, app_of
from tests.apps.test_foreign_text import PATHS
from tests.apps.viewer.conftest import client_of
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent

MARKS: list[dict[str, Any]] = [
    {"__bson__": "payload"},
    {"__bson__": "payload", "value": "0" * 64, "size": -5},
    {"__bson__": "packed", "size": "x"},
    {"__bson__": "keys", "%": 1, "a%2Eb": 2},
    {"__bson__": "int", "value": "0x"},
    {"__bson__": ["payload"], "value": {}},
    {"__bson__": "tuple", "value": [1]},
    {"__bson__": "decimal", "value": "1.5"},
]


@pytest.mark.parametrize("name", APPS)
async def test_what_a_model_keeps_is_shown(sessions: Sessions, name: App) -> None:
    app = app_of(name, sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        for mark in MARKS:
            sessions.raw.delete_many({})
            async with sessions.manager("odd", application_name="playground") as manager:
                agent = make_agent(manager, "Hi", agent_id=AGENT_ID)
                for key, value in mark.items():
                    agent.state.set(key, value)
                await agent.invoke_async("hello")
                await manager.update_metadata({"kept": mark})
                await manager.add_feedback({"rating": "up", **mark})

            for path in PATHS[name]:
                answer = await client.get(path)
                assert answer.status_code == 200, (mark, path, answer.text)
            found = (await client.get("/api/v1/sessions/odd" if name == "viewer" else "/api/sessions/odd")).json()
            if name == "playground":
                assert found["state"] == mark


@pytest.mark.parametrize("name", APPS)
async def test_an_object_of_another_program_that_looks_like_one_breaks_nothing(sessions: Sessions, name: App) -> None:
    app = app_of(name, sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        for mark in MARKS:
            document = session("odd", application_name="playground", agents={AGENT_ID: [message("user", "hello")]})
            agent = document["agents"][AGENT_ID]
            agent["agent_data"]["state"] = agent["usage"] = mark
            marked = {"metadata": mark, "feedbacks": [mark], "summary": {**document["summary"], "usage": mark}}
            sessions.raw.replace_one({"_id": "odd"}, document | marked, upsert=True)

            for path in PATHS[name]:
                answer = await client.get(path)
                assert answer.status_code == 200, (mark, path, answer.text)
