"""Whatever another program left in the place of any field, both apps show the rest, and the command line exports it."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS

from mongodb_session_manager import AsyncMongoDBSessionRepository, CorruptMessageError, SessionStoreError
from mongodb_session_manager.cli.export import Format, conversation, export, head_of, messages_of
from mongodb_session_manager.migrate import OlderDocumentSource, migrate
from mongodb_session_manager.playground.agent import AGENT_ID
from mongodb_session_manager.schema import values
from tests.apps.served import app_of
from tests.apps.test_foreign_text import PATHS
from tests.apps.viewer.conftest import client_of
from tests.apps.viewer.stored import START, message, session
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.agents import make_agent

Place = tuple[Any, ...]
Reader = Literal["viewer", "playground", "command line"]

MISSING = object()
NEWER_SCHEMA = ("schema_version",)
ODD: dict[str, Any] = {
    "text": "x",
    "missing": MISSING,
    "null": None,
    "list": [None, 1, "x", {"a": None}, [1]],
    "nan": float("nan"),
    "part": 1.5,
    "beyond 53 bits": 2**63 - 1,
    "binary": Binary(b"abc", 4),
    "date": DatetimeMS(2**62),
    "long integer": values.encode(10**5000),
}
OFTEN = ("text", "missing", "null", "list", "binary")
"""Those that are tried at each change; a number more is dear."""

USAGE = {
    "modelCalls": 2,
    "latencyMs": 20,
    "inputTokens": 10,
    "outputTokens": 5,
    "totalTokens": 15,
    "tools": {"n": {"call_count": 1, "total_time": 0.5}},
}
READ = PATHS["playground"] + ["/api/sessions/odd/export?format=json", "/api/sessions/odd/messages/2/files/0"]
WRITTEN: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/sessions/odd/fork", {}),
    ("POST", "/api/sessions/odd/fork", {"up_to_message": 1}),
    ("PATCH", "/api/sessions/odd", {"title": "another"}),
    ("POST", "/api/sessions/odd/feedback", {"rating": "up", "key": "k"}),
]


def whole() -> dict[str, Any]:
    """Return a session with something in every part of it."""
    metrics = {"usage": {"inputTokens": 10}, "metrics": {"latencyMs": 20, "timeToFirstByteMs": 7}}
    use = {"toolUse": {"toolUseId": "t", "name": "n", "input": {"a": 1}}}
    result = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "42"}]}}
    image = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\r\n\x1a\n"}}}
    event = {"action": "BLOCKED", "stop_reason": "guardrail_intervened", "timestamp": START}
    redacted: dict[str, Any] = {
        "redact_message": {"role": "user", "content": [{"text": "gone"}]},
        "guardrail_event": event,
    }
    said = [
        message("user", "hello"),
        message("assistant", [use], metadata=metrics),
        message("user", [image, result]),
        message("user", "gone", **redacted),
    ]
    document = session("odd", application_name="playground", metadata={"a": {"b": 1}}, agents={AGENT_ID: said})
    agent = document["agents"][AGENT_ID]
    agent |= {"usage": USAGE, "window": [[0, None]], "window_head": 0, "archived_count": 0}
    agent["agent_data"] |= {"state": {"k": [1]}, "model": "m", "system_prompt": "s", "prompt_metadata": {"v": 1}}
    return document | {
        "title": "hello",
        "title_of": {"agent": AGENT_ID, "message_id": 0},
        "revision": 1,
        "summary": {**document["summary"], "errors": 1, "ratings": {"up": 1, "down": 0, "other": 0}, "usage": USAGE},
        "feedbacks": [{"rating": "up", "comment": "fine", "message_id": 1, "created_at": START}],
        "feedbacks_sealed": {"archived_count": 0, "archive": {"id": "a"}, "redactions": 0},
        "guardrail_events": [{"message_id": 3, "agent_id": AGENT_ID, **event}],
        "errors": [{"timestamp": START, "agent_id": AGENT_ID, "error": "RuntimeError"}],
    }


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Yield where everything stands in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*above, name)
        yield from places(item, (*above, name))


def changed(document: dict[str, Any], place: Place, odd: Any) -> dict[str, Any]:
    """Return a document with something else at a place."""
    result = copy.deepcopy(document)
    *above, name = place
    holder: Any = result
    for step in above:
        holder = holder[step]
    if odd is MISSING:
        del holder[name]
    else:
        holder[name] = odd
    return result


@pytest.mark.parametrize("reader", ["playground", "viewer", "command line"])
async def test_no_field_keeps_the_others_from_being_shown(sessions: Sessions, reader: Reader) -> None:
    await check_all(sessions, reader, "list", [place for place in places(whole()) if len(place) < 4])


@pytest.mark.thorough
@pytest.mark.parametrize("reader", ["playground", "viewer", "command line"])
@pytest.mark.parametrize(
    "kind", [kind if kind in OFTEN else pytest.param(kind, marks=pytest.mark.slow) for kind in ODD]
)
async def test_nothing_in_a_field_keeps_the_others_from_being_shown(
    sessions: Sessions, kind: str, reader: Reader
) -> None:
    await check_all(sessions, reader, kind, list(places(whole())))


async def check_all(sessions: Sessions, reader: Reader, kind: str, odd_places: list[Place]) -> None:
    async with _READERS[reader](sessions) as check:
        for place in odd_places:
            if place in (("_id",), ("application_name",)):
                continue  # another session, and one of another application
            sessions.raw.delete_many({})
            sessions.raw.insert_one(changed(whole(), place, ODD[kind]))
            await check(place)


Check = Callable[[Place], Awaitable[None]]


@asynccontextmanager
async def of_the_viewer(sessions: Sessions) -> AsyncIterator[Check]:
    app = app_of("viewer", sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:

        async def check(place: Place) -> None:
            for path in PATHS["viewer"]:
                answer = await client.get(path)
                is_gone = "/message" in path and answer.status_code == 404
                assert answer.status_code == 200 or is_gone, (place, path, answer.text)

        yield check


@asynccontextmanager
async def of_the_playground(sessions: Sessions) -> AsyncIterator[Check]:
    app = app_of("playground", sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:

        async def check(place: Place) -> None:
            for path in READ:
                answer = await client.get(path)
                is_gone = "/files/" in path and answer.status_code == 404
                is_newer = place == NEWER_SCHEMA and answer.status_code == 409
                assert answer.status_code == 200 or is_gone or is_newer, (place, path, answer.text)
            for method, path, body in WRITTEN:
                answer = await client.request(method, path, json=body)
                assert answer.status_code < 500, (place, path, body, answer.text)

        yield check


@asynccontextmanager
async def of_the_command_line(sessions: Sessions) -> AsyncIterator[Check]:
    repository = AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION)

    async def check(place: Place) -> None:
        try:
            head = await head_of(repository, "odd")
            for form in Format:
                text = "".join([part async for part in export(repository, "odd", form, head)])
                assert form is not Format.json or json.loads(text)["session_id"] == "odd", place
            for agent in head["agents"]:
                said = [message async for message in messages_of(repository, "odd", agent["agent_id"])]
                assert len(list(conversation(said))) == len(said)
        except CorruptMessageError:
            assert place[2:3] == ("messages",), place  # told, by its number
        except SessionStoreError:
            assert place == NEWER_SCHEMA

    yield check
    await repository.close()


_READERS = {"viewer": of_the_viewer, "playground": of_the_playground, "command line": of_the_command_line}


async def test_a_message_that_cannot_be_read_has_its_place_among_the_others(sessions: Sessions) -> None:
    said: list[Any] = [message("user" if number % 2 == 0 else "assistant", f"said {number}") for number in range(7)]
    said[2] = said[5] = None
    sessions.raw.insert_one(session("odd", application_name="playground", agents={AGENT_ID: said}))
    app = app_of("playground", sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        found = (await client.get("/api/sessions/odd")).json()["messages"]
        exported = (await client.get("/api/sessions/odd/export")).text

    shown = [item["blocks"][0].get("text") for item in found]
    assert shown == ["said 0", "said 1", None, "said 3", "said 4", None, "said 6"]
    assert exported.count("unreadable message") == 2
    assert "said 6" in exported


@pytest.mark.parametrize("stored", ["my secret", ["my secret"], {"a": "my secret"}, Binary(b"my secret")])
async def test_nothing_quotes_what_stands_in_the_place_of_a_number(
    sessions: Sessions, caplog: pytest.LogCaptureFixture, stored: Any
) -> None:
    document = session("odd", agents={"a": [message("user", "hello")]})
    document["agents"]["a"]["messages"][0]["message_id"] = stored
    sessions.raw.insert_one(document)
    older = {name: document[name] for name in ("_id", "session_id", "agents")}
    source = OlderDocumentSource(sessions.uri, sessions.database_name, "older", minPoolSize=0)
    sessions.raw.database["older"].insert_one(older | {"_id": "older", "session_id": "older"})
    repository = AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION)

    with pytest.raises(CorruptMessageError, match="message_id is not an integer") as raised:
        await repository.list_messages("odd", "a")
    async with sessions.manager("odd", skip_corrupt_messages=True) as manager:
        make_agent(manager, agent_id="a")
    report = await migrate(source, repository, dry_run=True)
    await source.close()
    await repository.close()

    assert len(report.problems) == 1
    assert "skipping a message" in caplog.text
    assert "my secret" not in f"{raised.value} {report.problems} {caplog.text}"
