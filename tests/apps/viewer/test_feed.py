"""The list of sessions, live: from a replica set and from a standalone server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect

from mongodb_session_manager import index_specs
from mongodb_session_manager.viewer.live import ChangeHub
from tests.apps.viewer.conftest import served, settings_for
from tests.apps.viewer.stored import session
from tests.apps.viewer.test_live import DEADLINE_S, Stream, database, standalone_uri, uri
from tests.fixtures.sessions import COLLECTION
from tests.fixtures.waiting import eventually

__all__ = ["database", "standalone_uri", "uri"]

Document = dict[str, Any]

URL = "/api/v1/sessions/events"


def now() -> datetime:
    return datetime.now(UTC)


class Browsers:
    """Browsers of one viewer."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack
        self._client: httpx.AsyncClient | None = None

    async def open(self, **params: Any) -> Stream:
        """Look at a list; returns when changes from now on are noticed."""
        if self._client is None:
            limits = httpx.Limits(max_connections=None)
            client = httpx.AsyncClient(base_url=self._url, timeout=DEADLINE_S, limits=limits)
            self._client = await self._stack.enter_async_context(client)
        answer = await self._stack.enter_async_context(self._client.stream("GET", URL, params=params))
        assert answer.status_code == 200, await answer.aread()
        stream = Stream(answer)
        name, ready = await stream.event()
        assert (name, set(ready)) == ("ready", {"mode"})
        return stream


async def sessions_of(stream: Stream, *ids: str) -> dict[str, Document]:
    """Return the cards of these sessions, as soon as all were announced."""
    found: dict[str, Document] = {}
    while not set(ids) <= set(found):
        name, data = await stream.event()
        assert (name, data["missed"]) == ("sessions", False)
        found |= {card["session_id"]: card for card in data["sessions"]}
    return found


async def test_new_and_changed_sessions_are_announced(uri: str, database: Any) -> None:
    database[COLLECTION].insert_one(session("known", created=now() - timedelta(minutes=1)))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(settings_for(uri, database.name)))
        stream = await Browsers(url, stack).open()

        database[COLLECTION].insert_one(session("new", created=now()))
        database[COLLECTION].update_one({"_id": "known"}, {"$set": {"updated_at": now(), "summary.messages": 7}})
        found = await sessions_of(stream, "new", "known")

    assert (found["new"]["is_new"], found["known"]["is_new"]) == (True, False)
    assert found["known"]["messages_count"] == 7


async def test_only_sessions_of_the_list_are_announced(uri: str, database: Any) -> None:
    database[COLLECTION].create_indexes(index_specs(["priority"]))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(settings_for(uri, database.name)))
        browsers = Browsers(url, stack)
        narrowed = await browsers.open(filters=json.dumps({"priority": "high"}))
        everything = await browsers.open()

        database[COLLECTION].insert_one(session("low", created=now(), metadata={"priority": "low"}))
        await sessions_of(everything, "low")
        database[COLLECTION].insert_one(session("high", created=now(), metadata={"priority": "high"}))
        found = await sessions_of(narrowed, "high")

    assert set(found) == {"high"}


async def test_deleted_sessions_are_named(mongo_uri: str, mongo_client: Any, database_name: str) -> None:
    sessions = mongo_client[database_name][COLLECTION]
    sessions.insert_one(session("s"))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(settings_for(mongo_uri, database_name)))
        stream = await Browsers(url, stack).open()
        sessions.delete_one({"_id": "s"})
        _, data = await stream.event()

    assert data == {"sessions": [], "deleted": ["s"], "missed": False}


async def test_more_than_an_event_can_name_is_a_list_to_be_read_again(
    mongo_uri: str, mongo_client: Any, database_name: str
) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(settings_for(mongo_uri, database_name)))
        stream = await Browsers(url, stack).open()
        mongo_client[database_name][COLLECTION].insert_many(session(f"s-{number}") for number in range(300))
        while True:
            _, data = await stream.event()
            if data["missed"]:
                break

    assert data == {"sessions": [], "deleted": [], "missed": True}


@pytest.mark.slow
async def test_fifty_browsers_share_one_change_stream_and_are_told_at_once(
    mongo_uri: str, mongo_client: Any, database_name: str
) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(settings_for(mongo_uri, database_name)))
        browsers = Browsers(url, stack)
        streams = [await browsers.open() for _ in range(50)]

        mongo_client[database_name][COLLECTION].insert_one(session("new", created=now()))
        async with asyncio.timeout(DEADLINE_S):
            found = await asyncio.gather(*(sessions_of(stream, "new") for stream in streams))
        open_cursors = mongo_client.admin.aggregate([{"$currentOp": {"idleCursors": True, "allUsers": True}}])
        namespace = f"{database_name}.{COLLECTION}"
        watching = [
            op
            for op in open_cursors
            if op.get("ns") == namespace and "$changeStream" in str(op.get("cursor", {}).get("originatingCommand", ""))
        ]

    assert all(cards["new"]["is_new"] for cards in found)
    assert len(watching) == 1


async def test_a_search_that_is_not_valid_opens_no_stream(mongo_uri: str, database_name: str) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(settings_for(mongo_uri, database_name)))
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.get(URL, params={"filters": "nonsense"})

    assert answer.status_code == 422


async def test_what_happens_while_a_stream_begins_is_announced(
    mongo_uri: str, mongo_client: Any, database_name: str
) -> None:
    def is_watched() -> bool:
        operations = mongo_client.admin.aggregate([{"$currentOp": {"idleCursors": True, "allUsers": True}}])
        return any(
            operation.get("ns") == f"{database_name}.{COLLECTION}" and "$changeStream" in str(operation.get("cursor"))
            for operation in operations
        )

    async with (
        served(settings_for(mongo_uri, database_name)) as address,
        httpx.AsyncClient(base_url=address, timeout=DEADLINE_S) as client,
        client.stream("GET", URL) as answer,
    ):
        stream = Stream(answer)
        await eventually(is_watched)
        mongo_client[database_name][COLLECTION].insert_one(session("new", created=now()))
        name, _ = await stream.event()
        found = await sessions_of(stream, "new")

    assert name == "ready"
    assert found["new"]["is_new"]


async def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends(
    mongo_uri: str, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="mongodb_session_manager.viewer.live")
    async with AsyncMongoClient[Document](mongo_uri) as client:
        hub = ChangeHub(Refusing(client[database_name][COLLECTION], times=3), poll_s=0.01)
        async with hub.watch_list() as watch:
            while "noticed again" not in caplog.text:
                await watch.changed()
                watch.take()
        await hub.close()

    said = [record.message.partition(" | ")[2] for record in caplog.records]
    assert said == ["changes are not noticed for now", "changes are noticed again"]


class Refusing:
    """A collection that refuses to be watched for a while."""

    def __init__(self, collection: Any, times: int) -> None:
        self._collection = collection
        self._times = times

    def watch(self, *arguments: Any, **options: Any) -> Any:
        self._times -= 1
        if self._times >= 0:
            raise AutoReconnect("away")
        return self._watching(*arguments, **options)

    @asynccontextmanager
    async def _watching(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        async with await self._collection.watch(*arguments, **options) as stream:
            yield stream
