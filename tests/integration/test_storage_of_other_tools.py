"""What another tool left in the collections of a storage, or of a session: the rest works as if it were not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Binary, DatetimeMS, ObjectId
from strands.types.exceptions import StorageError

from mongodb_session_manager import MongoDBStorage, StorageConflictError
from mongodb_session_manager.storage import values as values_module
from mongodb_session_manager.storage.values import CHUNKS_SUFFIX, INLINE_BYTES
from tests.fixtures.sessions import COLLECTION, Document, Sessions

NAME = "values"
LARGE = b"large " * (INLINE_BYTES // 6 + 1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
AT_ONCE = timedelta(0)


@pytest.fixture
async def storage(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MongoDBStorage]:
    monkeypatch.setattr(values_module, "_PAUSE_S", 0.001)
    options = {"ensure_indexes": False, **sessions.client_options()}
    async with MongoDBStorage(sessions.uri, sessions.database_name, NAME, **options) as storage:
        yield storage


def leave(sessions: Sessions, document: Document, collection: str = NAME) -> None:
    sessions.raw.database[collection].insert_one(document)


UNREADABLE: dict[str, Document] = {
    "nothing": {},
    "a text": {"data": "text"},
    "a number": {"data": 5},
    "a huge number": {"data": 10**15},
    "numbers": {"data": [104, 105]},
    "null": {"data": None, "size": 1, "version": 1, "writes": []},
    "no chunks": {"generation": "none", "size": 9, "count": 1},
    "a generation that is none": {"generation": None, "data": b"x"},
    "a generation of another kind": {"generation": ["a"], "size": "9", "count": "1"},
}

READABLE: dict[str, Document] = {
    "data alone": {"data": b"seen"},
    "bytes of another subtype": {"data": Binary(b"seen", 128)},
    "texts of numbers": {"data": b"seen", "size": "4", "version": "1", "writes": []},
    "nulls": {"data": b"seen", "size": None, "version": None, "writes": None},
    "writes that are a text": {"data": b"seen", "size": 4, "version": 1, "writes": "one"},
    "writes that are an object": {"data": b"seen", "size": 4, "version": 1, "writes": {}},
    "the largest version": {"data": b"seen", "size": 4, "version": 2**63 - 1, "writes": []},
    "floats": {"data": b"seen", "size": 4.0, "version": 3.0, "writes": []},
    "dates beyond the calendar": {"data": b"seen", "size": 4, "version": 1, "created_at": DatetimeMS(2**60)},
}

LEFT = UNREADABLE | READABLE


@pytest.mark.parametrize("left", LEFT)
async def test_a_value_that_another_tool_left_is_read_or_an_error_and_keeps_no_other_from_being_found(
    sessions: Sessions, storage: MongoDBStorage, left: str
) -> None:
    await storage.write("a", b"word")
    await storage.write("z", b"word")
    leave(sessions, {"_id": "m", **LEFT[left]})

    if left in READABLE:
        assert await storage.read("m") == b"seen"
    else:
        with pytest.raises(StorageError, match="UnreadableValueError"):
            await storage.read("m")
    assert [found.key for found in await storage.search("word")] == ["a", "z"]
    assert await storage.list("") == ["a", "m", "z"]


@pytest.mark.parametrize("data", [b"new", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("left", LEFT)
async def test_a_value_that_another_tool_left_can_be_replaced_and_deleted(
    sessions: Sessions, storage: MongoDBStorage, left: str, data: bytes
) -> None:
    leave(sessions, {"_id": "key", **LEFT[left]})

    with pytest.raises(StorageConflictError):
        await storage.write("key", data, if_version=0)
    await storage.write("key", data)
    assert await storage.read("key") == data
    stat = await storage.stat("key")
    assert stat is not None
    assert (stat.size, stat.version) == (len(data), 4 if left == "floats" else stat.version)
    await storage.write("key", b"newer", if_version=stat.version)
    assert await storage.version("key") == stat.version + 1

    await storage.delete("key")
    leave(sessions, {"_id": "key", **LEFT[left]})
    await storage.delete("key")
    assert await storage.read("key") is None
    assert sessions.raw.database[f"{NAME}{CHUNKS_SUFFIX}"].count_documents({}) == 0


@pytest.mark.parametrize("end", ["deleted", "overwritten", "swept"])
async def test_a_copy_under_another_key_takes_nothing_from_the_first(
    sessions: Sessions, storage: MongoDBStorage, end: str
) -> None:
    await storage.write("first", LARGE)
    head = sessions.raw.database[NAME].find_one({"_id": "first"})
    assert head is not None
    leave(sessions, {**head, "_id": "copy"})
    assert await storage.read("copy") == LARGE

    if end == "deleted":
        await storage.delete("copy")
    elif end == "overwritten":
        await storage.write("copy", b"small")
    assert await storage.sweep(older_than=AT_ONCE) == 0

    assert await storage.read("first") == LARGE


FOREIGN: list[Document] = [
    {},
    {"_id": ObjectId()},
    {"key": "key", "generation": "g"},
    {"key": 5, "generation": "g", "created_at": LONG_AGO},
    {"key": "key", "generation": None, "created_at": LONG_AGO},
    {"key": "key", "generation": ["g"], "created_at": LONG_AGO},
    {"key": "key", "generation": "g", "created_at": "2020-01-01"},
    {"key": "key", "generation": "g", "created_at": DatetimeMS(-(2**60))},
    {"created_at": LONG_AGO, "used_at": LONG_AGO},
    {"session_id": "s", "created_at": LONG_AGO, "used_at": LONG_AGO},
    {"session_id": "s", "incarnation": "i", "created_at": LONG_AGO, "used_at": LONG_AGO},
    {"session_id": 1, "incarnation": 2, "sha256": 3, "created_at": LONG_AGO, "used_at": LONG_AGO},
    {
        "session_id": "s",
        "incarnation": "i",
        "list": "other",
        "agent": None,
        "start": 0,
        "committed": True,
        "token": "t",
    },
]


async def test_a_sweep_leaves_what_another_tool_left_and_removes_the_rest(
    sessions: Sessions, storage: MongoDBStorage
) -> None:
    chunks = f"{NAME}{CHUNKS_SUFFIX}"
    await storage.write("key", LARGE)
    await storage.write("dead", LARGE)
    sessions.raw.database[NAME].delete_one({"_id": "dead"})
    for document in FOREIGN:
        leave(sessions, dict(document), chunks)

    orphans = -(-len(LARGE) // INLINE_BYTES)
    assert await storage.sweep(older_than=AT_ONCE, dry_run=True) == orphans
    assert await storage.sweep(older_than=AT_ONCE) == orphans

    assert sessions.raw.database[chunks].count_documents({}) == len(FOREIGN) + orphans
    assert await storage.read("key") == LARGE


@pytest.mark.parametrize("suffix", ["_segments", "_payloads", "_storage", f"_storage{CHUNKS_SUFFIX}"])
async def test_a_sweep_of_sessions_leaves_what_another_tool_left_and_removes_the_rest(
    sessions: Sessions, suffix: str
) -> None:
    async with sessions.manager("gone") as gone, sessions.manager("kept") as kept:
        await gone.storage.write("key", LARGE)
        await kept.storage.write("key", LARGE)
        sessions.raw.delete_one({"_id": "gone"})
        for document in FOREIGN:
            older: Document = {"created_at": LONG_AGO, "used_at": LONG_AGO}
            leave(sessions, (older if "segments" in suffix else {}) | document, f"{COLLECTION}{suffix}")
        left = sessions.raw.database[f"{COLLECTION}{suffix}"].count_documents({"session_id": {"$ne": "gone"}})

        orphans = 1 + -(-len(LARGE) // INLINE_BYTES)
        for dry_run in (True, False):
            swept: Any = await kept.repository.sweep_orphans(older_than=AT_ONCE, dry_run=dry_run)
            assert swept == {"segments": 0, "payloads": orphans}

        assert sessions.raw.database[f"{COLLECTION}{suffix}"].count_documents({}) == left
        assert await kept.storage.read("key") == LARGE


SEGMENT: Document = {
    "list": "messages",
    "agent": "assistant",
    "archive": "archive",
    "start": 0,
    "token": "t",
    "committed": False,
    "created_at": LONG_AGO,
}


@pytest.mark.parametrize("session_id", ["gone", "kept"])
@pytest.mark.parametrize(
    ("missing", "is_segment"),
    [({"agent"}, False), ({"list"}, True), ({"agent", "list"}, False), ({"archive"}, True), ({"token"}, True)],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else None,
)
async def test_a_sweep_goes_on_over_a_segment_without_one_of_its_fields(
    sessions: Sessions, session_id: str, missing: set[str], is_segment: bool
) -> None:
    async with sessions.manager("gone") as gone, sessions.manager("kept") as kept:
        for manager in (gone, kept):
            await manager.storage.write("key", b"value")
        session = sessions.raw.find_one({"_id": session_id})
        assert session is not None
        owner = {"session_id": session_id, "incarnation": session["incarnation"]}
        sessions.raw.delete_one({"_id": "gone"})
        left = {name: value for name, value in SEGMENT.items() if name not in missing}
        for document in (left, SEGMENT):
            leave(sessions, {**owner, **document}, f"{COLLECTION}_segments")

        for dry_run in (True, False):
            swept: Any = await kept.repository.sweep_orphans(older_than=AT_ONCE, dry_run=dry_run)
            assert swept["segments"] == 1 + is_segment

        assert sessions.raw.database[f"{COLLECTION}_segments"].count_documents({}) == 1 - is_segment


@pytest.mark.parametrize("left", ["data alone", "nulls"])
async def test_what_is_written_over_a_value_of_another_tool_is_deleted_with_its_session(
    sessions: Sessions, left: str
) -> None:
    async with sessions.manager("gone") as manager:
        await manager.storage.write("other", b"value")
        session = sessions.raw.find_one({"_id": "gone"})
        assert session is not None
        owner = {"_id": f"{session['incarnation']}/key", "session_id": "gone"}
        leave(sessions, {**owner, **LEFT[left]}, f"{COLLECTION}_storage")

        await manager.storage.write("key", b"value")
        await manager.delete_session()

    assert sessions.raw.database[f"{COLLECTION}_storage"].count_documents({}) == 0


@pytest.mark.parametrize("count", [float("nan"), float("inf"), -1, True, 10**18], ids=str)
@pytest.mark.parametrize("name", ["size", "version"])
async def test_a_count_that_another_tool_left_and_that_is_none_is_an_error_of_the_storage(
    sessions: Sessions, storage: MongoDBStorage, name: str, count: float
) -> None:
    leave(sessions, {"_id": "key", "data": b"seen", "size": 4, "version": 1, name: count})

    with pytest.raises(StorageError, match="UnreadableValueError"):
        await storage.stat("key")
    with pytest.raises(StorageConflictError):
        await storage.write("key", b"new", if_version=2)
    assert await storage.read("key") == b"seen"
