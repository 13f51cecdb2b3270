"""What large sessions take of the server, counted in what is read, kept and sent at once."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import bson
import pytest
from bson.datetime_ms import DatetimeMS
from pymongo import MongoClient

from mongodb_session_manager.viewer import limits
from mongodb_session_manager.viewer.export import Format, export, first_page
from mongodb_session_manager.viewer.limits import Room
from mongodb_session_manager.viewer.live_events import live_events
from mongodb_session_manager.viewer.packed import PackedItems
from mongodb_session_manager.viewer.reading import StoredHead
from mongodb_session_manager.web import ApiError
from tests.apps.viewer.conftest import Viewer
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.fixtures.waiting import WAIT_S, eventually

Document = dict[str, Any]
MB = 1024 * 1024


def older(session_id: str, messages: int, **fields: Any) -> Document:
    """Return a session as an older tool stored it, which can only be read whole."""
    items = [
        {"message": {"role": "user", "content": [{"text": f"m{n}"}]}, "message_id": n, "created_at": f"2026-01-0{a}"}
        for a in (1, 2)
        for n in range(messages)
    ]
    agents = {
        "a": {"agent_data": {"agent_id": "a"}, "messages": items[:messages]},
        "b.c": {"agent_data": {"agent_id": "b.c"}, "messages": items[messages:]},
    }
    return {"_id": session_id, "agents": agents, "feedbacks": [{"rating": "up"}] * 70, **fields}


def odd(session_id: str, messages: int) -> Document:
    """Return a session of today in which another tool left something that no path can address."""
    return older(session_id, messages, schema_version=2, incarnation="0" * 16, feedbacks={"rating": "up"})


@pytest.mark.parametrize("made", [older, odd])
@pytest.mark.parametrize("format_", ["json", "jsonl", "markdown"])
async def test_a_document_that_is_read_whole_is_read_once_for_an_export(
    viewer: Viewer, sessions: Sessions, mongo_client: MongoClient[Document], made: Any, format_: str
) -> None:
    sessions.raw.insert_one(made("s-1", 700))
    database = mongo_client[sessions.database_name]
    database.command("profile", 2)

    text = (await viewer.client.get("/api/v1/sessions/s-1/export", params={"format": format_})).text

    database.command("profile", 0)
    asked = {"$or": [{"command.filter._id": "s-1"}, {"command.pipeline.0.$match._id": "s-1"}]}
    reads = list(database["system.profile"].find({"ns": f"{sessions.database_name}.{COLLECTION}", **asked}))
    said = "> m{}\n" if format_ == "markdown" else '"text":"m{}"'
    assert all(text.count(said.format(number)) == 2 for number in range(700))
    # The head, which tells that it cannot be read in parts, and the document.
    assert [read["op"] for read in reads] == ["command", "query"]


async def test_the_next_page_of_an_export_goes_on_with_what_was_read(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(older("s-1", 120))
    database = viewer.app.state.database
    parts = export(database, "s-1", "jsonl", await first_page(database, "s-1"))
    written = [await anext(parts)]
    sessions.raw.update_one({"_id": "s-1"}, {"$set": {"agents.a.messages": []}})

    written += [part async for part in parts]

    items = [json.loads(line) for line in b"".join(written).decode().splitlines()[1:]]
    numbers = {name: [i["message_id"] for i in items if i.get("agent_id") == name] for name in ("a", "b.c")}
    assert numbers == {"a": list(range(120)), "b.c": list(range(120))}
    assert sum(item["type"] == "feedback" for item in items) == 70


@pytest.mark.parametrize("format_", ["json", "jsonl", "markdown"])
async def test_a_large_message_leaves_in_small_pieces(viewer: Viewer, sessions: Sessions, format_: Format) -> None:
    large = older("s-1", 1)
    large["agents"]["a"]["messages"][0]["message"]["content"][0]["text"] = "é" * (3 * MB)
    sessions.raw.insert_one(large)
    database = viewer.app.state.database

    pieces = [part async for part in export(database, "s-1", format_, await first_page(database, "s-1"))]

    assert max(map(len, pieces)) <= 256 * 1024
    assert b"".join(pieces).decode().count("é") == 3 * MB


class AtOnce:
    """Calls a coroutine function, and notes how many calls there were at a time at most."""

    def __init__(self, called: Callable[..., Any]) -> None:
        self._called = called
        self._now = self.most = 0

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        try:
            return await self._called(*arguments, **options)
        finally:
            self._now -= 1


async def test_documents_are_read_whole_by_a_few_requests_at_once(
    viewer: Viewer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions.raw.insert_one(older("s-1", 50))
    store = viewer.app.state.database.reader._store
    find_one = AtOnce(store.find_one)
    monkeypatch.setattr(store, "find_one", find_one)
    paths = ["", "/usage", "/message?agent_id=a&message_id=3", "?agent_id=b.c&message_id=30", "/export"]
    answers = await asyncio.gather(*(viewer.client.get(f"/api/v1/sessions/s-1{path}") for path in paths * 6))

    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= find_one.most <= limits.ROOM_BYTES // limits.WHOLE_DOCUMENT


async def test_images_of_an_older_document_are_read_by_a_few_requests_at_once(
    viewer: Viewer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\r\n\x1a\n"}}}
    document = older("s-1", 3)
    document["agents"]["a"]["messages"][0]["message"]["content"] = [image]
    sessions.raw.insert_one(document)
    repository = viewer.app.state.database.repository
    read = AtOnce(repository.read_message)
    monkeypatch.setattr(repository, "read_message", read)
    query = "agent_id=a&message_id=0&place=0"
    answers = await asyncio.gather(*(viewer.client.get(f"/api/v1/sessions/s-1/image?{query}") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= read.most <= limits.ROOM_BYTES // limits.WHOLE_DOCUMENT


async def test_an_onlooker_keeps_nothing_of_what_was_read(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(older("s-1", 50))
    stream = live_events(viewer.app.state.database, "s-1", None)
    assert [(await anext(stream)).event for _ in range(2)] == ["ready", "session"]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)

    def heads() -> list[StoredHead]:
        gc.collect()
        return [found for found in gc.get_objects() if type(found) is StoredHead]

    try:
        assert heads() == []
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await stream.aclose()  # type: ignore[attr-defined]


async def test_of_many_onlookers_a_few_read_at_once_and_all_are_told(
    viewer: Viewer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions.raw.insert_one(session("s-1", agents={"a": [message("user", "hello")]}))
    database = viewer.app.state.database
    read = AtOnce(database.timeline.page)
    monkeypatch.setattr(database.timeline, "page", read)
    streams = [live_events(database, "s-1", None) for _ in range(80)]
    try:
        for expected in ("ready", "session"):
            events = await asyncio.gather(*(anext(stream) for stream in streams))
            assert {event.event for event in events} == {expected}
        said = {"agents.a.messages": {"message_id": 1, **message("user", "more")}}
        sessions.raw.update_one({"_id": "s-1"}, {"$push": said, "$inc": {"agents.a.next_message_id": 1}})
        events = await asyncio.gather(*(anext(stream) for stream in streams))
        assert {event.event for event in events} == {"items"}
    finally:
        await asyncio.gather(*(stream.aclose() for stream in streams))  # type: ignore[attr-defined]

    assert 1 <= read.most <= limits.MOST_ONLOOKERS


def test_packed_items_come_back_as_they_were_read() -> None:
    items: Sequence[Any] = [
        {"a": 1, "b.c": {"$d": [2**62, 1.5, None, True]}},
        "text \U0001f600",
        [],
        b"bytes",
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        DatetimeMS(2**60),
        bson.ObjectId(),
        bson.Decimal128(Decimal("1.10")),
        UUID(int=5),
        bson.Regex("^a", "i"),
        bson.MinKey(),
        bson.Timestamp(1, 2),
        bson.Code("x", {"y": 1}),
        bson.Binary(b"z", 9),
        bson.DBRef("other", 3),
        None,
    ]
    packed = PackedItems(items)

    assert list(packed) == items
    assert [*packed[3:5], packed[-1], len(packed)] == [items[3], items[4], None, len(items)]


async def test_what_is_large_waits_in_line_and_what_is_small_does_not() -> None:
    room, done = Room(10 * MB), []
    leave = asyncio.Event()

    async def read(name: str, size: int) -> None:
        async with room.taken(size):
            done.append(name)
            if name == "first":
                await leave.wait()

    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        group.create_task(read("first", 8 * MB))
        await eventually(lambda: done == ["first"])
        group.create_task(read("larger than all", 50 * MB))
        group.create_task(read("would fit", MB))
        group.create_task(read("small", 1024))
        await eventually(lambda: "small" in done)
        assert done == ["first", "small"]
        leave.set()

    assert done == ["first", "small", "larger than all", "would fit"]


async def test_without_room_for_long_the_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_PATIENCE_S", 0.01)
    room = Room(MB)
    async with room.taken(MB):
        with pytest.raises(ApiError, match="too many large sessions"):
            async with room.taken(MB):
                pass
    async with room.taken(MB):  # who gave up left nothing behind
        pass
