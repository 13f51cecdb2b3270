"""What every endpoint has in common: headers, errors, and that nothing that is asked makes the server fail."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.strategies import booleans
from pymongo import MongoClient
from schemathesis import Case, GenerationMode
from starlette.testclient import TestClient

from mongodb_session_manager import index_specs
from mongodb_session_manager.viewer import create_app, database
from tests.apps.viewer.conftest import PASSWORD, OpenViewer, Viewer, settings_for
from tests.apps.viewer.stored import message, session
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import Sessions

Document = dict[str, Any]

PAGES = ["/", "/static/none.js", "/shared/none.css", "/nothing", "/api/v1/openapi.json", "/api/v1/nothing"]


@pytest.fixture
async def stored(sessions: Sessions, open_viewer: OpenViewer) -> AsyncIterator[Viewer]:
    sessions.raw.create_indexes(index_specs(["priority"]))
    sessions.raw.insert_one(session("s-1", metadata={"priority": "high"}, agents={"a": [message("user", "hi")]}))
    async with open_viewer() as viewer:
        yield viewer


def paths_of(viewer: Viewer) -> list[tuple[str, str]]:
    """Return every endpoint as method and address, but the one that never ends."""
    documented = [
        (method.upper(), path.replace("{session_id}", "s-1"))
        for path, methods in viewer.app.openapi()["paths"].items()
        for method in methods
    ]
    return [*(one for one in documented if not one[1].endswith("/events")), *(("GET", page) for page in PAGES)]


async def test_every_answer_carries_the_security_headers(stored: Viewer) -> None:
    paths = paths_of(stored)
    assert len(paths) > 14
    for method, path in paths:
        for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
            answer = await stored.client.request(method, path, headers=headers)
            found = answer.headers
            where = (method, path, answer.status_code)
            policy = found["Content-Security-Policy"]
            assert "default-src 'none'" in policy, where
            assert "unsafe" not in policy, where
            assert "sandbox" in policy or "frame-ancestors 'none'" in policy, where
            assert found["X-Content-Type-Options"] == "nosniff", where
            assert found["X-Frame-Options"] == "DENY", where
            assert found["Referrer-Policy"] == "no-referrer", where
            assert found["Cache-Control"] in ("no-store", "no-cache"), where
            assert "server" not in found, where
            if path.startswith(("/api", "/health")):
                assert found["Cache-Control"] == "no-store", where


async def test_every_error_has_the_same_body(stored: Viewer) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("DELETE", "/health", 405),
        ("POST", "/api/v1/login", 422),
        ("GET", "/api/v1/sessions/s-1/message", 422),
        ("GET", "/static/none.js", 404),
    ):
        answer = await stored.client.request(method, path)
        assert answer.status_code == status, path
        assert list(answer.json()) == ["error"]
        assert set(answer.json()["error"]) == {"code", "message", "fields"}
    problem = (await stored.client.get("/api/v1/sessions/s-1/message?message_id=x")).json()["error"]
    assert {field["field"] for field in problem["fields"]} == {"agent_id", "message_id"}


async def test_an_unexpected_error_says_nothing_of_the_inside(stored: Viewer, monkeypatch: Any) -> None:
    monkeypatch.setattr(stored.app.state.database, "search", None)
    answer = await stored.client.get("/api/v1/sessions/search")

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "NoneType" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_files_are_validated_by_their_etag(viewer: Viewer) -> None:
    first = await viewer.client.get("/shared/tokens.css")
    again = await viewer.client.get("/shared/tokens.css", headers={"If-None-Match": first.headers["ETag"]})

    assert first.status_code == 200
    assert first.headers["Content-Type"].startswith("text/css")
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == "no-cache"


async def test_a_query_that_takes_too_long_is_ended_and_says_so(
    stored: Viewer, sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    failing = {"failCommands": ["find"], "errorCode": 50, "namespace": f"{sessions.database_name}.sessions"}
    with fail_point(mongo_client, "alwaysOn", failing):
        answer = await stored.client.get("/api/v1/sessions/search")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_slow")


async def test_a_count_that_takes_too_long_is_a_lower_bound(
    stored: Viewer, sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    sessions.raw.insert_many(session(f"t-{number}", metadata={"priority": "high"}) for number in range(5))
    failing = {"failCommands": ["aggregate"], "errorCode": 50, "namespace": f"{sessions.database_name}.sessions"}
    with fail_point(mongo_client, "alwaysOn", failing):
        page = await stored.search(limit=2, filters={"priority": "high"})

    assert (page["total"], page["total_exact"], page["has_more"]) == (3, False, True)


async def test_nothing_secret_is_in_health_or_errors(open_viewer: OpenViewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "READ_S", 0.2)
    async with open_viewer(
        mongodb_connection_string="mongodb://user:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=100",
        backend_password=PASSWORD,
    ) as viewer:
        answers = await asyncio.gather(
            *(
                viewer.client.get(path, headers={"X-Password": PASSWORD})
                for path in ("/health", "/api/v1/sessions/search", "/api/v1/sessions/s-1")
            )
        )

    for answer in answers:
        assert answer.status_code == 503
        assert not re.search(f"hunter2|user|127\\.0\\.0\\.1|{PASSWORD}", answer.text)


def test_the_pages_name_no_other_host(sessions: Sessions) -> None:
    app = create_app(settings_for(sessions.uri, sessions.database_name))

    assert {route.path for route in app.routes if hasattr(route, "path")}.isdisjoint({"/docs", "/redoc"})
    assert (Path(__file__).parents[3] / "src/mongodb_session_manager/viewer/static/index.html").is_file()


@pytest.mark.thorough
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fits", "breaks"])
def test_nothing_that_is_asked_makes_the_server_fail(sessions: Sessions, mode: GenerationMode) -> None:
    sessions.raw.create_indexes(index_specs(["priority"]))
    sessions.raw.insert_one(session("s-1", metadata={"priority": "high"}, agents={"a": [message("user", "hi")]}))
    app = create_app(settings_for(sessions.uri, sessions.database_name))
    found: Any = schemathesis.openapi.from_dict(app.openapi()).get_all_operations()
    operations = [result.ok() for result in found]
    # Streams never end by themselves.
    asked = [operation for operation in operations if not operation.path.endswith("/events")]
    assert len(asked) == len(operations) - 2 >= 11
    local = {"base_url": "http://127.0.0.1", "client": ("127.0.0.1", 1)}

    with TestClient(app, raise_server_exceptions=False, **local) as client:  # type: ignore[arg-type]
        for operation in asked:
            # What takes nothing cannot be asked wrongly.
            if mode is GenerationMode.POSITIVE or operation.body or any(True for _ in operation.iter_parameters()):
                _ask(client, operation, mode)


def _ask(client: TestClient, operation: Any, mode: GenerationMode) -> None:
    @settings(max_examples=15, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None)
    @given(case=operation.as_strategy(generation_mode=mode), known=booleans())
    def ask(case: Case[Any], known: bool) -> None:
        assume(len(repr(case.query)) < 4_000)  # longer ones the client refuses
        path = operation.path.replace("{session_id}", "s-1") if known else case.formatted_path
        body: dict[str, Any] = {"json": case.body} if isinstance(case.body, dict | list | str | int | None) else {}
        answer = client.request(case.method, path, params=case.query or {}, **body)
        assert answer.status_code < 500, f"{case.method} {answer.request.url} {answer.text}"

    ask()
