"""Bodies that are too large, or never end, cost nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import httpx
import pytest

from mongodb_session_manager.web import bodies
from tests.apps.served import APPS, Answer, App, answer_on, app_of, connected, listening
from tests.apps.viewer.conftest import PASSWORD
from tests.fixtures.sessions import Sessions
from tests.fixtures.waiting import WAIT_S

MB = 1024 * 1024
PATHS: dict[App, str] = {"viewer": "/api/v1/login", "playground": "/api/chat"}
LIMITS: dict[App, int] = {"viewer": 64 * 1024, "playground": 10 * MB}


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    given = (f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *lines)
    return "\r\n".join((*given, "", "")).encode()


async def answer_to(port: int, request: bytes) -> Answer:
    """Send bytes on a connection of their own, and return what is said until its end."""
    async with connected(port) as (reader, writer):
        writer.write(request)
        return await answer_on(reader)


@pytest.mark.parametrize("name", APPS)
async def test_a_length_that_is_declared_and_too_large_is_refused_at_once(sessions: Sessions, name: App) -> None:
    lengths = ("314572800", str(LIMITS[name] + 1), "9" * 18)
    asked = list(itertools.product((PATHS[name], "/health", "/", "/nothing"), lengths))

    # All at once: after its answer the server still waits for a body that no client here sends.
    async with listening(app_of(name, sessions)) as port:
        answers = await asyncio.gather(
            *(answer_to(port, head(path, f"Content-Length: {length}")) for path, length in asked)
        )

    for case, answer in zip(asked, answers, strict=True):
        assert answer.status == 413, case
        assert "content_too_large" in answer.text
        assert "x-content-type-options: nosniff" in answer.text.lower()


@pytest.mark.parametrize("name", APPS)
async def test_chunks_are_not_read_beyond_the_limit(sessions: Sessions, name: App) -> None:
    sent = 0
    async with listening(app_of(name, sessions)) as port, connected(port) as (reader, writer):
        answering = asyncio.create_task(answer_on(reader))
        writer.write(head(PATHS[name], "Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            while sent < 300 * MB and not answering.done():
                writer.write(chunk)
                await asyncio.wait_for(writer.drain(), WAIT_S)
                sent += 65536
        except ConnectionError:
            pass  # the server had enough
        answer = await answering

    assert answer.status == 413
    # What the system's own buffers take counts, too.
    assert sent < LIMITS[name] + 40 * MB


async def test_a_body_at_the_limit_is_taken(sessions: Sessions) -> None:
    body = json.dumps({"session_id": "s-1", "message": "Hi"})
    for name in APPS:
        answers = []
        async with (
            listening(app_of(name, sessions)) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client,
        ):
            for size in (LIMITS[name], LIMITS[name] + 1):
                padded = body.ljust(size).encode()
                answers.append(await client.post(PATHS[name], content=padded, headers={"X": "y"}))
        assert [answer.status_code == 413 for answer in answers] == [False, True]
        assert answers[0].status_code in (200, 422)


@pytest.mark.parametrize("name", APPS)
async def test_a_body_that_does_not_arrive_ends_the_request(
    sessions: Sessions, name: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies.BodyLimit.__init__, "__defaults__", (bodies.MOST_BODY_BYTES, 0.2))
    lines = ("Content-Length: 1000", "Transfer-Encoding: chunked")
    async with listening(app_of(name, sessions)) as port:
        answers = await asyncio.gather(*(answer_to(port, head(PATHS[name], line)) for line in lines))
    assert [answer.status for answer in answers] == [408, 408]


@pytest.mark.matrix
@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("shape", ["keys", "long keys", "list", "deep", "number"])
async def test_an_error_does_not_grow_with_the_body(sessions: Sessions, name: App, shape: str) -> None:
    size = LIMITS[name] - 200
    good = {"session_id": "s-1", "message": "Hi", "password": "x"}
    count = size // 18
    bodies_of: dict[str, Any] = {
        "keys": lambda: json.dumps({**good, **{f"key{number:07}": 0 for number in range(count)}}),
        "long keys": lambda: json.dumps({**good, "x" * (size // 2): 1, "y" * (size // 3): 2}),
        "list": lambda: json.dumps({**good, "message": [0] * (size // 4), "password": [0]}),
        "deep": lambda: "[" * size,
        "number": lambda: "9" * size,
    }
    async with (
        listening(app_of(name, sessions)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client,
    ):
        answer = await client.post(
            PATHS[name], content=bodies_of[shape]().encode(), headers={"Content-Type": "application/json"}
        )

    assert answer.status_code in (400, 422)
    assert len(answer.json()["error"]["fields"]) <= 10
    assert len(answer.content) < 8_000


async def test_a_refused_body_is_not_a_way_round_the_limit_of_attempts(sessions: Sessions) -> None:
    app = app_of("viewer", sessions, backend_password=PASSWORD)
    async with (
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client,
    ):
        answers = [await client.post("/api/v1/login", json={"password": "x" * 2000}) for _ in range(12)]
    assert {answer.status_code for answer in answers} == {422}


NO_OBJECTS = {
    "broken": b'{"password": ',
    "nothing": b"",
    "list": b"[]",
    "null": b"null",
    "text": b'"x"',
    "form": b"password=x",
}


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("body", NO_OBJECTS.values(), ids=NO_OBJECTS)
async def test_what_is_no_json_object_is_told_of_the_body_as_a_whole(
    sessions: Sessions, name: App, body: bytes
) -> None:
    async with (
        listening(app_of(name, sessions)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client,
    ):
        answer = await client.post(PATHS[name], content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    [problem] = answer.json()["error"]["fields"]
    assert problem == {"field": "body", "message": "it must be a JSON object, sent as application/json"}
