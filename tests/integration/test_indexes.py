from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pymongo
import pytest
from mongomock_motor import AsyncMongoMockClient
from pymongo import AsyncMongoClient, IndexModel, MongoClient

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionManagerFactory
from mongodb_session_manager.client import ClientHandle
from mongodb_session_manager.client.index_building import build_once
from mongodb_session_manager.runtime.home import Job
from mongodb_session_manager.store.indexes import ensure_indexes, index_specs
from tests.fixtures.commands import CommandRecorder
from tests.fixtures.faults import fail_point
from tests.fixtures.waiting import WAIT_S

Documents = MongoClient[dict[str, Any]]


async def finish(work: Job | None) -> None:
    assert work is not None
    await (work if isinstance(work, asyncio.Task) else asyncio.wrap_future(work))


def stored_keys(mongo_client: Documents, database: str) -> list[tuple[str, ...]]:
    information = mongo_client[database]["sessions"].index_information()
    return [tuple(field for field, _ in index["key"]) for index in information.values()]


async def test_indexes_are_made_once_per_client_collection_and_fields(
    mongo_uri: str, mongo_client: Documents, database_name: str
) -> None:
    recorder = CommandRecorder()
    options = {"event_listeners": [recorder]}
    handle = ClientHandle(mongo_uri, options=options)

    await finish(ensure_indexes(handle, database_name, "sessions", ["priority", "status"]))
    assert ensure_indexes(handle, database_name, "sessions", ["status", "priority"]) is None
    await handle.aclose()
    again = ClientHandle(mongo_uri, options=options)
    assert ensure_indexes(again, database_name, "sessions", ["priority", "status"]) is None
    await finish(ensure_indexes(again, database_name, "sessions", ["topic"]))
    await finish(ensure_indexes(again, database_name, "other", ["priority", "status"]))
    await again.aclose()

    assert set(recorder.names) == {"createIndexes"}
    assert Counter(command.collection for command in recorder.commands) == {
        **dict.fromkeys(("sessions", "sessions_segments", "sessions_payloads"), 2),
        **dict.fromkeys(("other", "other_segments", "other_payloads"), 1),
    }
    assert set(stored_keys(mongo_client, database_name)) == {
        ("_id",),
        ("created_at", "_id"),
        ("updated_at", "_id"),
        ("application_name",),
        ("expires_at",),
        *(tuple(model.document["key"]) for model in index_specs() if "partialFilterExpression" in model.document),
        ("metadata.priority", "created_at", "_id"),
        ("metadata.status", "created_at", "_id"),
        ("metadata.topic", "created_at", "_id"),
    }


async def test_work_goes_on_when_the_caller_closes_its_handle(
    mongo_uri: str, mongo_client: Documents, database_name: str
) -> None:
    handle = ClientHandle(mongo_uri)

    work = ensure_indexes(handle, database_name, "sessions")
    await handle.aclose()
    await finish(work)

    assert len(stored_keys(mongo_client, database_name)) == 1 + len(index_specs())


def test_work_outlives_the_callers_loop(mongo_uri: str, mongo_client: Documents, database_name: str) -> None:
    async def ask() -> Job | None:
        handle = ClientHandle(mongo_uri)
        with pymongo.timeout(0.001):
            work = ensure_indexes(handle, database_name, "sessions")
        await handle.aclose()
        return work

    with asyncio.Runner() as runner:
        work = runner.run(ask())
    assert work is not None
    assert not isinstance(work, asyncio.Task)
    work.result(120)

    assert len(stored_keys(mongo_client, database_name)) == 1 + len(index_specs())


@pytest.mark.parametrize("owner", ["manager", "manager on an AsyncMongoClient", "factory"])
async def test_who_has_the_client_waits_for_it_when_closed(
    mongo_uri: str, mongo_client: Documents, database_name: str, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongodb_session_manager.store.indexes.FINISH_WAIT_S", WAIT_S)
    slow = {"failCommands": ["createIndexes"], "blockConnection": True, "blockTimeMS": 300, "appName": database_name}
    uri = f"{mongo_uri}&appname={database_name}"

    with fail_point(mongo_client, "alwaysOn", slow):
        if owner == "factory":
            async with (
                AsyncMongoDBSessionManagerFactory(uri, database_name, "sessions") as factory,
                factory.create_session_manager("s-1"),
            ):
                pass
        elif owner == "manager":
            async with AsyncMongoDBSessionManager("s-1", uri, database_name, "sessions"):
                pass
        else:
            async with (
                AsyncMongoClient[Any](uri) as client,
                AsyncMongoDBSessionManager("s-1", None, database_name, "sessions", client=client),
            ):
                pass

    assert len(stored_keys(mongo_client, database_name)) == 1 + len(index_specs())


async def test_async_mongo_client_is_used_on_its_own_loop(
    mongo_uri: str, mongo_client: Documents, database_name: str
) -> None:
    async with AsyncMongoClient[Any](mongo_uri) as client:
        await finish(ensure_indexes(ClientHandle(client=client), database_name, "sessions", ["priority"]))

    assert ("metadata.priority", "created_at", "_id") in stored_keys(mongo_client, database_name)


async def test_mock_has_the_indexes_too() -> None:
    client: Any = AsyncMongoMockClient()

    await finish(ensure_indexes(ClientHandle(client=client), "db", "sessions", ["priority"]))

    assert len(await client["db"]["sessions"].index_information()) == 1 + len(index_specs(["priority"]))


async def test_missing_privilege_is_one_warning(
    mongo_uri: str, mongo_client: Documents, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    handle = ClientHandle(mongo_uri, options={"appname": database_name})
    refused = {"failCommands": ["createIndexes"], "errorCode": 13, "appName": database_name}

    with fail_point(mongo_client, "alwaysOn", refused), caplog.at_level(logging.WARNING):
        await finish(ensure_indexes(handle, database_name, "sessions"))
        assert ensure_indexes(handle, database_name, "sessions") is None

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no privilege" in caplog.text
    await handle.aclose()


async def test_failure_that_may_pass_is_tried_again(
    mongo_uri: str, mongo_client: Documents, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    handle = ClientHandle(mongo_uri, options={"appname": database_name})
    cut = {"failCommands": ["createIndexes"], "closeConnection": True, "appName": database_name}

    with fail_point(mongo_client, "alwaysOn", cut), caplog.at_level(logging.WARNING):
        await finish(ensure_indexes(handle, database_name, "sessions"))
    assert "not created yet" in caplog.text
    await finish(ensure_indexes(handle, database_name, "sessions"))

    assert len(stored_keys(mongo_client, database_name)) == 1 + len(index_specs())
    await handle.aclose()


async def test_index_that_exists_otherwise_keeps_no_other_out(
    mongo_uri: str, mongo_client: Documents, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    mongo_client[database_name]["sessions"].create_index([("application_name", 1)], unique=True)
    handle = ClientHandle(mongo_uri)

    with caplog.at_level(logging.WARNING):
        await finish(ensure_indexes(handle, database_name, "sessions"))

    assert len(stored_keys(mongo_client, database_name)) == 1 + len(index_specs())
    assert mongo_client[database_name]["sessions"].index_information()["application_name_1"]["unique"] is True
    assert [record.getMessage() for record in caplog.records] == [
        "collection=<sessions>, indexes=<application_name_1> | exist with other options and were left as they are"
    ]
    await handle.aclose()


async def test_an_index_that_a_compatible_server_does_not_know_keeps_no_other_out(
    mongo_uri: str, mongo_client: Documents, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    handle = ClientHandle(mongo_uri)
    unknown = IndexModel([("odd", 1)], name="odd_1", partialFilterExpression={"odd": {"$exists": False}})

    with caplog.at_level(logging.WARNING):
        await finish(build_once(handle, database_name, ["sessions"], lambda: [[unknown, *index_specs()]]))

    assert set(stored_keys(mongo_client, database_name)) == {
        ("_id",),
        *(tuple(model.document["key"]) for model in index_specs()),
    }
    (line,) = [record.getMessage() for record in caplog.records]
    assert "indexes=<odd_1> | refused by the server" in line
    await handle.aclose()


async def test_refused_fields_start_nothing(mongo_uri: str, mongo_client: Documents, database_name: str) -> None:
    handle = ClientHandle(mongo_uri)

    with pytest.raises(TypeError):
        ensure_indexes(handle, database_name, "sessions", "priority")

    assert mongo_client[database_name].list_collection_names() == []
    await handle.aclose()
