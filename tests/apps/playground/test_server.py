from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import ValidationError

from mongodb_session_manager.playground import PlaygroundSettings, create_app
from mongodb_session_manager.playground.schemas import LONGEST_MESSAGE
from tests.apps.playground.servers import playground
from tests.fixtures.sessions import Sessions

HEADERS = {
    "content-security-policy": "default-src 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


def _requests(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every path and method of the API, with an id in it."""
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), re.sub(r"{[^}]+}", "s-1", path)


async def test_every_answer_carries_the_security_headers(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        pages = ["/", "/static/app.js", "/shared/tokens.css", "/nothing", "/api/nothing", "/api/openapi.json"]
        asked = [*_requests(app.app), *(("GET", page) for page in pages), ("PUT", "/api/chat")]
        answers = [await app.client.request(method, path, json={}) for method, path in asked]

    assert len(asked) >= 16
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name].startswith(value), answer.request.url
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "http:" not in policy
        assert answer.status_code < 500
        assert "cache-control" in answer.headers


async def test_pages_of_other_sites_and_other_names_are_refused(sessions: Sessions) -> None:
    body = {"session_id": "s-1", "message": "Hello"}
    foreign = [
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ]
    async with playground(sessions) as app:
        answers = [await app.client.post("/api/chat", json=body, headers=headers) for headers in foreign]
        page = await app.client.get("/", headers={"Host": "evil.example"})
        form = await app.client.post("/api/chat", data={"session_id": "s-1", "message": "Hello"})

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert page.status_code == 403
    assert form.status_code == 422
    assert sessions.raw.count_documents({}) == 0


async def test_paths_lead_nowhere_else(sessions: Sessions) -> None:
    paths = [
        "/static/%2e%2e/settings.py",
        "/static/..%2f..%2fsettings.py",
        "/shared/%2e%2e%2f__init__.py",
        "/api/sessions/a%2fb",
        "/api/sessions/%2e%2e",
        "/api/sessions/-x",
        "/api/sessions/" + "x" * 200,
    ]
    async with playground(sessions) as app:
        statuses = [(await app.client.get(path)).status_code for path in paths]

    assert set(statuses) <= {404, 422}


async def test_health_names_version_and_model_and_no_secret(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        health = await app.client.get("/health")
        metrics = (await app.client.get("/metrics")).json()

    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    assert health.json()["model"] == "offline"
    assert metrics["pool"]["status"] == "connected"
    assert metrics["turns"] == {"running": 0, "kept": 0}
    assert "mongodb://" not in health.text + str(metrics)


async def test_without_a_database_it_says_so_and_lives(sessions: Sessions) -> None:
    nobody = "mongodb://user:hunter2@127.0.0.1:9/?serverSelectionTimeoutMS=200"
    async with playground(sessions, connection_string=nobody) as app:
        health = await app.client.get("/health")
        listed = await app.client.get("/api/sessions")
        said = await app.client.post("/api/chat", json={"session_id": "s-1", "message": "Hello"})
        page = await app.client.get("/")

    assert (health.status_code, health.json()["mongodb"]) == (503, "unreachable")
    for answer in (listed, said):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
    assert page.status_code == 200
    assert "hunter2" not in health.text + listed.text + said.text


async def test_every_operation_of_the_api_is_described(sessions: Sessions) -> None:
    app = create_app(PlaygroundSettings.model_validate({"connection_string": sessions.uri}))
    routes = [route for route in app.routes if isinstance(route, APIRoute)]

    for route in routes:
        if route.include_in_schema:
            assert route.description, route.path
    document = app.openapi()
    assert document["components"]["schemas"]["ChatRequest"]["properties"]["message"]["maxLength"] == LONGEST_MESSAGE
    assert set(document["paths"]["/api/chat"]["post"]["responses"]) == {"200", "409", "422", "503"}


async def test_the_page_needs_nothing_from_elsewhere(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        page = await app.client.get("/")
        files = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
        answers: list[httpx.Response] = [await app.client.get(file) for file in files]

    assert "<script>" not in page.text
    assert "style=" not in page.text
    assert len(files) >= 9
    assert [answer.status_code for answer in answers] == [200] * len(answers)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PLAYGROUND_HOST", "0.0.0.0", "no password"),
        ("PLAYGROUND_HOST", "192.168.1.5", "no password"),
        ("PLAYGROUND_PORT", "70000", "65535"),
        ("PLAYGROUND_VIEWER_URL", "javascript:alert(1)", "must be an address"),
        ("PLAYGROUND_MAX_TURNS", "0", "greater than or equal to 1"),
        ("LOG_LEVEL", "loud", "debug"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)  # no .env file here
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match=problem):
        PlaygroundSettings()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MONGODB_CONNECTION_STRING", "mongodb://user:hunter2@db.example/")
    monkeypatch.setenv("DATABASE_NAME", "mine")
    monkeypatch.setenv("COLLECTION_NAME", "")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")

    settings = PlaygroundSettings()

    assert (settings.database_name, settings.collection_name, settings.port) == ("mine", "sessions", 8880)
    assert settings.host == "127.0.0.1"
    assert settings.log_level == "debug"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("model", ["gpt-4o", "nobody:x", "openai:"])
def test_a_model_that_is_none_is_refused_before_anything_starts(model: str) -> None:
    settings = PlaygroundSettings.model_validate({"model": model})

    with pytest.raises(ValueError, match="provider:id"):
        create_app(settings)
