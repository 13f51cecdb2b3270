"""What a storage reads and sends, for many keys and for large values."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from mongodb_session_manager import AsyncMongoDBSessionManager, MongoDBStorage
from mongodb_session_manager.storage.values import CHUNKS_SUFFIX, INLINE_BYTES
from tests.fixtures.commands import Command
from tests.fixtures.sessions import COLLECTION, Document, Sessions

NAME = "values"
MB = 1024 * 1024


@pytest.fixture
async def storage(sessions: Sessions) -> AsyncIterator[MongoDBStorage]:
    async with MongoDBStorage(sessions.uri, sessions.database_name, NAME, **sessions.client_options()) as storage:
        yield storage


def explained(sessions: Sessions, command: Command) -> Document:
    """Return the execution statistics of a find as it was sent."""
    sent = {"find": command.collection}
    sent |= {name: command.document[name] for name in ("filter", "projection", "sort") if name in command.document}
    plan: Document = sessions.raw.database.command("explain", sent, verbosity="executionStats")
    stats: Document = plan["executionStats"]
    return stats


def stages_of(stage: Mapping[str, Any]) -> list[str]:
    return [stage["stage"], *(stages_of(stage["inputStage"]) if "inputStage" in stage else [])]


async def check_list_reads_keys_only(
    sessions: Sessions, list_keys: Callable[[str], Any], prefix: str, expected: int
) -> None:
    """Assert that listing reads the keys of an index that it returns, and no document."""
    with sessions.recorder.counting() as commands:
        found = await list_keys(prefix)

    assert len(found) == expected
    assert found == sorted(found)
    assert commands.names[0] == "find"
    assert set(commands.names[1:]) <= {"getMore"}
    stats = explained(sessions, commands[0])
    assert stats["nReturned"] == expected
    assert stats["totalDocsExamined"] == 0
    assert stats["totalKeysExamined"] <= expected + 1
    assert stages_of(stats["executionStages"])[-1] == "IXSCAN"


async def test_a_list_reads_the_keys_that_it_returns(sessions: Sessions, storage: MongoDBStorage) -> None:
    names = [f"{folder}/{number:03d}" for folder in ("a", "b", "c.*") for number in range(300)]
    sessions.raw.database[NAME].insert_many([{"_id": name, "data": b"", "size": 0} for name in names])

    await check_list_reads_keys_only(sessions, storage.list, "b/", 300)
    await check_list_reads_keys_only(sessions, storage.list, "c.*/1", 100)
    await check_list_reads_keys_only(sessions, storage.namespace("b").list, "", 300)


async def test_a_list_of_a_sessions_storage_reads_its_own_keys(sessions: Sessions) -> None:
    managers: list[AsyncMongoDBSessionManager] = []
    for number in range(3):
        manager = sessions.manager(f"s-{number}", ensure_indexes=True)
        await manager.open()
        for key in range(20):
            await manager.storage.write(f"{'ab'[key % 2]}/{key:02d}", b"data")
        managers.append(manager)
    for manager in managers:
        await manager.close()  # Which waits for the indexes.

    async with sessions.manager("s-1") as manager:
        await check_list_reads_keys_only(sessions, manager.storage.list, "b/", 10)
        await check_list_reads_keys_only(sessions, manager.storage.list, "", 20)


async def test_a_sweep_reads_no_chunk(
    sessions: Sessions, storage: MongoDBStorage, mongo_client: MongoClient[Document]
) -> None:
    await storage.write("large", bytes(INLINE_BYTES + 1))
    await storage.close()  # Which waits for the indexes.
    async with MongoDBStorage(
        sessions.uri, sessions.database_name, NAME, **sessions.client_options(), ensure_indexes=False
    ) as again:
        with sessions.recorder.counting() as commands:
            assert await again.sweep(older_than=timedelta(0)) == 0

    [swept] = [command for command in commands if command.collection == f"{NAME}{CHUNKS_SUFFIX}"]
    assert explained(sessions, swept)["totalDocsExamined"] == 0


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda storage: storage.write("small", b"2"), ["update"]),
        (lambda storage: storage.write("small", b"2", if_version=1), ["update"]),
        (lambda storage: storage.write("new", b"2", if_version=0), ["insert"]),
        (lambda storage: storage.read("small"), ["find"]),
        (lambda storage: storage.read("missing"), ["find"]),
        (lambda storage: storage.read("large"), ["find", "find"]),
        (lambda storage: storage.stat("large"), ["find"]),
        (lambda storage: storage.delete("small"), ["delete"]),
        (lambda storage: storage.delete_prefix("s"), ["delete", "find"]),
        (
            lambda storage: storage.write("large", bytes(INLINE_BYTES + 1)),
            ["insert", "insert", "findAndModify", "aggregate", "delete"],
        ),
    ],
)
async def test_what_each_call_sends(
    sessions: Sessions, work: Callable[[MongoDBStorage], Any], expected: list[str]
) -> None:
    options = {**sessions.client_options(), "ensure_indexes": False}
    async with MongoDBStorage(sessions.uri, sessions.database_name, NAME, **options) as storage:
        await storage.write("small", b"1")
        await storage.write("large", bytes(INLINE_BYTES + 1))

        with sessions.recorder.counting() as commands:
            await work(storage)

        assert commands.names == expected


async def test_values_up_to_4_mb_are_one_document(sessions: Sessions, storage: MongoDBStorage) -> None:
    for size in (INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1):
        await storage.write(f"{size}", bytes(size))
        assert await storage.read(f"{size}") == bytes(size)

    assert [chunk["key"] for chunk in sessions.raw.database[f"{NAME}{CHUNKS_SUFFIX}"].find()] == 2 * [
        f"{INLINE_BYTES + 1}"
    ]
    assert COLLECTION not in sessions.raw.database.list_collection_names()


@pytest.mark.slow
async def test_values_of_100_mb(sessions: Sessions, storage: MongoDBStorage) -> None:
    first, second = os.urandom(100 * MB), os.urandom(100 * MB + 1)
    for data in (first, second):
        await storage.write("key", data)
        found = await storage.read("key")
        assert found is not None
        assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()

    stat = await storage.stat("key")
    assert stat is not None
    assert (stat.size, stat.version) == (100 * MB + 1, 2)
    assert sessions.raw.database[f"{NAME}{CHUNKS_SUFFIX}"].count_documents({}) == 26
    async with sessions.manager() as manager:
        await manager.storage.write("key", first)
        assert await manager.storage.read("key") == first
        await manager.delete_session()
    assert sessions.raw.database[f"{COLLECTION}_storage{CHUNKS_SUFFIX}"].count_documents({}) == 0


@pytest.mark.slow
async def test_a_list_of_10_000_keys_among_1_000_000(sessions: Sessions, storage: MongoDBStorage) -> None:
    collection = sessions.raw.database[NAME]
    for folder in range(100):
        collection.insert_many(
            [{"_id": f"{folder:02d}/{number:05d}", "data": b"x", "size": 1} for number in range(10_000)], ordered=False
        )

    await check_list_reads_keys_only(sessions, storage.list, "42/", 10_000)
    await check_list_reads_keys_only(sessions, storage.namespace("42").list, "", 10_000)
    assert await storage.namespace("42").delete_prefix("") == 10_000
    assert await storage.list("42/") == []
    assert len(await storage.list("")) == 990_000
