"""Numbers, cursors and ids at and beyond every limit: refused or answered, at every endpoint of both apps."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.served import APPS, App, app_of
from tests.apps.viewer.conftest import client_of
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions

EDGES = [
    *(sign * (2**power + step) for sign in (1, -1) for power in (31, 32, 53, 63, 64, 100) for step in (-1, 0, 1)),
    "9" * 5000,
    "1e400",
    "nan",
    "0x10",
    "",
    "\u0661",
]


def packed(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


CURSORS = [
    "a" * 65_000,
    "a" * 900,
    "=",
    "\u2028",
    packed({}),
    packed([]),
    packed(None),
    packed([1, 2]),
    packed([[1], "a"]),
    packed({"o": "a", "p": {"x": 2**40}}),
    packed({"o": "a", "p": {"x": 10**30}}),
    packed({"o": "a", "p": [[]]}),
    packed({"created_at": 10**30, "_id": {"$gt": ""}}),
    packed({"created_at": {"$date": 10**30}, "_id": "a"}),
    packed({"o": "a", "p": {str(number): 1 for number in range(3_000)}}),
    "[" * 5_000,
]


def requests(app: Any) -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    """Yield method, path, query and body of requests with one number or cursor that is odd."""
    for path, methods in app.openapi()["paths"].items():
        if path.endswith("/events") or path.endswith("/turn"):
            continue
        for method, described in methods.items():
            needed: dict[str, Any] = {"agent_id": AGENT_ID, "message_id": 0, "place": "0"}
            parameters = [p for p in described.get("parameters", []) if p["in"] == "query"]
            known = {p["name"]: needed[p["name"]] for p in parameters if p["name"] in needed}
            for parameter in parameters:
                text = json.dumps(parameter["schema"])
                odd: list[Any] = []
                if '"integer"' in text or '"number"' in text:
                    odd = EDGES
                elif "cursor" in parameter["name"]:
                    odd = CURSORS
                for value in odd:
                    yield method, path, {**known, parameter["name"]: value}, None
            if "requestBody" in described:
                for number in [*EDGES[:-6], 1e308, 10**400]:
                    yield (
                        method,
                        path,
                        {},
                        {"rating": "up", "message_id": number, "up_to_message": number, "title": "x"},
                    )
                    yield method, path, {}, {"rating": "up", "message_id": number}
                    yield method, path, {}, {"up_to_message": number}


@pytest.mark.matrix
@pytest.mark.parametrize("name", APPS)
async def test_no_number_and_no_cursor_makes_an_app_fail(sessions: Sessions, name: App) -> None:
    document = session("s-1", application_name="playground", agents={AGENT_ID: [message("user", "hello")]})
    app, failed, count = app_of(name, sessions), [], 0
    async with app.router.lifespan_context(app), client_of(app) as client:
        for method, path, query, body in requests(app):
            if method == "delete":
                continue
            sessions.raw.replace_one({"_id": "s-1"}, document, upsert=True)
            content = None if body is None else json.dumps(body)
            answer = await client.request(
                method.upper(),
                path.replace("{session_id}", "s-1"),
                params=query,
                content=content,
                headers={"Content-Type": "application/json"} if content else None,
            )
            count += 1
            if answer.status_code >= 500 or len(answer.content) > 20_000:
                failed.append((method, path, {key: str(value)[:40] for key, value in query.items()}, str(body)[:80]))

    assert count > 100
    assert failed == []


async def test_a_message_of_a_number_that_cannot_be_is_not_found(sessions: Sessions) -> None:
    sessions.raw.insert_one(session("s-1", agents={"a": [message("user", "hello")]}))
    app = app_of("viewer", sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        for part, number in itertools.product(("message", "image"), (1, 2**31 - 1, 2**31, 2**40)):
            query: dict[str, Any] = {"agent_id": "a", "message_id": number, "place": "0"}
            answer: httpx.Response = await client.get(f"/api/v1/sessions/s-1/{part}", params=query)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), (part, number)
