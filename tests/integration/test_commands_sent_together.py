"""What waits for a worker thread goes to the server together: each caller gets the outcome of its own command."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pymongo
import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, ExecutionTimeout, NetworkTimeout, WriteError

from mongodb_session_manager import AsyncMongoDBSessionManagerFactory
from mongodb_session_manager.client import ClientHandle, Collection
from mongodb_session_manager.client import load as load_module
from mongodb_session_manager.client import threads as threads_module
from mongodb_session_manager.client.any_loop import AnyLoopMotorClient
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, Document, Sessions
from tests.fixtures.waiting import WAIT_S
from tests.support.agents import make_agent, streamed
from tests.support.models import ScriptedModel

IDS = [f"s-{number}" for number in range(6)]


@pytest.fixture(autouse=True)
def one_thread_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one thread at a time work, as it is when the process has much to do."""
    monkeypatch.setattr(threads_module, "FEW", 1)
    monkeypatch.setattr(threads_module, "HELD_UP_S", 10 * WAIT_S)
    monkeypatch.setattr(load_module.Load, "is_busy", lambda load, moment: True)


@pytest.fixture
async def documents(sessions: Sessions) -> AsyncIterator[Collection]:
    """A collection with a document for each id, as the engine uses it; each command is sent once."""
    sessions.raw.insert_many([{"_id": _id, "tokens": [], "count": 0} for _id in IDS])
    handle = ClientHandle(sessions.uri, options=sessions.client_options())
    collection = handle.collection(sessions.database_name, COLLECTION)
    await collection.find_one({})
    sessions.recorder.clear()
    yield collection
    await handle.aclose()


@asynccontextmanager
async def held_up(collection: Collection) -> AsyncIterator[None]:
    """Keep the only thread busy inside the block, so that commands wait; then let it go."""
    client = collection._handle.client
    assert isinstance(client, AnyLoopMotorClient)
    began, end = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        end.wait(WAIT_S)

    job = client.workers.start(work, asyncio.get_running_loop())
    await asyncio.to_thread(began.wait, WAIT_S)
    try:
        yield
        await asyncio.sleep(0)
    finally:
        end.set()
    await job


async def all_at_once(collection: Collection, *work: Any) -> list[Any]:
    """Return what each came to, result or error, when all waited together."""
    async with held_up(collection):
        tasks = [asyncio.ensure_future(each) for each in work]
        await asyncio.sleep(0.01)
    return await asyncio.gather(*tasks, return_exceptions=True)


def increased(collection: Collection, _id: str, token: str, **changes: Any) -> Any:
    """Count one up in a document, once for each token."""
    update = {"$inc": {"count": 1}, "$push": {"tokens": token}, **changes}
    return collection.update_by_id({"_id": _id, "tokens": {"$ne": token}}, update)


def counts(sessions: Sessions) -> list[int]:
    return [document["count"] for document in sessions.raw.find(sort=[("_id", 1)])]


async def test_updates_that_wait_are_one_command(sessions: Sessions, documents: Collection) -> None:
    results = await all_at_once(documents, *(increased(documents, _id, "a") for _id in IDS))

    assert [(result.matched_count, result.modified_count) for result in results] == [(1, 1)] * len(IDS)
    assert counts(sessions) == [1] * len(IDS)
    assert sessions.recorder.names == ["update"]


async def test_an_update_that_its_filter_refuses_leaves_the_others_applied_once(
    sessions: Sessions, documents: Collection
) -> None:
    sessions.raw.update_one({"_id": IDS[2]}, {"$push": {"tokens": "a"}})

    results = await all_at_once(documents, *(increased(documents, _id, "a") for _id in IDS))

    assert results[2].matched_count == 0
    assert counts(sessions) == [1, 1, 0, 1, 1, 1]


async def test_an_update_that_the_server_refuses_fails_for_its_caller_alone(
    sessions: Sessions, documents: Collection
) -> None:
    sessions.raw.update_one({"_id": IDS[1]}, {"$set": {"count": "many"}})

    results = await all_at_once(documents, *(increased(documents, _id, "a") for _id in IDS))

    assert [isinstance(result, WriteError) for result in results] == [_id == IDS[1] for _id in IDS]
    assert counts(sessions) == [1, "many", 1, 1, 1, 1]


async def test_two_updates_of_one_document_are_both_applied(sessions: Sessions, documents: Collection) -> None:
    results = await all_at_once(documents, *(increased(documents, IDS[0], token) for token in "abc"))

    assert [result.matched_count for result in results] == [1, 1, 1]
    assert sessions.raw.find_one({"_id": IDS[0]}) == {"_id": IDS[0], "tokens": ["a", "b", "c"], "count": 3}


async def test_a_lost_connection_is_told_to_each_caller(
    sessions: Sessions, documents: Collection, mongo_client: MongoClient[Document]
) -> None:
    lost = {"failCommands": ["update"], "closeConnection": True, "appName": sessions.appname}
    with fail_point(mongo_client, {"times": 2}, lost):
        results = await all_at_once(documents, *(increased(documents, _id, "a") for _id in IDS))

    assert all(isinstance(result, AutoReconnect) for result in results)
    assert len({id(result) for result in results}) == len(IDS)
    again = await asyncio.gather(*(increased(documents, _id, "a") for _id in IDS))
    assert [result.matched_count for result in again] == [1] * len(IDS)
    assert counts(sessions) == [1] * len(IDS)


async def test_a_caller_that_gave_up_is_left_out(sessions: Sessions, documents: Collection) -> None:
    async with held_up(documents):
        tasks = [asyncio.ensure_future(increased(documents, _id, "a")) for _id in IDS]
        await asyncio.sleep(0.01)
        tasks[3].cancel()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(results[3], asyncio.CancelledError)
    assert counts(sessions) == [1, 1, 1, 0, 1, 1]


async def test_a_time_limit_of_one_caller_is_not_one_of_the_others(sessions: Sessions, documents: Collection) -> None:
    async def limited() -> Any:
        with pymongo.timeout(0.001):
            await increased(documents, IDS[0], "a")

    results = await all_at_once(documents, limited(), *(increased(documents, _id, "a") for _id in IDS[1:]))

    assert isinstance(results[0], NetworkTimeout | ExecutionTimeout) or getattr(results[0], "timeout", False)
    assert counts(sessions)[1:] == [1] * (len(IDS) - 1)


async def test_reads_that_wait_are_one_command(sessions: Sessions, documents: Collection) -> None:
    ids = [*IDS, "missing", IDS[0]]
    results = await all_at_once(
        documents, *(documents.read_by_id(_id, {"count": 1}, lambda document: document) for _id in ids)
    )

    assert results == [*({"_id": _id, "count": 0} for _id in IDS), None, {"_id": IDS[0], "count": 0}]
    assert sessions.recorder.names == ["find", "find"]  # The second one of the same document by itself.


async def test_reads_of_different_fields_are_different_commands(sessions: Sessions, documents: Collection) -> None:
    results = await all_at_once(
        documents,
        documents.read_by_id(IDS[0], {"count": 1}, dict),
        documents.read_by_id(IDS[1], {"tokens": 1}, dict),
    )

    assert results == [{"_id": IDS[0], "count": 0}, {"_id": IDS[1], "tokens": []}]


async def test_a_document_that_cannot_be_read_is_an_error_for_its_caller_alone(documents: Collection) -> None:
    def read_only(wanted: str) -> Callable[[Document], str]:
        def read(document: Document) -> str:
            if document["_id"] == IDS[2]:
                raise LookupError(wanted)
            return wanted

        return read

    results = await all_at_once(documents, *(documents.read_by_id(_id, {"_id": 1}, read_only(_id)) for _id in IDS))

    assert [isinstance(result, LookupError) for result in results] == [_id == IDS[2] for _id in IDS]
    assert [result for result in results if isinstance(result, str)] == [_id for _id in IDS if _id != IDS[2]]


@pytest.mark.parametrize("fault", [None, {"closeConnection": True}, {"errorCode": 189}])
async def test_many_sessions_at_once_are_stored_exactly_once(
    sessions: Sessions, mongo_client: MongoClient[Document], fault: Document | None
) -> None:
    factory = AsyncMongoDBSessionManagerFactory(
        sessions.uri, sessions.database_name, COLLECTION, ensure_indexes=False, **sessions.client_options()
    )

    async def talk(session_id: str) -> None:
        for number in range(4):
            async with factory.create_session_manager(session_id) as manager:
                agent = make_agent(manager, model=ScriptedModel(otherwise=f"answer {number}"))
                await streamed(agent, f"prompt {number}")

    ids = [f"s-{number}" for number in range(30)]
    data = {"failCommands": ["update", "find"], "appName": sessions.appname, **(fault or {"errorCode": 189})}
    with fail_point(mongo_client, {"times": 5 if fault else 0}, data):
        await asyncio.gather(*map(talk, ids))
    await factory.close()

    expected = [text for number in range(4) for text in (f"prompt {number}", f"answer {number}")]
    for session_id in ids:
        assert sessions.texts(session_id=session_id) == expected
    if fault is None:
        assert len([name for name in sessions.recorder.names if name == "update"]) < len(ids) * len(expected) / 2
