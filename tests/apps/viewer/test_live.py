"""Server-sent events, over HTTP: from a replica set and from a standalone server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pymongo import MongoClient

from mongodb_session_manager import AsyncMongoDBSessionRepository
from mongodb_session_manager.embedded import EmbeddedMongo
from tests.apps.viewer.conftest import PASSWORD, Viewer, served, settings_for
from tests.apps.viewer.stored import message, session
from tests.fixtures.faults import MongoProxy
from tests.fixtures.sessions import COLLECTION, Sessions

Document = dict[str, Any]

DEADLINE_S = 30.0
"""Generous, since it only ends a test that fails: machines may be busy."""


@pytest.fixture(scope="module")
def standalone_uri() -> Iterator[str]:
    with EmbeddedMongo("standalone") as server:
        yield server.uri


@pytest.fixture(params=["replica_set", "standalone"])
def uri(request: pytest.FixtureRequest) -> str:
    name = "mongo_uri" if request.param == "replica_set" else "standalone_uri"
    found: str = request.getfixturevalue(name)
    return found


@pytest.fixture
def database(uri: str) -> Iterator[Any]:
    """A database of this test on either server."""
    with MongoClient[Document](uri, tz_aware=True) as client:
        name = f"msm_{uuid4().hex[:12]}"
        yield client[name]
        client.drop_database(name)


class Stream:
    """Events as a browser gets them."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.last_id = ""

    async def event(self) -> tuple[str, Any]:
        """Return the next event's name and data."""
        name, data = "message", ""
        async with asyncio.timeout(DEADLINE_S):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data = value
                elif field == "id":
                    self.last_id = value
                elif not line and data:
                    return name, json.loads(data)
        raise AssertionError("the stream ended")

    async def until(self, wanted: str) -> Any:
        """Return the data of the next event of a name, past others."""
        while True:
            name, data = await self.event()
            if name == wanted:
                return data


@asynccontextmanager
async def streaming(address: str, session_id: str = "s-1", **options: Any) -> AsyncIterator[Stream]:
    async with (
        httpx.AsyncClient(base_url=address, timeout=DEADLINE_S) as client,
        client.stream("GET", f"/api/v1/sessions/{session_id}/events", **options) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["X-Accel-Buffering"] == "no"
        yield Stream(answer)


async def test_new_messages_metadata_and_feedback_arrive_while_somebody_looks_on(uri: str, database: Any) -> None:
    database[COLLECTION].insert_one(session("s-1", agents={"a": [message("user", "earlier")]}))
    repository = AsyncMongoDBSessionRepository(uri, database.name, COLLECTION)
    mode = "change_stream" if "replicaSet" in uri else "polling"

    async with served(settings_for(uri, database.name)) as address, streaming(address) as stream, repository:
        ready = await stream.event()
        first = await stream.event()
        await repository.add_feedback("s-1", {"rating": "down", "comment": "too slow"})
        items = await stream.until("items")
        await repository.update_metadata("s-1", {"priority": "high"})
        while (head := await stream.until("session"))["metadata"] != {"priority": "high"}:
            pass
        database[COLLECTION].update_one(
            {"_id": "s-1"},
            {
                "$push": {"agents.a.messages": {"message_id": 1, **message("assistant", "later")}},
                "$currentDate": {"updated_at": True},
            },
        )
        more = await stream.until("items")
        await repository.delete_session("s-1")
        await stream.until("deleted")
        with pytest.raises(AssertionError, match="the stream ended"):
            await stream.event()

    assert (ready[0], ready[1]["mode"]) == ("ready", mode)
    assert (first[0], first[1]["counts"]["messages"]) == ("session", 1)
    assert [(item["type"], item["comment"]) for item in items["items"]] == [("feedback", "too slow")]
    assert head["counts"]["feedbacks"] == 1
    assert [item["content"][0]["text"] for item in more["items"]] == ["later"]


async def test_a_browser_that_was_away_gets_what_it_missed(sessions: Sessions) -> None:
    sessions.raw.insert_one(session("s-1", agents={"a": [message("user", "earlier")]}))
    async with served(settings_for(sessions.uri, sessions.database_name)) as address:
        async with streaming(address) as stream:
            await stream.until("session")
            seen = stream.last_id
        await sessions_repository(sessions).add_feedback("s-1", {"rating": "up"})
        async with streaming(address, headers={"Last-Event-ID": seen}) as stream:
            missed = await stream.until("items")
        async with streaming(address, params={"cursor": missed["cursor"]}) as stream:
            names = [(await stream.event())[0] for _ in range(2)]

    assert [item["rating"] for item in missed["items"]] == ["up"]
    assert names == ["ready", "session"]


def sessions_repository(sessions: Sessions) -> AsyncMongoDBSessionRepository:
    return AsyncMongoDBSessionRepository(
        client=sessions.raw.database.client, database_name=sessions.database_name, collection_name=COLLECTION
    )


@pytest.mark.slow
async def test_a_stream_survives_a_database_that_goes_away_and_comes_back(
    sessions: Sessions, mongo_proxy: MongoProxy
) -> None:
    sessions.raw.insert_one(session("s-1"))
    uri = mongo_proxy.uri + "&serverSelectionTimeoutMS=500"
    async with served(settings_for(uri, sessions.database_name)) as address, streaming(address) as stream:
        await stream.until("session")
        mongo_proxy.stop()
        await stream.until("unavailable")
        async with httpx.AsyncClient(base_url=address, timeout=DEADLINE_S) as client:
            health = await client.get("/health")
            answers = [
                await client.get(path) for path in ("/api/v1/sessions/s-1", "/api/v1/sessions/search", "/api/v1/access")
            ]
            page = await client.get("/openapi.json")
            mongo_proxy.start()
            await sessions_repository(sessions).add_feedback("s-1", {"rating": "up"})
            await stream.until("available")
            items = await stream.until("items")
            again = await client.get("/api/v1/sessions/s-1")

    assert (health.status_code, health.json()["mongodb"]) == (503, "unreachable")
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].json()["error"]["code"] == "database_unavailable"
    assert str(mongo_proxy.port) not in "".join(answer.text for answer in [health, *answers])
    assert page.status_code == 404
    assert [item["rating"] for item in items["items"]] == ["up"]
    assert again.status_code == 200


async def test_a_stream_needs_the_same_access_as_the_session(sessions: Sessions) -> None:
    sessions.raw.insert_one(session("s-1"))
    settings = settings_for(sessions.uri, sessions.database_name, backend_password=PASSWORD)
    async with served(settings) as address, httpx.AsyncClient(base_url=address, timeout=DEADLINE_S) as client:
        refused = await client.get("/api/v1/sessions/s-1/events")
        await client.post("/api/v1/login", json={"password": PASSWORD})
        async with client.stream("GET", "/api/v1/sessions/s-1/events") as answer:
            opened = await Stream(answer).event()

    assert refused.status_code == 401
    assert opened[0] == "ready"


async def test_nobody_is_watched_for_when_nobody_looks_on(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(session("s-1"))
    changes = viewer.app.state.database.changes

    async with changes.watch("s-1"), changes.watch("s-1"):
        assert running("viewer-changes") == 1

    assert running("viewer-changes") == 0


def running(name: str) -> int:
    return sum(task.get_name() == name for task in asyncio.all_tasks())
