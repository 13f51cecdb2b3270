from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_plus

import pytest
from mongomock_motor import AsyncMongoMockClient
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import ConfigurationError, ServerSelectionTimeoutError
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    ConnectionCheckedOutEvent,
    ConnectionPoolListener,
)

from mongodb_session_manager.client import ClientHandle, Collection
from mongodb_session_manager.pool import AsyncMongoDBConnectionPool, pool_statistics
from tests.fixtures.faults import MongoProxy
from tests.fixtures.waiting import WAIT_S, eventually

Documents = MongoClient[dict[str, Any]]


@pytest.fixture(autouse=True)
async def closed_pool() -> AsyncIterator[None]:
    """The pool is the process's: every test leaves it closed."""
    yield
    await AsyncMongoDBConnectionPool.close()


async def in_use(handle: ClientHandle, expected: int, waiting: int = 0) -> dict[str, Any]:
    """Return the statistics as soon as that many connections are in use, and that many operations wait for one."""
    statistics: dict[str, Any] = {}

    async def is_so() -> bool:
        nonlocal statistics
        statistics = await pool_statistics(handle)
        [server] = statistics["servers"].values()
        return bool((server["in_use"], server["waiting"]) == (expected, waiting))

    await eventually(is_so)
    return statistics


async def test_equal_arguments_give_the_same_client(mongo_uri: str) -> None:
    client = await AsyncMongoDBConnectionPool.initialize(mongo_uri, maxPoolSize=5)

    assert isinstance(client, AsyncIOMotorClient)
    assert await AsyncMongoDBConnectionPool.initialize(mongo_uri, maxPoolSize=5) is client
    assert AsyncMongoDBConnectionPool.get_client() is client
    assert (await client.admin.command("ping"))["ok"] == 1


async def test_instances_are_the_same_pool(mongo_uri: str) -> None:
    client = await AsyncMongoDBConnectionPool().initialize(mongo_uri)

    assert AsyncMongoDBConnectionPool().get_client() is client
    assert (await AsyncMongoDBConnectionPool().get_pool_stats())["status"] == "connected"
    await AsyncMongoDBConnectionPool().close()
    assert await AsyncMongoDBConnectionPool.get_pool_stats() == {"status": "not_initialized"}


async def test_other_arguments_switch_the_client_and_close_the_old_one(mongo_uri: str) -> None:
    old = await AsyncMongoDBConnectionPool.initialize(mongo_uri, maxPoolSize=5)

    new = await AsyncMongoDBConnectionPool.initialize(mongo_uri, maxPoolSize=6)

    assert AsyncMongoDBConnectionPool.get_client() is new
    assert (await new.admin.command("ping"))["ok"] == 1
    with pytest.raises(Exception, match="after close"):
        await old.admin.command("ping")


async def test_client_that_somebody_else_leases_stays_open(mongo_uri: str) -> None:
    handle = ClientHandle(mongo_uri, options={"maxPoolSize": 5})
    await AsyncMongoDBConnectionPool.initialize(mongo_uri, maxPoolSize=5)

    await AsyncMongoDBConnectionPool.initialize(mongo_uri, maxPoolSize=6)
    await AsyncMongoDBConnectionPool.close()
    await AsyncMongoDBConnectionPool.close()

    assert (await handle.client.admin.command("ping"))["ok"] == 1
    await handle.aclose()


async def test_initialising_at_once_from_many_tasks_gives_one_client(mongo_uri: str) -> None:
    clients = await asyncio.gather(*(AsyncMongoDBConnectionPool.initialize(mongo_uri) for _ in range(20)))

    assert len({id(client) for client in clients}) == 1
    assert (await clients[0].admin.command("ping"))["ok"] == 1


async def test_client_before_initialize_is_an_error_with_advice() -> None:
    with pytest.raises(RuntimeError, match="initialize"):
        AsyncMongoDBConnectionPool.get_client()


async def test_failed_initialize_leaves_the_pool_as_it_was(mongo_uri: str) -> None:
    with pytest.raises(ConfigurationError):
        await AsyncMongoDBConnectionPool.initialize(mongo_uri, maxPolSize=1)
    assert await AsyncMongoDBConnectionPool.get_pool_stats() == {"status": "not_initialized"}

    client = await AsyncMongoDBConnectionPool.initialize(mongo_uri)
    with pytest.raises(ConfigurationError):
        await AsyncMongoDBConnectionPool.initialize(mongo_uri, maxPolSize=1)
    assert AsyncMongoDBConnectionPool.get_client() is client


async def test_pool_config_shows_what_is_in_force(mongo_uri: str) -> None:
    await AsyncMongoDBConnectionPool.initialize(mongo_uri, maxPoolSize=4, retryReads=False)

    statistics = await AsyncMongoDBConnectionPool.get_pool_stats()

    assert statistics["pool_config"] == {
        "maxPoolSize": 4,
        "minPoolSize": 4,
        "maxIdleTimeMS": 30000,
        "waitQueueTimeoutMS": 5000,
        "serverSelectionTimeoutMS": 5000,
        "connectTimeoutMS": 10000,
        "retryWrites": True,
        "retryReads": False,
    }


class Gate(CommandListener):
    """Lets commands be sent only while it is open."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def started(self, event: CommandStartedEvent) -> None:
        assert self._open.wait(WAIT_S)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only the start counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Only the start counts."""


async def test_statistics_are_right_under_load(mongo_uri: str, database_name: str) -> None:
    gate = Gate()
    options = {"maxPoolSize": 5, "minPoolSize": 0, "waitQueueTimeoutMS": 1000 * int(WAIT_S), "event_listeners": [gate]}
    handle = ClientHandle(mongo_uri, options=options)
    items = handle.collection(database_name, "items")
    await items.find({})
    await pool_statistics(handle)

    gate.close()
    finds = [asyncio.create_task(items.find({})) for _ in range(8)]
    busy = await in_use(handle, 5, waiting=3)
    gate.open()
    await asyncio.gather(*finds)
    rest = await in_use(handle, 0)

    [during], [after] = busy["servers"].values(), rest["servers"].values()
    assert {name: during[name] for name in ("open", "idle", "waiting", "created", "closed")} == {
        "open": 5,
        "idle": 0,
        "waiting": 3,
        "created": 5,
        "closed": 0,
    }
    assert busy["waiting"] == 3
    assert (after["open"], after["idle"], after["waiting"], rest["waiting"]) == (5, 5, 0, 0)
    # The version was asked for once, beside the nine finds.
    assert after["checkouts"] == 10
    assert after["checkout_failures"] == 0
    times = after["checkout_ms"]
    assert 0 <= times["p50"] <= times["p99"] <= times["max"]
    assert times["mean"] <= times["max"]
    await handle.aclose()


async def answers(items: Collection) -> bool:
    try:
        await items.find({})
    except ServerSelectionTimeoutError:
        return False
    return True


async def test_connections_that_were_cut_are_counted_as_closed(mongo_proxy: MongoProxy, database_name: str) -> None:
    handle = ClientHandle(mongo_proxy.uri, options={"minPoolSize": 0, "serverSelectionTimeoutMS": 1500})
    items = handle.collection(database_name, "items")
    await items.find({})

    mongo_proxy.stop()
    down = await pool_statistics(handle)
    mongo_proxy.start()
    await eventually(lambda: answers(items), "finding the server again")
    up = await pool_statistics(handle)

    assert down["status"] == "error"
    assert down["error"] in {"AutoReconnect", "ServerSelectionTimeoutError"}  # before or after the heartbeat notices
    [before], [after] = down["servers"].values(), up["servers"].values()
    assert before["open"] == 0
    assert before["created"] == before["closed"]
    assert up["status"] == "connected"
    assert after["open"] == after["created"] - after["closed"] == 1
    await handle.aclose()


async def test_failed_checkouts_are_counted(mongo_uri: str) -> None:
    address = mongo_uri.removeprefix("mongodb://")
    handle = ClientHandle(f"mongodb://nobody:wrong@{address}", options={"minPoolSize": 0})

    statistics = await pool_statistics(handle)

    [server] = statistics["servers"].values()
    assert (statistics["status"], statistics["error"]) == ("error", "OperationFailure")
    assert server["checkout_failures"] == server["created"] == server["closed"] >= 1
    assert (server["open"], server["in_use"], server["waiting"]) == (0, 0, 0)
    await handle.aclose()


async def test_unreachable_server_is_an_error_by_type_only() -> None:
    await AsyncMongoDBConnectionPool.initialize("mongodb://user:s3cret@127.0.0.1:1", serverSelectionTimeoutMS=50)

    statistics = await AsyncMongoDBConnectionPool.get_pool_stats()

    assert (statistics["status"], statistics["error"]) == ("error", "ServerSelectionTimeoutError")
    assert statistics["server_version"] is None


@pytest.mark.parametrize("kind", ["motor", "pymongo", "pymongo-async", "mock"])
async def test_borrowed_client_is_external(kind: str, mongo_uri: str) -> None:
    client: Any = {"motor": AsyncIOMotorClient, "pymongo": MongoClient, "pymongo-async": AsyncMongoClient}.get(
        kind, AsyncMongoMockClient
    )(mongo_uri)

    statistics = await pool_statistics(ClientHandle(client=client))

    assert statistics["status"] == "external_client"
    assert statistics["server_version"]
    assert statistics["servers"] == {}
    closing = client.close()
    if kind == "pymongo-async":
        await closing


async def test_nothing_secret_is_shown_anywhere(
    mongo_uri: str, mongo_client: Documents, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    password = "s3cret/pass:word@1"
    mongo_client[database_name].command("createUser", "hidden-user", pwd=password, roles=["dbOwner"])
    address = mongo_uri.removeprefix("mongodb://")
    uri = f"mongodb://hidden-user:{quote_plus(password)}@{address}&authSource={database_name}"
    with caplog.at_level(logging.DEBUG):
        client = await AsyncMongoDBConnectionPool.initialize(uri)
        await client[database_name]["items"].insert_one({"_id": 1})

        statistics = await AsyncMongoDBConnectionPool.get_pool_stats()

    shown = [json.dumps(statistics), repr(client), repr(client[database_name]["items"])]
    shown += [record.getMessage() for record in caplog.records if record.name.startswith("mongodb_session_manager")]
    assert statistics["status"] == "connected"
    for text in shown:
        assert "hidden-user" not in text
        assert "s3cret" not in text
        assert "mongodb://" not in text
    mongo_client[database_name].command("dropUser", "hidden-user")


async def test_listeners_of_the_user_still_hear_the_pool(mongo_uri: str, database_name: str) -> None:
    heard: list[str] = []

    class Listener(ConnectionPoolListener):
        """Hears checkouts."""

        def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
            heard.append("checked out")

        def _ignore(self, event: object) -> None:
            """Other events are not looked at."""

        pool_created = pool_ready = pool_cleared = pool_closed = _ignore
        connection_created = connection_ready = connection_closed = _ignore
        connection_check_out_started = connection_check_out_failed = connection_checked_in = _ignore

    client = await AsyncMongoDBConnectionPool.initialize(mongo_uri, event_listeners=[Listener()], minPoolSize=0)
    await client[database_name]["items"].find_one({})

    assert heard == ["checked out"]
    [server] = (await AsyncMongoDBConnectionPool.get_pool_stats())["servers"].values()
    assert server["checkouts"] == 2
